package check_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies/check"
)

// TestDocumentListsEveryLint: the page names every id, and each that is a lint has
// a sample or a test here.
func TestDocumentListsEveryLint(t *testing.T) {
	text, err := os.ReadFile("../../docs/POLICIES.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "<!-- lints:begin -->")
	table, after, _ := strings.Cut(rest, "<!-- lints:end -->")
	errors, _, _ := strings.Cut(after, "\n\n## ")
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)`").FindAllStringSubmatch(table, -1) {
		listed = append(listed, m[1])
	}
	for _, m := range regexp.MustCompile("`([a-z-]+)` \\(|`(timeout)`|`(finding-fields)`").FindAllStringSubmatch(errors, -1) {
		listed = append(listed, m[1]+m[2]+m[3])
	}
	source, err := os.ReadFile("finding.go")
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, m := range regexp.MustCompile(`\tID\w+ += "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
		known = append(known, m[1])
	}
	slices.Sort(listed)
	slices.Sort(known)
	if diff := cmp.Diff(known, slices.Compact(listed)); diff != "" || !slices.Contains(known, check.IDGrantScan) {
		t.Errorf("docs/POLICIES.md lists other ids (-finding.go +document):\n%s", diff)
	}
	samples, err := filepath.Glob("testdata/lints/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range samples {
		if id := strings.TrimSuffix(filepath.Base(path), ".txtar"); !slices.Contains(known, id) {
			t.Errorf("%s is a sample of no lint", path)
		}
	}
}
