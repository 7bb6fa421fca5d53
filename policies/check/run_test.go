package check_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/check"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// tidy is a check without a finding, and its test.
const tidy = `# METADATA
# title: Sample
# description: A sample.
# schemas:
#   - input: schema.input
# labels:
#   owner: tests
package portcullis.checks.sample

# METADATA
# title: Process namespace
deny contains finding if {
	input.pod.hostPID
	finding := {
		"id": "PR-300",
		"severity": "low",
		"message": "m",
		"remediation": "r",
	}
}
`

const tidyTest = `package portcullis.checks.sample_test

import data.portcullis.checks.sample

test_host_pid_is_denied if {
	some finding in sample.deny with input.pod.hostPID as true
	finding.id == "PR-300"
}
`

func quick(c *check.Config) { c.WithoutBudget = true }

func withSample(text string) policiestest.Option { return policiestest.WithCheck("sample", text) }

func withTest(text string) policiestest.Option {
	return policiestest.WithFile("portcullis/checks/sample/sample_test.rego", text)
}

func findings(r check.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s:%d:%d %s %s %s | %s\n", f.File, f.Line, f.Column, f.Severity, f.ID, f.Message, f.Hint)
	}
	return b.String()
}

func TestTidyBundle(t *testing.T) {
	r := run(t, policiestest.Files(policiestest.Grants, withSample(tidy), withTest(tidyTest)), quick)
	if r.Errors+r.Warnings != 0 {
		t.Errorf("Run() = %s, want no findings", findings(r))
	}
}

// TestFindings: a bundle that is tidy but for one thing, and what is found.
func TestFindings(t *testing.T) {
	edit := func(old, text string) policiestest.Option {
		if !strings.Contains(tidy, old) {
			t.Fatalf("the sample lacks %q", old)
		}
		return withSample(strings.Replace(tidy, old, text, 1))
	}
	const file = "portcullis/checks/sample/sample.rego"
	tests := map[string]struct {
		option policiestest.Option
		want   string
	}{
		"title":       {edit("# title: Sample\n", ""), file + ":7:1 warning metadata METADATA of the package lacks title"},
		"description": {edit("# description: A sample.\n", ""), "lacks description"},
		"owner":       {edit("# labels:\n#   owner: tests\n", ""), "lacks labels.owner"},
		"rule title":  {edit("# METADATA\n# title: Process namespace\n", ""), file + ":10:1 warning metadata rule deny has no METADATA with a title"},
		"format":      {edit("\tinput.pod.hostPID", "  input.pod.hostPID"), file + `:13:0 warning format opa fmt would write "\tinput.pod.hostPID"`},
		"syntax":      {edit("deny contains finding if {", "deny contains finding if"), file + ":20:1 error bundle unexpected }"},
		"typo":        {edit("input.pod.hostPID", "input.pod.hostPid"), file + ":13:2 error bundle undefined ref: input.pod.hostPid"},
		"built-in":    {edit("input.pod.hostPID", "time.now_ns() > 0"), file + ":13:2 error bundle undefined function time.now_ns"},
		"phase":       {edit("input.pod.hostPID", `input.phase == "mount"`), file + ":12:0 error bundle reads input.phase"},
		"schema":      {edit("# schemas:\n#   - input: schema.input\n", ""), file + ":0:0 error bundle the package lacks the schema"},
		"misspelt":    {edit("deny contains", "denny contains"), file + ":12:0 error bundle nothing uses rule denny"},
		"grants":      {policiestest.WithFile("portcullis/grants/a.yaml", "- {id: G-2}"), "error bundle"},
		"place":       {policiestest.WithFile("portcullis/checks/data.json", "{}"), "portcullis/checks/data.json:0:0 error bundle policy file"},
		"manifest":    {policiestest.WithFile(".manifest", `{"metadata":{"contract":"portcullis/v0"}}`), `"portcullis/v0"`},
		"config":      {policiestest.WithConfig("monitor: {rules: [\"*\"]}"), "config monitor"},
		"required":    {policiestest.WithConfig("required_checks: [gone]"), `check "gone" is not in the bundle`},
		"untested":    {withTest("package portcullis.checks.sample_test\n\ntest_x if true\n"), file + ":14:13 warning untested no test and no fixture expects PR-300"},
		"test syntax": {withTest("package portcullis.checks.sample_test\n\ntest_x if {\n"), "portcullis/checks/sample/sample_test.rego:4:0 error fixture unexpected eof"},
		"test format": {withTest(strings.Replace(tidyTest, "\tsome", "    some", 1)), "sample_test.rego:6:0 warning format"},
		"fixture":     {policiestest.WithFile("tests/a.yaml", "- {nam: x}"), "tests/a.yaml:1:4 error fixture [0].nam: is not known | keys here are"},
		"id of two": {policiestest.WithCheck("other", strings.Replace(tidy, "checks.sample", "checks.other", 1)),
			"error finding-id PR-300 is the id of a finding of check other too"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := run(t, policiestest.Files(policiestest.Grants, withSample(tidy), withTest(tidyTest), tt.option), quick)
			if got := findings(r); !strings.Contains(got, tt.want) || r.Errors+r.Warnings != len(r.Findings) || r.Errors+r.Warnings == 0 {
				t.Errorf("Run() = %s, want %q", got, tt.want)
			}
		})
	}
}

// TestFixtureCounts: a fixture that expects the id is a test of its rule.
func TestFixtureCounts(t *testing.T) {
	fixture := policiestest.WithFile("tests/a.yaml", "- {name: x, input: {pod: {hostPID: true}}, expect: {verdict: deny, deny: [PR-300]}}")
	r := run(t, policiestest.Files(policiestest.Grants, withSample(tidy), fixture), quick)
	if len(r.Findings) != 0 {
		t.Errorf("Run() = %s, want no findings", findings(r))
	}
}

// TestBrokenGrantsHideNoLint: modules are looked at whatever else is wrong.
func TestBrokenGrantsHideNoLint(t *testing.T) {
	bad := strings.Replace(tidy, "input.pod.hostPID", "input.pod.fsGroup != 7", 1)
	r := run(t, policiestest.Files(policiestest.Grants, withSample(bad), policiestest.WithFile("portcullis/grants/a.yaml", "- {id: G-2}")), quick)
	got := findings(r)
	if !strings.Contains(got, "error bundle") || !strings.Contains(got, "optional-not") || strings.Contains(got, "contract is") {
		t.Errorf("Run() = %s, want the grant and the lint, and nothing of a manifest", got)
	}
}

// TestIgnore: a comment silences a warning of its id, at its place, and no error.
func TestIgnore(t *testing.T) {
	bad := strings.Replace(tidy, "\tinput.pod.hostPID", "\tinput.pod.fsGroup != 7", 1)
	for text, silent := range map[string]bool{
		"\t# portcullis:ignore optional-not absent is meant\n\tinput.pod.fsGroup != 7": true,
		"\tinput.pod.fsGroup != 7 # portcullis:ignore optional-not":                    true,
		"\t# portcullis:ignore every\n\tinput.pod.fsGroup != 7":                        false,
		"\t# portcullis:ignore optional-not\n\n\tinput.pod.fsGroup != 7":               false,
	} {
		r := run(t, policiestest.Files(policiestest.Grants, withSample(strings.Replace(bad, "\tinput.pod.fsGroup != 7", text, 1)), withTest(tidyTest)), quick)
		if got := !strings.Contains(findings(r), "optional-not"); got != silent {
			t.Errorf("%q silences: %v, want %v\n%s", text, got, silent, findings(r))
		}
	}
	id := strings.Replace(tidy, "\t\t\"id\": \"PR-300\"", "\t\t# portcullis:ignore finding-id\n\t\t\"id\": \"PR-100\"", 1)
	if r := run(t, policiestest.Files(policiestest.Grants, withSample(id)), quick); r.Errors != 1 {
		t.Errorf("Run() = %s, want the error of the lint in spite of the comment", findings(r))
	}
	typo := strings.Replace(tidy, "\tinput.pod.hostPID", "\t# portcullis:ignore bundle\n\tinput.pod.hostPid", 1)
	if r := run(t, policiestest.Files(policiestest.Grants, withSample(typo)), quick); r.Errors != 1 {
		t.Errorf("Run() = %s, want the error in spite of the comment", findings(r))
	}
}

// TestLibrary: the lints find nothing in the library, but for one place where the
// rule that reads an optional field cannot hold without it.
func TestLibrary(t *testing.T) {
	found, err := check.LintLibrary()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.ID != check.IDOptionalText || !strings.Contains(f.Message, "requests[].uid") {
			t.Errorf("%s:%d: %s: %s", f.File, f.Line, f.ID, f.Message)
		}
	}
}

func TestFix(t *testing.T) {
	dir := t.TempDir()
	files := policiestest.Files(policiestest.Grants, withSample(strings.ReplaceAll(tidy, "\t", "  ")), withTest(tidyTest))
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for round, want := range []int{1, 0} {
		if changed, err := check.Fix(root); err != nil || len(changed) != want {
			t.Errorf("Fix() round %d = %v, %v, want %d files", round, changed, err, want)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "portcullis/checks/sample/sample.rego"))
	if err != nil || string(text) != tidy {
		t.Errorf("Fix() wrote %s, %v, want %s", text, err, tidy)
	}
}

// TestFixWritesNowhereElse: a link in the place of a file leads nowhere.
func TestFixWritesNowhereElse(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "victim.rego")
	if err := os.WriteFile(outside, []byte("package  a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "portcullis/checks/sample"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "portcullis/checks/sample/sample.rego")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	changed, err := check.Fix(root)
	if text, _ := os.ReadFile(outside); len(changed) != 0 || string(text) != "package  a\n" {
		t.Errorf("Fix() = %v, %v, and the file outside holds %q", changed, err, text)
	}
}

// naive is the rule that the figures in docs/POLICIES.md warn of.
var naive = strings.Replace(tidy, "\tinput.pod.hostPID", "\tsome subject, _ in data.portcullis.grants.by_subject\n\tendswith(subject, \"/nobody\")", 1)

// TestBudget: reading every grant is found by what it costs too.
func TestBudget(t *testing.T) {
	r := run(t, policiestest.Files(policiestest.Grants, withSample(naive), withTest(tidyTest)), func(c *check.Config) { c.Profile = 2 })
	if got := findings(r); !strings.Contains(got, "warning budget beside 10000 grants, input \"the default input of fixtures\" costs") {
		t.Errorf("Run() = %s, want the budget", got)
	}
	if len(r.Costs) != 2 || r.Costs[0].Ratio < 10 || r.Costs[0].Library.Evaluations == 0 {
		t.Errorf("Costs = %+v, want more than ten times", r.Costs)
	}
	if len(r.Profile) != 2 || r.Profile[0].Line != 13 && r.Profile[0].Line != 14 || r.Profile[0].Evaluations+r.Profile[1].Evaluations < 5000 {
		t.Errorf("Profile = %+v, want the lines that read every grant", r.Profile)
	}
	if text := r.Text(); !strings.Contains(text, "times what the library alone does") || !strings.Contains(text, "evaluations  portcullis/checks/sample/sample.rego:1") {
		t.Errorf("Text() = %s, want costs and profile", text)
	}
}

// TestTimeout: what no gate would wait for is an error.
func TestTimeout(t *testing.T) {
	endless := strings.Replace(naive, "\tendswith", "\tsome other, _ in data.portcullis.grants.by_subject\n\tsubject != other\n\tendswith", 1)
	r := run(t, policiestest.Files(policiestest.Grants, withSample(endless), withTest(tidyTest)), func(c *check.Config) { c.Timeout = 100 * time.Millisecond })
	if got := findings(r); !strings.Contains(got, "error timeout beside 10000 grants") || r.Costs[0].Undecided == "" {
		t.Errorf("Run() = %s %+v, want a timeout", got, r.Costs)
	}
}

// BenchmarkStarter is what policy check takes: mostly ten thousand grants.
func BenchmarkStarter(b *testing.B) {
	for name, without := range map[string]bool{"lints": true, "lints and cost": false} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r, err := check.Run(b.Context(), check.Config{Path: "../rego/starter", WithoutBudget: without, Now: time.Now()})
				if err != nil {
					b.Fatal(err)
				}
				worst := 0.0
				for _, c := range r.Costs {
					worst = max(worst, c.Ratio)
				}
				b.ReportMetric(worst, "times-library")
			}
		})
	}
}
