package policies

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// The bounds of nesting in a module. The compiler types what stands in a
// comprehension some four times for each one around it: sixteen of them, a hundred
// bytes of Rego, would keep a node busy for a minute, and thirty for ever. What is
// merely deep costs memory with the square of its depth.
const (
	maxComprehensions = 5
	maxTermDepth      = 64
)

// checkNesting refuses a module that could not be compiled in reasonable time.
func checkNesting(path string, m *ast.Module) error {
	n := nesting{path: path}
	v := ast.NewBeforeAfterVisitor(n.before, n.after)
	for _, r := range m.Rules {
		v.Walk(r)
	}
	if n.err != nil {
		return n.err
	}
	return nil
}

// nesting is the walk over a module.
type nesting struct {
	path                  string
	row                   int // of the term around what is visited
	comprehensions, terms int
	err                   *BundleError
}

func (n *nesting) before(x any) (stop bool) {
	switch x := x.(type) {
	case *ast.Term:
		n.terms++
		if x.Location != nil {
			n.row = x.Location.Row
		}
	case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.Every:
		n.comprehensions++
	}
	switch {
	case n.err != nil:
	case n.comprehensions > maxComprehensions:
		n.refuse(fmt.Sprintf("nests more than %d comprehensions", maxComprehensions))
	case n.terms > maxTermDepth:
		n.refuse(fmt.Sprintf("nests terms deeper than %d levels", maxTermDepth))
	}
	return n.err != nil
}

func (n *nesting) after(x any) {
	switch x.(type) {
	case *ast.Term:
		n.terms--
	case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.Every:
		n.comprehensions--
	}
}

func (n *nesting) refuse(problem string) {
	n.err = &BundleError{fmt.Sprintf("%s:%d", n.path, n.row), problem, "move what is inside into a rule of its own"}
}
