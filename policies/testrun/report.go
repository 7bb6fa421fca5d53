package testrun

import (
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Kind says how a test is written.
type Kind string

// The kinds of tests.
const (
	KindRego    Kind = "rego"
	KindFixture Kind = "fixture"
)

// Outcome is what became of a test; the zero value is one that passed.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "pass"
	Failed  Outcome = "fail"
	Skipped Outcome = "skip"
)

// Test is one test that was run: a rule of Rego, or a fixture in one phase.
type Test struct {
	Kind     Kind          `json:"kind"`
	File     string        `json:"file"`
	Line     int           `json:"line"`
	Name     string        `json:"name"`
	Outcome  Outcome       `json:"outcome"`
	Duration time.Duration `json:"durationNs"`
	Problems []string      `json:"problems,omitempty"`
	Output   string        `json:"output,omitempty"` // what print wrote
	Notes    []string      `json:"notes,omitempty"`  // of trace, or the findings of the decision
	Trace    []string      `json:"trace,omitempty"`  // expressions that failed, the last ones
}

func (t *Test) fail(problem string) {
	t.Outcome, t.Problems = Failed, append(t.Problems, problem)
}

// Gap is lines of a check that no test evaluates.
type Gap struct {
	File string `json:"file"`
	From int    `json:"from"`
	To   int    `json:"to"`
}

// Report is what a run found. Tests are in the order of their places.
type Report struct {
	Tests   []Test `json:"tests"`
	Passed  int    `json:"passed"`
	Failed  int    `json:"failed"`
	Skipped int    `json:"skipped"`
	// Coverage is the percentage of lines of the checks that a test evaluated;
	// 100 for a bundle without checks.
	Coverage float64 `json:"coverage"`
	Gaps     []Gap   `json:"gaps,omitempty"`
}

func (s *session) report() Report {
	r := Report{Tests: s.tests}
	slices.SortStableFunc(r.Tests, byPlace)
	for i := range r.Tests {
		switch r.Tests[i].Outcome {
		case Failed:
			r.Failed++
		case Skipped:
			r.Skipped++
		default:
			r.Tests[i].Outcome = Passed
			r.Passed++
		}
	}
	s.measure(&r)
	return r
}

// measure counts lines of the checks only: those of tests and of the library say
// nothing about the bundle.
func (s *session) measure(r *Report) {
	modules := map[string]*ast.Module{}
	for name, text := range s.bundle.Modules {
		m, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err == nil {
			modules[name] = m
		}
	}
	covered, all := 0, 0
	report := s.coverage.Report(modules)
	for _, name := range sortedKeys(modules) {
		f := report.Files[name]
		covered, all = covered+f.CoveredLines, all+f.CoveredLines+f.NotCoveredLines
		for _, gap := range f.NotCovered {
			r.Gaps = append(r.Gaps, Gap{name, gap.Start.Row, gap.End.Row})
		}
	}
	r.Gaps = slices.Compact(r.Gaps) // one line may hold several
	r.Coverage = 100
	if all > 0 {
		r.Coverage = 100 * float64(covered) / float64(all)
	}
}
