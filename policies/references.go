package policies

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// checkReferences walks the compiled rules of a bundle, in which imports and
// aliases are resolved, and refuses what would make one gate decide otherwise
// than another (promise P2), or reach around the library.
func checkReferences(path string, m *ast.Module) error {
	if errs := referenceErrors(path, m); len(errs) > 0 {
		return errs[0]
	}
	return nil
}

// referenceErrors returns the first refusal of each rule.
func referenceErrors(path string, m *ast.Module) []error {
	var errs []error
	for _, r := range m.Rules {
		s := scan{path: path, rule: r}
		ast.NewGenericVisitor(s.visit).Walk(r)
		if s.err != nil {
			errs = append(errs, s.err)
		}
	}
	return errs
}

// scan is the walk over one rule.
type scan struct {
	path string
	rule *ast.Rule
	err  error
}

func (s *scan) refuse(problem, remedy string) {
	if s.err == nil {
		s.err = &BundleError{fmt.Sprintf("%s:%d", s.path, s.rule.Loc().Row), problem, remedy}
	}
}

func (s *scan) visit(x any) bool {
	switch x := x.(type) {
	case *ast.With:
		s.refuse("replaces a document with \"with\"", "keep \"with\" for tests")
	case ast.Ref:
		s.reference(x)
		for _, t := range x[1:] {
			ast.NewGenericVisitor(s.visit).Walk(t)
		}
		return true
	case ast.Var:
		if x.Equal(ast.InputRootDocument.Value) || x.Equal(ast.DefaultRootDocument.Value) {
			s.refuse(fmt.Sprintf("uses %s as a whole", x), "name the field")
		}
	}
	return s.err != nil
}

func (s *scan) reference(ref ast.Ref) {
	switch {
	case ref[0].Equal(ast.InputRootDocument):
		s.input(ref)
	case ref[0].Equal(ast.DefaultRootDocument):
		s.data(ref)
	}
}

// input refuses reading which gate asks, except in warnings, and every form in
// which that could be hidden. A warning changes no verdict.
func (s *scan) input(ref ast.Ref) {
	field, ok := element(ref, 1)
	switch {
	case !ok:
		s.refuse("reads input as a whole or by a computed name", "name the field, input.pod for example")
	case (field == "phase" || field == "requester") && s.rule.Head.Ref()[0].String() != "warn":
		s.refuse("reads input."+field+" outside a warn rule", "decide from facts that every gate has")
	}
}

// data allows what bundles own, and the helpers of the library. Warnings of
// checks are not for other rules to read, since warnings may read the phase.
func (s *scan) data(ref ast.Ref) {
	root, ok := element(ref, 1)
	part, ok2 := element(ref, 2)
	if !ok || !ok2 || root != "portcullis" {
		s.refuse("reads data as a whole, by a computed name or outside data.portcullis", "name the document, data.portcullis.config for example")
		return
	}
	switch part {
	case "config", "lib", "grants", "waivers":
	case "checks":
		_, ok := element(ref, 3)
		rule, ok2 := element(ref, 4)
		if !ok || !ok2 || rule == "warn" {
			s.refuse("reads "+ref.String(), "name one rule of one check, and none that is named warn")
		}
	default:
		s.refuse("reads data.portcullis."+part, "use data.portcullis.lib")
	}
}

// element returns the constant element i of ref.
func element(ref ast.Ref, i int) (string, bool) {
	if len(ref) <= i {
		return "", false
	}
	name, ok := ref[i].Value.(ast.String)
	return string(name), ok
}
