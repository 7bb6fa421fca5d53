package shadow

import (
	"context"
	"fmt"
	"maps"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Labels that are no rule.
const (
	noRule    = "none"
	otherRule = "other"
)

// totals are the counters of the process, over all periods.
type totals struct {
	results    map[string]int64
	divergence map[divergence]int64
	rules      map[string]bool // that divergence has labels of
}

type divergence struct{ from, to, rule string }

func newTotals() totals {
	return totals{results: map[string]int64{}, divergence: map[divergence]int64{}, rules: map[string]bool{}}
}

func (t *totals) add(o outcome) {
	t.results[o.result()]++
	if !o.flips() {
		return
	}
	rules := o.rules()
	if len(rules) == 0 {
		rules = []string{noRule}
	}
	for _, rule := range rules {
		t.divergence[divergence{string(o.change.From), string(o.change.To), t.label(rule)}]++
	}
}

// label bounds the different labels: ids are written by authors of bundles.
func (t *totals) label(rule string) string {
	if !t.rules[rule] && len(t.rules) >= maxRules {
		return otherRule
	}
	t.rules[rule] = true
	return rule
}

// Register makes the metrics of a Shadow.
func (s *Shadow) Register(m metric.Meter) error {
	if s == nil {
		return nil
	}
	counters := []struct {
		name, description string
		observe           func(metric.Int64Observer)
	}{
		{"portcullis_policy_shadow_evaluations", "Decisions that were compared with those of the candidate bundle, by result: same, change, flip or panic", s.observeResults},
		{"portcullis_policy_shadow_divergence", "Decisions whose effect the candidate bundle changes, by both effects and once for each rule that makes the difference", s.observeDivergence},
		{"portcullis_policy_shadow_dropped", "Decisions that were not compared, by reason: full, share or superseded", s.observeDropped},
	}
	for _, c := range counters {
		_, err := m.Int64ObservableCounter(c.name, metric.WithDescription(c.description), metric.WithInt64Callback(
			func(_ context.Context, o metric.Int64Observer) error { c.observe(o); return nil }))
		if err != nil {
			return fmt.Errorf("make metrics of the policy shadow: %w", err)
		}
	}
	gauges := []struct {
		name, description string
		read              func() int64
	}{
		{"portcullis_policy_shadow_serial", "Serial of the candidate bundle, 0 where none is loaded", func() int64 { return s.c.Candidate().Manifest().Serial }},
		{"portcullis_policy_shadow_volumes_missing", "Mounted volumes that the candidate bundle was not asked about yet", s.missing},
	}
	for _, g := range gauges {
		_, err := m.Int64ObservableGauge(g.name, metric.WithDescription(g.description), metric.WithInt64Callback(
			func(_ context.Context, o metric.Int64Observer) error { o.Observe(g.read()); return nil }))
		if err != nil {
			return fmt.Errorf("make metrics of the policy shadow: %w", err)
		}
	}
	return nil
}

func (s *Shadow) missing() int64 {
	both, p := s.now()
	if both.candidate == nil || both.idle() {
		return 0
	}
	if l := s.live(p); l != nil {
		return l.Volumes - l.Compared
	}
	return 0
}

func (s *Shadow) observeResults(o metric.Int64Observer) {
	s.mu.Lock()
	results := maps.Clone(s.totals.results)
	s.mu.Unlock()
	for _, result := range []string{"same", "change", "flip", resultPanic} {
		o.Observe(results[result], metric.WithAttributes(attribute.String("result", result)))
	}
}

func (s *Shadow) observeDivergence(o metric.Int64Observer) {
	s.mu.Lock()
	all := maps.Clone(s.totals.divergence)
	s.mu.Unlock()
	for d, n := range all {
		o.Observe(n, metric.WithAttributes(attribute.String("from", d.from), attribute.String("to", d.to), attribute.String("rule", d.rule)))
	}
}

func (s *Shadow) observeDropped(o metric.Int64Observer) {
	d := s.queue.dropped()
	for reason, n := range map[string]int64{"full": d.Full, "share": d.Share, "superseded": d.Superseded} {
		o.Observe(n, metric.WithAttributes(attribute.String("reason", reason)))
	}
}
