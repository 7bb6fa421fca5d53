package testrun_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/testrun"
)

// TestDifferentialComparesEverything: a decision that differs without the rule index
// in anything at all is told.
func TestDifferentialComparesEverything(t *testing.T) {
	decide := func() policies.Decision { return policiestest.Allow(t) }
	if testrun.Differs(decide(), decide()) {
		t.Fatal("Differs() of equal decisions = true")
	}
	for name, change := range map[string]func(*policies.Decision){
		"id":          func(d *policies.Decision) { d.ID = "other" },
		"mode":        func(d *policies.Decision) { d.Mode = policies.ModeMonitor },
		"undecided":   func(d *policies.Decision) { d.Undecided = policies.UndecidedTimeout },
		"deny":        func(d *policies.Decision) { d.Deny = []policies.Finding{{ID: "PR-300"}} },
		"warn":        func(d *policies.Decision) { d.Warn = []policies.Finding{{ID: "PR-300"}} },
		"waivers":     func(d *policies.Decision) { d.Waivers = []string{"W-1"} },
		"grants":      func(d *policies.Decision) { d.Grants = []string{"G-2"} },
		"obligations": func(d *policies.Decision) { d.Obligations.TTLSeconds++ },
		"audiences":   func(d *policies.Decision) { d.Obligations.Audiences = []string{"a"} },
	} {
		other := decide()
		if change(&other); !testrun.Differs(decide(), other) || !testrun.Differs(other, decide()) {
			t.Errorf("Differs() does not see another %s", name)
		}
	}
}

// TestNamesOfRegoTests: --run chooses by the names that the report shows, of Rego
// as of fixtures; two rules of one name are two tests.
func TestNamesOfRegoTests(t *testing.T) {
	dir := bundleOf(t, withTest(`package portcullis.checks.debug_test

test_a if true

test_ab if true

test_a if true

test_cases[name] if some name in ["one", "two"]

todo_test_later if false

_helper := 1
`))
	for pattern, want := range map[string][2]int{
		"": {4, 1}, "^debug_test.test_a$": {2, 0}, "^debug_test.test_ab$": {1, 0}, "test_a": {3, 0}, "^test_a": {0, 0}, "later": {0, 1},
		"_helper": {0, 0}, "cases": {1, 0}, "^data": {0, 0}, "portcullis": {0, 0}, "^debug_test": {4, 1},
	} {
		r := run(t, dir, func(c *testrun.Config) {
			if pattern != "" {
				c.Run = regexp.MustCompile(pattern)
			}
		})
		if got := [2]int{r.Passed, r.Skipped}; got != want || r.Failed != 0 {
			t.Errorf("Run(%q) = %v passed and skipped, %d failed, want %v and 0:\n%s", pattern, got, r.Failed, want, r.Text(true))
		}
	}
}

// TestTestsThatCouldNotFail are refused, or fail.
func TestTestsThatCouldNotFail(t *testing.T) {
	for body, want := range map[string]string{
		"tset_x if false":                          "debug_test.rego:3: nothing runs rule tset_x; hint: correct it to test_..., or name the helper _tset_x",
		"todo_x if false":                          "nothing runs rule todo_x",
		"Test_x if false":                          "nothing runs rule Test_x",
		"helper := 1\n\ntest_x if helper == 1":     "nothing runs rule helper",
		"deny contains 1 if true":                  "nothing runs rule deny",
		"test_x if true\n\nfn(x) := x":             "nothing runs rule fn",
		"import data.lib\n\ntest_x if true":        "unused",
		"test_x if { some x in [1]; y := 1 }":      "",
		"test_x if { x := 1 }\n\ntest_y if foo(1)": "undefined function foo",
	} {
		_, err := testrun.Run(t.Context(), testrun.Config{Directory: bundleOf(t, withTest("package portcullis.checks.debug_test\n\n"+body+"\n")), Now: time.Unix(0, policiestest.Now)})
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("Run(%q) = %v, want %q", body, err, want)
		}
	}
	for _, value := range []string{"7", `"yes"`, "[]", "{}", "null", `{"a": false}`} {
		r := run(t, bundleOf(t, withTest("package portcullis.checks.debug_test\n\ntest_x := "+value+"\n")))
		if r.Failed != 1 || r.Passed != 0 {
			t.Errorf("Run(test_x := %s) = %d passed, %d failed, want 0 and 1", value, r.Passed, r.Failed)
		}
	}
	r := run(t, bundleOf(t, withTest("package portcullis.checks.debug_test\n\ntest_x if false\n\ntest_x if true\n")))
	if r.Failed != 1 || r.Passed != 1 {
		t.Errorf("Run(one name twice) = %d passed, %d failed, want 1 and 1: one must not hide the other", r.Passed, r.Failed)
	}
}

// TestExpectationsThatCouldNotFail: what a fixture leaves open has to be open on
// purpose.
func TestExpectationsThatCouldNotFail(t *testing.T) {
	for expect, want := range map[string]string{
		"{}":                                    "[0].expect.verdict: is \"\"",
		"{verdict: deny}":                       "[0].expect.deny: is missing",
		"{verdict: error}":                      "[0].expect.undecided: is missing; hint: name the reason, InvalidInput for example",
		"{verdict: allow, obligations: {}}":     "[0].expect.obligations: names none",
		"{verdict: allow, undecided: NoBundle}": "[0].expect.undecided: is set where there is a verdict",
		"{verdict: allow, warn: [W-1]}":         "[0].expect.warn[0]: is \"W-1\"",
		"{verdict: allow, grants: G-1}":         "[0].expect.grants: is not a list",
		"{verdict: allow, monitored: 1}":        "[0].expect.monitored: is not true or false",
		"{verdict: Allow}":                      "[0].expect.verdict: is \"Allow\"",
	} {
		_, errs := testrun.ParseFixtures("a.yaml", []byte("- {name: x, expect: "+expect+"}"))
		if err := errors.Join(errs...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseFixtures(expect: %s) = %v, want %q", expect, err, want)
		}
	}
}

// TestEachObligation: a fixture that expects another value of any of them fails,
// and one that expects none of what is there.
func TestEachObligation(t *testing.T) {
	config := policiestest.WithConfig("obligations: {max_file_mode: 256, ttl_seconds: 60, max_stale_seconds: 30, audit_level: 2, sync_allowed: true, on_expire: scrub, audiences: [a]}")
	for name, values := range map[string][2]string{
		"max_file_mode": {"256", "288"}, "ttl_seconds": {"60", "0"}, "max_stale_seconds": {"30", "31"}, "audit_level": {"2", "1"},
		"sync_allowed": {"false", "true"}, "on_expire": {"scrub", "keep"}, "audiences": {"[a]", "[]"}, "on_revoke": {"scrub", `""`},
	} {
		for i, value := range values {
			fixture := fmt.Sprintf("- {name: x, phases: [mount], input: {tokens: [{audience: a, verified: true}]}, expect: {verdict: allow, obligations: {%s: %s}}}", name, value)
			r := run(t, bundleOf(t, config, withFixtures(fixture)))
			if r.Passed != 1-i || r.Failed != i {
				t.Errorf("Run(%s: %s) = %d passed, %d failed, want %d and %d:\n%s", name, value, r.Passed, r.Failed, 1-i, i, r.Text(true))
			}
		}
	}
}

// TestTimes: those of which there are nanoseconds, and years that grants may name.
func TestTimes(t *testing.T) {
	for text, want := range map[string]string{
		"2000-01-01T00:00:00Z": "", "2200-12-31T23:59:59Z": "", "2026-06-01T00:00:00+02:00": "", "2026-06-01T00:00:00.5Z": "",
		"1999-12-31T23:59:59Z": "years 2000 to 2200", "2201-01-01T00:00:00Z": "years 2000 to 2200", "9999-12-31T23:59:59Z": "years", "0001-01-01T00:00:00Z": "years",
		"2026-06-01": "not a time", "soon": "not a time", "2026-06-01T00:00:00": "not a time", "2026-02-30T00:00:00Z": "not a time", "": "not a time",
	} {
		_, err := testrun.ParseNow(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("ParseNow(%q) = %v, want %q", text, err, want)
		}
		_, errs := testrun.ParseFixtures("a.yaml", []byte(fmt.Sprintf("- {name: x, now: %q, expect: {verdict: allow}}", text)))
		if text != "" && (len(errs) == 0) != (want == "") {
			t.Errorf("ParseFixtures(now: %q) = %v, want %q", text, errs, want)
		}
	}
}

// TestPatches: an input is a JSON merge patch, RFC 7396, over the default input.
func TestPatches(t *testing.T) {
	for patch, want := range map[string]func(policies.Input) bool{
		"{cluster: other}":                           func(in policies.Input) bool { return in.Cluster == "other" && in.Subject.Namespace == "payments" },
		"{pod: {hostPID: true}}":                     func(in policies.Input) bool { return in.Pod.HostPID && !in.Pod.HostIPC && len(in.Pod.Containers) == 1 },
		"{pod: {fsGroup: null}}":                     func(in policies.Input) bool { return in.Pod.FSGroup == nil },
		"{pod: {fsGroup: 0}}":                        func(in policies.Input) bool { return *in.Pod.FSGroup == 0 },
		"{pod: {owner: {kind: Job}}}":                func(in policies.Input) bool { return in.Pod.Owner.Kind == "Job" && in.Pod.Owner.Name == "api" },
		"{pod: {owner: null}}":                       func(in policies.Input) bool { return in.Pod.Owner == nil },
		"{requests: []}":                             func(in policies.Input) bool { return len(in.Requests) == 0 },
		"{requests: [{secret: a, file: b}]}":         func(in policies.Input) bool { return len(in.Requests) == 1 && in.Requests[0].File == "b" },
		"{subject: {namespaceLabels: {tier: prod}}}": func(in policies.Input) bool { return len(in.Subject.NamespaceLabels) == 2 },
		"{subject: {namespaceLabels: null}}":         func(in policies.Input) bool { return len(in.Subject.NamespaceLabels) == 0 },
		"{spc: {parameters: {a: b}}}":                func(in policies.Input) bool { return in.SPC.Parameters["a"] == "b" },
		"{pod: {labels: {a.b/c: \"2026-01-01\"}}}":   func(in policies.Input) bool { return in.Pod.Labels["a.b/c"] == "2026-01-01" },
		"{subject: {serviceAccount: 2026-01-01}}":    func(in policies.Input) bool { return in.Subject.ServiceAccount == "2026-01-01" },
		"{volume: {readOnly: false}}":                func(in policies.Input) bool { return !in.Volume.ReadOnly && in.Volume.Ephemeral },
		"{subject: {tokenVerified: false}}":          func(in policies.Input) bool { return !*in.Subject.TokenVerified },
		"{subject: {tokenVerified: null, node: null}}": func(in policies.Input) bool {
			return in.Subject.TokenVerified != nil && !*in.Subject.TokenVerified && in.Subject.Node == ""
		},
	} {
		fixtures, errs := testrun.ParseFixtures("a.yaml", []byte("- {name: x, input: "+patch+", expect: {verdict: allow}}"))
		if len(errs) > 0 {
			t.Errorf("ParseFixtures(%s) = %v", patch, errs)
			continue
		}
		in, err := fixtures[0].In("", policies.PhaseMount, time.Unix(0, policiestest.Now))
		if err != nil || !want(in) {
			t.Errorf("In(%s) = %+v, %v", patch, in, err)
		}
	}
	before := string(testrun.DefaultInput())
	testrun.DefaultInput()[0] = 'x'
	if string(testrun.DefaultInput()) != before {
		t.Error("DefaultInput() hands out the default itself")
	}
}

// TestErrorsStayOnTheirLine: whatever a file of fixtures holds, an error of it is one
// line without what moves a cursor, and there are not more than anybody reads.
func TestErrorsStayOnTheirLine(t *testing.T) {
	for _, text := range []string{
		`- {name: x, "a\e[8mb": 1}`, `- {name: x, "a\nb": 1}`, `- {name: x, "a\u202eb": 1}`, `- {name: "\e]0;x\a", expect: {verdict: allow}}`,
		`- {name: x, phases: ["\e[8m"], expect: {verdict: allow}}`, `- {name: x, expect: {verdict: "\e[8m"}}`, `- {name: x, expect: {verdict: deny, deny: ["\e[8m"]}}`,
		`- {name: x, input: {"\e[8m": 1}, expect: {verdict: allow}}`, "- {name: x, input: {pod: {labels: {\"\\e[8m\": 1}}}, expect: {verdict: allow}}",
	} {
		_, errs := testrun.ParseFixtures("a.yaml", []byte(text))
		if len(errs) == 0 {
			t.Errorf("ParseFixtures(%s) = no error", text)
		}
		for _, err := range errs {
			if strings.ContainsAny(err.Error(), "\x1b\a\n\u202e") {
				t.Errorf("ParseFixtures(%s) = %q, want one printable line", text, err)
			}
		}
	}
	if _, errs := testrun.ParseFixtures("a.yaml", []byte(strings.Repeat("- {nam: x}\n", 2000))); len(errs) != 1000 {
		t.Errorf("ParseFixtures(2000 mistakes) = %d errors, want 1000", len(errs))
	}
	_, errs := testrun.ParseFixtures("a.yaml", []byte(strings.Repeat("- {name: x, expect: {verdict: allow}}\n", 2049)))
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "write 1 to 2048 of them") {
		t.Errorf("ParseFixtures(2049 fixtures) = %v, want one refusal of the number", errs)
	}
}

// TestPrintable: what shows stays as it is, what hides is an escape.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"a b-ü日本": "a b-ü日本", "": "", "\x1b[8m": `\x1b[8m`, "a\tb\n": `a\tb\n`, "\u202e\u00ad\u2028": `\u202e\u00ad\u2028`, "\x00\x7f": `\x00\x7f`, "\U000e0041": `\U000e0041`,
	} {
		if got := testrun.Printable(text); got != want {
			t.Errorf("Printable(%q) = %q, want %q", text, got, want)
		}
	}
}

// TestReportsForPeopleAndMachines: one report in its three forms.
func TestReportsForPeopleAndMachines(t *testing.T) {
	r := testrun.Report{
		Tests: []testrun.Test{
			{Kind: testrun.KindRego, File: "b.rego", Line: 2, Name: "fails", Outcome: testrun.Failed, Duration: 1500 * time.Millisecond,
				Problems: []string{"one\x1b", "two"}, Notes: []string{"n"}, Trace: []string{"b.rego:3: x"}, Output: "p1\np2\n"},
			{Kind: testrun.KindFixture, File: "a.yaml", Line: 1, Name: "passes/mount", Outcome: testrun.Passed, Duration: 500 * time.Millisecond},
			{Kind: testrun.KindRego, File: "b.rego", Line: 9, Name: "later", Outcome: testrun.Skipped},
		},
		Passed: 1, Failed: 1, Skipped: 1, Coverage: 66.66, Gaps: []testrun.Gap{{File: "c.rego", From: 3, To: 3}, {File: "c.rego", From: 5, To: 8}},
	}
	const failure = `fail b.rego:2 fails
     one\x1b
     two
     note: n
     undefined or false: b.rego:3: x
     print: p1
     print: p2
`
	const rest = "pass a.yaml:1 passes/mount\nskip b.rego:9 later\nnot covered  c.rego:3\nnot covered  c.rego:5-8\n"
	const sum = "1 passed, 1 failed, 1 skipped in 2s; tests evaluate 66.7 % of the lines of the checks\n"
	if diff := cmp.Diff(failure+sum, r.Text(false)) + cmp.Diff(failure+rest+sum, r.Text(true)); diff != "" {
		t.Errorf("Text() differs (-want +got):\n%s", diff)
	}
	text, err := r.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	var suite struct {
		Failures int `xml:"failures,attr"`
		Skipped  int `xml:"skipped,attr"`
		Cases    []struct {
			Name    string `xml:"name,attr"`
			Time    string `xml:"time,attr"`
			Failure *struct {
				Message string `xml:"message,attr"`
				Text    string `xml:",chardata"`
			} `xml:"failure"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	}
	if err := xml.Unmarshal(text, &suite); err != nil {
		t.Fatal(err)
	}
	c := suite.Cases
	if len(c) != 3 || suite.Failures != 1 || suite.Skipped != 1 || c[0].Failure == nil || c[0].Time != "1.500000" || c[1].Failure != nil || c[1].Skipped != nil || c[2].Skipped == nil {
		t.Fatalf("JUnit() = %s", text)
	}
	if c[0].Failure.Message != `one\x1b; two` || c[0].Failure.Text != failure {
		t.Errorf("JUnit() has the failure %q %q", c[0].Failure.Message, c[0].Failure.Text)
	}
	encoded, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(encoded), `"durationNs":1500000000`) || !strings.Contains(string(encoded), `"gaps":[{"file":"c.rego","from":3,"to":3}`) {
		t.Errorf("the report in JSON is %s, %v", encoded, err)
	}
}
