// The race detector sees no more in two hundred compilations than in one.

//go:build !race

package policies_test

import (
	"context"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// mutant is one change of a rule that some Rego test has to notice.
type mutant struct {
	rule   *ast.Rule
	what   string
	change func(*ast.Module)
}

// TestEveryRuleIsTested keeps one rule at a time from ever holding: of the
// starter policy and the helpers every one, of the built-in checks those that deny
// or warn. Then it takes away one condition at a time. Some Rego test has to fail
// each time.
func TestEveryRuleIsTested(t *testing.T) {
	modules, made := parseRego(t, "rego"), 0
	for name, m := range modules {
		mutants := mutantsOf(name, m)
		if len(mutants) == 0 {
			continue
		}
		if mutantFails(t, modules, name, func(*ast.Module) {}) {
			t.Errorf("%s: its tests fail as it is", name)
		}
		for _, x := range mutants {
			if made++; !mutantFails(t, modules, name, x.change) {
				t.Errorf("%s: no test fails where %s", x.rule.Loc(), x.what)
			}
		}
	}
	if made < 130 {
		t.Errorf("made %d mutants, want at least 130", made)
	}
}

// mutantsOf returns the mutants of a module, none of tests and what is not
// looked at here.
func mutantsOf(name string, m *ast.Module) []mutant {
	all := strings.HasPrefix(name, "starter/") || name == "lib/lib.rego"
	if strings.HasSuffix(name, "_test.rego") || !all && name != "lib/builtin.rego" {
		return nil
	}
	var mutants []mutant
	for i, r := range m.Rules {
		if outlet := r.Head.Name == "deny" || r.Head.Name == "warn"; all || outlet {
			mutants = append(mutants, mutant{r, "rule " + string(r.Head.Name) + " never holds", func(m *ast.Module) {
				m.Rules[i].Body.Append(ast.NewExpr(ast.BooleanTerm(false)))
			}})
		}
		for j, e := range r.Body {
			if _, binds := e.Terms.(*ast.SomeDecl); !all || binds || e.IsAssignment() || len(r.Body) == 1 {
				continue
			}
			mutants = append(mutants, mutant{r, "condition " + e.String() + " is missing", func(m *ast.Module) {
				m.Rules[i].Body = slices.Delete(m.Rules[i].Body, j, j+1)
			}})
		}
	}
	return mutants
}

// mutantFails reports whether a test of the module fails, or the module no longer
// compiles, once that is changed.
func mutantFails(t *testing.T, modules map[string]*ast.Module, name string, change func(*ast.Module)) bool {
	t.Helper()
	m := modules[name].Copy()
	change(m)
	together := map[string]*ast.Module{name: m}
	for other, m := range modules {
		switch beside := path.Dir(other) == path.Dir(name); {
		case other == name:
		case beside, imported(modules[name], m), other == "lib/lib.rego", other == "lib/fixtures_test.rego":
			together[other] = m
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	results, err := runRego(ctx, t, together)
	if err != nil {
		return true
	}
	failed := false
	for r := range results {
		if !r.Pass() && !failed {
			failed = true
			cancel() // one is enough
		}
	}
	return failed
}

func imported(by, m *ast.Module) bool {
	return slices.ContainsFunc(by.Imports, func(i *ast.Import) bool { return i.Path.Equal(ast.NewTerm(m.Package.Path)) })
}
