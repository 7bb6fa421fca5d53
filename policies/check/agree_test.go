package check_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/check"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// builds returns why policy build refuses a directory.
func builds(t *testing.T, files fstest.MapFS) error {
	t.Helper()
	b, err := bundle.LoadFS(files)
	if err == nil {
		_, err = bundle.Build(t.Context(), b, bundle.BuildConfig{Serial: 1, Now: time.Unix(0, policiestest.Now)})
	}
	return err
}

// TestCheckAgreesWithBuild: a bundle that is refused has a finding of it, and one
// with such a finding is refused. Modules are changed a line at a time.
func TestCheckAgreesWithBuild(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	lines := strings.SplitAfter(tidy, "\n")
	other := []string{
		"deny := true\n", "import data.portcullis.lib\n", "package portcullis.checks.other\n", "#   - input: schema.other\n", "\tinput.pod.hostPid\n",
		"\tinput.pod[input.spc.name]\n", "\thttp.send({})\n", "_helper := 7\n", "helper := 7\n", "}\n", "{\n", "\tx := 1\n", "deny contains finding if {\n", "\tdata.other.x\n",
		"\tinput.phase == \"mount\"\n", "\tnot input.pod.hostIPC\n", "default deny := {}\n", "obligations := {\"ttl_seconds\": 60}\n", "# \u202e\n", "\n",
	}
	good, bad := 0, 0
	for range 120 {
		changed := append([]string{}, lines...)
		i := r.IntN(len(changed))
		switch r.IntN(3) {
		case 0:
			changed[i] = other[r.IntN(len(other))]
		case 1:
			changed = append(changed[:i], changed[i+1:]...)
		default:
			changed[i] = other[r.IntN(len(other))] + changed[i]
		}
		text := strings.Join(changed, "")
		files := policiestest.Files(policiestest.Grants, policiestest.WithCheck("sample", text))
		refused := builds(t, files)
		found := false
		for _, f := range run(t, files, quick).Findings {
			if f.ID == check.IDBundle {
				found = true
				if f.Severity != check.Error || f.File == "" || f.Message == "" {
					t.Errorf("Run() has %+v, want an error with a file and a message, of:\n%s", f, text)
				}
			}
		}
		if found != (refused != nil) {
			t.Errorf("Run() finds an error of the bundle: %v; Build() = %v, of:\n%s", found, refused, text)
		}
		if refused == nil {
			good++
		} else {
			bad++
		}
	}
	t.Logf("%d good, %d bad", good, bad)
	if good < 10 || bad < 30 {
		t.Errorf("%d bundles were good and %d bad: the test shows little", good, bad)
	}
}

// TestOtherFilesAgreeWithBuild: the same for what is no module.
func TestOtherFilesAgreeWithBuild(t *testing.T) {
	for name, option := range map[string]policiestest.Option{
		"long name":    policiestest.WithCheck(strings.Repeat("a", 86), strings.ReplaceAll(tidy, "checks.sample", "checks."+strings.Repeat("a", 86))),
		"odd name":     policiestest.WithCheck("a b", strings.ReplaceAll(tidy, "checks.sample", `checks["a b"]`)),
		"other script": policiestest.WithCheck("prüf", strings.ReplaceAll(tidy, "checks.sample", `checks["prüf"]`)),
		"far end":      policiestest.WithFile(".manifest", `{"metadata":{"contract":"portcullis/v1","serial":1,"not_after":"2026-09-15T00:00:00Z"}}`),
		"no contract":  policiestest.WithFile(".manifest", `{"metadata":{"serial":1}}`),
		"waiver":       policiestest.WithWaivers("- {id: W, finding: PR-300, namespace: a, serviceAccount: b, reason: r, ticket: t, approvedBy: a, expiry: 2026-09-01}"),
		"obligation":   policiestest.WithConfig("obligations: {max_file_mode: 511}"),
		"monitor":      policiestest.WithConfig("monitor: {until: 2026-09-01, rules: [PR-300]}"),
		"test":         policiestest.WithFile("portcullis/a_test.rego", "package a"),
		"large module": policiestest.WithCheck("large", "# "+strings.Repeat("x", 4<<20)),
	} {
		t.Run(name, func(t *testing.T) {
			files := policiestest.Files(policiestest.Grants, withSample(tidy), withTest(tidyTest), option)
			if err := builds(t, files); err == nil {
				t.Fatal("Build() = nil, want a refusal: the row shows nothing")
			}
			r := run(t, files, quick)
			if r.Errors == 0 || r.Findings[0].ID != check.IDBundle && !strings.Contains(findings(r), "error bundle") {
				t.Errorf("Run() = %s, want an error of the bundle", findings(r))
			}
		})
	}
}

// TestArchivesAreChecked: a built bundle has lints and no tests to miss.
func TestArchivesAreChecked(t *testing.T) {
	b, err := bundle.LoadFS(policiestest.Files(policiestest.Grants, withSample(strings.Replace(tidy, "input.pod.hostPID", "input.pod.fsGroup != 7", 1))))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "b.tar.gz")
	if err := bundle.WriteFile(path, b, false); err != nil {
		t.Fatal(err)
	}
	r, err := check.Run(t.Context(), check.Config{Path: path, WithoutBudget: true, Now: time.Unix(0, policiestest.Now)})
	if err != nil || len(r.Findings) != 1 || r.Findings[0].ID != check.IDOptionalNot || r.Findings[0].Line != 13 {
		t.Errorf("Run() = %s, %v, want the lint at line 13 and no untested rule", findings(r), err)
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "missing"), "check_test.go", "/dev/null"} {
		if _, err := check.Run(t.Context(), check.Config{Path: path}); err == nil {
			t.Errorf("Run(%s) = nil, want an error", path)
		}
	}
}

// TestHostileDirectories: nothing of a directory makes the tool follow a link,
// block, or write back less than it has read.
func TestHostileDirectories(t *testing.T) {
	dir := t.TempDir()
	large := "package portcullis.checks.large\n\n  x := 1\n" + strings.Repeat("# comment\n", 500_000)
	files := policiestest.Files(policiestest.Grants, withSample(tidy), policiestest.WithFile("portcullis/checks/large/large_test.rego", large))
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	sample := filepath.Join(dir, "portcullis/checks/sample")
	if err := os.Symlink("sample.rego", filepath.Join(sample, "link_test.rego")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(sample, "fifo_test.rego"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := check.Run(t.Context(), check.Config{Path: dir, WithoutBudget: true, Now: time.Unix(0, policiestest.Now)})
	if text := findings(r); err != nil || !strings.Contains(text, "not a regular file") {
		t.Errorf("Run() = %s, %v, want a finding of the FIFO or the link", text, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	changed, err := check.Fix(root)
	text, err2 := os.ReadFile(filepath.Join(dir, "portcullis/checks/large/large_test.rego"))
	if err != nil || err2 != nil || len(changed) != 0 || string(text) != large {
		t.Errorf("Fix() = %v, %v, and %d of %d bytes are left", changed, err, len(text), len(large))
	}
	if info, err := os.Lstat(filepath.Join(sample, "link_test.rego")); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("Fix() made %v of the link, %v", info, err)
	}
}

// TestManyModules are refused with their number.
func TestManyModules(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "portcullis/checks/a"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 2049 {
		name := filepath.Join(dir, "portcullis/checks/a", fmt.Sprintf("a%d.rego", i))
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := check.Run(t.Context(), check.Config{Path: dir})
	if err == nil || !strings.Contains(err.Error(), "holds 2049 modules, more than 2048; hint:") {
		t.Errorf("Run() = %v, want the number of modules", err)
	}
}

// TestReport: places, hints and counts as people read them; nothing that a file
// holds moves the cursor.
func TestReport(t *testing.T) {
	r := check.Report{
		Findings: []check.Finding{
			{File: "a.rego", Line: 3, Column: 7, ID: "x", Severity: check.Error, Message: "m\x1b[8m", Hint: "h\n\a"},
			{File: "a\u202e.rego", Line: 3, ID: "x", Severity: check.Warning, Message: "m"},
			{File: "a.rego", ID: "x", Severity: check.Warning, Message: "m"},
			{ID: "x", Severity: check.Warning, Message: "m"},
		},
		Errors: 1, Warnings: 3,
		Costs:   []check.Cost{{Input: "a\x1bb", Ratio: 1.5}, {Input: "c", Ratio: 1}},
		Profile: []check.Hot{{File: "b.rego", Line: 9, Text: "x\x1b", Evaluations: 12}},
	}
	want := `a.rego:3:7: error: x: m\x1b[8m
    hint: h\n\a
a\u202e.rego:3: warning: x: m
a.rego: warning: x: m
warning: x: m
beside 10000 grants, 2 inputs cost at most 1.50 times what the library alone does ("a\x1bb")
        12 evaluations  b.rego:9: x\x1b
1 errors, 3 warnings
`
	if got := r.Text(); got != want {
		t.Errorf("Text() = %s, want %s", got, want)
	}
	if got := (check.Report{}).Text(); got != "0 errors, 0 warnings\n" {
		t.Errorf("Text() of nothing = %q", got)
	}
}

// TestOrderAndCounts: findings are in the order of their places, each once.
func TestOrderAndCounts(t *testing.T) {
	second := strings.NewReplacer("checks.sample", "checks.another", "PR-300", "PR-400", "# title: Sample\n", "").Replace(tidy)
	r := run(t, policiestest.Files(policiestest.Grants, withSample(strings.Replace(tidy, "\t\t\"remediation\": \"r\",\n", "", 1)), policiestest.WithCheck("another", second)), quick)
	for i, f := range r.Findings[1:] {
		before := r.Findings[i]
		if before == f || before.File > f.File || before.File == f.File && before.Line > f.Line {
			t.Errorf("%+v stands before %+v", before, f)
		}
	}
	if r.Errors != 0 || r.Warnings != len(r.Findings) || r.Warnings < 4 {
		t.Errorf("Run() = %d errors, %d warnings of %s", r.Errors, r.Warnings, findings(r))
	}
}

// TestFixturesAreTrials: what a fixture asks is measured too, and one whose input
// cannot be made is an error that names it.
func TestFixturesAreTrials(t *testing.T) {
	fixtures := policiestest.WithFile("tests/a.yaml", "- {name: plain, expect: {verdict: allow}}\n- {name: lost, manifests: gone, pod: a/b, volume: v, expect: {verdict: allow}}\n")
	r := run(t, policiestest.Files(policiestest.Grants, withSample(tidy), withTest(tidyTest), fixtures))
	var names []string
	for _, c := range r.Costs {
		names = append(names, c.Input)
		if c.Library.Evaluations == 0 || c.Library.Allocations == 0 || c.Work.Evaluations < c.Library.Evaluations || c.Ratio < 1 || c.Ratio > 8 || c.Undecided != "" {
			t.Errorf("Costs hold %+v, want work that is counted, and no less than the library's", c)
		}
	}
	if len(names) != 3 || !strings.Contains(strings.Join(names, ","), "plain") {
		t.Errorf("Costs are about %q, want three with that of the fixture", names)
	}
	if got := findings(r); r.Errors != 1 || !strings.Contains(got, `tests/a.yaml:2:0 error fixture manifests "gone" is not a directory`) {
		t.Errorf("Run() = %s, want the fixture that has no manifests", got)
	}
	for i := range r.Costs[1:] {
		if r.Costs[i].Ratio < r.Costs[i+1].Ratio {
			t.Errorf("Costs = %+v, want the dearest first", r.Costs)
		}
	}
	if len(r.Profile) != 0 {
		t.Errorf("Profile = %+v, want none that was not asked for", r.Profile)
	}
}

// TestCostBesideOwnGrants: selectors, waivers and settings of the bundle stand
// beside the synthetic grants, so that the fixture is allowed as it would be.
func TestCostBesideOwnGrants(t *testing.T) {
	grants := strings.Replace(policiestest.Grants, "namespaces: [payments]", "namespaceSelector: {tier: prod}", 1)
	files := policiestest.Files(grants, withSample(tidy), withTest(tidyTest),
		policiestest.WithConfig("namespace_label_keys: [tier]\nchecks: {sample: {big: 9007199254740993}}"),
		policiestest.WithWaivers("- {id: W, finding: PR-300, namespace: payments, serviceAccount: api, reason: r, ticket: t, approvedBy: a, expiry: 2026-03-01}"),
		policiestest.WithFile("tests/a.yaml", "- {name: x, input: {subject: {namespaceLabels: {tier: prod}}}, expect: {verdict: allow}}"))
	if r := run(t, files); r.Errors != 0 || len(r.Costs) != 3 {
		t.Errorf("Run() = %s, %+v, want costs and no errors", findings(r), r.Costs)
	}
}
