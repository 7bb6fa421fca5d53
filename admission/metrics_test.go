package admission_test

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/admission"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/test/metricdocs"
)

var update = flag.Bool("update", false, "rewrite the table of metrics in docs/OPERATIONS.md")

// counted returns a fixture, and what it counted, as "name{labels} count".
func counted(t *testing.T) (*fixture, func() []string) {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter(admission.MeterScope)
	return newFixture(t, func(c *admission.Config) { c.Meter = meter }), func() []string {
		var all metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, m := range all.ScopeMetrics[0].Metrics {
			name := strings.TrimPrefix(m.Name, "portcullis_admission_")
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					lines = append(lines, fmt.Sprintf("%s{%s} %d", name, p.Attributes.Encoded(attribute.DefaultEncoder()), p.Value))
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					lines = append(lines, fmt.Sprintf("%s{%s} %d", name, p.Attributes.Encoded(attribute.DefaultEncoder()), p.Count))
				}
			default:
				t.Fatalf("%s is a %T", m.Name, m.Data)
			}
		}
		slices.Sort(lines)
		return lines
	}
}

// Every way in which a review ends is counted once, under labels that no request
// can choose.
func TestReviewsAreCounted(t *testing.T) {
	f, lines := counted(t)
	f.post(t, "/pods", request(t, pod(), nil))
	f.post(t, "/pods", request(t, pod(), nil)) // asked twice, counted twice
	f.post(t, "/pods", request(t, pod(), nil, dryRun))
	f.post(t, "/pods", request(t, pod(func(p *corev1.Pod) { p.Spec.Volumes = nil }), nil))
	f.post(t, "/pods", request(t, pod(func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.ReadOnly = nil }), nil))
	f.post(t, "/pods", request(t, pod(addDebug), pod(), func(r *admissionv1.AdmissionRequest) { r.SubResource = "ephemeralcontainers" }))
	f.post(t, "/pods", request(t, pod(), nil, func(r *admissionv1.AdmissionRequest) { r.Resource.Resource = "chosen" }))
	f.post(t, "/classes", request(t, class("db"), nil))
	f.post(t, "/classes", request(t, class("db", parameters(map[string]string{"password": canary})), nil, dryRun))
	for _, o := range workloads() {
		f.post(t, "/templates", request(t, o, nil))
	}
	f.policy.engine = policiestest.Engine(t, "")
	f.post(t, "/pods", request(t, pod(), nil))
	f.objects.class = nil
	f.post(t, "/pods", request(t, pod(), nil))
	f.objects.err = errors.New("no answer")
	f.post(t, "/pods", request(t, pod(), nil))
	want := []string{
		"review_duration_seconds{resource=secretproviderclasses} 2",
		"review_duration_seconds{resource=other} 1",
		"review_duration_seconds{resource=pods/ephemeralcontainers} 1",
		"review_duration_seconds{resource=pods} 8",
		"reviews{dry_run=false,resource=secretproviderclasses,verdict=allow} 1",
		"reviews{dry_run=false,resource=other,verdict=invalid} 1",
		"reviews{dry_run=false,resource=pods,verdict=allow} 2",
		"reviews{dry_run=false,resource=pods,verdict=deferred} 1",
		"reviews{dry_run=false,resource=pods,verdict=deny} 1",
		"reviews{dry_run=false,resource=pods,verdict=error} 1",
		"reviews{dry_run=false,resource=pods,verdict=invalid} 1",
		"reviews{dry_run=false,resource=pods,verdict=none} 1",
		"reviews{dry_run=false,resource=pods/ephemeralcontainers,verdict=allow} 1",
		"reviews{dry_run=true,resource=secretproviderclasses,verdict=deny} 1",
		"reviews{dry_run=true,resource=pods,verdict=allow} 1",
	}
	for _, resource := range []string{"cronjobs", "daemonsets", "deployments", "jobs", "replicasets", "replicationcontrollers", "statefulsets"} {
		want = append(want, "review_duration_seconds{resource="+resource+"} 1", "reviews{dry_run=false,resource="+resource+",verdict=allow} 1")
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, lines()); diff != "" {
		t.Errorf("metrics differ (-want +got):\n%s", diff)
	}
}

// A bug is counted as an error of its resource, and never as a denial.
func TestPanicsAreCounted(t *testing.T) {
	f, lines := counted(t)
	f.objects.class = nil
	f.objects.panics = true
	f.post(t, "/pods", request(t, pod(), nil))
	f.post(t, "/templates", request(t, workloads()["Job"], nil))
	want := []string{
		"review_duration_seconds{resource=jobs} 1", "review_duration_seconds{resource=pods} 1",
		"reviews{dry_run=false,resource=jobs,verdict=error} 1", "reviews{dry_run=false,resource=pods,verdict=error} 1",
	}
	if diff := cmp.Diff(want, lines()); diff != "" {
		t.Errorf("metrics differ (-want +got):\n%s", diff)
	}
}

func TestOperationsDocumentsEveryMetric(t *testing.T) {
	m := metricdocs.New()
	newFixture(t, func(c *admission.Config) { c.Meter = m })
	m.Check(t, "portcullis-webhook", 2, *update)
}
