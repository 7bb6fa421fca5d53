package shadow_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/shadow"
)

// metricsOf reads what a Shadow counts, as "name{labels} value".
func metricsOf(t *testing.T, s *shadow.Shadow) func() []string {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	if err := s.Register(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")); err != nil {
		t.Fatalf("Register() = %v, want no error", err)
	}
	return func() []string {
		var all metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, m := range all.ScopeMetrics[0].Metrics {
			for _, p := range points(t, m) {
				lines = append(lines, fmt.Sprintf("%s{%s} %d", strings.TrimPrefix(m.Name, "portcullis_policy_shadow_"), labels(p.Attributes), p.Value))
			}
		}
		slices.Sort(lines)
		return lines
	}
}

func points(t *testing.T, m metricdata.Metrics) []metricdata.DataPoint[int64] {
	t.Helper()
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		return data.DataPoints
	case metricdata.Gauge[int64]:
		return data.DataPoints
	default:
		t.Fatalf("%s is a %T", m.Name, m.Data)
		return nil
	}
}

func labels(set attribute.Set) string {
	var all []string
	for _, kv := range set.ToSlice() {
		all = append(all, string(kv.Key)+"="+kv.Value.AsString())
	}
	return strings.Join(all, ",")
}

func TestMetricsCountWhatTheReportTells(t *testing.T) {
	g := newGate(t, load(t, policiestest.Grants, serial("1")), load(t, policiestest.Grants+shopGrant, serial("9"), hostCheck()))
	g.live = [][2]string{{"u-1", "secrets"}, {"u-2", "secrets"}}
	read := metricsOf(t, g.Shadow)
	none := []string{
		"dropped{reason=full} 0", "dropped{reason=share} 0", "dropped{reason=superseded} 0",
		"evaluations{result=change} 0", "evaluations{result=flip} 0", "evaluations{result=panic} 0", "evaluations{result=same} 0",
		"serial{} 9", "volumes_missing{} 2",
	}
	if diff := cmp.Diff(none, read()); diff != "" {
		t.Errorf("metrics of the beginning differ (-want +got):\n%s", diff)
	}
	g.decide(t, pod("u-1", "a"), hostPID)
	g.decide(t, asksShop)
	g.decide(t)
	g.decide(t, asksShop, hostPID)
	g.Drain(t.Context())
	want := []string{
		"divergence{from=allow,rule=PR-300,to=deny} 1", "divergence{from=deny,rule=PR-001,to=allow} 1",
		"dropped{reason=full} 0", "dropped{reason=share} 0", "dropped{reason=superseded} 0",
		"evaluations{result=change} 1", "evaluations{result=flip} 2", "evaluations{result=panic} 0", "evaluations{result=same} 1",
		"serial{} 9", "volumes_missing{} 1",
	}
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Errorf("metrics differ (-want +got):\n%s", diff)
	}
	// A candidate that is in force, or gone, misses nothing.
	g.candidate.Store(nil)
	if got := read(); !slices.Contains(got, "serial{} 0") || !slices.Contains(got, "volumes_missing{} 0") {
		t.Errorf("metrics without a candidate are %v, want serial 0 and nothing missing", got)
	}
}

// Authors of bundles choose the ids of rules: their number is bounded, and no
// divergence is lost for that.
func TestLabelsAreBounded(t *testing.T) {
	g := newGate(t, load(t, policiestest.Grants, serial("1")), load(t, "", serial("2")))
	denied := policiestest.Deny(t)
	n := 0
	g.DecideBy(func(context.Context, *policies.Engine, policies.Input) policies.Decision {
		d := denied
		d.Deny = []policies.Finding{{ID: fmt.Sprintf("PR-%03d", 300+n)}}
		n++
		return d
	})
	read := metricsOf(t, g.Shadow)
	for range 200 {
		g.flip(t)
	}
	series, beyond := 0, ""
	for _, line := range read() {
		if strings.HasPrefix(line, "divergence{") {
			series++
			if strings.Contains(line, "rule=other,") {
				beyond = line
			}
		}
	}
	if series != shadow.MaxRules+1 || beyond != fmt.Sprintf("divergence{from=allow,rule=other,to=deny} %d", 200-shadow.MaxRules) {
		t.Errorf("%d series, the last %q; want %d and the rest in the last", series, beyond, shadow.MaxRules+1)
	}
	if r := g.Report(); len(r.Rules) != shadow.MaxRules+1 || r.Total() != 200 {
		t.Errorf("%d rules of %d flips are listed, want %d of 200", len(r.Rules), r.Total(), shadow.MaxRules+1)
	}
}

// A flip that no rule makes has a label of its own.
func TestAFlipWithoutARuleIsCounted(t *testing.T) {
	g := newGate(t, load(t, policiestest.Grants, serial("1")), load(t, "", serial("2")))
	g.DecideBy(nothing)
	read := metricsOf(t, g.Shadow)
	g.flip(t)
	if want := "divergence{from=allow,rule=none,to=error} 1"; !slices.Contains(read(), want) {
		t.Errorf("metrics are %v, want %s among them", read(), want)
	}
}
