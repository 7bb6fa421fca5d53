package admission

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// verdict is how a review ended.
type verdict string

// The verdicts, in rising order of weight: of the volumes of a pod the heaviest
// is the pod's.
const (
	verdictNone     verdict = "none" // nothing to decide: no volume of ours, or an update of nothing that a decision reads
	verdictAllow    verdict = "allow"
	verdictDeferred verdict = "deferred" // let through undecided: the mount decides
	verdictError    verdict = "error"    // refused for want of a decision
	verdictInvalid  verdict = "invalid"  // refused before policy was asked
	verdictDeny     verdict = "deny"     // refused by policy
)

func (v verdict) weight() int {
	for i, known := range []verdict{verdictNone, verdictAllow, verdictDeferred, verdictError, verdictInvalid, verdictDeny} {
		if v == known {
			return i
		}
	}
	return 0
}

type metrics struct {
	reviews metric.Int64Counter
	seconds metric.Float64Histogram
}

func newMetrics(m metric.Meter) (*metrics, error) {
	reviews, err := m.Int64Counter("portcullis_admission_reviews",
		metric.WithDescription("Reviews by resource, by verdict (allow, deny, invalid, error, deferred or none), and by whether they were dry runs"))
	seconds, err2 := m.Float64Histogram("portcullis_admission_review_duration_seconds",
		metric.WithDescription("How long reviews took, by resource"),
		metric.WithExplicitBucketBoundaries(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5))
	if err := errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	return &metrics{reviews: reviews, seconds: seconds}, nil
}

func (m *metrics) reviewed(ctx context.Context, a answer, dryRun bool, took time.Duration) {
	resource := attribute.String("resource", a.resource)
	m.reviews.Add(ctx, 1, metric.WithAttributes(resource,
		attribute.String("verdict", string(a.verdict)), attribute.Bool("dry_run", dryRun)))
	m.seconds.Record(ctx, took.Seconds(), metric.WithAttributes(resource))
}
