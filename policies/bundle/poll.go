package bundle

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// attemptTimeout bounds one attempt: it holds up the next one and nothing else.
	attemptTimeout = 2 * time.Minute
	// startTimeout is how long a start waits for the source before it goes on with
	// what the store has.
	startTimeout = 5 * time.Second
	// longestPause bounds the pause after failures, unless the interval is longer.
	longestPause = 5 * time.Minute
)

// Trigger asks Run for an attempt now, on SIGHUP for example. It does not wait.
func (s *Source) Trigger() {
	select {
	case s.trigger <- struct{}{}:
	default:
	}
}

// forget has the next attempt fetch what was refused: somebody asks for it.
func (s *Source) forget() {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if s.keeper != nil {
		s.keeper.refused = nil
	}
}

// Start makes the first attempt. A source that does not answer soon is left to Run:
// a node must mount after a reboot while the registry is down.
func (s *Source) Start(ctx context.Context) error {
	if s.keeper == nil {
		return s.Reload(ctx)
	}
	err := s.look(ctx, startTimeout)
	if ReasonOf(err) == ReasonUnreadable {
		s.Trigger() // with more time
	}
	return err
}

// Run attempts a reload about every interval and at each Trigger, until ctx ends or
// the Source is closed.
// Failures are reported, not returned: the engine in force stays. While the source
// does not answer the pauses grow, and at random they differ by a fifth, so that the
// nodes of a cluster do not come to a registry at once. A bundle that is refused makes
// no pause longer: who can have one named must not hold up the next, which may revoke.
func (s *Source) Run(ctx context.Context, interval time.Duration) error {
	if interval <= 0 {
		return errors.New("run policy source: interval must be positive")
	}
	failures := 0
	for {
		timer := time.NewTimer(pause(interval, failures))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.life.closed:
			timer.Stop()
			return nil
		case <-timer.C:
		case <-s.trigger:
			timer.Stop()
			s.forget()
		}
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		// The report is where failures go; the engine in force stays.
		switch ReasonOf(s.Reload(attempt)) {
		case ReasonUnreadable, ReasonFloor: // somebody else did not answer
			failures++
		default:
			failures = 0
		}
		cancel()
	}
}

// pause is the interval, doubled with each failure after the first, give or take a
// fifth.
func pause(interval time.Duration, failures int) time.Duration {
	most := max(interval, longestPause)
	d := interval
	for i := 1; i < failures && d < most; i++ {
		d *= 2
	}
	d = min(d, most)
	return d - d/5 + rand.N(d/5*2+1) //nolint:gosec // G404: it spreads load and guards nothing
}
