package daemon

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// policyMetrics are what a Policy tells of itself.
type policyMetrics struct {
	info, age, end, emergency metric.Int64ObservableGauge
	failures                  metric.Int64ObservableCounter
}

// Measure has a meter read the metrics of policy when somebody asks.
func (p *Policy) Measure(m metric.Meter) error { return MeasurePolicy(m, p.Source) }

// MeasurePolicy is Measure of a source.
func MeasurePolicy(m metric.Meter, source *bundle.Source) error {
	var p policyMetrics
	var errs [5]error
	p.info, errs[0] = m.Int64ObservableGauge("portcullis_policy_bundle_info", metric.WithDescription("1 for the policy bundle in force, by digest, serial, contract and where it came from"))
	p.age, errs[1] = m.Int64ObservableGauge("portcullis_policy_bundle_age_seconds", metric.WithDescription("How long the signed policy bundle is in force in this process"))
	p.end, errs[2] = m.Int64ObservableGauge("portcullis_policy_bundle_not_after_seconds", metric.WithDescription("When the policy bundle in force ends, in Unix time"))
	p.emergency, errs[3] = m.Int64ObservableGauge("portcullis_policy_break_glass", metric.WithDescription("Whether a break-glass bundle is in force: 1 or 0"))
	p.failures, errs[4] = m.Int64ObservableCounter("portcullis_policy_bundle_load_failures", metric.WithDescription("Attempts to load a policy bundle that failed, by reason"))
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("make metrics of policy: %w", err)
		}
	}
	_, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		p.observe(o, source.Status())
		return nil
	}, p.info, p.age, p.end, p.emergency, p.failures)
	if err != nil {
		return fmt.Errorf("make metrics of policy: %w", err)
	}
	return nil
}

func (p policyMetrics) observe(o metric.Observer, st bundle.Status) {
	emergency := int64(0)
	if st.BreakGlass {
		emergency = 1
	}
	o.ObserveInt64(p.emergency, emergency)
	for _, r := range bundle.Reasons() {
		o.ObserveInt64(p.failures, st.Failures[r], metric.WithAttributes(attribute.String("reason", string(r))))
	}
	if st.Digest == "" {
		return
	}
	o.ObserveInt64(p.info, 1, metric.WithAttributes(
		attribute.String("digest", st.Digest), attribute.Int64("serial", st.Manifest.Serial),
		attribute.String("contract", policies.Contract), attribute.String("origin", string(st.Origin)),
	))
	if !st.Since.IsZero() {
		o.ObserveInt64(p.age, int64(time.Since(st.Since).Seconds()))
	}
	if end := st.Manifest.NotAfter; !end.IsZero() {
		o.ObserveInt64(p.end, end.Unix())
	}
}
