package shadow

import (
	"context"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// The bounds that tests fill.
const (
	QueueDecisions = queueDecisions
	QueueBytes     = queueBytes
	MaxGroups      = maxGroups
	MaxGroupBytes  = maxGroupBytes
	MaxNamespaces  = maxNamespaces
	MaxRules       = maxRules
	MaxVolumes     = maxVolumes
	SharePart      = sharePart
)

// DecideBy replaces how the candidate is asked.
func (s *Shadow) DecideBy(f func(context.Context, *policies.Engine, policies.Input) policies.Decision) {
	s.decide = f
}

// Hurry takes the pauses away.
func (s *Shadow) Hurry() { s.rest = func(context.Context, time.Duration) {} }

// SizeOf is what a decision counts in the queue.
func SizeOf(d policies.Decision) int { return sizeOf(d) }

// Queued is how many decisions wait.
func (s *Shadow) Queued() int { return s.queue.length() }

// Drain compares all that waits, in the caller's goroutine.
func (s *Shadow) Drain(ctx context.Context) {
	for s.queue.length() > 0 {
		d, ok := s.queue.pop()
		if !ok {
			return
		}
		s.compare(ctx, d)
	}
}

// Pace makes the pauses again.
func (s *Shadow) Pace() { s.rest = restAfter }

// Drop takes one decision without comparing it.
func (s *Shadow) Drop() { _, _ = s.queue.pop() }
