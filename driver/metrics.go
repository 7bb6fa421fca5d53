package driver

import (
	"context"
	"fmt"
	"math"
	"runtime"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/portcullis-csi/portcullis/driver/provider"
)

// MeterScope is the instrumentation scope of the upstream driver: dashboards
// select by it (otel_scope_name).
const MeterScope = "sigs.k8s.io/secrets-store-csi-driver"

// metrics holds upstream's instruments under upstream's names and labels
// (promise P11), and after them our own.
type metrics struct {
	publish, publishErrors     metric.Int64Counter
	unpublish, unpublishErrors metric.Int64Counter
	rotations, rotationErrors  metric.Int64Counter
	rotationSeconds            metric.Float64Histogram

	publishSkipped metric.Int64Counter
	decisions      metric.Int64Counter
	clamped        metric.Int64Counter
	revocations    metric.Int64Counter

	reauthorisations metric.Int64Counter
}

// gauges are read when somebody asks.
type gauges struct {
	inUse, legacy, held, orphans, pending, dropped, undecided func() int64
	providers                                                 func() map[string]provider.Status
}

func newMetrics(m metric.Meter, read gauges) (*metrics, error) {
	b := meterBuilder{m: m}
	out := &metrics{
		publish:         b.counter("node_publish", "Total number of node publish calls"),
		publishErrors:   b.counter("node_publish_error", "Total number of node publish calls with error"),
		unpublish:       b.counter("node_unpublish", "Total number of node unpublish calls"),
		unpublishErrors: b.counter("node_unpublish_error", "Total number of node unpublish calls with error"),
		rotations:       b.counter("rotation_reconcile", "Total number of rotation reconciles"),
		rotationErrors:  b.counter("rotation_reconcile_error", "Total number of rotation reconciles with error"),
		rotationSeconds: b.histogram("rotation_reconcile_duration_sec", "Distribution of how long it took to rotate secrets-store content for pods"),
		// Upstream counts a republish that is not due as a success, which
		// dilutes the success rate to about 100 %; ours have their own name.
		publishSkipped: b.counter("portcullis_republish_skipped", "Republish calls that were not due"),
		decisions:      b.counter("portcullis_policy_decisions", "Policy decisions by phase and verdict"),
		clamped:        b.counter("portcullis_file_mode_clamped", "Files whose provider asked for a mode beyond the ceiling"),
		revocations:    b.counter("portcullis_revocations", "Mounted volumes to be revoked: emptied, failed, or held back by the brake"),

		reauthorisations: b.counter("portcullis_reauthorisations", "Mounted volumes that were decided on again without kubelet, by cause (policy, pod, denial, or brake: to know how many are denied) and outcome (allow, deny, error, or left to kubelet's next call)"),
	}
	b.gauge("portcullis_volume_budget_used_bytes", "Bytes of tmpfs that volumes on this node may fill", read.inUse)
	b.gauge("portcullis_legacy_volumes", "Volumes of the upstream driver that still wait for their pod to restart", read.legacy)
	b.gauge("portcullis_orphaned_volumes", "Mounted volumes whose pod neither kubelet nor the API server knows", read.orphans)
	b.gauge("portcullis_revocations_held", "Denied volumes whose revocation the brake holds back", read.held)
	b.gauge("portcullis_reauthorisations_pending", "Mounted volumes that are to be decided on again without kubelet: another bundle is in force, the pod has changed, a denial is to be confirmed, or it is to be known how many are denied", read.undecided)
	b.providerGauge("portcullis_provider_up", "Whether a provider answered the last --provider-health-check: 1 or 0, by provider", read.providers, providerUp)
	b.providerGauge("portcullis_provider_last_success_timestamp_seconds", "When a provider last answered a --provider-health-check, in Unix time, by provider", read.providers, providerSuccess)
	b.gauge("portcullis_status_pending", "SecretProviderClassPodStatus objects that the API server does not have yet as they should be", read.pending)
	b.observed("portcullis_pod_events_dropped", "Events for pods that nobody will read, since the API server did not take them", read.dropped)
	if b.err != nil {
		return nil, fmt.Errorf("make metrics: %w", b.err)
	}
	return out, nil
}

type meterBuilder struct {
	m   metric.Meter
	err error
}

func (b *meterBuilder) keep(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *meterBuilder) counter(name, description string) metric.Int64Counter {
	c, err := b.m.Int64Counter(name, metric.WithDescription(description))
	b.keep(err)
	return c
}

func (b *meterBuilder) histogram(name, description string) metric.Float64Histogram {
	h, err := b.m.Float64Histogram(name, metric.WithDescription(description),
		metric.WithExplicitBucketBoundaries(secondsBoundaries()...))
	b.keep(err)
	return h
}

// secondsBoundaries returns upstream's eleven boundaries from 0.1 to 2 s, and
// before them some that tell a node's cache from a call to a vault.
func secondsBoundaries() []float64 {
	bounds := []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05}
	const first, last, count = 0.1, 2.0, 11
	for i := range count {
		bounds = append(bounds, first*math.Pow(last/first, float64(i)/(count-1)))
	}
	return bounds
}

func (b *meterBuilder) gauge(name, description string, read func() int64) {
	_, err := b.m.Int64ObservableGauge(name, metric.WithDescription(description),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(read())
			return nil
		}))
	b.keep(err)
}

// providerGauge has one value for each provider that has a socket file, and none
// for those that have vanished.
func (b *meterBuilder) providerGauge(name, description string, read func() map[string]provider.Status, value func(provider.Status) (int64, bool)) {
	_, err := b.m.Int64ObservableGauge(name, metric.WithDescription(description),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			for name, status := range read() {
				if v, ok := value(status); ok {
					o.Observe(v, with("provider", name))
				}
			}
			return nil
		}))
	b.keep(err)
}

// observed is a counter that somebody else keeps.
func (b *meterBuilder) observed(name, description string, read func() int64) {
	_, err := b.m.Int64ObservableCounter(name, metric.WithDescription(description),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(read())
			return nil
		}))
	b.keep(err)
}

func providerUp(s provider.Status) (value int64, known bool) {
	if s.Up {
		return 1, true
	}
	return 0, true
}

func providerSuccess(s provider.Status) (value int64, known bool) {
	return s.Success.Unix(), !s.Success.IsZero()
}

func (m *metrics) published(ctx context.Context, provider, errorType string) {
	if errorType == "" {
		m.publish.Add(ctx, 1, with("provider", provider))
		return
	}
	m.publishErrors.Add(ctx, 1, with("provider", provider, "error_type", errorType))
}

func (m *metrics) unpublished(ctx context.Context, err error) {
	if err == nil {
		m.unpublish.Add(ctx, 1, with())
		return
	}
	m.unpublishErrors.Add(ctx, 1, with())
}

func (m *metrics) rotated(ctx context.Context, provider, errorType string, seconds float64) {
	if errorType != "" {
		m.rotationErrors.Add(ctx, 1, with("provider", provider, "error_type", errorType, "rotated", "true"))
		return
	}
	m.rotations.Add(ctx, 1, with("provider", provider, "rotated", "true"))
	m.rotationSeconds.Record(ctx, seconds, with())
}

// with returns the labels, given as name and value in turn, beside upstream's
// os_type.
func with(pairs ...string) metric.MeasurementOption {
	attrs := []attribute.KeyValue{attribute.String("os_type", runtime.GOOS)}
	for i := 0; i+1 < len(pairs); i += 2 {
		attrs = append(attrs, attribute.String(pairs[i], pairs[i+1]))
	}
	return metric.WithAttributes(attrs...)
}
