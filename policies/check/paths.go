package check

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/portcullis-csi/portcullis/policies"
)

// anyElement stands for an element of a list or a map in a path.
const anyElement = "*"

// place is a document as far as the syntax shows it: input.pod.containers.*.image.
type place struct {
	path []string // the root first: input or data
	// known is how many elements are there for certain, since an iteration
	// yielded them.
	known int
}

func (p place) below(names ...string) place {
	return place{append(slices.Clone(p.path), names...), p.known}
}

// scope knows what the variables of a rule stand for.
type scope struct {
	// values are the terms that := and = give to variables.
	values map[ast.Var]*ast.Term
	// elements are the collections that some yields variables from, and keys
	// the variables that are bound to their keys.
	elements map[ast.Var]*ast.Term
	keys     map[ast.Var]bool
	args     map[ast.Var]bool
	rules    map[string]*ast.Term // helpers of the module that are a name for a document
}

// newScope collects what a rule and everything inside it binds.
func newScope(r *ast.Rule, rules map[string]*ast.Term) *scope {
	s := &scope{
		values: map[ast.Var]*ast.Term{}, elements: map[ast.Var]*ast.Term{},
		keys: map[ast.Var]bool{}, args: map[ast.Var]bool{}, rules: rules,
	}
	ast.WalkVars(ast.NewTerm(ast.NewArray(r.Head.Args...)), func(v ast.Var) bool {
		s.args[v] = true
		return false
	})
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		s.bind(e)
		return false
	})
	return s
}

func (s *scope) bind(e *ast.Expr) {
	switch terms := e.Terms.(type) {
	case *ast.SomeDecl:
		for _, t := range terms.Symbols {
			if call, ok := t.Value.(ast.Call); ok {
				s.iterate(call)
			}
		}
	case *ast.Every:
		s.element(terms.Value, terms.Domain)
		s.key(terms.Key)
	default:
		if (e.IsAssignment() || e.IsEquality()) && !e.Negated {
			s.assign(e.Operand(0), e.Operand(1))
			s.assign(e.Operand(1), e.Operand(0))
		}
	}
}

func (s *scope) assign(left, right *ast.Term) {
	if v, ok := left.Value.(ast.Var); ok {
		if _, twice := s.values[v]; !twice {
			s.values[v] = right
		}
	}
}

// iterate reads "some value in collection" and "some key, value in collection".
func (s *scope) iterate(call ast.Call) {
	switch args := call.Operands(); len(args) {
	case 2:
		s.element(args[0], args[1])
	case 3:
		s.key(args[0])
		s.element(args[1], args[2])
	}
}

func (s *scope) element(t, collection *ast.Term) {
	if t != nil && collection != nil {
		if v, ok := t.Value.(ast.Var); ok {
			s.elements[v] = collection
		}
	}
}

func (s *scope) key(t *ast.Term) {
	if t != nil {
		if v, ok := t.Value.(ast.Var); ok {
			s.keys[v] = true
		}
	}
}

// bound reports whether a variable has a value before it is used as a key, so
// that the key is looked up and not enumerated.
func (s *scope) bound(v ast.Var) bool {
	return s.values[v] != nil || s.elements[v] != nil || s.keys[v] || s.args[v]
}

const maxAliases = 16

// where returns the document that a term stands for.
func (s *scope) where(t *ast.Term) (place, bool) { return s.follow(t, maxAliases) }

func (s *scope) follow(t *ast.Term, depth int) (place, bool) {
	if t == nil || depth == 0 {
		return place{}, false
	}
	switch v := t.Value.(type) {
	case ast.Var:
		if c := s.elements[v]; c != nil {
			p, ok := s.follow(c, depth-1)
			p = p.below(anyElement)
			p.known = len(p.path)
			return p, ok
		}
		return s.follow(s.values[v], depth-1)
	case ast.Ref:
		return s.reference(v, depth)
	}
	return place{}, false
}

func (s *scope) reference(ref ast.Ref, depth int) (place, bool) {
	p, rest, ok := place{}, ref[1:], true
	switch {
	case ref[0].Equal(ast.InputRootDocument):
		p.path = []string{"input"}
	case ref[0].Equal(ast.DefaultRootDocument):
		p.path = []string{"data"}
		if len(ref) >= 5 && s.rules[ref[:5].String()] != nil {
			p, ok = s.follow(s.rules[ref[:5].String()], depth-1)
			rest = ref[5:]
		}
	default:
		p, ok = s.follow(ref[0], depth-1)
	}
	for _, t := range rest {
		switch name := t.Value.(type) {
		case ast.String:
			p = p.below(string(name))
		case ast.Var:
			p = p.below(anyElement)
			if !s.bound(name) {
				p.known = len(p.path)
			}
		default:
			p = p.below(anyElement)
		}
	}
	return p, ok
}

// schema tells which fields of the input may be absent.
type schema struct {
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	Items      *schema            `json:"items"`
	Additional json.RawMessage    `json:"additionalProperties"`
}

func inputSchema() (*schema, error) {
	var s schema
	if err := json.Unmarshal(policies.InputSchema(), &s); err != nil {
		return nil, fmt.Errorf("read input schema: %w", err)
	}
	return &s, nil
}

// optional reports whether a place of the input may be absent although what is
// known of it is there.
func (s *schema) optional(p place) bool {
	if len(p.path) == 0 || p.path[0] != "input" {
		return false
	}
	at, absent := s, false
	for i, name := range p.path[1:] {
		next, sure := at.step(name)
		if next == nil {
			return absent
		}
		if i+1 >= p.known {
			absent = absent || !sure
		}
		at = next
	}
	return absent
}

// step returns what is below, and whether it is always there.
func (s *schema) step(name string) (*schema, bool) {
	switch {
	case s.Items != nil:
		return s.Items, true
	case s.Properties[name] != nil:
		return s.Properties[name], slices.Contains(s.Required, name)
	case s.Properties == nil && len(s.Additional) > 0 && s.Additional[0] == '{':
		return &schema{}, false // a map, whose keys nobody promises
	}
	return nil, false
}
