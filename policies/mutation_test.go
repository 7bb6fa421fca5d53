package policies_test

import (
	"path"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestEveryRuleIsTested keeps one rule at a time from ever holding, of the starter
// policy every one and of the library those that deny or warn: some Rego test has
// to fail.
func TestEveryRuleIsTested(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the library about a hundred times")
	}
	modules, taken := parseRego(t, "rego"), 0
	for name, m := range modules {
		if strings.HasSuffix(name, "_test.rego") || !strings.HasPrefix(name, "starter/") && name != "lib/builtin.rego" {
			continue
		}
		if mutantFails(t, modules, name, func(*ast.Module) {}) {
			t.Errorf("%s: its tests fail as it is", name)
		}
		for i, r := range m.Rules {
			outlet := r.Head.Name == "deny" || r.Head.Name == "warn"
			if !outlet && !strings.HasPrefix(name, "starter/") {
				continue
			}
			taken++
			never := func(m *ast.Module) { m.Rules[i].Body.Append(ast.NewExpr(ast.BooleanTerm(false))) }
			if !mutantFails(t, modules, name, never) {
				t.Errorf("%s: no test fails where this %s never holds", r.Loc(), r.Head.Name)
			}
		}
	}
	if taken < 60 {
		t.Errorf("took %d rules away, want at least 60", taken)
	}
}

// mutantFails reports whether a test of the module fails once that is changed.
func mutantFails(t *testing.T, modules map[string]*ast.Module, name string, change func(*ast.Module)) bool {
	t.Helper()
	mutant := modules[name].Copy()
	change(mutant)
	some := map[string]*ast.Module{name: mutant}
	for other, m := range modules {
		test := strings.HasSuffix(other, "_test.rego")
		switch {
		case other == name, test && path.Dir(other) != path.Dir(name) && other != "lib/fixtures_test.rego":
		case test, path.Dir(other) == "lib", path.Dir(other) == path.Dir(name):
			some[other] = m
		}
	}
	results, err := runRego(t, some)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	failed := false
	for r := range results {
		failed = failed || !r.Pass()
	}
	return failed
}
