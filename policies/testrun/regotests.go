package testrun

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/portcullis-csi/portcullis/policies"
)

// inChecks begins the package of every check and of its tests.
const inChecks = "data.portcullis.checks."

// checkTests refuses what would not test what is in force. A test must not add
// rules to its check, which would be missing there; and a rule whose name is
// misspelt never runs, which looks as if it passed.
func checkTests(bench policies.TestBench, files map[string]string) error {
	for _, name := range sortedKeys(files) {
		m := bench.Modules[name]
		want := inChecks + strings.Split(name, "/")[2] + "_test"
		if got := m.Package.Path.String(); got != want {
			return &policies.BundleError{
				Part: name, Problem: "package is " + strings.TrimPrefix(got, "data."),
				Remedy: "tests of this check are in package " + strings.TrimPrefix(want, "data."),
			}
		}
		for _, r := range m.Rules {
			if rule := ruleName(r); !isTestRule(rule) && !strings.HasPrefix(rule, "_") {
				return &policies.BundleError{
					Part: fmt.Sprintf("%s:%d", name, r.Location.Row), Problem: "nothing runs rule " + rule,
					Remedy: "correct it to " + tester.TestPrefix + "..., or name the helper _" + rule,
				}
			}
		}
	}
	return nil
}

func ruleName(r *ast.Rule) string { return r.Head.Ref()[0].String() }

func isTestRule(name string) bool {
	return strings.HasPrefix(name, tester.TestPrefix) || strings.HasPrefix(name, tester.SkipTestPrefix)
}

// filter returns what OPA's runner should match full names against, so that tests
// of Rego are chosen by the name that the report shows; "" is all of them. It
// reports whether there are any.
func (s *session) filter(bench policies.TestBench, files map[string]string) (string, bool) {
	if s.Run == nil {
		return "", true
	}
	var names []string
	for _, file := range sortedKeys(files) {
		m := bench.Modules[file]
		pkg := m.Package.Path.String()
		for _, r := range m.Rules {
			if rule := ruleName(r); isTestRule(rule) && s.wanted(strings.TrimPrefix(pkg, inChecks)+"."+rule) {
				rule = regexp.QuoteMeta(rule)
				names = append(names, regexp.QuoteMeta(pkg)+`(?:\.`+rule+`|\["`+rule+`#\d+"\])`)
			}
		}
	}
	return "^(?:" + strings.Join(names, "|") + ")$", len(names) > 0
}
