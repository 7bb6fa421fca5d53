package check

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// absentLints are about fields that a pod may lack: an expression that reads one is
// undefined then, and the rule around it says nothing.
func (m *module) absentLints() {
	for _, r := range m.resolved.Rules {
		s := newScope(r, m.rules)
		b := body{m, r, s}
		if outlet(r) {
			b.comparisons()
			b.texts(r.Head.Key, IDOptionalText, "the finding is not made, and nothing refused, where %s is absent",
				"use object.get with a default, or read the field in a condition of its own")
		}
		if nameOf(r) == "obligations" {
			b.texts(r.Head.Value, IDOptionalDuty, "the obligations are dropped where %s is absent",
				"state constants, and refuse with deny what must not be missing")
		}
		b.every()
	}
}

// body is the top of a rule, where each expression is a condition.
type body struct {
	m *module
	r *ast.Rule
	s *scope
}

func (b body) optional(t *ast.Term) (string, bool) {
	p, ok := b.s.where(t)
	if !ok || !b.m.schema.optional(p) {
		return "", false
	}
	return strings.ReplaceAll(strings.Join(p.path, "."), ".*", "[]"), true
}

// comparisons finds x != value where x may be absent. The comparison is undefined
// then, so a rule that refuses everything but a value lets through what has none.
func (b body) comparisons() {
	for _, e := range b.r.Body {
		if !e.IsCall() || e.Negated || !isCall(e.Operator(), "neq") {
			continue
		}
		for _, t := range e.Operands() {
			if field, ok := b.optional(t); ok && !b.shown(field, e) {
				b.m.at(e.Location, IDOptionalNot, "!= is undefined, so the rule says nothing, where "+field+" is absent",
					"compare object.get(...) with a default, or read the field in a condition of its own")
			}
		}
	}
}

// shown reports that another condition of the rule reads the field too, so that
// the author has said what its absence means.
func (b body) shown(field string, but *ast.Expr) bool {
	for _, e := range b.r.Body {
		if e == but || e.Negated || e.IsAssignment() || e.IsEvery() || e.IsSome() {
			continue
		}
		if slices.Contains(b.fields(e), field) {
			return true
		}
	}
	return false
}

// fields returns the optional fields that are read outside of comprehensions, in
// which an undefined term means one element less and no more.
func (b body) fields(x any) []string {
	var found []string
	visit := func(x any) bool {
		if t, ok := x.(*ast.Term); ok {
			if field, ok := b.optional(t); ok {
				found = append(found, field)
			}
		}
		return comprehends(x)
	}
	ast.NewGenericVisitor(visit).Walk(x)
	return found
}

func comprehends(x any) bool {
	switch x.(type) {
	case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
		return true
	}
	return false
}

// texts finds optional fields in what a rule states, directly or through
// variables.
func (b body) texts(t *ast.Term, id, message, hint string) {
	if t == nil {
		return
	}
	if v, ok := t.Value.(ast.Var); ok && b.s.values[v] != nil {
		t = b.s.values[v]
	}
	for _, field := range b.stated(t, maxAliases) {
		if !b.shown(field, nil) {
			b.m.at(b.r.Location, id, strings.Replace(message, "%s", field, 1), hint)
		}
	}
}

// stated returns the optional fields in a term and in what its variables stand for.
func (b body) stated(t *ast.Term, depth int) []string {
	found := b.fields(t)
	if depth == 0 {
		return found
	}
	ast.NewGenericVisitor(func(x any) bool {
		if v, ok := x.(ast.Var); ok && b.s.values[v] != nil && b.s.values[v] != t {
			found = append(found, b.stated(b.s.values[v], depth-1)...)
		}
		return comprehends(x)
	}).Walk(t)
	slices.Sort(found)
	return slices.Compact(found)
}

// every finds "every x in xs" where nothing shows that xs is not empty, which makes
// it true. In a deny rule that errs on the safe side, so only helpers are looked at.
func (b body) every() {
	if outlet(b.r) {
		return
	}
	ast.WalkExprs(b.r, func(e *ast.Expr) bool {
		every, ok := e.Terms.(*ast.Every)
		if ok && b.mayBeEmpty(every.Domain) && !b.counted(every.Domain) {
			domain := firstLine(every.Domain)
			b.m.at(e.Location, IDEvery, "every is true where "+domain+" is empty", "put count("+domain+") > 0 before it")
		}
		return false
	})
}

func firstLine(t *ast.Term) string {
	text := t.String()
	if t.Location != nil && len(t.Location.Text) > 0 {
		text = string(t.Location.Text)
	}
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// mayBeEmpty knows lists of the input, what a comprehension selects, and the
// library's selection of containers. A pod always has containers.
func (b body) mayBeEmpty(t *ast.Term) bool {
	if v, ok := t.Value.(ast.Var); ok && b.s.values[v] != nil {
		t = b.s.values[v]
	}
	switch v := t.Value.(type) {
	case *ast.ArrayComprehension, *ast.SetComprehension:
		return true
	case ast.Ref:
		if v.String() == "data.portcullis.lib.mounting_containers" {
			return true
		}
	}
	p, ok := b.s.where(t)
	return ok && p.path[0] == "input" && !slices.Equal(p.path, []string{"input", "pod", "containers"})
}

// counted reports that the rule counts the same collection, or goes on only with an
// element of it.
func (b body) counted(domain *ast.Term) bool {
	found := false
	ast.WalkTerms(b.r, func(t *ast.Term) bool {
		call, ok := t.Value.(ast.Call)
		found = found || ok && isCall(call.Operator(), "count") && len(call) == 2 && call[1].Equal(domain)
		return found
	})
	for _, e := range b.r.Body {
		decl, ok := e.Terms.(*ast.SomeDecl)
		if !ok {
			continue
		}
		for _, t := range decl.Symbols {
			call, ok := t.Value.(ast.Call)
			found = found || ok && call[len(call)-1].Equal(domain)
		}
	}
	return found
}
