package policies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/lineage"
)

const (
	// maxTraceEvents bounds the memory of a trace: rules over many containers and
	// secrets make millions.
	maxTraceEvents = 50_000
	// traceBudget is how long an evaluation may take that is watched at each step.
	traceBudget = 30 * time.Second
)

// Span is a part of a policy file: the lines of one rule, or a whole file where
// the last line is zero.
type Span struct {
	File        string
	First, Last int
}

func (s Span) holds(l *ast.Location) bool {
	return l != nil && l.File == s.File && (s.Last == 0 || l.Row >= s.First && l.Row <= s.Last)
}

// Trace is how a decision came about, as text with one step a line.
type Trace struct {
	Text []byte
	// Dropped counts steps beyond the bound, which are not in the text.
	Dropped int
}

// ErrNoRule says that no rule of the bundle or of the library has the name.
var ErrNoRule = errors.New("no rule or check of this name")

// TraceFails decides and tells which expressions did not hold, with the rules
// that they are in. Nothing else of the decision differs from Decide.
func (e *Engine) TraceFails(ctx context.Context, in Input) (Decision, Trace) {
	t := &tracer{keep: func(topdown.Event) bool { return true }}
	d := e.watched(t).Decide(ctx, in)
	return d, t.print(lineage.Fails(t.events))
}

// TraceSpans decides and tells every step within parts of the policy. Indexes
// are not used, so that a rule which could not apply is tried and seen to fail.
func (e *Engine) TraceSpans(ctx context.Context, in Input, spans []Span) (Decision, Trace) {
	t := &tracer{keep: func(event topdown.Event) bool {
		switch event.Op {
		case topdown.EnterOp, topdown.EvalOp, topdown.FailOp, topdown.ExitOp:
			return slices.ContainsFunc(spans, func(s Span) bool { return s.holds(event.Location) })
		default:
			return false
		}
	}}
	d := e.watched(t, rego.EvalRuleIndexing(false), rego.EvalEarlyExit(false)).Decide(ctx, in)
	return d, t.print(t.events)
}

// watched is an engine that tells a tracer what it does.
func (e *Engine) watched(t *tracer, options ...rego.EvalOption) *Engine {
	if e == nil {
		return nil
	}
	w := *e
	w.budget = traceBudget
	w.options = slices.Concat(e.options, options, []rego.EvalOption{rego.EvalQueryTracer(t)})
	return &w
}

// tracer keeps the steps of an evaluation, up to a bound.
type tracer struct {
	keep    func(topdown.Event) bool
	events  []*topdown.Event
	dropped int
}

// Enabled implements topdown.QueryTracer.
func (t *tracer) Enabled() bool { return true }

// Config implements topdown.QueryTracer: values are worth more than the names of
// variables.
func (t *tracer) Config() topdown.TraceConfig { return topdown.TraceConfig{PlugLocalVars: true} }

// TraceEvent implements topdown.QueryTracer.
func (t *tracer) TraceEvent(event topdown.Event) {
	switch {
	case !t.keep(event):
	case len(t.events) == maxTraceEvents:
		t.dropped++
	default:
		t.events = append(t.events, &event)
	}
}

// valuesColumn is where the printer puts the values of variables: beyond the longest
// line, which no screen has room for.
var valuesColumn = regexp.MustCompile(`(?m) {2,}(\{.*|)$`)

func (t *tracer) print(events []*topdown.Event) Trace {
	var b bytes.Buffer
	topdown.PrettyTraceWithOpts(&b, events, topdown.PrettyTraceOptions{Locations: true, ExprVariables: true})
	text := valuesColumn.ReplaceAll(b.Bytes(), []byte("  $1"))
	text = bytes.ReplaceAll(text, []byte("  {}\n"), []byte("\n"))
	return Trace{Text: text, Dropped: t.dropped}
}

// Spans returns where the rules with an id such as PR-203 are, in the bundle or
// in the library, or the file of the check that is named. It returns ErrNoRule
// where there is none.
func (b Bundle) Spans(name string) ([]Span, error) {
	files, err := libraryModules()
	if err != nil {
		return nil, err
	}
	for path, text := range b.Modules {
		if path == fmt.Sprintf("portcullis/checks/%s/%s.rego", name, name) {
			return []Span{{File: path}}, nil
		}
		files[path] = text
	}
	if !rulePattern.MatchString(name) {
		return nil, ErrNoRule
	}
	modules, err := parseModules(files, false)
	if err != nil {
		return nil, err
	}
	// Lists of ids, such as of what monitor mode leaves alone, are no findings.
	finding := regexp.MustCompile(`"id"\s*:\s*"` + name + `"`)
	var spans []Span
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		for _, r := range modules[path].Rules {
			if text := r.Location.Text; finding.Match(text) {
				first := r.Location.Row
				spans = append(spans, Span{File: path, First: first, Last: first + bytes.Count(text, []byte("\n"))})
			}
		}
	}
	if len(spans) == 0 {
		return nil, ErrNoRule
	}
	return spans, nil
}
