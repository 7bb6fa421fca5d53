package docs_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// TestPoliciesShowsTheProviders: the table of providers, and what follows it, is
// what package secretref reads.
func TestPoliciesShowsTheProviders(t *testing.T) {
	var table, details strings.Builder
	table.WriteString("| provider | list | id | file |\n|---|---|---|---|\n")
	for _, s := range secretref.Syntaxes() {
		fmt.Fprintf(&table, "| `%s` | `%s` | `%s` | %s |\n", s.Provider, s.List, s.ID, s.File)
		fmt.Fprintf(&details, "* `%s`\n  * scoping parameters: %s\n", s.Provider, codes(grouped(s.Scoping)))
		if len(s.Credentials) > 0 {
			fmt.Fprintf(&details, "  * credentials by name: %s\n", codes(s.Credentials))
		}
		fmt.Fprintf(&details, "  * `unparsed`: %s\n", strings.Join(s.Unparsed, "; "))
	}
	checkBlock(t, "docs/POLICIES.md", "providers", table.String()+"\n"+details.String())
}

// grouped writes three names or more that differ in their first word only as
// one, {bao,openbao,vault}Address, where the first of them stands. Two are
// seldom a group: keyvaultName and cloudName.
func grouped(names []string) []string {
	word := func(name string) int {
		if i := strings.IndexFunc(name, unicode.IsUpper); i > 0 {
			return i
		}
		return len(name)
	}
	words := map[string][]string{}
	for _, n := range names {
		i := word(n)
		words[n[i:]] = append(words[n[i:]], n[:i])
	}
	var out []string
	for _, n := range names {
		i := word(n)
		switch group := words[n[i:]]; {
		case n[i:] == "" || len(group) < 3:
			out = append(out, n)
		case group[0] == n[:i]:
			out = append(out, "{"+strings.Join(group, ",")+"}"+n[i:])
		}
	}
	return out
}

// TestGroupedNames: no name is lost, or stands for one that is not there.
func TestGroupedNames(t *testing.T) {
	got := grouped([]string{"roleName", "baoCACertPath", "region", "xCACertPath", "yName", "zCACertPath", "audience"})
	want := []string{"roleName", "{bao,x,z}CACertPath", "region", "yName", "audience"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grouped() differs (-want +got):\n%s", diff)
	}
}

func codes(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = "`" + n + "`"
	}
	return list(quoted)
}
