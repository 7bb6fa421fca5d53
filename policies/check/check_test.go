package check_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/portcullis-csi/portcullis/policies/check"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// run checks a bundle of these files.
func run(t *testing.T, files fstest.MapFS, change ...func(*check.Config)) check.Report {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	c := check.Config{Path: dir, Now: time.Unix(0, policiestest.Now)}
	for _, f := range change {
		f(&c)
	}
	r, err := check.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// found lists findings as line and id, without those about format and tests.
func found(r check.Report) []string {
	var all []string
	for _, f := range r.Findings {
		if f.ID != check.IDFormat && f.ID != check.IDUntested {
			all = append(all, fmt.Sprintf("%d %s", f.Line, f.ID))
		}
	}
	return all
}

// TestLints: each lint finds what is marked in the bad sample, and nothing in the
// good one, which says the same in another way.
func TestLints(t *testing.T) {
	samples, err := filepath.Glob("testdata/lints/*.txtar")
	if err != nil || len(samples) < 11 {
		t.Fatalf("found %d samples, %v, want at least 11", len(samples), err)
	}
	mark := regexp.MustCompile(`# want ([a-z-]+)$`)
	for _, path := range samples {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lint := strings.TrimSuffix(filepath.Base(path), ".txtar")
		for _, f := range archive.Files {
			t.Run(lint+"/"+f.Name, func(t *testing.T) {
				var want []string
				for i, line := range strings.Split(string(f.Data), "\n") {
					if m := mark.FindStringSubmatch(line); m != nil {
						want = append(want, fmt.Sprintf("%d %s", i+1, m[1]))
					}
				}
				if marked := slices.ContainsFunc(want, func(s string) bool { return strings.HasSuffix(s, " "+lint) }); marked != (f.Name == "bad.rego") {
					t.Fatalf("%s marks %v", f.Name, want)
				}
				r := run(t, policiestest.Files(policiestest.Grants, policiestest.WithCheck("sample", string(f.Data))),
					func(c *check.Config) { c.WithoutBudget = true })
				if diff := cmp.Diff(want, found(r)); diff != "" {
					t.Errorf("Run() differs (-want +got):\n%s\n%v", diff, r.Findings)
				}
			})
		}
	}
}

// TestStarter: the bundle that security teams copy has no finding.
func TestStarter(t *testing.T) {
	r, err := check.Run(t.Context(), check.Config{Path: "../rego/starter", Profile: 5})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		t.Errorf("%s:%d: %s: %s", f.File, f.Line, f.ID, f.Message)
	}
	for _, c := range r.Costs {
		t.Logf("%s: %+v, %+v without checks, %.2f times", c.Input, c.Work, c.Library, c.Ratio)
		if c.Ratio > 4 {
			t.Errorf("%s costs %.2f times what the library alone does, want at most 4", c.Input, c.Ratio)
		}
	}
}
