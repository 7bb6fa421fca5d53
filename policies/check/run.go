package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/testrun"
)

// Config says what to look at. Path is required: the author's directory, or the
// tarball of a bundle, which has neither format nor tests.
type Config struct {
	Path    string
	Ratio   float64   // see DefaultRatio, which zero stands for
	Profile int       // how many expressions to name; zero: no profile
	Now     time.Time // for the bounds of a bundle; zero is the present
	// Timeout is how long one decision may take; zero: five seconds, since a
	// machine may be busy.
	Timeout time.Duration
	// WithoutBudget leaves out what decisions cost, which takes most of the time.
	WithoutBudget bool
}

// Run looks at a bundle. An error means that it could not be looked at.
func Run(ctx context.Context, c Config) (Report, error) {
	if c.Ratio <= 0 {
		c.Ratio = DefaultRatio
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Now.IsZero() {
		c.Now = time.Now()
	}
	info, err := os.Stat(c.Path)
	if err != nil {
		return Report{}, fmt.Errorf("open policy bundle: %w", err)
	}
	s := session{Config: c}
	if info.IsDir() {
		err = s.directory()
	} else {
		s.bundle, err = bundle.Open(c.Path)
	}
	if err != nil {
		return Report{}, err
	}
	if err := s.look(); err != nil {
		return Report{}, err
	}
	costs, hot, err := s.budget(ctx)
	if err != nil {
		return Report{}, err
	}
	r := newReport(s.found)
	r.Costs, r.Profile = costs, hot
	return r, nil
}

// session is one run.
type session struct {
	Config
	bundle   policies.Bundle
	broken   bool // the bundle could not be loaded, and holds modules only
	tests    map[string]string
	fixtures []testrun.Fixture
	source   bool // the author's directory, with tests
	found    []Finding
}

// directory loads what an author has. What cannot be loaded is a finding, and the
// modules are looked at all the same.
func (s *session) directory() error {
	root, err := os.OpenRoot(s.Path)
	if err != nil {
		return fmt.Errorf("open policy directory: %w", err)
	}
	defer root.Close()
	modules, err := readModules(root.FS())
	if err != nil {
		return err
	}
	s.source, s.tests = true, map[string]string{}
	own := map[string]string{}
	for name, text := range modules {
		s.found = append(s.found, formatFinding(name, text)...)
		if isTest(name) {
			s.tests[name] = text
		} else {
			own[name] = text
		}
	}
	if s.bundle, err = bundle.LoadFS(root.FS()); err != nil {
		s.found = append(s.found, located(err, IDBundle)...)
		s.bundle, s.broken = policies.Bundle{Modules: own}, true
	}
	if s.fixtures, err = testrun.Fixtures(root); err != nil {
		s.found = append(s.found, located(err, IDFixture)...)
	}
	return nil
}

// look collects the findings that need no evaluation.
func (s *session) look() error {
	schema, err := inputSchema()
	if err != nil {
		return err
	}
	x := policies.Examine(s.bundle, s.options())
	for _, p := range x.Problems {
		if s.broken && !strings.HasSuffix(p.File, ".rego") {
			continue // what the bundle would hold is not known
		}
		s.found = append(s.found, Finding{File: p.File, Line: p.Row, Column: p.Column, ID: IDBundle, Severity: Error, Message: p.Text, Hint: p.Remedy})
	}
	var literals []literal
	for _, name := range sortedKeys(x.Resolved) {
		m := newModule(name, x.Parsed[name], x.Resolved[name], schema)
		literals = append(literals, m.findingLints()...)
		m.metadataLints()
		m.dataLints()
		m.absentLints()
		s.found = append(s.found, m.kept()...)
	}
	s.found = append(s.found, sharedIDs(literals)...)
	s.untested(literals)
	return nil
}

func (s *session) options() policies.Options {
	return policies.Options{Budget: s.Timeout, Clock: func() time.Time { return s.Now }}
}

// untested finds deny rules that neither a test nor a fixture names by their id.
func (s *session) untested(all []literal) {
	if !s.source {
		return
	}
	named := map[string]bool{}
	for name, text := range s.tests {
		m, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			s.found = append(s.found, located(err, IDFixture)...)
			continue
		}
		ast.WalkTerms(m, func(t *ast.Term) bool {
			if text, ok := t.Value.(ast.String); ok {
				named[string(text)] = true
			}
			return false
		})
	}
	for _, f := range s.fixtures {
		if f.Expect.Deny != nil {
			for _, id := range *f.Expect.Deny {
				named[id] = true
			}
		}
	}
	for _, l := range all {
		if l.direct && l.rule == "deny" && l.id != "" && !named[l.id] {
			s.found = append(s.found, Finding{
				File: l.file, Line: l.loc.Row, Column: l.loc.Col, ID: IDUntested, Severity: Warning,
				Message: "no test and no fixture expects " + l.id,
				Hint:    fmt.Sprintf("add one to %s_test.rego, or a fixture to %s/", checkOf(l.file), testrun.Directory),
			})
		}
	}
}

// budget measures what decisions cost, if the bundle compiles.
func (s *session) budget(ctx context.Context) ([]Cost, []Hot, error) {
	if s.WithoutBudget || slices.ContainsFunc(s.found, func(f Finding) bool { return f.ID == IDBundle }) {
		return nil, nil, nil
	}
	e, err := newEngines(ctx, s.bundle, s.options())
	if err != nil {
		return nil, nil, err
	}
	trials, err := s.trials()
	if err != nil {
		return nil, nil, err
	}
	costs, found := e.measure(ctx, trials, s.Ratio)
	s.found = append(s.found, found...)
	if s.Profile <= 0 {
		return costs, nil, ctx.Err()
	}
	return costs, e.profile(ctx, trials, s.Profile), ctx.Err()
}

// trials are a small pod, a large one, and every fixture in the first of its phases.
func (s *session) trials() ([]trial, error) {
	in, err := testrun.Fixture{}.In(s.Path, policies.PhaseMount, s.Now)
	if err != nil {
		return nil, err
	}
	trials := []trial{{"the default input of fixtures", in}, {"ten secrets in four containers", large(in)}}
	for _, f := range s.fixtures {
		in, err := f.In(s.Path, f.Phases[0], s.Now)
		if err != nil {
			s.found = append(s.found, Finding{File: f.File, Line: f.Line, ID: IDFixture, Severity: Error, Message: err.Error()})
			continue
		}
		trials = append(trials, trial{f.Name, in})
	}
	return trials, nil
}

// located makes findings of an error whose lines begin with file, line and column.
func located(err error, id string) []Finding {
	var list ast.Errors
	var found []Finding
	if errors.As(err, &list) {
		for _, e := range list {
			f := Finding{ID: id, Severity: Error, Message: e.Message}
			if e.Location != nil {
				f.File, f.Line, f.Column = e.Location.File, e.Location.Row, e.Location.Col
			}
			found = append(found, f)
		}
		return found
	}
	place := regexp.MustCompile(`^([\w./-]+\.(?:yaml|json|rego)|\.manifest):(\d+)(?::(\d+))?: `)
	quoted := regexp.MustCompile(`(?:file|directory|module) "([\w./-]+)"`)
	for line := range strings.Lines(err.Error()) {
		f := Finding{ID: id, Severity: Error}
		f.Message, f.Hint, _ = strings.Cut(strings.TrimSuffix(line, "\n"), "; hint: ")
		if m := place.FindStringSubmatch(f.Message); m != nil {
			f.File, f.Message = m[1], strings.TrimPrefix(f.Message, m[0])
			f.Line, _ = strconv.Atoi(m[2])
			f.Column, _ = strconv.Atoi(m[3])
		} else if m := quoted.FindStringSubmatch(f.Message); m != nil {
			f.File = m[1]
		}
		found = append(found, f)
	}
	return found
}
