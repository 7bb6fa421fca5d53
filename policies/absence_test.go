package policies_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// finding is what the rules of these tests deny with.
const finding = `{"id": "PR-300", "severity": "high", "message": "m"}`

// deny is a rule with a body.
func deny(body string) string {
	return "deny contains " + finding + " if {\n\t" + strings.ReplaceAll(body, "\n", "\n\t") + "\n}\n"
}

// refusedOverAbsence are rules that would hold, or might, at admission alone.
func refusedOverAbsence() map[string]string {
	return map[string]string{
		"not":                        deny("not input.subject.tokenVerified"),
		"not, by key":                deny(`not input["subject"]["tokenVerified"]`),
		"not, compared":              deny("not input.subject.tokenVerified == true"),
		"not, of a token":            deny("not input.tokens[0].verified"),
		"not, of tokens":             deny("not input.tokens"),
		"not, in every":              deny("every c in input.pod.containers {\n\tc.name != \"\"\n\tnot input.subject.node\n}"),
		"subject as a variable":      deny("s := input.subject\nnot s.tokenVerified"),
		"subject as an argument":     deny(`object.get(input.subject, "tokenVerified", false) == false`),
		"subject by a computed name": deny("some k in [\"tokenVerified\"]\nnot input.subject[k]"),
		"subject counted":            deny("count(input.subject) < 8"),
		"subject iterated":           deny("count([1 | some k, _ in input.subject; k == \"node\"]) == 0"),
		"subject in a list":          deny("[input.subject] != []"),
		"count of a list":            deny("count([t | some t in input.tokens]) == 0"),
		"count of a set":             deny("count({t.audience | some t in input.tokens; t.verified}) == 0"),
		"count of an object":         deny("count({t.audience: t | some t in input.tokens}) == 0"),
		"comprehension in a call":    deny("concat(\"\", [t.audience | some t in input.tokens]) == \"\""),
		"comprehension in every":     deny("every c in input.pod.containers {\n\tcount([1 | input.subject.node]) == 0\n\tc.name != \"\"\n}"),
		"every over a comprehension": deny("every t in [t | some t in input.tokens] {\n\tt.verified\n}"),
		"guard in the comprehension": deny("count([1 | input.tokens; some t in input.tokens; t.verified]) == 0"),
		"guard in every":             deny("every c in input.pod.containers {\n\tinput.tokens\n\tc.name == \"none\"\n}\nnot input.tokens"),
		"guard in a template":        deny("$\"{input.subject.node}\" != \"\"\nnot input.tokens"),
		"guard in a helper":          deny("_node\nnot input.tokens") + "_node if input.subject.node\n",
		"template":                   deny("$\"on {input.subject.node}\" == \"on <undefined>\""),
		"template in a head":         `deny contains {"id": "PR-300", "severity": "high", "message": $"{input.subject.node}"} if input.pod.hostUsers` + "\n",
		"negation of a unification":  deny("not input.subject.node = \"node-1\""),
		"union of a set":             deny("count(_seen | {1}) == 1") + "_seen contains 2 if input.subject.node\n",
		"object as an argument":      deny(`object.get(_o, "a", 2) == 2`) + "_o[\"a\"] := 1 if input.subject.node\n",
		"head of a helper":           deny("_none") + "_none := [] == [t | some t in input.tokens]\n",
		"guard of nothing":           deny("every c in [] {\n\tinput.tokens\n\tc\n}\nnot input.tokens"),
		"helper":                     deny("not _ok") + "_ok if input.subject.tokenVerified == true\n",
		"helper of a helper":         deny("not _a") + "_a if _b\n\n_b if input.subject.tokenVerified == true\n",
		"helper that is a name":      deny("not _token") + "_token := input.subject.tokenVerified\n",
		"helper with two rules":      deny("not _ok") + "_ok if input.pod.hostPID\n\n_ok if input.subject.tokenVerified == true\n",
		"helper that is negative":    deny("_bad") + "_bad if not input.subject.tokenVerified\n",
		"function":                   deny("not _f(1)") + "_f(x) if {\n\tx == 1\n\tinput.subject.node == \"node-1\"\n}\n",
		"default":                    deny("_ok == false") + "default _ok := false\n\n_ok if input.subject.tokenVerified == true\n",
		"default function":           deny("_f(1) == 0") + "default _f(_) := 0\n\n_f(x) := x if input.subject.node\n",
		"else":                       deny("_word == \"none\"") + "_word := \"some\" if {\n\tinput.subject.tokenVerified == true\n} else := \"none\"\n",
		"else of a helper":           deny("_word == \"none\"") + "_ok if input.tokens\n\n_word := \"some\" if {\n\t_ok\n} else := \"none\"\n",
		"set":                        deny("count(_seen) == 0") + "_seen contains t.audience if some t in input.tokens\n",
		"set as a variable":          deny("s := _seen\ncount(s) == 0") + "_seen contains t.audience if some t in input.tokens\n",
		"set, without one of it":     deny(`not _seen["vault"]`) + "_seen contains t.audience if some t in input.tokens\n",
		"set, not in":                deny(`not "vault" in _seen`) + "_seen contains t.audience if some t in input.tokens\n",
		"set, every":                 deny("every a in _seen {\n\ta != \"vault\"\n}") + "_seen contains t.audience if some t in input.tokens\n",
		"object":                     deny("count(_seen) == 0") + "_seen[t.audience] := true if some t in input.tokens\n",
		"object of sets":             deny(`count(_seen.vault) == 0`) + "_seen[t.audience] contains 1 if some t in input.tokens\n\n_seen.vault contains 1 if input.pod.hostPID\n",
		"reference as a name":        deny("count(_a) == 0") + "_a.b.c := 1 if input.subject.node\n",
		"denials":                    deny("count(deny) == 0") + "",
		"in a head":                  `deny contains {"id": "PR-300", "severity": "high", "message": concat(",", [t.audience | some t in input.tokens])} if input.pod.hostPID` + "\n",
		"obligations":                "obligations := {\"audit_level\": 2} if not input.subject.tokenVerified\n",
		"obligations with a default": "default obligations := {\"audit_level\": 2}\n\nobligations := {\"audit_level\": 1} if input.subject.tokenVerified\n",
		"a helper of a warning":      "warn contains " + finding + " if _bad\n\n_bad if not input.subject.tokenVerified\n",
	}
}

// acceptedOverAbsence read the same facts and are silent without them.
func acceptedOverAbsence() map[string]string {
	return map[string]string{
		"compared":               deny("input.subject.tokenVerified == false"),
		"unequal":                deny(`input.subject.node != "node-1"`),
		"variable":               deny("v := input.subject.tokenVerified\nnot v"),
		"iterated":               deny("some t in input.tokens\nnot t.verified"),
		"indexed":                deny("input.tokens[_].verified == false"),
		"counted":                deny("count(input.tokens) > 1"),
		"every":                  deny("every t in input.tokens {\n\tnot t.verified\n}"),
		"fact in every":          deny("every c in input.pod.containers {\n\tc.name == input.subject.node\n}"),
		"guarded not":            deny("startswith(input.subject.node, \"n\")\nnot input.subject.node == \"node-1\""),
		"guarded comprehension":  deny("input.tokens\ncount([t | some t in input.tokens; t.verified]) == 0"),
		"guarded helper":         deny("input.subject.tokenVerified == false\nnot _ok") + "_ok if input.subject.tokenVerified == true\n",
		"guarded head":           `deny contains {"id": "PR-300", "severity": "high", "message": concat(",", [t.audience | some t in input.tokens])} if input.tokens` + "\n",
		"helper":                 deny("_bad") + "_bad if input.subject.tokenVerified == false\n",
		"helper with two rules":  deny("_bad") + "_bad if input.pod.hostPID\n\n_bad if input.subject.tokenVerified == false\n",
		"function":               deny("_f(input.subject.node)") + "_f(x) if not x == \"node-1\"\n",
		"member":                 deny("some a in _seen\na == \"vault\"") + "_seen contains t.audience if some t in input.tokens\n",
		"key of an object":       deny(`_seen.vault == true`) + "_seen[t.audience] := true if some t in input.tokens\n",
		"default without a fact": deny("_on == false\ninput.subject.tokenVerified == false") + "default _on := false\n\n_on if input.pod.hostPID\n",
		// Rego looks at what stands in a call or a bigger term first, and goes no
		// further without it.
		"not, of a call":             deny(`not startswith(input.subject.node, "trusted-")`),
		"not, of a function":         deny("not _f(input.subject.node)") + "_f(x) if x == \"node-1\"\n",
		"not, of a bigger term":      deny("not [input.subject.node] == [\"x\"]"),
		"not, of a collection":       deny("not \"x\" in {input.subject.node}"),
		"not, below a reference":     deny("not data.portcullis.config.checks.odd[input.subject.node]"),
		"warning":                    "warn contains " + finding + " if not input.subject.tokenVerified\n",
		"not, on a node":             deny("input.subject.node\nnot input.subject.tokenVerified"),
		"no tokens on a node":        deny("input.subject.node\nnot input.tokens"),
		"no good token on a node":    deny("input.subject.node\nnot _vault") + "_vault if {\n\tsome t in input.tokens\n\tt.audience == \"vault\"\n\tt.verified\n}\n",
		"count on a node":            deny("is_boolean(input.subject.tokenVerified)\ncount([t | some t in input.tokens; t.verified]) == 0"),
		"set on a node":              deny("input.subject.node != \"\"\ncount(_seen) == 0") + "_seen contains t.audience if some t in input.tokens\n",
		"helper on a node":           deny("_bad") + "_bad if {\n\tinput.subject.node\n\tnot input.tokens\n}\n",
		"default of an argument":     deny("_f(input.subject.node) == 0") + "default _f(_) := 0\n\n_f(x) := 1 if x == \"node-1\"\n",
		"not, of such a default":     deny("not _f(input.subject.node) == 1") + "default _f(_) := 0\n\n_f(x) := 1 if x == \"node-1\"\n",
		"object of a function":       deny("object.get(_f(1), \"a\", 2) == 2") + "_f(_) := {\"b\": x} if x := input.subject.node\n",
		"literal set":                deny("{input.subject.node} != {\"x\"}"),
		"other fields of the pod":    deny("not input.pod.owner"),
		"other fields of a subject":  deny("not input.subject.namespaceLabels.team"),
		"other fields, with default": deny(`object.get(input.subject.namespaceLabels, "team", "") == ""`),
	}
}

func withOdd(text string) policies.Bundle {
	b := valid()
	rules(text)(&b)
	return b
}

// TestP2RulesOverAbsenceAreRefused: a rule that admission would apply for want of
// a fact, and the mount would not, is not loaded, and its author learns why.
func TestP2RulesOverAbsenceAreRefused(t *testing.T) {
	for name, text := range refusedOverAbsence() {
		t.Run(name, func(t *testing.T) {
			if name == "denials" {
				text = "deny contains " + finding + " if input.subject.tokenVerified == false\n"
				b := withOdd(text)
				b.Modules["portcullis/checks/two/two.rego"] = strings.Replace(checkOf(deny("count(data.portcullis.checks.odd.deny) == 0")), "checks.odd\n", "checks.two\n", 1)
				wantRefused(t, b, "portcullis/checks/two/two.rego:")
				return
			}
			wantRefused(t, withOdd(text), oddPath+":")
		})
	}
}

func wantRefused(t *testing.T, b policies.Bundle, part string) {
	t.Helper()
	_, err := policies.Compile(t.Context(), b, options())
	bad, ok := errors.AsType[*policies.BundleError](err)
	if !ok || !strings.HasPrefix(bad.Part, part) || !strings.Contains(bad.Problem, "input.") || bad.Remedy == "" {
		t.Fatalf("Compile() = %v, want it refused at %s with a remedy\n%s", err, part, b.Modules[oddPath])
	}
	seen := policies.Examine(b, options()).Problems
	if !slices.ContainsFunc(seen, func(p policies.Problem) bool {
		return strings.HasPrefix(part, p.File) && p.Row > 0 && p.Text == bad.Problem && p.Remedy == bad.Remedy
	}) {
		t.Errorf("Examine() = %v, want the refusal %q in it", seen, bad.Problem)
	}
}

// TestP2AdmissionDeniesOnlyWhatTheMountDenies, for the rules that are loaded.
func TestP2AdmissionDeniesOnlyWhatTheMountDenies(t *testing.T) {
	for name, text := range acceptedOverAbsence() {
		t.Run(name, func(t *testing.T) {
			e, err := policies.Compile(t.Context(), withOdd(text), options())
			if err != nil {
				t.Fatalf("Compile() = %v, want no error", err)
			}
			wantSilence(t, e, text)
		})
	}
}

// nodeFacts are what a node may know of one pod.
func nodeFacts() []func(*policies.Input) {
	var all []func(*policies.Input)
	for _, verified := range []bool{false, true} {
		for _, node := range []string{"node-1", "other"} {
			for _, tokens := range [][]policies.Token{
				nil, {{Audience: "vault", Verified: true}}, {{Audience: "vault"}}, {{Audience: "aws"}, {Audience: "vault", Verified: true}},
			} {
				all = append(all, func(in *policies.Input) {
					in.Subject.TokenVerified, in.Subject.Node, in.Tokens = new(verified), node, tokens
				})
			}
		}
	}
	return all
}

// wantSilence checks that what is denied without the facts of a node, by the check
// of these tests, is denied with each of them.
func wantSilence(t *testing.T, e *policies.Engine, text string) {
	t.Helper()
	early := ids(t, e, policiestest.Input(func(in *policies.Input) {
		in.Phase, in.Requester = policies.PhaseAdmission, &policies.Requester{Username: "dev"}
		in.Subject.TokenVerified, in.Subject.Node, in.Tokens = nil, "", nil
	}))
	for _, facts := range nodeFacts() {
		in := policiestest.Input(facts)
		late := ids(t, e, in)
		for _, id := range early {
			if !slices.Contains(late, id) {
				t.Fatalf("admission denies with %v, and the mount with %v where tokenVerified is %v, node %s, tokens %v\n%s",
					early, late, *in.Subject.TokenVerified, in.Subject.Node, in.Tokens, text)
			}
		}
	}
}

func ids(t *testing.T, e *policies.Engine, in policies.Input) []string {
	t.Helper()
	d := e.Decide(t.Context(), in)
	if d.Verdict() == policies.VerdictError {
		t.Fatalf("Decide() = %v: %v", d.Verdict(), d.Cause())
	}
	var all []string
	for _, f := range d.Deny {
		all = append(all, f.ID)
	}
	return all
}

// pieces of which random rules are made: conditions, and helpers that they call.
func pieces() (conditions, helpers []string) {
	conditions = []string{
		"input.subject.tokenVerified", "input.subject.tokenVerified == false", "not input.subject.tokenVerified", "not input.subject.tokenVerified == true",
		"input.subject.node", `input.subject.node == "node-1"`, `not input.subject.node == "node-1"`, `input.subject.node != "x"`,
		"input.tokens", `$"{input.subject.node}" != "x"`, "some tok in input.tokens", "not input.tokens", "count(input.tokens) > 0", "count([1 | some t in input.tokens; t.verified]) == 0",
		`count({t | some t in input.tokens; t.audience == "vault"}) > 0`, "every t in input.tokens { t.verified }", "every t in [t | some t in input.tokens] { t.verified }",
		"_h", "not _h", "_g", "not _g", "count(_s) == 0", "some a in _s", `_s["vault"]`, `not _s["vault"]`, "_v == 1", "_v == 2", "not _v == 1", "_f(1)", "not _f(1)",
		"every c in input.pod.containers { not _h; c }", "every c in input.pod.containers { _g; c }", "input.pod.hostUsers", "not input.pod.hostPID", "_o.vault", "not _o.vault", "count(_o) == 0",
	}
	helpers = []string{
		"_h if %s\n", "_h if {\n\t%s\n\t%s\n}\n", "_g if %s\n", "_g if not input.subject.node\n", "_s contains \"vault\" if %s\n", "_s contains t.audience if some t in input.tokens\n",
		"_v := 1 if %s\n", "_v := 1 if {\n\t%s\n} else := 2\n", "default _v := 2\n\n_v := 1 if %s\n", "_f(x) if {\n\tx == 1\n\t%s\n}\n", "_f(x) if {\n\tx == 1\n\tnot input.subject.node\n}\n",
		"_o[t.audience] := true if some t in input.tokens\n", "_o[\"vault\"] := true if %s\n",
	}
	return conditions, helpers
}

// base are the conditions of helpers: they call none, so that nothing recurs.
func base(r *rand.Rand) string {
	conditions, _ := pieces()
	for {
		c := conditions[r.IntN(len(conditions))]
		if !strings.Contains(c, "_") && !strings.HasPrefix(c, "some") && !strings.HasPrefix(c, "not") {
			return c
		}
	}
}

// randomRule writes a rule, with the helpers that it needs and some more.
func randomRule(r *rand.Rand) string {
	conditions, helpers := pieces()
	var body []string
	for range 1 + r.IntN(3) {
		c := conditions[r.IntN(len(conditions))]
		if !slices.Contains(body, c) {
			body = append(body, strings.ReplaceAll(c, "tok ", "_ "))
		}
	}
	text := deny(strings.Join(body, "\n"))
	for _, name := range []string{"_h", "_g", "_s", "_v", "_f", "_o"} {
		if !strings.Contains(text, name) {
			continue
		}
		var own []string
		for _, h := range helpers {
			if strings.HasPrefix(strings.TrimPrefix(h, "default "), name) {
				own = append(own, h)
			}
		}
		for range 1 + r.IntN(2) {
			h := own[r.IntN(len(own))]
			for strings.Contains(h, "%s") {
				h = strings.Replace(h, "%s", base(r), 1)
			}
			if !strings.Contains(text, h) && (name != "_v" || !strings.Contains(text, "\n_v :=")) && !strings.Contains(h, "default") || !strings.Contains(text, "\n"+name) {
				text += "\n" + h
			}
		}
	}
	return text
}

// TestP2RandomRules: whatever the load lets through keeps the promise, and it lets
// through, and refuses, enough of them for that to mean something.
func TestP2RandomRules(t *testing.T) {
	n := 400
	if testing.Short() {
		n = 60
	}
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	outcome := map[string]int{}
	for range n {
		text := randomRule(r)
		e, err := policies.Compile(t.Context(), withOdd(text), options())
		switch {
		case err == nil:
			outcome["loaded"]++
			wantSilence(t, e, text)
		case strings.Contains(err.Error(), "as at admission"):
			outcome["refused"]++
		default:
			outcome["other"]++
			t.Log(err)
		}
	}
	if outcome["loaded"] < n/10 || outcome["refused"] < n/10 || outcome["other"] > n/4 {
		t.Errorf("of %d rules: %v, want enough that load and that do not", n, outcome)
	}
	t.Logf("of %d rules: %v", n, outcome)
}

// TestTheRemedyOfAbsenceDenies: a rule that is refused, mended as the refusal says,
// loads, and denies every mount that its author meant. The tempting other way, to
// begin with the list of tokens, is silent for a pod that has none.
func TestTheRemedyOfAbsenceDenies(t *testing.T) {
	const want, helper = "not _vault", "_vault if {\n\tsome t in input.tokens\n\tt.audience == \"vault\"\n\tt.verified\n}\n"
	_, err := policies.Compile(t.Context(), withOdd(deny(want)+helper), options())
	bad, ok := errors.AsType[*policies.BundleError](err)
	if !ok || !strings.Contains(bad.Remedy, "write input.subject.node into the rule as a condition") || strings.Contains(bad.Remedy, "input.tokens") {
		t.Fatalf("Compile() = %v, want the node's name as its remedy", err)
	}
	mended, err := policies.Compile(t.Context(), withOdd(deny("input.subject.node\n"+want)+helper), options())
	if err != nil {
		t.Fatalf("Compile() of the mended rule = %v, want no error", err)
	}
	tempting, err := policies.Compile(t.Context(), withOdd(deny("tokens := input.tokens\ncount(tokens) >= 0\n"+want)+helper), options())
	if err != nil {
		t.Fatalf("Compile() = %v, want no error: it is silent at admission", err)
	}
	denied, missed := 0, 0
	for _, facts := range nodeFacts() {
		in := policiestest.Input(facts)
		good := slices.Contains(in.Tokens, policies.Token{Audience: "vault", Verified: true})
		if got := slices.Contains(ids(t, mended, in), "PR-300"); got == good {
			t.Errorf("with tokens %v denied: %t, want %t", in.Tokens, got, !good)
		}
		if !good {
			denied++
		}
		if !good && !slices.Contains(ids(t, tempting, in), "PR-300") {
			missed++
		}
	}
	if denied == 0 || missed == 0 {
		t.Errorf("%d mounts to deny, of which the other way misses %d: the test is broken", denied, missed)
	}
}
