package testrun_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/testrun"
)

// TestFixtures: each line is one fixture, and what its failure says; "" passes.
func TestFixtures(t *testing.T) {
	hostPID := "input: {pod: {hostPID: true}}, "
	tests := map[string]struct{ fixture, want string }{
		"allowed":               {"expect: {verdict: allow}", ""},
		"all of it":             {"expect: {verdict: allow, monitored: false, deny: [], warn: [], grants: [G-1], waivers: [], obligations: {on_revoke: scrub}}", ""},
		"denied":                {hostPID + "expect: {verdict: deny, deny: [PR-300]}", ""},
		"other verdict":         {hostPID + "expect: {verdict: allow}", "verdict: got deny, want allow"},
		"says what was found":   {hostPID + "expect: {verdict: allow}", "note: PR-300 debug: m"},
		"other rule":            {hostPID + "expect: {verdict: deny, deny: [PR-301]}", "deny: got [PR-300], want [PR-301]"},
		"one rule more":         {hostPID + "expect: {verdict: deny, deny: [PR-300, PR-001]}", "deny: got [PR-300]"},
		"warning":               {"input: {pod: {hostIPC: true}}, expect: {verdict: allow, warn: [PR-301]}", ""},
		"unexpected warning":    {"input: {pod: {hostIPC: true}}, expect: {verdict: allow, warn: []}", "warn: got [PR-301], want []"},
		"other grant":           {"expect: {verdict: allow, grants: [G-2]}", "grants: got [G-1], want [G-2]"},
		"waiver":                {"expect: {verdict: allow, waivers: [W-1]}", "waivers: got [], want [W-1]"},
		"monitored":             {"expect: {verdict: allow, monitored: true}", "monitored: got false"},
		"obligation":            {"expect: {verdict: allow, obligations: {on_revoke: keep}}", "obligation on_revoke: got scrub, want keep"},
		"absent obligation":     {"expect: {verdict: allow, obligations: {ttl_seconds: 60}}", "obligation ttl_seconds: got none, want 60"},
		"absence expected":      {"expect: {verdict: allow, obligations: {ttl_seconds: 0}}", ""},
		"removed field":         {"input: {pod: {fsGroup: null}, volume: {volumeMountGroup: null}}, expect: {verdict: allow}", ""},
		"list is replaced":      {"input: {requests: []}, expect: {verdict: deny, deny: [PR-003]}", ""},
		"last day":              {"now: 2126-12-31T23:59:59Z, expect: {verdict: allow}", ""},
		"day after":             {"now: 2127-01-01T00:00:00Z, expect: {verdict: deny, deny: [PR-001]}", ""},
		"out of bounds":         {"input: {spc: {provider: \"!\"}}, expect: {verdict: allow}", "spc.provider"},
		"out of bounds, wanted": {"input: {spc: {provider: \"!\"}}, expect: {verdict: error, undecided: InvalidInput}", ""},
		"other cause":           {"input: {spc: {provider: \"!\"}}, expect: {verdict: error, undecided: EvaluationTimeout}", "undecided: got InvalidInput"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := run(t, bundleOf(t, withFixtures("- {name: x, "+tt.fixture+"}")))
			text := r.Text(false)
			if len(r.Tests) != 5 || (tt.want == "") != (r.Passed == 5) || (tt.want != "") != (r.Failed == 5) || !strings.Contains(text, tt.want) {
				t.Errorf("Run(%s) = %d passed, %d failed, want %q in\n%s", tt.fixture, r.Passed, r.Failed, tt.want, text)
			}
		})
	}
}

// TestPhases: an input has what its phase has, and nothing else.
func TestPhases(t *testing.T) {
	fixtures, errs := testrun.ParseFixtures("a.yaml", []byte(`- name: x
  input:
    tokens: [{audience: a, verified: true}]
    requester: {username: alice}
  expect: {verdict: allow}
`))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, phase := range fixtures[0].Phases {
		in, err := fixtures[0].In(t.TempDir(), phase, time.Unix(0, policiestest.Now))
		if err != nil || in.Phase != phase || in.Validate() != nil {
			t.Fatalf("In(%s) = %v, %v, %v", phase, in.Phase, err, in.Validate())
		}
		onNode := phase != policies.PhaseAdmission && phase != policies.PhaseCI
		if got := in.Subject.Node != "" && in.Subject.TokenVerified != nil && len(in.Tokens) == 1; got != onNode {
			t.Errorf("In(%s) has node, tokenVerified and tokens: %v, want %v", phase, got, onNode)
		}
		if got := in.Requester != nil; got != (phase == policies.PhaseAdmission) {
			t.Errorf("In(%s) has a requester: %v", phase, got)
		}
	}
	if len(fixtures[0].Phases) != 5 {
		t.Errorf("Phases = %v, want all five", fixtures[0].Phases)
	}
}

// TestManifests: objects give the input, and a patch goes over it.
func TestManifests(t *testing.T) {
	objects, err := os.ReadFile("../rego/starter/tests/payments/objects.yaml")
	if err != nil {
		t.Fatal(err)
	}
	with := policiestest.WithFile("tests/payments/objects.yaml", string(objects))
	from := "manifests: payments, pod: payments/api-0, volume: secrets, "
	for fixture, want := range map[string]string{
		from + "expect: {verdict: allow, grants: [G-1]}":                                        "",
		from + "input: {pod: {hostPID: true}}, expect: {verdict: deny, deny: [PR-300]}":         "",
		"manifests: payments, pod: payments/api-1, volume: secrets, expect: {verdict: allow}":   `Pod "api-1"`,
		"manifests: payments, pod: payments/api-0, volume: other, expect: {verdict: allow}":     `no CSI volume "other"`,
		"manifests: elsewhere, pod: payments/api-0, volume: secrets, expect: {verdict: allow}":  "not a directory beside",
		"manifests: debug.yaml, pod: payments/api-0, volume: secrets, expect: {verdict: allow}": "not a directory beside",
	} {
		r := run(t, bundleOf(t, with, withFixtures("- {name: x, "+fixture+"}")))
		if text := r.Text(false); (want == "") != (r.Failed == 0) || r.Passed+r.Failed != 5 || !strings.Contains(text, want) {
			t.Errorf("Run(%s) = %d passed, %d failed, want %q in\n%s", fixture, r.Passed, r.Failed, want, text)
		}
	}
}

// TestFixtureErrors: each names line, column, field and remedy, and all are told.
func TestFixtureErrors(t *testing.T) {
	ok := "expect: {verdict: allow}"
	tests := map[string]string{
		"":                                     "a.yaml:1:1: file is empty",
		"# only a comment":                     "a.yaml:1:1: file is empty",
		"{}":                                   "a.yaml:1:1: is not a list of fixtures",
		"[]":                                   "is not a list of fixtures",
		"- {":                                  "a.yaml:1:1: ",
		"[]\n---\n[]":                          "more than one document",
		"- {name: x, expects: {}, " + ok + "}": "a.yaml:1:13: [0].expects: is not known; hint: keys here are expect, input, manifests, name, now, phases, pod, volume",
		"- {name: x, expect: {verdict: allow, denied: [a]}}":         "a.yaml:1:38: [0].expect.denied: is not known",
		"- {name: x, input: {pod: {fsgroup: 1}}, " + ok + "}":        "a.yaml:1:27: [0].input.pod.fsgroup: is not known",
		"- {name: x, input: {pod: {hostPID: 1}}, " + ok + "}":        "[0].input.pod.hostPID: is not true or false",
		"- {name: x, input: {requests: [{mode: 0440}]}, " + ok + "}": "write file modes in decimal",
		"- {name: x, input: {requests: {}}, " + ok + "}":             "[0].input.requests: is not a list",
		"- {name: x, input: {pod: []}, " + ok + "}":                  "[0].input.pod: is not an object",
		"- {name: x, input: {phase: mount}, " + ok + "}":             "set now and phases of the fixture",
		"- {name: x, name: y, " + ok + "}":                           "[0].name: is written twice",
		"- {name: x, <<: {a: b}, " + ok + "}":                        "a key is not plain text",
		"- &a {name: x, " + ok + "}":                                 "anchors",
		"- !!map {name: x, " + ok + "}":                              "tags",
		"- {name: x, 1: y, " + ok + "}":                              "a key is not plain text",
		"- {name: \"\", " + ok + "}":                                 "[0].name: is missing",
		"- {" + ok + "}":                                             "[0].name: is missing",
		"- {name: \"a\\eb\", " + ok + "}":                            "control characters",
		"- {name: 7, " + ok + "}":                                    "[0].name: is not text",
		"- {name: x, now: 2026-01-01, " + ok + "}":                   "a.yaml:1:18: [0].now: is not a time",
		"- {name: x, phases: [later], " + ok + "}":                   "[0].phases[0]: is \"later\"",
		"- {name: x}":                                                               "[0].expect.verdict: is \"\"",
		"- {name: x, expect: {verdict: deny}}":                                      "[0].expect.deny: is missing",
		"- {name: x, expect: {verdict: deny, deny: []}}":                            "[0].expect.deny: is missing",
		"- {name: x, expect: {verdict: deny, deny: [PR-1]}}":                        "ids are PR-001",
		"- {name: x, expect: {verdict: allow, deny: [PR-001]}}":                     "is set where nothing is denied",
		"- {name: x, expect: {verdict: allow, undecided: NoBundle}}":                "is set where there is a verdict",
		"- {name: x, expect: {verdict: allow, obligations: {ttl: 1}}}":              "[0].expect.obligations.ttl: is not known",
		"- {name: x, manifests: ../up, pod: a/b, volume: v, " + ok + "}":            "is not the name of a directory",
		"- {name: x, manifests: .., pod: a/b, volume: v, " + ok + "}":               "is not the name of a directory",
		"- {name: x, manifests: m, " + ok + "}":                                     "manifests without pod and volume",
		"- {name: x, pod: a/b, " + ok + "}":                                         "pod or volume without manifests",
		"- {name: x, " + ok + "}\n- {name: x, " + ok + "}":                          "a.yaml:2:3: [1].name: is used twice",
		"- {name: x, input: {pod: {labels: {a: 1}}}, " + ok + "}":                   "[0].input.pod.labels.a: is not text",
		"- {name: x, input: {spc: {generation: 99999999999999999999}}, " + ok + "}": "[0].input.spc.generation: is not",
		"- {name: x, input: null, phases: null, expect: {verdict: null}}":           "is not",
	}
	for text, want := range tests {
		_, errs := testrun.ParseFixtures("a.yaml", []byte(text))
		if err := errors.Join(errs...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseFixtures(%q) = %v, want %q", text, err, want)
		}
		for _, err := range errs {
			if e, ok := errors.AsType[*testrun.FixtureError](err); !ok || e.Line < 1 || e.Column < 1 {
				t.Errorf("ParseFixtures(%q) = %#v, want a FixtureError with its place", text, err)
			}
		}
	}
	if _, errs := testrun.ParseFixtures("a.yaml", []byte("- {nam: x}\n- {name: [], expect: {verdict: 1}}")); len(errs) < 3 {
		t.Errorf("ParseFixtures() = %v, want at least three errors at once", errs)
	}
}

// FuzzParseFixtures: what can be read gives inputs or errors, and no panic.
func FuzzParseFixtures(f *testing.F) {
	starter, err := os.ReadFile("../rego/starter/tests/workloads.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(starter)
	f.Add([]byte("- {name: x, input: {pod: null, requests: [{mode: 288}]}, expect: {verdict: deny, deny: [PR-001]}}"))
	f.Add([]byte("- &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		fixtures, errs := testrun.ParseFixtures("a.yaml", text)
		if len(errs) > 0 {
			return
		}
		for _, fixture := range fixtures {
			if fixture.Manifests != "" {
				continue
			}
			for _, phase := range fixture.Phases {
				in, err := fixture.In("", phase, time.Unix(0, policiestest.Now))
				if err == nil && in.Phase != phase {
					t.Errorf("In(%s) has phase %s", phase, in.Phase)
				}
			}
		}
	})
}

// TestDefaultInput: it is valid as it stands, and as the schema has it.
func TestDefaultInput(t *testing.T) {
	if _, err := ast.ValueFromReader(strings.NewReader(string(testrun.DefaultInput()))); err != nil {
		t.Fatal(err)
	}
	in, err := testrun.Fixture{}.In("", policies.PhaseMount, time.Unix(0, policiestest.Now))
	if err != nil || in.Validate() != nil {
		t.Errorf("In() = %v, %v, want a valid input", err, in.Validate())
	}
}

func TestJUnit(t *testing.T) {
	r := run(t, bundleOf(t, withTest(debugTest), withFixtures("- {name: \"a <b> & c\", phases: [mount], expect: {verdict: deny, deny: [PR-300]}}")))
	text, err := r.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`tests="3" failures="1" skipped="1"`, `name="a &lt;b&gt; &amp; c/mount"`, `<failure message="verdict: got allow, want deny; deny: got [], want [PR-300]">`, "<skipped>"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("JUnit() lacks %q:\n%s", want, text)
		}
	}
}
