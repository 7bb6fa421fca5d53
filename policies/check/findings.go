package check

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/portcullis-csi/portcullis/policies"
)

// literal is a finding as it is written in a rule.
type literal struct {
	id     string // "" where it is computed
	check  string
	rule   string
	file   string
	loc    *ast.Location
	direct bool // it is what a deny or warn rule states
}

// findingLints look at the findings that rules state.
func (m *module) findingLints() []literal {
	var all []literal
	for _, r := range m.resolved.Rules {
		direct := stated(r)
		ast.WalkTerms(r, func(t *ast.Term) bool {
			object, ok := t.Value.(ast.Object)
			if !ok || field(object, "id") == nil || field(object, "severity") == nil && field(object, "message") == nil {
				return false
			}
			l := literal{check: m.check(), rule: nameOf(r), file: m.path, loc: t.Location, direct: t == direct}
			l.id = m.finding(t, object, l.direct)
			all = append(all, l)
			return false
		})
	}
	return all
}

func (m *module) check() string {
	name, _ := stringAt(m.resolved.Package.Path, 3)
	return name
}

// stated returns the term that a deny or warn rule makes its findings of.
func stated(r *ast.Rule) *ast.Term {
	if !outlet(r) || r.Head.Key == nil {
		return nil
	}
	v, ok := r.Head.Key.Value.(ast.Var)
	if !ok {
		return r.Head.Key
	}
	for _, e := range r.Body {
		if (e.IsAssignment() || e.IsEquality()) && e.Operand(0).Value.Compare(v) == 0 {
			return e.Operand(1)
		}
	}
	return nil
}

func field(o ast.Object, name string) *ast.Term { return o.Get(ast.StringTerm(name)) }

func ownID() *regexp.Regexp { return regexp.MustCompile(`^PR-[2-9]\d\d$`) }

// finding checks one literal and returns its id.
func (m *module) finding(t *ast.Term, o ast.Object, direct bool) string {
	id, constant := field(o, "id").Value.(ast.String)
	switch {
	case !constant:
		m.wrong(field(o, "id").Location, IDFindingID, "the id of the finding is computed", "write one id for each rule: waivers, monitor mode and reports go by it")
	case !ownID().MatchString(string(id)):
		m.wrong(field(o, "id").Location, IDFindingID, fmt.Sprintf("the id %q is not one for bundles", string(id)), "ids of bundles are PR-200 to PR-999")
	}
	if s := field(o, "severity"); s != nil {
		if severity, constant := s.Value.(ast.String); constant && !slices.Contains(severities(), policies.Severity(severity)) {
			m.wrong(s.Location, IDFindingFields, fmt.Sprintf("severity %q is not known", string(severity)), "write info, low, medium, high or critical")
		}
	}
	o.Foreach(func(key, _ *ast.Term) {
		name, ok := key.Value.(ast.String)
		if ok && !slices.Contains([]string{"id", "check", "severity", "message", "remediation", "secret", "waivable"}, string(name)) {
			m.wrong(key.Location, IDFindingFields, fmt.Sprintf("a finding has no field %q", string(name)), "fields are id, severity, message, remediation, secret and waivable")
		}
	})
	if direct {
		m.complete(t, o)
	}
	return string(id)
}

func severities() []policies.Severity {
	return []policies.Severity{
		policies.SeverityInfo, policies.SeverityLow, policies.SeverityMedium, policies.SeverityHigh, policies.SeverityCritical,
	}
}

func (m *module) complete(t *ast.Term, o ast.Object) {
	for _, name := range []string{"severity", "message"} {
		if field(o, name) == nil {
			m.wrong(t.Location, IDFindingFields, "the finding has no "+name+", so every decision with it is an error", "add "+name)
		}
	}
	if field(o, "remediation") == nil {
		m.at(t.Location, IDRemediation, "the finding does not say what to do about it", "add remediation: the developer reads it in the pod's events")
	}
}

// sharedIDs finds ids that two checks use: a waiver for one would let the other
// pass.
func sharedIDs(all []literal) []Finding {
	first := map[string]literal{}
	var found []Finding
	for _, l := range all {
		other, seen := first[l.id]
		if !seen || l.id == "" {
			first[l.id] = l
			continue
		}
		if other.check != l.check {
			found = append(found, Finding{
				File: l.file, Line: l.loc.Row, Column: l.loc.Col, ID: IDFindingID, Severity: Error,
				Message: fmt.Sprintf("%s is the id of a finding of check %s too", l.id, other.check),
				Hint:    "give each check ids of its own",
			})
		}
	}
	return found
}

// metadataLints ask for what a report, and whoever meets the rule next, needs.
func (m *module) metadataLints() {
	var pkg *ast.Annotations
	for _, a := range m.parsed.Annotations {
		if a.Scope == "package" {
			pkg = a
		}
	}
	if pkg == nil {
		return // refused, since the schema is missing too
	}
	var missing []string
	for name, is := range map[string]bool{
		"title": pkg.Title != "", "description": pkg.Description != "", "labels.owner": pkg.Labels["owner"] != nil,
	} {
		if !is {
			missing = append(missing, name)
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		m.at(m.parsed.Package.Location, IDMetadata, "METADATA of the package lacks "+strings.Join(missing, ", "), "say what the check is for, and who answers for it")
	}
	m.ruleTitles()
}

func (m *module) ruleTitles() {
	document := map[string]bool{}
	for _, r := range m.parsed.Rules {
		for _, a := range r.Annotations {
			if a.Scope == "document" && a.Title != "" {
				document[nameOf(r)] = true
			}
		}
	}
	for _, r := range m.parsed.Rules {
		titled := document[nameOf(r)]
		for _, a := range r.Annotations {
			titled = titled || a.Title != ""
		}
		if (outlet(r) || nameOf(r) == "obligations") && !titled {
			m.at(r.Location, IDMetadata, "rule "+nameOf(r)+" has no METADATA with a title", "put a title above the rule: reports show it")
		}
	}
}
