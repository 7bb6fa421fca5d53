package policies_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// oddPath is where the check odd stands in a bundle.
const oddPath = "portcullis/checks/odd/odd.rego"

func valid() policies.Bundle {
	return policies.Bundle{
		Modules:  map[string]string{oddPath: checkOf("deny contains {} if input.volume.readOnly == false\n")},
		Manifest: policies.Manifest{Contract: policies.Contract, Serial: 1},
		Digest:   "sha256:" + policiestest.Digest,
	}
}

func options() policies.Options {
	return policies.Options{Clock: func() time.Time { return time.Unix(0, policiestest.Now) }}
}

// rules replaces the rules of the one check.
func rules(text string) func(*policies.Bundle) {
	return func(b *policies.Bundle) { b.Modules[oddPath] = checkOf(text) }
}

// module replaces the whole check.
func module(text string) func(*policies.Bundle) {
	return func(b *policies.Bundle) { b.Modules[oddPath] = text }
}

func config(key string, value any) func(*policies.Bundle) {
	return data(map[string]any{"portcullis": map[string]any{"config": map[string]any{key: value}}})
}

func data(d map[string]any) func(*policies.Bundle) {
	return func(b *policies.Bundle) { b.Data = d }
}

const annotated = "# METADATA\n# schemas:\n#   - input: schema.input\n"

// TestCompileRefuses lists what would weaken the combination of rules, make two
// gates decide differently, or be ignored without a word.
func TestCompileRefuses(t *testing.T) {
	in100days := time.Unix(0, policiestest.Now).Add(100 * 24 * time.Hour)
	tests := []struct {
		name   string
		change func(*policies.Bundle)
		want   string // in the error
	}{
		// What a rule may not read.
		{"phase in deny", rules(`deny contains {} if input.phase == "mount"`), "reads input.phase"},
		{"requester in deny", rules(`deny contains {} if input.requester.username == "x"`), "reads input.requester"},
		{"phase in a helper", rules("deny contains {} if _late\n\n_late if input.phase == \"mount\""), "reads input.phase"},
		{"phase in obligations", rules(`obligations := {"audit_level": 1} if input.phase == "mount"`), "reads input.phase"},
		{"phase behind an import", module(annotated + "package portcullis.checks.odd\n\nimport input.phase as p\n\ndeny contains {} if p == \"mount\""), "reads input.phase"},
		{"phase in a comprehension", rules(`deny contains {} if count([1 | input.phase == "mount"]) > 0`), "reads input.phase"},
		{"phase in a function", rules("deny contains {} if _f(1)\n\n_f(_) if input.phase == \"mount\""), "reads input.phase"},
		{"phase in a head", rules("deny contains {\"id\": input.phase} if true"), "reads input.phase"},
		{"phase in every", rules(`deny contains {} if { every x in [1] { input.phase == "mount"; x == 1 } }`), "reads input.phase"},
		{"phase in else", rules("deny contains {} if _h\n\n_h if input.volume.readOnly\n\nelse := true if input.phase == \"mount\""), "reads input.phase"},
		{"phase in a template", rules("deny contains {\"id\": x} if x := $\"{input.phase}\""), "reads input.phase"},
		{"bare input", rules("deny contains {} if {\n\tx := input\n\tx.volume.readOnly\n}"), "reads input as a whole"},
		{"input as an argument", rules(`deny contains {} if object.get(input, "phase", "") == "mount"`), "reads input as a whole"},
		{"computed field", rules("deny contains {} if {\n\tsome k in [\"phase\"]\n\tinput[k] == \"mount\"\n}"), "computed name"},
		{"iterated input", rules("deny contains {} if {\n\tsome v in input\n\tv == \"mount\"\n}"), "reads input as a whole"},
		{"with input", rules(`deny contains {} if data.portcullis.lib.octal(1) == "01" with input.phase as "x"`), "with"},
		{"main", rules("deny contains {} if data.portcullis.main.decision.verdict == \"allow\""), ""},
		{"whole data", rules("deny contains {} if {\n\td := data\n\td.x\n}"), ""},
		{"computed document", rules("deny contains {} if {\n\tsome k in [\"config\"]\n\tdata.portcullis[k].x\n}"), "by a computed name"},
		{"foreign data", rules("deny contains {} if data.other.x"), "outside data.portcullis"},
		{"unknown document", rules("deny contains {} if data.portcullis.secrets.x"), "reads data.portcullis.secrets"},
		{"warnings", func(b *policies.Bundle) {
			b.Modules["portcullis/checks/b/b.rego"] = annotated + "package portcullis.checks.b\n\nwarn contains {} if input.phase == \"mount\""
			rules("deny contains {} if count(data.portcullis.checks.b.warn) > 0")(b)
		}, "reads data.portcullis.checks.b.warn"},
		{"own warnings", rules("warn contains {} if input.phase == \"mount\"\n\ndeny contains {} if count(warn) > 0"), "reads data.portcullis.checks.odd.warn"},
		{"any check", rules("deny contains {} if {\n\tsome k in [\"a\"]\n\tcount(data.portcullis.checks[k]) > 0\n}"), ""},

		// What a module may not be.
		{"package main", module(annotated + "package portcullis.main\n\ndecision := {\"verdict\": \"allow\"}"), "package is data.portcullis.main"},
		{"package lib", module(annotated + "package portcullis.lib\n\nx := 1"), "package is data.portcullis.lib"},
		{"nested package", module(annotated + "package portcullis.checks.odd.more\n\ndeny contains {} if true"), "package is"},
		{"foreign package", module(annotated + "package other\n\ndeny contains {} if true"), "package is data.other"},
		{"rule across packages", module(annotated + "package portcullis.checks\n\nodd.deny contains {} if true"), "package is"},
		{"package as data", module(annotated + "package portcullis\n\nconfig := {}"), "package is"},
		{"same package twice", func(b *policies.Bundle) { b.Modules["portcullis/checks/two/two.rego"] = b.Modules[oddPath] }, "is portcullis/checks/odd/odd.rego"},
		{"no schema", module("package portcullis.checks.odd\n\ndeny contains {} if true"), "lacks the schema"},
		{"schema on a rule only", module("package portcullis.checks.odd\n\n" + annotated + "deny contains {} if true"), "lacks the schema"},
		{"another schema", module("# METADATA\n# schemas:\n#   - input: schema.other\npackage portcullis.checks.odd\n\ndeny contains {} if true"), "another schema"},
		{"schema that allows all", rules("# METADATA\n# schemas:\n#   - input: {type: object}\ndeny contains {} if input.phaze == 1"), "another schema"},
		{"schema of a field", module("# METADATA\n# schemas:\n#   - input: schema.input\n#   - input.pod: schema.input\npackage portcullis.checks.odd\n\ndeny contains {} if true"), "another schema"},
		{"subpackages", module("# METADATA\n# scope: subpackages\n# schemas:\n#   - input: schema.input\npackage portcullis.checks.odd\n\ndeny contains {} if true"), "subpackages"},
		{"deny that is no set", rules("deny := true if input.volume.readOnly"), "not a set of findings"},
		{"deny with a key", rules("deny[x] := 1 if x := \"a\""), "not a set of findings"},
		{"deny below", rules("deny.more contains {} if true"), "not a set of findings"},
		{"deny as a function", rules("deny(x) := x"), "not a set of findings"},
		{"warn that is no set", rules("warn := []"), "not a set of findings"},
		{"obligations by key", rules("obligations[k] := 1 if k := \"ttl_seconds\""), "not one object"},
		{"obligations as a set", rules("obligations contains 1"), "not one object"},
		{"misspelt deny", rules("denny contains {} if true"), "nothing uses rule denny"},
		{"misspelt deny beside a warning", rules("warn contains {} if true\n\ndenny contains {} if true"), "nothing uses rule denny"},
		{"helper like a rule", rules("deny contains {} if bad\n\nbad if input.pod.hostPID"), "name the helper _bad"},
		{"function like a rule", rules("deny contains {} if f(1)\n\nf(x) if x == 1"), "name the helper _f"},
		{"default like a rule", rules("deny contains {} if true\n\ndefault obligation := {}"), "nothing uses rule obligation"},
		{"only helpers", rules("_deny contains {} if true"), "no deny, warn or obligations"},
		{"file of another name", func(b *policies.Bundle) {
			b.Modules = map[string]string{"portcullis/checks/strict/strict.rego": b.Modules[oddPath]}
		}, "is portcullis/checks/odd/odd.rego"},
		{"file elsewhere", func(b *policies.Bundle) { b.Modules = map[string]string{"odd.rego": b.Modules[oddPath]} }, "is portcullis/checks/odd/odd.rego"},
		{"empty", module(""), "odd.rego"},
		{"no rules", module(annotated + "package portcullis.checks.odd"), "no deny, warn or obligations"},

		// What Rego refuses because the compiler is strict.
		{"misspelt field", rules("deny contains {} if input.pod.fsgroup == 0"), "undefined ref"},
		{"misspelt field of an item", rules("deny contains {} if {\n\tsome c in input.pod.containers\n\tc.privilegd\n}"), "undefined ref"},
		{"unused variable", rules("deny contains {} if {\n\tx := 1\n\tinput.volume.readOnly\n}"), "unused"},
		{"version 0", rules("deny[msg] { msg := \"x\" }"), "odd.rego"},

		// What the manifest and the data may not say.
		{"contract", func(b *policies.Bundle) { b.Manifest.Contract = "portcullis/v2" }, "contract"},
		{"no contract", func(b *policies.Bundle) { b.Manifest.Contract = "" }, "contract"},
		{"serial", func(b *policies.Bundle) { b.Manifest.Serial = -1 }, "serial"},
		{"digest", func(b *policies.Bundle) { b.Digest = "sha256:x" }, "digest"},
		{"signed without an end", func(b *policies.Bundle) { b.Signed = true }, "not_after"},
		{"end too far off", func(b *policies.Bundle) { b.Manifest.NotAfter = in100days }, "90 days"},
		{"foreign root", data(map[string]any{"other": 1}), "unknown field"},
		{"data of main", data(map[string]any{"portcullis": map[string]any{"main": map[string]any{"decision": 1}}}), "unknown field"},
		{"data of checks", data(map[string]any{"portcullis": map[string]any{"checks": 1}}), "unknown field"},
		{"data that is no JSON", data(map[string]any{"portcullis": func() {}}), "not JSON"},
		{"unknown configuration", config("requiredChecks", []string{}), "unknown field"},
		{"unknown obligation", config("obligations", map[string]any{"shred": 1}), "shred"},
		{"mode beyond reading", config("obligations", map[string]any{"max_file_mode": 0o777}), "max_file_mode"},
		{"group", config("obligations", map[string]any{"required_fs_group": -1}), "required_fs_group"},
		{"audit level", config("obligations", map[string]any{"audit_level": 3}), "out of range"},
		{"no audience", config("obligations", map[string]any{"audiences": []string{}}), "audiences"},
		{"required check", config("required_checks", []string{"lost"}), "lost"},
		{"monitor without an end", config("monitor", map[string]any{"rules": []string{"PR-001"}}), "without an end"},
		{"monitor too long", config("monitor", map[string]any{"until": "2026-06-01", "rules": []string{"*"}}), "90 days"},
		{"monitor forever", config("monitor", map[string]any{"until": "forever", "rules": []string{"*"}}), "not a date"},
		{"monitor of what", config("monitor", map[string]any{"until": "2026-02-01"}), `["*"]`},
		{"monitor of nothing", config("monitor", map[string]any{"until": "2026-02-01", "rules": []string{}}), `["*"]`},
		{"monitor of a misspelt rule", config("monitor", map[string]any{"until": "2026-02-01", "rules": []string{"PR-001", "PR-01"}}), `"PR-01"`},
		{"monitor of all and one", config("monitor", map[string]any{"until": "2026-02-01", "rules": []string{"*", "PR-001"}}), `"*"`},
		{"monitor by number", config("monitor", map[string]any{"until_ns": int64(1) << 62}), "until_ns"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := valid()
			tt.change(&b)
			e, err := policies.Compile(t.Context(), b, options())
			if err == nil || e != nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Compile(%s) = %v, want an error with %q", tt.name, err, tt.want)
			}
			if bad, ok := errors.AsType[*policies.BundleError](err); !ok || bad.Part == "" || bad.Remedy == "" {
				t.Errorf("Compile(%s) = %v, want a *BundleError with part and remedy", tt.name, err)
			}
		})
	}
}

func TestCompileAccepts(t *testing.T) {
	tests := map[string]func(*policies.Bundle){
		"as it is":          func(*policies.Bundle) {},
		"no modules":        func(b *policies.Bundle) { b.Modules = nil },
		"phase in warn":     rules("warn contains {} if input.phase == \"mount\""),
		"requester in warn": rules("warn contains {} if input.requester.username == \"x\""),
		"own rule":          rules("deny contains {} if _bad\n\n_bad if input.pod.hostPID"),
		"rule of a check":   rules("deny contains {} if data.portcullis.checks.odd._bad\n\n_bad if input.pod.hostPID"),
		"library":           rules("deny contains {} if count(data.portcullis.lib.mounting_containers) == 0"),
		"imported library":  module(annotated + "package portcullis.checks.odd\n\nimport data.portcullis.lib\n\ndeny contains {} if count(lib.mounting_containers) == 0"),
		"configuration":     rules("deny contains {} if data.portcullis.config.checks.odd.strict"),
		"part of the input": rules("deny contains {} if {\n\tp := input.pod\n\tp.hostPID\n}"),
		"computed label":    rules("deny contains {} if {\n\tsome k in [\"a\"]\n\tinput.pod.labels[k] == \"b\"\n}"),
		"end within ninety": func(b *policies.Bundle) {
			b.Manifest.NotAfter = time.Unix(0, policiestest.Now).Add(89 * 24 * time.Hour)
		},
		"monitor within range": config("monitor", map[string]any{"until": "2026-04-14", "rules": []string{"PR-001"}}),
		"monitor of all":       config("monitor", map[string]any{"until": "2026-04-14", "rules": []string{"*"}}),
		"mode and group":       config("obligations", map[string]any{"max_file_mode": 0o440, "required_fs_group": 0}),
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			b := valid()
			change(&b)
			if _, err := policies.Compile(t.Context(), b, options()); err != nil {
				t.Errorf("Compile(%s) = %v, want no error", name, err)
			}
		})
	}
}

// TestOnlyPureBuiltins: a decision can be replayed only if no built-in reads a
// clock, a network, randomness or the environment.
func TestOnlyPureBuiltins(t *testing.T) {
	known := map[string]*ast.Builtin{}
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		known[b.Name] = b
	}
	for _, name := range policies.AllowedBuiltins() {
		if b := known[name]; b == nil || b.Nondeterministic {
			t.Errorf("built-in %q is unknown or not pure", name)
		}
	}
	for _, call := range []string{
		`http.send({"method": "get", "url": "http://x"})`, "opa.runtime()", `net.lookup_ip_addr("x")`, `rand.intn("x", 2)`, "time.now_ns()",
		`uuid.rfc4122("x")`, `io.jwt.encode_sign({}, {}, {})`, `io.jwt.decode("x")`, `rego.parse_module("x", "y")`, "trace(\"x\")",
		`crypto.x509.parse_certificates("x")`, `graph.reachable({}, {})`, `net.cidr_expand("10.0.0.0/8")`,
		"bits.lsh(1, 100000000000)", "numbers.range(1, 1000000000)", "numbers.range_step(1, 1000000000, 1)", "product([1e300, 1e300])", "walk(input.pod, [_, _])",
	} {
		t.Run(call, func(t *testing.T) {
			b := valid()
			rules("deny contains {\"x\": y} if y := " + call)(&b)
			if strings.HasPrefix(call, "walk") {
				rules("deny contains {} if " + call)(&b)
			}
			if _, err := policies.Compile(t.Context(), b, options()); err == nil || !strings.Contains(err.Error(), "undefined function") {
				t.Errorf("Compile(%s) = %v, want an undefined function", call, err)
			}
		})
	}
}

func grantIndex(subject, key string, change func(*policies.GrantRecord)) func(*policies.Bundle) {
	g := policies.GrantRecord{ID: "G-1", Owner: "team", NotAfterNS: 1 << 62, Provider: "local", Scoping: map[string]string{}}
	if change != nil {
		change(&g)
	}
	return data(map[string]any{"portcullis": map[string]any{"grants": map[string]any{
		"by_subject": policies.GrantIndex{subject: {key: {g}}},
	}}})
}

func grantsOfKey(n int) func(*policies.Bundle) {
	g := policies.GrantRecord{ID: "G-1", Owner: "team", NotAfterNS: 1 << 62, Provider: "local", Scoping: map[string]string{}}
	return data(map[string]any{"portcullis": map[string]any{"grants": map[string]any{
		"by_subject": policies.GrantIndex{"payments/api": {"local://node/a": slices.Repeat([]policies.GrantRecord{g}, n)}},
	}}})
}

func waiverIndex(rule, subject string, change func(*policies.WaiverRecord)) func(*policies.Bundle) {
	w := policies.WaiverRecord{ID: "W-1", Reason: "r", Ticket: "t", ApprovedBy: "a", NotAfterNS: policiestest.Now + 1}
	if change != nil {
		change(&w)
	}
	return data(map[string]any{"portcullis": map[string]any{"waivers": map[string]any{
		"by_finding": policies.WaiverIndex{rule: {subject: {w}}},
	}}})
}

// TestCompileRefusesEmptyListsOfTheIndex: whether an empty list stands for none
// or for all is not to be guessed. The index is text here, since Go leaves out
// empty lists when it writes one.
func TestCompileRefusesEmptyListsOfTheIndex(t *testing.T) {
	for field, ok := range map[string]bool{
		`"owner_uid": 7`: true, `"image_signers": ["key:ci"]`: true, `"pods": {"owner_kinds": ["Job"]}`: true,
		`"image_signers": []`: false, `"sync_targets": []`: false, `"audiences": []`: false, `"pods": {}`: false,
		`"pods": {"owner_kinds": []}`: false, `"pods": {"owner_kinds": ["Job"], "owner_names": []}`: false,
	} {
		text := `{"portcullis": {"grants": {"by_subject": {"payments/api": {"local://node/a": [
			{"id": "G-1", "owner": "o", "not_after_ns": 4611686018427387904, "provider": "local", "scoping": {}, ` + field + `}]}}}}}`
		b := valid()
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber() // as a float the time would have been rounded
		if err := d.Decode(&b.Data); err != nil {
			t.Fatal(err)
		}
		if _, err := policies.Compile(t.Context(), b, options()); (err == nil) != ok {
			t.Errorf("Compile(grant with %s) = %v, want accepted: %v", field, err, ok)
		}
	}
}

// TestCompileChecksTheIndex: a signed bundle brings the index itself, so its
// authoring checks may have been left out.
func TestCompileChecksTheIndex(t *testing.T) {
	const id = "local://node/a"
	tests := []struct {
		name   string
		change func(*policies.Bundle)
		ok     bool
	}{
		{"grant", grantIndex("payments/api", id, nil), true},
		{"every account", grantIndex("payments/*", id, nil), true},
		{"label", grantIndex("label:example.com/team=pay/api", id, nil), true},
		{"no account", grantIndex("payments", id, nil), false},
		{"label without an account", grantIndex("label:team=pay", id, nil), false},
		{"every namespace", grantIndex("*/api", id, nil), false},
		{"prefix", grantIndex("payments/api", "local://node/a/", nil), true},
		{"backend", grantIndex("payments/api", "local://node/", nil), true},
		{"every key", grantIndex("payments/api", id+"#", nil), true},
		{"unparsed", grantIndex("payments/api", "unparsed:"+policiestest.Digest, nil), true},
		{"part of unparsed", grantIndex("payments/api", "unparsed:", nil), false},
		{"provider only", grantIndex("payments/api", "local://", nil), false},
		{"star", grantIndex("payments/api", "*", nil), false},
		{"dots", grantIndex("payments/api", "local://node/a/../", nil), false},
		{"no id", grantIndex("payments/api", id, func(g *policies.GrantRecord) { g.ID = "" }), false},
		{"no end", grantIndex("payments/api", id, func(g *policies.GrantRecord) { g.NotAfterNS = 0 }), false},
		{"no scoping", grantIndex("payments/api", id, func(g *policies.GrantRecord) { g.Scoping = nil }), false},
		{"writable", grantIndex("payments/api", id, func(g *policies.GrantRecord) { g.MaxFileMode = new(uint32(0o640)) }), false},
		{"mode 0", grantIndex("payments/api", id, func(g *policies.GrantRecord) { g.MaxFileMode = new(uint32(0)) }), false},
		{"owner", grantIndex("payments/api", id, func(g *policies.GrantRecord) { g.OwnerUID = new(int64(-1)) }), false},
		{"waiver", waiverIndex("PR-300", "payments/api", nil), true},
		{"waiver of overrides", waiverIndex("PR-010", "payments/*", nil), true},
		{"waiver of grants", waiverIndex("PR-001", "payments/api", nil), false},
		{"waiver of modes", waiverIndex("PR-100", "payments/api", nil), false},
		{"waiver of nothing", waiverIndex("", "payments/api", nil), false},
		{"waiver everywhere", waiverIndex("PR-300", "*/api", nil), false},
		{"waiver of no account", waiverIndex("PR-300", "payments", nil), false},
		{"waiver without a ticket", waiverIndex("PR-300", "payments/api", func(w *policies.WaiverRecord) { w.Ticket = "" }), false},
		{"waiver without an end", waiverIndex("PR-300", "payments/api", func(w *policies.WaiverRecord) { w.NotAfterNS = 0 }), false},
		{"needless escape", grantIndex("payments/api", "local://node/%61", nil), false},
		{"slash in a key", grantIndex("payments/api", id+"#k/x", nil), false},
		{"parameter store", grantIndex("payments/api", "local://node//prod/", nil), true},
		{"two last slashes", grantIndex("payments/api", "local://node/a//", nil), false},
		{"pods that narrow nothing", grantIndex("payments/api", id, func(g *policies.GrantRecord) { g.Pods = &policies.PodNarrowing{} }), false},
		{"64 grants", grantsOfKey(64), true},
		{"65 grants", grantsOfKey(65), false},
		{"waiver of a secret", waiverIndex("PR-300", "payments/api", func(w *policies.WaiverRecord) { w.Secret = new(id) }), true},
		{"waiver of unparsed", waiverIndex("PR-300", "payments/api", func(w *policies.WaiverRecord) { w.Secret = new("unparsed:" + policiestest.Digest) }), true},
		{"waiver of no secret", waiverIndex("PR-300", "payments/api", func(w *policies.WaiverRecord) { w.Secret = new("") }), false},
		{"waiver of a pattern", waiverIndex("PR-300", "payments/api", func(w *policies.WaiverRecord) { w.Secret = new("local://node/*") }), false},
		{"waiver of a prefix", waiverIndex("PR-300", "payments/api", func(w *policies.WaiverRecord) { w.Secret = new("local://node/") }), false},
		{"waiver too long", waiverIndex("PR-300", "payments/api", func(w *policies.WaiverRecord) { w.NotAfterNS += int64(91 * 24 * time.Hour) }), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := valid()
			tt.change(&b)
			if _, err := policies.Compile(t.Context(), b, options()); (err == nil) != tt.ok {
				t.Errorf("Compile(%s) = %v, want accepted: %v", tt.name, err, tt.ok)
			}
		})
	}
}

func TestEndOfDate(t *testing.T) {
	got, err := policies.EndOfDate("2026-02-28")
	if want := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC); err != nil || !got.Equal(want) {
		t.Errorf("EndOfDate(2026-02-28) = %v, %v, want %v", got, err, want)
	}
	for _, date := range []string{"", "2026-02-30", "2026-02-28T00:00:00Z", "tomorrow", "1999-12-31", "9999-12-31"} {
		if _, err := policies.EndOfDate(date); err == nil {
			t.Errorf("EndOfDate(%q) = nil error, want one", date)
		}
	}
}

// TestLibraryDigest: the digest is stable within a build and covers no tests.
func TestLibraryDigest(t *testing.T) {
	first, err := policies.LibraryDigest()
	if err != nil {
		t.Fatal(err)
	}
	second, err := policies.LibraryDigest()
	if err != nil || first != second || !strings.HasPrefix(first, "sha256:") || len(first) != 71 {
		t.Errorf("LibraryDigest() = %q then %q, %v, want the same sha256 twice", first, second, err)
	}
}
