package check

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// dataLints are about what grows with the bundle: a rule that reads every grant is
// quick with ten of them and takes a tenth of a second with ten thousand.
func (m *module) dataLints() {
	for _, r := range m.resolved.Rules {
		s := newScope(r, m.rules)
		m.grantScan(r, s)
		m.grantPattern(r, s)
		m.index(r, s)
		m.computedKey(r)
	}
}

// indexes are the documents that hold an entry for each grant and each waiver.
func indexes() [][]string {
	return [][]string{{"data", "portcullis", "grants", "by_subject"}, {"data", "portcullis", "waivers", "by_finding"}}
}

// grantScan finds references to an index that do not name the key.
func (m *module) grantScan(r *ast.Rule, s *scope) {
	looked := map[*ast.Term]bool{}
	ast.WalkTerms(r, func(t *ast.Term) bool {
		if call, ok := t.Value.(ast.Call); ok && isCall(call.Operator(), "object.get") {
			looked[call[1]] = true
		}
		return false
	})
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if e.IsCall() && isCall(e.Operator(), "object.get") {
			looked[e.Operand(0)] = true
		}
		return false
	})
	ast.WalkTerms(r, func(t *ast.Term) bool {
		ref, ok := t.Value.(ast.Ref)
		if !ok || looked[t] || !s.scans(ref) {
			return false
		}
		m.at(t.Location, IDGrantScan, "reads every entry of "+indexName(ref)+", at each decision",
			"look one key up: by_subject[\"<namespace>/<service account>\"], then the secret's id or prefix")
		return false
	})
}

func isCall(op ast.Ref, name string) bool { return op.String() == name }

func indexName(ref ast.Ref) string {
	if part, ok := stringAt(ref, 2); ok {
		return "data.portcullis." + part
	}
	return "data.portcullis"
}

// scans reports a reference to an index as a whole or by a key that is enumerated.
func (s *scope) scans(ref ast.Ref) bool {
	p, ok := s.reference(ref, maxAliases)
	if !ok {
		return false
	}
	for _, index := range indexes() {
		n := min(len(index), len(p.path))
		if n < 3 || !slices.Equal(p.path[:n], index[:n]) {
			continue
		}
		if len(p.path) <= len(index) {
			return true
		}
		// The element is known only if an iteration yields it.
		return p.path[len(index)] == anyElement && p.known > len(index) && s.enumerates(ref, len(index))
	}
	return false
}

// enumerates reports that the key of an index is a variable without a value. One
// that stands in an alias was reported where the alias is bound.
func (s *scope) enumerates(ref ast.Ref, i int) bool {
	if !ref[0].Equal(ast.DefaultRootDocument) || len(ref) <= i {
		return false
	}
	v, ok := ref[i].Value.(ast.Var)
	return ok && !s.bound(v)
}

// grantPattern finds patterns that come out of grants, which are compiled and
// tried one by one.
func (m *module) grantPattern(r *ast.Rule, s *scope) {
	found := func(loc *ast.Location, op ast.Ref, pattern *ast.Term) {
		p, ok := s.where(pattern)
		if !ok || len(p.path) < 4 || p.path[0] != "data" || p.path[2] != "grants" && p.path[2] != "waivers" {
			return
		}
		m.at(loc, IDGrantPattern, op.String()+" tries patterns of "+p.path[2]+" one by one",
			"file grants under keys and look those up, as data.portcullis.grants does with prefixes")
	}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if e.IsCall() && matches(e.Operator()) {
			found(e.Location, e.Operator(), e.Operand(0))
		}
		return false
	})
	ast.WalkTerms(r, func(t *ast.Term) bool {
		if call, ok := t.Value.(ast.Call); ok && matches(call.Operator()) && len(call) > 1 {
			found(t.Location, call.Operator(), call[1])
		}
		return false
	})
}

func matches(op ast.Ref) bool { return isCall(op, "glob.match") || isCall(op, "regex.match") }

// index finds objects that are made of data alone: the same at each decision, and
// made again at each.
func (m *module) index(r *ast.Rule, s *scope) {
	ast.WalkTerms(r, func(t *ast.Term) bool {
		c, ok := t.Value.(*ast.ObjectComprehension)
		if !ok || reads(c, "input") || usesArgs(c, s) {
			return false
		}
		iterates := false
		ast.WalkExprs(c.Body, func(e *ast.Expr) bool {
			iterates = iterates || s.iteratesData(e)
			return false
		})
		if iterates {
			m.at(t.Location, IDIndex, "builds an object out of data that no input changes, at each decision",
				"write it into portcullis/config as an object with these keys")
		}
		return false
	})
}

// iteratesData reports "some x in data.portcullis.config..." and a reference to
// such data with an element that is enumerated.
func (s *scope) iteratesData(e *ast.Expr) bool {
	decl, ok := e.Terms.(*ast.SomeDecl)
	if !ok {
		return false
	}
	for _, t := range decl.Symbols {
		call, ok := t.Value.(ast.Call)
		if !ok || len(call) < 3 {
			continue
		}
		if p, ok := s.where(call[len(call)-1]); ok && len(p.path) > 2 && p.path[0] == "data" &&
			slices.Contains([]string{"config", "grants", "waivers"}, p.path[2]) {
			return true
		}
	}
	return false
}

func reads(x any, root string) bool {
	found := false
	ast.WalkRefs(x, func(ref ast.Ref) bool {
		found = found || ref[0].String() == root
		return found
	})
	return found
}

// usesArgs reports that a term depends on the arguments of a function.
func usesArgs(x any, s *scope) bool {
	found := false
	ast.WalkVars(x, func(v ast.Var) bool {
		found = found || s.args[v]
		return found
	})
	return found
}

// computedKey finds name[key] := value with a computed key, where the module looks
// keys up in it. OPA evaluates such a rule again for every one of them: seven times
// the cost of a decision for ten secrets. Read as a whole, it is evaluated once.
func (m *module) computedKey(r *ast.Rule) {
	ref := r.Head.Reference
	if len(r.Head.Args) > 0 || r.Head.RuleKind() != ast.SingleValue || r.Default || !m.lookedUp(nameOf(r)) {
		return
	}
	for _, t := range ref[1:] {
		if _, constant := t.Value.(ast.String); !constant {
			m.at(r.Location, IDComputedKey, "the object "+nameOf(r)+" is evaluated again for every key that is looked up",
				"write "+nameOf(r)+" := {key: value | ...}, which is evaluated once")
			return
		}
	}
}

// lookedUp reports that a rule of the module is read by a key that is no constant.
func (m *module) lookedUp(name string) bool {
	rule := m.resolved.Package.Path.Append(ast.StringTerm(name))
	found := false
	ast.WalkRefs(m.resolved, func(ref ast.Ref) bool {
		if len(ref) > len(rule) && ref.HasPrefix(rule) {
			_, constant := ref[len(rule)].Value.(ast.String)
			found = found || !constant
		}
		return false
	})
	return found
}
