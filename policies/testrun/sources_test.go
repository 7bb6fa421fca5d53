package testrun_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/testrun"
)

// opened is a root over a directory with these files.
func opened(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

const allowed = "- {name: %s, phases: [ci], expect: {verdict: allow}}\n"

// TestWhereTestsAre: fixtures lie in tests/, Rego tests beside their check, and both
// are read in the order of their names.
func TestWhereTestsAre(t *testing.T) {
	root := opened(t, map[string]string{
		"tests/b.yaml": fmt.Sprintf(allowed, "b1") + fmt.Sprintf(allowed, "b2"), "tests/a.yaml": fmt.Sprintf(allowed, "a"),
		"tests/README.md": "text", "tests/objects/c.yaml": "not: fixtures", "a.yaml": "x", "portcullis/checks/README": "",
		"portcullis/checks/x/x_test.rego": "package a", "portcullis/checks/x/y_test.rego": "package b", "portcullis/checks/x/x.rego": "package c",
		"portcullis/other_test.rego": "package d", "portcullis/checks/x/deep/z_test.rego": "package e",
	})
	fixtures, err := testrun.Fixtures(root)
	var names []string
	for _, f := range fixtures {
		names = append(names, fmt.Sprintf("%s:%d %s", f.File, f.Line, f.Name))
	}
	if diff := cmp.Diff([]string{"tests/a.yaml:1 a", "tests/b.yaml:1 b1", "tests/b.yaml:2 b2"}, names); diff != "" || err != nil {
		t.Errorf("Fixtures() = %v (-want +got):\n%s", err, diff)
	}
	rego, err := testrun.RegoTests(root)
	want := map[string]string{"portcullis/checks/x/x_test.rego": "package a", "portcullis/checks/x/y_test.rego": "package b"}
	if diff := cmp.Diff(want, rego); diff != "" || err != nil {
		t.Errorf("RegoTests() = %v (-want +got):\n%s", err, diff)
	}
	if fixtures, err := testrun.Fixtures(opened(t, nil)); len(fixtures) != 0 || err != nil {
		t.Errorf("Fixtures(empty directory) = %v, %v, want none", fixtures, err)
	}
}

// TestFixturesOfSeveralFiles: what is wrong in each is told, and what is right in
// the others is there.
func TestFixturesOfSeveralFiles(t *testing.T) {
	fixtures, err := testrun.Fixtures(opened(t, map[string]string{
		"tests/a.yaml": "- {nam: x}", "tests/b.yaml": fmt.Sprintf(allowed, "good"), "tests/c.yaml": "", "tests/d.yaml": "- [",
	}))
	for _, want := range []string{"tests/a.yaml:1:4: [0].nam: is not known", "tests/c.yaml:1:1: file is empty", "tests/d.yaml:1:1: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Fixtures() = %v, want %q", err, want)
		}
	}
	if e, ok := errors.AsType[*testrun.FixtureError](err); !ok || e.File != "tests/a.yaml" {
		t.Errorf("Fixtures() = %#v, want a FixtureError of the first file", err)
	}
	found := false
	for _, f := range fixtures {
		found = found || f.Name == "good"
	}
	if !found {
		t.Errorf("Fixtures() = %+v, want the good one among them", fixtures)
	}
}

// TestBoundsOfTests: what is too much is refused, and what is no file is not read.
func TestBoundsOfTests(t *testing.T) {
	pad := fmt.Sprintf(allowed, "x") + strings.Repeat("#", 4<<20-len(fmt.Sprintf(allowed, "x")))
	if _, err := testrun.Fixtures(opened(t, map[string]string{"tests/a.yaml": pad})); err != nil {
		t.Errorf("Fixtures(4 MiB) = %v, want nil", err)
	}
	if _, err := testrun.Fixtures(opened(t, map[string]string{"tests/a.yaml": pad + "#"})); err == nil || !strings.Contains(err.Error(), "more than 4194304 bytes in a file") {
		t.Errorf("Fixtures(one byte more) = %v, want a refusal", err)
	}
	large, many := map[string]string{}, map[string]string{}
	for i := range 9 {
		large[fmt.Sprintf("tests/%d.yaml", i)] = pad
	}
	for i := range 1024 {
		many[fmt.Sprintf("tests/%d.yaml", i)] = fmt.Sprintf(allowed, "x")
	}
	if _, err := testrun.Fixtures(opened(t, large)); err == nil || !strings.Contains(err.Error(), "33554432 in all") {
		t.Errorf("Fixtures(36 MiB) = %v, want a refusal", err)
	}
	root := opened(t, many)
	if fixtures, err := testrun.Fixtures(root); err != nil || len(fixtures) != 1024 {
		t.Errorf("Fixtures(1024 files) = %d, %v, want all", len(fixtures), err)
	}
	if err := root.WriteFile("tests/more.yaml", []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := testrun.Fixtures(root); err == nil || !strings.Contains(err.Error(), "or 1024 files") {
		t.Errorf("Fixtures(1025 files) = %v, want a refusal", err)
	}
	odd := opened(t, map[string]string{"tests/a.yaml": fmt.Sprintf(allowed, "x")})
	if err := syscall.Mkfifo(filepath.Join(odd.Name(), "tests/b.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := testrun.Fixtures(odd); err == nil || !strings.Contains(err.Error(), `"tests/b.yaml" is not a regular file`) {
		t.Errorf("Fixtures(FIFO) = %v, want a refusal", err)
	}
}

// TestRunNeedsADirectory: and says which one is missing.
func TestRunNeedsADirectory(t *testing.T) {
	if _, err := testrun.Run(t.Context(), testrun.Config{Directory: filepath.Join(t.TempDir(), "missing")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Run(missing) = %v, want not exist", err)
	}
	if _, err := testrun.Run(t.Context(), testrun.Config{Directory: "run.go"}); err == nil {
		t.Error("Run(a file) = nil, want an error")
	}
}

// TestProgress: whoever waits is told how many tests are done, up to all of them.
func TestProgress(t *testing.T) {
	var seen [][2]int64
	dir := bundleOf(t, withTest(debugTest), withFixtures(fmt.Sprintf(allowed, "a")+"- {name: b, expect: {verdict: allow}}\n"))
	r := run(t, dir, func(c *testrun.Config) {
		c.Progress = func(done, total int64) { seen = append(seen, [2]int64{done, total}) }
	})
	if len(seen) != len(r.Tests) || len(seen) != 8 || seen[7] != [2]int64{8, 8} {
		t.Fatalf("Progress was told %v of %d tests", seen, len(r.Tests))
	}
	for i, s := range seen {
		if s[0] != int64(i+1) || s[1] < s[0] {
			t.Errorf("Progress was told %v after %d tests", s, i+1)
		}
	}
}

// TestTimesOfFixtures: a fixture's own time goes before that of the run, and the
// bundle's bounds go by the run's.
func TestTimesOfFixtures(t *testing.T) {
	fixtures, errs := testrun.ParseFixtures("a.yaml", []byte("- {name: own, now: 2030-01-01T00:00:00Z, expect: {verdict: allow}}\n- {name: given, expect: {verdict: allow}}"))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	at := time.Unix(0, policiestest.Now)
	for i, want := range []time.Time{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), at} {
		in, err := fixtures[i].In("", policies.PhaseMount, at)
		if err != nil || in.NowNS != want.UnixNano() {
			t.Errorf("In(%s) = %d, %v, want %d", fixtures[i].Name, in.NowNS, err, want.UnixNano())
		}
	}
	waiver := policiestest.WithWaivers("- {id: W-1, finding: PR-300, namespace: payments, serviceAccount: api, reason: r, ticket: t, approvedBy: a, expiry: 2026-03-01}")
	dir := bundleOf(t, waiver, withFixtures("- {name: x, phases: [mount], input: {pod: {hostPID: true}}, expect: {verdict: allow, warn: [PR-300], waivers: [W-1]}}"))
	if r := run(t, dir); r.Passed != 1 {
		t.Errorf("Run() within the waiver's 90 days = %s", r.Text(true))
	}
	_, err := testrun.Run(t.Context(), testrun.Config{Directory: dir, Now: at.AddDate(-1, 0, 0)})
	if err == nil || !strings.Contains(err.Error(), "90 days") {
		t.Errorf("Run(a year before) = %v, want the bundle refused for a waiver that is too long then", err)
	}
}

// TestCoverage counts lines of the checks that some test evaluates, and names the
// others.
func TestCoverage(t *testing.T) {
	both := "- {name: a, phases: [mount], input: {pod: {hostPID: true}}, expect: {verdict: deny, deny: [PR-300]}}\n"
	more := "- {name: b, phases: [mount], input: {pod: {hostIPC: true}}, expect: {verdict: allow, warn: [PR-301]}}\n"
	for fixtures, want := range map[string]struct {
		least, most float64
		gaps        string
	}{
		both:                          {50, 90, "debug.rego:13"},
		both + more:                   {100, 100, ""},
		fmt.Sprintf(allowed, "plain"): {1, 50, "debug.rego:8"},
	} {
		r := run(t, bundleOf(t, withFixtures(fixtures)))
		gaps := fmt.Sprint(r.Gaps)
		if r.Coverage < want.least || r.Coverage > want.most || want.gaps == "" != (len(r.Gaps) == 0) || !strings.Contains(gaps, want.gaps) || r.Failed != 0 {
			t.Errorf("Run(%s) = coverage %.1f, gaps %s, want %.0f to %.0f with %q\n%s", fixtures, r.Coverage, gaps, want.least, want.most, want.gaps, r.Text(true))
		}
	}
}
