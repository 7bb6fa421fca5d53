package docs_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// verbs are what fmt fills in.
var verbs = regexp.MustCompile(`%[-+#0-9.]*[a-z]`)

// logRefusals are the texts with a remedy that the log's package has for its
// operator: of a file or directory that it refuses, and of a write.
func logRefusals(t *testing.T) (rows []string) {
	t.Helper()
	for _, f := range goFiles(t) {
		if !strings.HasPrefix(f.name, "audit/log/") || strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if name, ok := n.Type.(*ast.Ident); ok && name.Name == "DirectoryError" && len(n.Elts) == 3 {
					rows = append(rows, row(t, f, textOf(n.Elts[1]), textOf(n.Elts[2])))
				}
			case *ast.ValueSpec:
				if strings.HasPrefix(n.Names[0].Name, "Err") && len(n.Values) == 1 {
					if text, remedy, ok := strings.Cut(textOf(n.Values[0]), "; hint: "); ok {
						rows = append(rows, row(t, f, text, remedy))
					}
				}
			}
			return true
		})
	}
	slices.Sort(rows)
	return slices.Compact(rows)
}

func row(t *testing.T, f goFile, text, remedy string) string {
	t.Helper()
	if text == "" || remedy == "" {
		t.Errorf("%s makes a refusal of %q and %q, which cannot be read", f.name, text, remedy)
	}
	return fmt.Sprintf("| `%s` | %s |", verbs.ReplaceAllString(text, "..."), verbs.ReplaceAllString(remedy, "..."))
}

// textOf is a literal, or the first one that a call is given.
func textOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text
		}
	case *ast.CallExpr:
		if len(e.Args) > 0 {
			return textOf(e.Args[0])
		}
	}
	return ""
}

func TestOperationsShowsWhatTheLogRefuses(t *testing.T) {
	rows := logRefusals(t)
	if len(rows) < 15 {
		t.Fatalf("found %d refusals in audit/log, want at least 15: the search is broken", len(rows))
	}
	checkBlock(t, "docs/OPERATIONS.md", "logrefusals", "| text | remedy |\n|---|---|\n"+strings.Join(rows, "\n")+"\n")
}
