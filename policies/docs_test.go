package policies_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
)

func document(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/POLICIES.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section returns the text below a heading.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(document(t), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("docs/POLICIES.md has no %q", heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// TestDocumentListsEveryRule compares the table of rules with what Rego and Go
// can find.
func TestDocumentListsEveryRule(t *testing.T) {
	found := libraryRules(t)
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| PR-\d{3} \| \w+`).FindAllString(section(t, "## Rules of the library"), -1) {
		listed[m] = true
	}
	if diff := cmp.Diff(found, listed); diff != "" || len(found) < 13 {
		t.Errorf("docs/POLICIES.md lists other rules (-source +document):\n%s", diff)
	}
}

// libraryRules are the rules of Rego and Go, each as the begin of its row.
func libraryRules(t *testing.T) map[string]bool {
	t.Helper()
	var sources strings.Builder
	for _, name := range []string{"hard.go", "rego/main/main.rego", "rego/lib/builtin.rego"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(text)
	}
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?:"id": |ID: )"(PR-\d{3})",\s+(?:"check": |Check: )"(\w+)"`).FindAllStringSubmatch(sources.String(), -1) {
		found["| "+m[1]+" | "+m[2]] = true
	}
	return found
}

// TestDocumentListsEveryObligation compares the table with the Go type.
func TestDocumentListsEveryObligation(t *testing.T) {
	full := policies.Obligations{
		MaxFileMode: new(uint32(1)), RequiredFSGroup: new(int64(1)), TTLSeconds: 1, MaxStaleSeconds: 1, AuditLevel: 1,
		SyncAllowed: true, OnRevoke: "x", OnExpire: "x", Audiences: []string{"x"},
	}
	text, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)`").FindAllStringSubmatch(section(t, "## Obligations"), -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(listed)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(fields)), listed); diff != "" {
		t.Errorf("docs/POLICIES.md lists other obligations (-Go +document):\n%s", diff)
	}
}

// TestDocumentedConfiguration: every key of the page is one that a bundle may
// have, and the starter policy uses no other.
func TestDocumentedConfiguration(t *testing.T) {
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)`").FindAllStringSubmatch(section(t, "## Configuration"), -1) {
		listed = append(listed, m[1])
	}
	values := map[string]any{
		"required_checks": []string{"odd"}, "obligations": map[string]any{}, "allowed_overrides": []string{"a"},
		"namespace_label_keys": []string{"a"}, "monitor": map[string]any{"until": "2026-02-01", "rules": []string{"*"}}, "mass_revoke": true, "checks": map[string]any{},
	}
	slices.Sort(listed)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(values)), listed); diff != "" {
		t.Errorf("docs/POLICIES.md lists other configuration (-test +document):\n%s", diff)
	}
	for _, key := range listed {
		b := valid()
		config(key, values[key])(&b)
		if _, err := policies.Compile(t.Context(), b, options()); err != nil {
			t.Errorf("Compile(config %s) = %v, want nil", key, err)
		}
	}
	text, err := fs.ReadFile(starter(t), "portcullis/config/data.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^(\w+):`).FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains(listed, m[1]) {
			t.Errorf("the starter policy configures %s, which docs/POLICIES.md does not list", m[1])
		}
	}
}
