package policies_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
)

// starterRule is a finding that a check of the starter policy can make.
type starterRule struct {
	id, check, severity, title, remedy string
	waivable                           bool
}

// starterRules reads the findings out of the checks, in the order of their ids.
func starterRules(t *testing.T) []starterRule {
	t.Helper()
	var rules []starterRule
	for name, m := range parseRego(t, "rego/starter/portcullis/checks") {
		if strings.HasSuffix(name, "_test.rego") {
			continue
		}
		check := strings.Split(name, "/")[0]
		for _, r := range m.Rules {
			ast.WalkTerms(r, func(term *ast.Term) bool {
				if finding, ok := term.Value.(ast.Object); ok && finding.Get(ast.StringTerm("id")) != nil {
					rules = append(rules, ruleOf(t, check, r, finding))
				}
				return false
			})
		}
	}
	slices.SortFunc(rules, func(a, b starterRule) int { return strings.Compare(a.id, b.id) })
	return rules
}

func starterIDs(t *testing.T) []string {
	t.Helper()
	var ids []string
	for _, r := range starterRules(t) {
		ids = append(ids, r.id)
	}
	return ids
}

func ruleOf(t *testing.T, check string, r *ast.Rule, finding ast.Object) starterRule {
	t.Helper()
	rule := starterRule{
		check: check, id: textOf(finding, "id"), severity: textOf(finding, "severity"), remedy: textOf(finding, "remediation"),
		waivable: finding.Get(ast.StringTerm("waivable")) == nil,
	}
	for _, a := range r.Annotations {
		rule.title = a.Title
	}
	return rule
}

// textOf is a field that is a text, or the format of one.
func textOf(finding ast.Object, field string) string {
	term := finding.Get(ast.StringTerm(field))
	if term == nil {
		return ""
	}
	switch v := term.Value.(type) {
	case ast.String:
		return string(v)
	case ast.Call:
		if format, ok := v[1].Value.(ast.String); ok {
			return strings.ReplaceAll(string(format), "%s", "...")
		}
	}
	return ""
}

// TestRuleIDsAreUnique: an id in an event, a waiver or monitor mode means one
// thing, and says it in full.
func TestRuleIDsAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, r := range starterRules(t) {
		if other, ok := seen[r.id]; ok {
			t.Errorf("%s is a rule of %s and of %s", r.id, other, r.check)
		}
		seen[r.id] = r.check
		if r.id < "PR-200" || r.title == "" || r.severity == "" || r.remedy == "" {
			t.Errorf("rule %+v has an id of the library, or lacks title, severity or remedy", r)
		}
	}
	for line := range libraryRules(t) {
		fields := strings.Fields(line)
		if check, ok := seen[fields[1]]; ok && check != fields[3] {
			t.Errorf("%s is a rule of %s and of %s", fields[1], check, fields[3])
		}
		seen[fields[1]] = fields[3]
	}
	if len(seen) < 30 {
		t.Errorf("found %d rules, want at least 30", len(seen))
	}
}

// TestDocumentListsTheStarterPolicy writes the table with -update.
func TestDocumentListsTheStarterPolicy(t *testing.T) {
	var table strings.Builder
	table.WriteString("| id | check | severity | waivable | what it refuses | what the developer reads |\n|---|---|---|---|---|---|\n")
	for _, r := range starterRules(t) {
		waivable := map[bool]string{true: "yes", false: "no"}[r.waivable]
		fmt.Fprintf(&table, "| %s | `%s` | %s | %s | %s | %s |\n", r.id, r.check, r.severity, waivable, r.title, r.remedy)
	}
	const begin, end = "<!-- starter:begin -->\n", "<!-- starter:end -->"
	text := document(t)
	before, rest, ok := strings.Cut(text, begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("docs/POLICIES.md has no %q and %q", begin, end)
	}
	if *update {
		if err := os.WriteFile("../docs/POLICIES.md", []byte(before+begin+table.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(table.String(), old); diff != "" {
		t.Errorf("docs/POLICIES.md lists other rules of the starter policy (-rules +document); hint: go test ./policies -run Document -update\n%s", diff)
	}
}

// TestDocumentListsTheSettings: each setting of the starter policy has a row.
func TestDocumentListsTheSettings(t *testing.T) {
	var settings, listed []string
	for check, values := range starterConfig(t, starter(t)).Checks {
		for name := range maps.Keys(values) {
			settings = append(settings, check+"."+name)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+\\.\\w+)`").FindAllStringSubmatch(section(t, "## The starter policy"), -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(settings)
	slices.Sort(listed)
	if diff := cmp.Diff(settings, listed); diff != "" {
		t.Errorf("docs/POLICIES.md lists other settings (-config +document):\n%s", diff)
	}
}
