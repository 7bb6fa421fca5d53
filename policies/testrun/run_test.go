package testrun_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/testrun"
)

// TestStarter: what security teams copy passes its own tests, in full.
func TestStarter(t *testing.T) {
	r, err := testrun.Run(t.Context(), testrun.Config{Directory: "../rego/starter"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range r.Tests {
		if test.Outcome != testrun.Passed {
			t.Errorf("%s:%d: %s: %s: %v\n%v %v", test.File, test.Line, test.Name, test.Outcome, test.Problems, test.Notes, test.Trace)
		}
	}
	if r.Coverage != 100 || len(r.Gaps) != 0 || r.Passed < 50 {
		t.Errorf("Run() = %d passed, coverage %v, gaps %v, want at least 50, 100 and none", r.Passed, r.Coverage, r.Gaps)
	}
}

// debug is a check with two rules, and a test of one of them.
const debug = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.debug

deny contains finding if {
	input.pod.hostPID
	finding := {"id": "PR-300", "severity": "high", "message": "m"}
}

warn contains finding if {
	input.pod.hostIPC
	finding := {"id": "PR-301", "severity": "low", "message": "m"}
}
`

const debugTest = `package portcullis.checks.debug_test

import data.portcullis.checks.debug

test_host_pid_is_denied if count(debug.deny) == 1 with input.pod.hostPID as true

todo_test_host_ipc_is_denied if false
`

func withTest(rego string) policiestest.Option {
	return policiestest.WithFile("portcullis/checks/debug/debug_test.rego", rego)
}

func withFixtures(yaml string) policiestest.Option {
	return policiestest.WithFile("tests/debug.yaml", yaml)
}

// bundleOf writes a bundle with the check above into a directory.
func bundleOf(t *testing.T, options ...policiestest.Option) string {
	t.Helper()
	dir := t.TempDir()
	files := policiestest.Files(policiestest.Grants, append([]policiestest.Option{policiestest.WithCheck("debug", debug)}, options...)...)
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, dir string, change ...func(*testrun.Config)) testrun.Report {
	t.Helper()
	c := testrun.Config{Directory: dir, Now: time.Unix(0, policiestest.Now)}
	for _, f := range change {
		f(&c)
	}
	r, err := testrun.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRegoTests(t *testing.T) {
	r := run(t, bundleOf(t, withTest(debugTest)))
	if r.Passed != 1 || r.Failed != 0 || r.Skipped != 1 {
		t.Errorf("Run() = %d passed, %d failed, %d skipped, want 1, 0 and 1", r.Passed, r.Failed, r.Skipped)
	}
	if r.Coverage < 30 || r.Coverage > 70 || len(r.Gaps) == 0 || r.Gaps[0].From < 11 {
		t.Errorf("Run() = coverage %v, gaps %v, want about half, and the second rule", r.Coverage, r.Gaps)
	}
}

// TestSettingsAreNotForRegoTests: a test states what it relies on; fixtures see what
// the bundle has.
func TestSettingsAreNotForRegoTests(t *testing.T) {
	r := run(t, bundleOf(t,
		policiestest.WithConfig("obligations: {ttl_seconds: 60}\nchecks: {debug: {limit: 7}}"),
		withFixtures("- {name: x, phases: [ci], expect: {verdict: allow, grants: [G-1], obligations: {ttl_seconds: 60}}}"),
		withTest(`package portcullis.checks.debug_test

test_no_settings if {
	data.portcullis.config.checks == {}
	data.portcullis.config.obligations == {}
	data.portcullis.grants.by_subject == {}
}

test_stated if data.portcullis.config.checks.debug.limit == 7 with data.portcullis.config.checks.debug as {"limit": 7}
`)))
	if r.Passed != 3 || r.Failed != 0 {
		t.Errorf("Run() = %s", r.Text(true))
	}
}

// TestFailureSays: what an author needs to see why a test fails.
func TestFailureSays(t *testing.T) {
	r := run(t, bundleOf(t, withTest(`package portcullis.checks.debug_test

import data.portcullis.checks.debug

test_host_pid_is_allowed if {
	print("findings", "\u001b[31m", count(debug.deny))
	trace("a note")
	count(debug.deny) == 7
}

test_cases[name] if {
	some name, n in {"one": 0, "two": 1}
	count(debug.deny) == n
}

test_slow if count({x | some x in numbers.range(1, 100000000)}) == 1
`)), func(c *testrun.Config) { c.Timeout = 500 * time.Millisecond })
	text := r.Text(false)
	for _, want := range []string{
		"fail portcullis/checks/debug/debug_test.rego:5 debug_test.test_host_pid_is_allowed", "is not true", "note: a note",
		`print: findings \x1b[31m 0`, "undefined or false: portcullis/checks/debug/debug_test.rego:8: count(debug.deny) == 7",
		"is not true for two", "test_slow", "cannot be evaluated", "0 passed, 3 failed",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("Text() lacks %q:\n%s", want, text)
		}
	}
	if strings.ContainsRune(text, 0x1b) {
		t.Error("Text() holds an escape sequence")
	}
}

func TestOnlyWhatIsWanted(t *testing.T) {
	dir := bundleOf(t, withTest(debugTest), withFixtures("- {name: one, expect: {verdict: allow}}\n- {name: two, phases: [mount], expect: {verdict: allow}}"))
	for pattern, want := range map[string]int{"": 7, "host_pid": 1, "^one": 5, "/mount$": 2, "nothing": 0} {
		r := run(t, dir, func(c *testrun.Config) {
			if pattern != "" {
				c.Run = regexp.MustCompile(pattern)
			}
		})
		if r.Passed != want || r.Failed != 0 {
			t.Errorf("Run(%q) = %d passed, %d failed, want %d and 0:\n%s", pattern, r.Passed, r.Failed, want, r.Text(true))
		}
	}
}

// TestRefused: a test that could not be trusted is not run.
func TestRefused(t *testing.T) {
	tests := map[string]struct {
		option policiestest.Option
		want   string
	}{
		"adds to the check": {withTest("package portcullis.checks.debug\n\n_helper := true\n"), "tests of this check are in package portcullis.checks.debug_test"},
		"of another check":  {withTest("package portcullis.checks.other_test\n\ntest_x if true\n"), "portcullis.checks.debug_test"},
		"syntax":            {withTest("package portcullis.checks.debug_test\n\ntest_x if {\n"), "debug_test.rego"},
		"misspelt field":    {withTest("# METADATA\n# schemas:\n#   - input: schema.input\npackage portcullis.checks.debug_test\n\ntest_x if input.pod.hostPid\n"), "undefined ref"},
		"network":           {withTest("package portcullis.checks.debug_test\n\ntest_x if http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"})\n"), "undefined function"},
		"fixture":           {withFixtures("- {name: x}"), "tests/debug.yaml:1:3: [0].expect.verdict"},
		"yml":               {policiestest.WithFile("tests/a.yml", "[]"), "name it .yaml"},
		"large":             {policiestest.WithFile("tests/a.yaml", strings.Repeat("#", 4<<20+1)), "tests hold more than"},
		"bundle":            {policiestest.WithFile("portcullis/grants/a.yaml", "- {id: G-9}"), "owner"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := testrun.Run(t.Context(), testrun.Config{Directory: bundleOf(t, tt.option), Now: time.Unix(0, policiestest.Now)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Run() = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestLinksAreNotFollowed(t *testing.T) {
	for _, name := range []string{"tests/a.yaml", "portcullis/checks/debug/a_test.rego"} {
		dir := bundleOf(t, withTest(debugTest))
		if err := os.MkdirAll(filepath.Join(dir, "tests"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/etc/hostname", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := testrun.Run(t.Context(), testrun.Config{Directory: dir}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("Run() with a link at %s = %v, want a refusal", name, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := testrun.Run(ctx, testrun.Config{Directory: bundleOf(t, withTest(debugTest))})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %v, want context canceled", err)
	}
}

// TestBundleSkipsTests: fixtures are beside the bundle and no part of it.
func TestBundleSkipsTests(t *testing.T) {
	policiestest.Engine(t, policiestest.Grants, withFixtures("not: [even, a, list"), policiestest.WithFile("tests/deep/er/still/and/more/yet/x.txt", "x"))
}
