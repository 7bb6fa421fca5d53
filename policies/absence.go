package policies

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// NodeFields are the facts that a node has and the gates before it lack, as paths
// in the input. The origins of package kube say the same, field by field.
func NodeFields() []string { return []string{"subject.node", "subject.tokenVerified", "tokens"} }

// absence finds the rules that could hold because a fact of the node is absent:
// admission would deny what the mount allows (promise P2). Whatever else reads such
// a fact is undefined without it, so a finding that is made without the facts of the
// node is made with them too. That is the whole argument, and it needs that
//
//   - no "not" and no comprehension, which are defined without the fact, reads it,
//   - nor a set or an object of which an element depends on it, as a whole,
//   - nor a rule with a value for want of another, by "default" or "else",
//
// except in a rule with a condition that reads a fact of the node and fails without
// it. Any of them will do: a gate has all or none. A mount without tokens has no
// list of them either, so a rule that begins with that list is silent where it
// matters most; the node's name is always there.
type absence struct {
	groups map[string]*group
	errs   []error
}

// group is all rules of one name in one check.
type group struct {
	depth    int  // how many elements below its name are one value of one rule
	fallback bool // there is a default or an else
	fields   map[string]bool
}

// absenceErrors returns the first refusal of each rule of the compiled modules.
func absenceErrors(modules map[string]*ast.Module) []error {
	a := &absence{groups: map[string]*group{}}
	paths := slices.Sorted(maps.Keys(modules))
	for _, path := range paths {
		eachRule(modules[path], a.declare)
	}
	for changed := true; changed; { // Rego has no recursion, so this ends
		changed = false
		for _, path := range paths {
			eachRule(modules[path], func(name string, r *ast.Rule) { changed = a.depend(name, r) || changed })
		}
	}
	for _, path := range paths {
		eachRule(modules[path], func(name string, r *ast.Rule) { a.check(path, name, r) })
	}
	return a.errs
}

// eachRule leaves out warnings: they change no verdict, and nothing may read them.
func eachRule(m *ast.Module, do func(name string, r *ast.Rule)) {
	check, _ := checkName(m.Package.Path)
	for _, r := range m.Rules {
		if name := r.Head.Ref()[0].String(); name != "warn" {
			do(check+"."+name, r)
		}
	}
}

func (a *absence) declare(name string, r *ast.Rule) {
	g := a.groups[name]
	if g == nil {
		g = &group{fields: map[string]bool{}}
		a.groups[name] = g
	}
	depth := len(r.Head.Ref()) - 1
	if r.Head.RuleKind() == ast.MultiValue {
		depth = len(r.Head.Ref()) // and the element
	}
	g.depth = max(g.depth, depth)
	g.fallback = g.fallback || r.Default || r.Else != nil
}

// depend adds what the rule reads, and reports whether that was news.
func (a *absence) depend(name string, r *ast.Rule) bool {
	own := a.groups[name].fields
	before := len(own)
	walkReads(r, false, func(ref ast.Ref, _ bool) {
		fields, _ := a.reads(ref)
		for _, f := range fields {
			own[f] = true
		}
	})
	return len(own) > before
}

// reads returns the facts of the node on which a reference depends, and whether it
// is defined without them all the same.
func (a *absence) reads(ref ast.Ref) (fields []string, whole bool) {
	if field, ok := nodeField(ref); ok {
		return []string{field}, false
	}
	if !ref.HasPrefix(checksRef()) {
		return nil, false
	}
	check, _ := element(ref, 3)
	rule, _ := element(ref, 4)
	g := a.groups[check+"."+rule]
	if g == nil {
		return nil, false
	}
	return slices.Sorted(maps.Keys(g.fields)), len(ref)-5 < g.depth
}

func nodeField(ref ast.Ref) (string, bool) {
	for _, field := range NodeFields() {
		at := ast.Ref{ast.InputRootDocument}
		for name := range strings.SplitSeq(field, ".") {
			at = append(at, ast.StringTerm(name))
		}
		if ref.HasPrefix(at) {
			return field, true
		}
	}
	return "", false
}

func (a *absence) check(path, name string, r *ast.Rule) {
	s := scan{path: path, rule: r}
	if g := a.groups[name]; g.fallback && len(g.fields) > 0 {
		field := slices.Sorted(maps.Keys(g.fields))[0]
		s.refuse(fmt.Sprintf("has a value by default or else where input.%s is absent, as at admission", field),
			"write rules without default and else, which are undefined there")
	}
	onNode := holdsOnNode(r.Body)
	walkReads(r, false, func(ref ast.Ref, hidden bool) {
		if field, _ := element(ref, 1); ref[0].Equal(ast.InputRootDocument) && field == "subject" {
			if _, ok := element(ref, 2); !ok {
				s.refuse("reads input.subject as a whole or by a computed name", "name the field, input.subject.namespace for example")
			}
		}
		fields, whole := a.reads(ref)
		for _, f := range fields {
			if (hidden || whole) && !onNode {
				s.refuse(fmt.Sprintf("may hold because input.%s is absent, as at admission, where the mount would decide otherwise", f), remedy(f))
			}
		}
	})
	if s.err != nil {
		a.errs = append(a.errs, s.err)
	}
}

// remedy must leave a rule that denies on the node what its author meant to deny.
func remedy(field string) string {
	if field == "subject.tokenVerified" {
		return "compare it, input.subject.tokenVerified == false, or write input.subject.node into the rule as a condition, which holds on every node and nowhere else"
	}
	return "write input.subject.node into the rule as a condition, which holds on every node and nowhere else"
}

// holdsOnNode reports whether a body has a condition that fails wherever the facts
// of the node are absent, whatever else it says.
func holdsOnNode(body ast.Body) bool {
	found := false
	for _, e := range body {
		if e.IsEvery() { // holds without its body where there is nothing to look at
			continue
		}
		walkReads(e, false, func(ref ast.Ref, hidden bool) {
			_, ok := nodeField(ref)
			found = found || ok && !hidden
		})
	}
	return found
}

// walkReads calls read for each reference, and says whether it is inside of what is
// defined though the reference is not.
func walkReads(x any, hidden bool, read func(ref ast.Ref, hidden bool)) {
	ast.NewGenericVisitor(func(y any) bool {
		if !hidden && hides(y) {
			walkReads(y, true, read)
			return true
		}
		ref, ok := y.(ast.Ref)
		if ok {
			read(ref, hidden)
			for _, t := range ref {
				walkReads(t, hidden, read)
			}
		}
		return ok
	}).Walk(x)
}

func hides(x any) bool {
	switch x := x.(type) {
	case *ast.Expr:
		return x.Negated
	case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
		return true
	}
	return false
}
