package check

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/profiler"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// The bounds of a measurement.
const (
	syntheticGrants = 10_000
	maxCases        = 64
	repetitions     = 3
	defaultTimeout  = 5 * time.Second
	// DefaultRatio is how many times the cost of the library alone a decision
	// may have. A check that looks keys up adds a fraction; one that reads
	// every grant is a hundred times dearer.
	DefaultRatio = 8.0
)

// Cost is what one decision takes beside ten thousand grants.
type Cost struct {
	Input     string  `json:"input"`
	Work      Work    `json:"work"`
	Library   Work    `json:"library"` // without any check
	Ratio     float64 `json:"ratio"`   // the larger of the two
	Undecided string  `json:"undecided,omitempty"`
}

// Work is what is counted, since time depends on the machine: expressions that are
// evaluated or tried again, and objects that are allocated. A scan shows in the
// first, a built-in that builds large values in the second.
type Work struct {
	Evaluations uint64 `json:"evaluations"`
	Allocations uint64 `json:"allocations"`
}

// times returns how many times other this work is.
func (w Work) times(other Work) float64 {
	evaluations := float64(w.Evaluations) / float64(max(other.Evaluations, 1))
	allocations := float64(w.Allocations) / float64(max(other.Allocations, 1))
	return math.Round(100*max(evaluations, allocations)) / 100
}

// Hot is an expression of a check and what its evaluations took.
type Hot struct {
	File        string `json:"file"`
	Line        int    `json:"line"`
	Text        string `json:"text"`
	Evaluations int    `json:"evaluations"`
	TimeNS      int64  `json:"timeNs"`
}

// trial is an input that is decided to see what it costs.
type trial struct {
	name  string
	input policies.Input
}

// engines are the bundle and the library alone, each over the synthetic index.
type engines struct{ bundle, library *policies.Engine }

func newEngines(ctx context.Context, b policies.Bundle, o policies.Options) (engines, error) {
	data, err := withGrants(b.Data)
	if err != nil {
		return engines{}, err
	}
	b.Data = data
	var e engines
	if e.bundle, err = policies.Compile(ctx, b, o); err != nil {
		return engines{}, err
	}
	e.library, err = policies.CompileLibrary(ctx, b, o)
	return e, err
}

// withGrants returns the data of a bundle with ten thousand more grants.
func withGrants(data map[string]any) (map[string]any, error) {
	text, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode bundle data: %w", err)
	}
	var doc struct {
		Portcullis struct {
			Config  any `json:"config"`
			Waivers any `json:"waivers"`
			Grants  struct {
				BySubject policies.GrantIndex `json:"by_subject"`
			} `json:"grants"`
		} `json:"portcullis"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("read bundle data: %w", err)
	}
	grants := make([]bundle.Grant, 0, syntheticGrants)
	for i := range syntheticGrants {
		team := fmt.Sprintf("synthetic-%d", i)
		grants = append(grants, bundle.Grant{
			ID: "synthetic-" + fmt.Sprint(i), Owner: team, Expiry: "2199-12-31", Namespaces: []string{team},
			ServiceAccounts: []string{"api"}, Provider: "local", Secrets: []string{"local://node/" + team + "/*"},
		})
	}
	index, err := bundle.IndexGrants(grants, nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(index, doc.Portcullis.Grants.BySubject)
	return map[string]any{"portcullis": map[string]any{
		"config": doc.Portcullis.Config, "waivers": doc.Portcullis.Waivers, "grants": map[string]any{"by_subject": index},
	}}, nil
}

// large is a pod of four containers that asks for ten granted secrets: more than
// most, and what the figures in docs/POLICIES.md are about.
func large(in policies.Input) policies.Input {
	in.Subject.Namespace, in.Requests = "synthetic-7", nil
	in.Subject.ServiceAccount, in.SPC.Provider = "api", "local"
	for i := range 10 {
		in.Requests = append(in.Requests, policies.Request{
			Secret: fmt.Sprintf("local://node/synthetic-7/app/db/secret-%d#password", i), File: fmt.Sprintf("secret-%d", i),
		})
	}
	for i := range 3 {
		c := in.Pod.Containers[0]
		c.Name = fmt.Sprintf("sidecar-%d", i)
		in.Pod.Containers = append(in.Pod.Containers, c)
	}
	return in
}

// measure decides every input and says which cost too much.
func (e engines) measure(ctx context.Context, trials []trial, ratio float64) ([]Cost, []Finding) {
	var costs []Cost
	var found []Finding
	for _, t := range trials[:min(len(trials), maxCases)] {
		c := Cost{Input: t.name}
		d := e.bundle.Decide(ctx, t.input)
		if c.Undecided = string(d.Undecided); d.Undecided == policies.UndecidedTimeout {
			found = append(found, Finding{
				ID: IDTimeout, Severity: Error, Message: fmt.Sprintf("beside %d grants, input %q is not decided in time", syntheticGrants, t.name),
				Hint: "portcullis policy check --profile shows which expressions are evaluated most",
			})
			costs = append(costs, c)
			continue
		}
		c.Library, c.Work = work(ctx, e.library, t.input), work(ctx, e.bundle, t.input)
		c.Ratio = c.Work.times(c.Library)
		costs = append(costs, c)
		if c.Ratio > ratio {
			found = append(found, Finding{
				ID: IDBudget, Severity: Warning,
				Message: fmt.Sprintf("beside %d grants, input %q costs %.1f times what the library alone does, more than %.1f", syntheticGrants, t.name, c.Ratio, ratio),
				Hint:    "portcullis policy check --profile shows which expressions are evaluated most",
			})
		}
	}
	slices.SortStableFunc(costs, func(a, b Cost) int { return cmp.Compare(b.Ratio, a.Ratio) })
	return costs, found
}

// work decides several times and takes the fewest allocations, since the rest of
// the process may allocate too.
func work(ctx context.Context, e *policies.Engine, in policies.Input) Work {
	var n counter
	e.WithTracer(&n).Decide(ctx, in)
	w := Work{n.evaluations, math.MaxUint64}
	for range repetitions {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		e.Decide(ctx, in)
		runtime.ReadMemStats(&after)
		w.Allocations = min(w.Allocations, after.Mallocs-before.Mallocs)
	}
	return w
}

// counter is a tracer that counts.
type counter struct{ evaluations uint64 }

// Enabled reports that there is something to count.
func (*counter) Enabled() bool { return true }

// Config asks for nothing but events.
func (*counter) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent counts expressions that are evaluated, and tried for the next value.
func (c *counter) TraceEvent(e topdown.Event) {
	if e.Op == topdown.EvalOp || e.Op == topdown.RedoOp {
		c.evaluations++
	}
}

// profile returns the dearest expressions of the checks over all inputs.
func (e engines) profile(ctx context.Context, trials []trial, n int) []Hot {
	p := profiler.New()
	traced := e.bundle.WithTracer(p)
	for _, t := range trials[:min(len(trials), maxCases)] {
		traced.Decide(ctx, t.input)
	}
	var hot []Hot
	for _, s := range p.ReportTopNResults(-1, []string{"total_time_ns"}) {
		if s.Location == nil || !strings.HasPrefix(s.Location.File, "portcullis/") || len(hot) == n {
			continue
		}
		line, _, _ := strings.Cut(string(s.Location.Text), "\n")
		hot = append(hot, Hot{s.Location.File, s.Location.Row, line, s.NumEval, s.ExprTimeNs})
	}
	return hot
}
