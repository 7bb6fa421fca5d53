package check

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// module is one check of a bundle, seen by a lint.
type module struct {
	path     string
	parsed   *ast.Module // as it is written: annotations and comments
	resolved *ast.Module // every name absolute
	schema   *schema
	rules    map[string]*ast.Term
	found    []Finding
}

// newModule prepares a module for its lints.
func newModule(path string, parsed, resolved *ast.Module, known *schema) *module {
	m := &module{path: path, parsed: parsed, resolved: resolved, schema: known, rules: map[string]*ast.Term{}}
	counts := map[string]int{}
	for _, r := range resolved.Rules {
		name := resolved.Package.Path.Append(ast.StringTerm(nameOf(r))).String()
		counts[name]++
		if _, isRef := valueOf(r).(ast.Ref); isRef && unconditional(r) {
			m.rules[name] = r.Head.Value
		}
	}
	for name, n := range counts {
		if n > 1 {
			delete(m.rules, name)
		}
	}
	return m
}

func valueOf(r *ast.Rule) ast.Value {
	if r.Head.Value == nil {
		return nil
	}
	return r.Head.Value.Value
}

// unconditional reports a rule of the form name := value.
func unconditional(r *ast.Rule) bool {
	if len(r.Head.Args) > 0 || len(r.Head.Reference) != 1 || r.Else != nil || len(r.Body) != 1 {
		return false
	}
	t, ok := r.Body[0].Terms.(*ast.Term)
	return ok && t.Equal(ast.BooleanTerm(true))
}

// nameOf returns the name of a rule, without the package that resolving adds.
func nameOf(r *ast.Rule) string {
	name := r.Head.Reference[0].String()
	if len(r.Head.Reference) > 4 && name == "data" {
		name, _ = stringAt(r.Head.Reference, 4)
	}
	return name
}

func stringAt(ref ast.Ref, i int) (string, bool) {
	if len(ref) <= i {
		return "", false
	}
	s, ok := ref[i].Value.(ast.String)
	return string(s), ok
}

// outlet reports a rule that the library reads findings from.
func outlet(r *ast.Rule) bool { return slices.Contains([]string{"deny", "warn"}, nameOf(r)) }

// at keeps a warning with its place.
func (m *module) at(loc *ast.Location, id, message, hint string) {
	f := Finding{File: m.path, ID: id, Severity: Warning, Message: message, Hint: hint}
	if loc != nil {
		f.Line, f.Column = loc.Row, loc.Col
	}
	m.found = append(m.found, f)
}

// wrong is at for what makes decisions errors.
func (m *module) wrong(loc *ast.Location, id, message, hint string) {
	m.at(loc, id, message, hint)
	m.found[len(m.found)-1].Severity = Error
}

// ignoreMark begins a comment that silences warnings on its own line and on the
// next: # portcullis:ignore grant-scan the list has three entries.
const ignoreMark = "portcullis:ignore "

// kept returns the findings without the warnings that comments silence.
func (m *module) kept() []Finding {
	ignored := map[int]string{}
	for _, c := range m.parsed.Comments {
		text, marked := strings.CutPrefix(strings.TrimSpace(string(c.Text)), ignoreMark)
		if !marked {
			continue
		}
		id, _, _ := strings.Cut(strings.TrimSpace(text), " ")
		ignored[c.Location.Row] = id
	}
	return slices.DeleteFunc(m.found, func(f Finding) bool {
		return f.Severity == Warning && f.Line > 0 && (ignored[f.Line] == f.ID || ignored[f.Line-1] == f.ID)
	})
}
