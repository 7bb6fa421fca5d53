package docs_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// TestPoliciesShowsTheProviders: the table of providers is what package
// secretref reads.
func TestPoliciesShowsTheProviders(t *testing.T) {
	var b strings.Builder
	b.WriteString("| provider | list | id | file | scoping parameters | credentials by name | `unparsed` |\n|---|---|---|---|---|---|---|\n")
	for _, s := range secretref.Syntaxes() {
		fmt.Fprintf(&b, "| `%s` | `%s` | `%s` | %s | %s | %s | %s |\n", s.Provider, s.List, s.ID, s.File,
			codes(s.Scoping), codes(s.Credentials), list(s.Unparsed))
	}
	checkBlock(t, "docs/POLICIES.md", "providers", b.String())
}

func codes(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = "`" + n + "`"
	}
	return list(quoted)
}
