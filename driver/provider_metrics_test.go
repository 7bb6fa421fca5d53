package driver_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/provider"
)

// TestProviderMetrics: a provider that vanished is in no metric, or it would
// alarm for ever.
func TestProviderMetrics(t *testing.T) {
	statuses := map[string]provider.Status{
		"vault": {Up: true, Success: time.Unix(1700000000, 0)},
		"aws":   {Success: time.Unix(1600000000, 0)},
		"odd":   {},
	}
	reader := metric.NewManualReader()
	meter := metric.NewMeterProvider(metric.WithReader(reader)).Meter(driver.MeterScope)
	driver.NewProviderMetrics(t, meter, func() map[string]provider.Status { return statuses })
	collect := func() map[string]map[string]int64 {
		t.Helper()
		var rm metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &rm); err != nil {
			t.Fatal(err)
		}
		out := map[string]map[string]int64{}
		for _, m := range rm.ScopeMetrics[0].Metrics {
			data, ok := m.Data.(metricdata.Gauge[int64])
			if !ok {
				continue
			}
			for _, p := range data.DataPoints {
				name, labelled := p.Attributes.Value("provider")
				if !labelled {
					continue
				}
				if out[m.Name] == nil {
					out[m.Name] = map[string]int64{}
				}
				out[m.Name][name.AsString()] = p.Value
			}
		}
		return out
	}
	want := map[string]map[string]int64{
		"portcullis_provider_up":                             {"vault": 1, "aws": 0, "odd": 0},
		"portcullis_provider_last_success_timestamp_seconds": {"vault": 1700000000, "aws": 1600000000},
	}
	if diff := cmp.Diff(want, collect()); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	delete(statuses, "aws")
	delete(statuses, "odd")
	want = map[string]map[string]int64{
		"portcullis_provider_up":                             {"vault": 1},
		"portcullis_provider_last_success_timestamp_seconds": {"vault": 1700000000},
	}
	if diff := cmp.Diff(want, collect()); diff != "" {
		t.Errorf("metrics once two have vanished (-want +got):\n%s", diff)
	}
}
