package driver_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// collect returns every counter and gauge as name{labels} and value.
func (n *node) collect() map[string]int64 {
	n.t.Helper()
	var rm metricdata.ResourceMetrics
	if err := n.metrics.Collect(context.Background(), &rm); err != nil {
		n.t.Fatal(err)
	}
	out := map[string]int64{}
	for _, scope := range rm.ScopeMetrics {
		if scope.Scope.Name != driver.MeterScope {
			n.t.Errorf("scope = %q, want upstream's %q", scope.Scope.Name, driver.MeterScope)
		}
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					out[m.Name+"{"+p.Attributes.Encoded(attribute.DefaultEncoder())+"}"] = p.Value
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					out[m.Name] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints { // one, since it has no label but the platform
					out[m.Name+"_count"] = int64(p.Count)
				}
			}
		}
	}
	return out
}

func (n *node) gauge(name string) int64 {
	n.t.Helper()
	return n.collect()[name]
}

func TestP11MetricsKeepUpstreamsNamesAndLabels(t *testing.T) {
	n := newNode(t, func(s *setup) {
		s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), providertest.Files(map[string]string{"password": "new", "user": "app"}), providertest.Fail(14, "down"))
	})
	n.mustPublish(apiPod())
	n.mustPublish(apiPod()) // not due
	n.clock.advance(2 * refreshInterval)
	n.mustPublish(apiPod()) // rotates
	denied := apiPod()
	denied.name, denied.uid, denied.attributes = "api-1", "22222222-2222-4222-8222-222222222222", map[string]string{"secretProviderClass": "nowhere"}
	n.add(denied)
	if err := n.publish(denied); err == nil {
		t.Error("publish of a class that is not there = nil, want an error")
	}
	n.mustUnpublish(apiPod())
	got := n.collect()
	for name := range got {
		if len(name) > 11 && name[:11] == "portcullis_" {
			delete(got, name)
		}
	}
	want := map[string]int64{
		"node_publish{os_type=linux,provider=local}":                                         1,
		"node_publish_error{error_type=SecretProviderClassNotFound,os_type=linux,provider=}": 1,
		"node_unpublish{os_type=linux}":                                                      1,
		"rotation_reconcile{os_type=linux,provider=local,rotated=true}":                      1,
		"rotation_reconcile_duration_sec_count":                                              1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
