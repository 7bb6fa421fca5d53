package shadow

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/diff"
)

// restFactor times the time of an evaluation passes before the next: the candidate
// has a fifth of one core at most.
const restFactor = 4

// knownBundles is of how many bundles the owners are remembered: those of both
// sides, and of their predecessors, since decisions by these may still be queued.
const knownBundles = 4

// panicked is why there is no verdict of a candidate whose evaluation panicked.
const panicked = "EvaluationPanicked"

// Config of a Shadow. What may be absent says so.
type Config struct {
	// Active returns the engine in force, and Candidate that which is only asked;
	// nil where there is none. They must not wait for anything.
	Active, Candidate func() *policies.Engine
	// Failure returns why the candidate was not loaded last time. May be absent.
	Failure func() error
	// Live returns the volumes that there are now, by the UID of their pod and
	// their name. Absent where nobody knows.
	Live   func() iter.Seq2[string, string]
	Logger *slog.Logger
	Clock  func() time.Time // absent: time.Now
}

// Shadow compares decisions with those of a candidate. The nil Shadow compares
// nothing.
type Shadow struct {
	c     Config
	queue *queue
	// decide asks an engine; tests have it take long, or panic.
	decide func(context.Context, *policies.Engine, policies.Input) policies.Decision
	rest   func(ctx context.Context, spent time.Duration)

	mu       sync.Mutex
	owners   []bundleOwners // the latest last
	current  *period
	previous *period // what is under way when a bundle changes is still added to it
	totals   totals
}

type bundleOwners struct {
	digest string
	owners policies.Owners
}

// New returns a Shadow that has compared nothing.
func New(c Config) (*Shadow, error) {
	switch {
	case c.Active == nil:
		return nil, errors.New("make policy shadow: Active is missing")
	case c.Candidate == nil:
		return nil, errors.New("make policy shadow: Candidate is missing")
	case c.Logger == nil:
		return nil, errors.New("make policy shadow: Logger is missing")
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Failure == nil {
		c.Failure = func() error { return nil }
	}
	s := &Shadow{c: c, queue: newQueue(), decide: askEngine, rest: restAfter, totals: newTotals()}
	s.current = newPeriod(sides{}, c.Clock())
	return s, nil
}

func askEngine(ctx context.Context, e *policies.Engine, in policies.Input) policies.Decision {
	return e.Decide(ctx, in)
}

func restAfter(ctx context.Context, spent time.Duration) {
	t := time.NewTimer(restFactor * spent)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Loaded tells of a bundle, of either side, that is there now: its period begins, and
// who owns its grants is remembered. Without it differences have no owners, and a
// period begins with the first look at it.
func (s *Shadow) Loaded(b policies.Bundle) {
	if s == nil || b.Digest == "" {
		return
	}
	s.remember(bundleOwners{b.Digest, b.Owners()})
	s.now()
}

func (s *Shadow) remember(b bundleOwners) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := []bundleOwners{}
	for _, known := range s.owners {
		if known.digest != b.digest {
			kept = append(kept, known)
		}
	}
	kept = append(kept, b)
	s.owners = kept[max(0, len(kept)-knownBundles):]
}

// ownersOf is called with the lock held.
func (s *Shadow) ownersOf(digest string) policies.Owners {
	for _, known := range s.owners {
		if known.digest == digest {
			return known.owners
		}
	}
	return nil
}

// Observe takes a decision to compare. It never blocks: what there is no room for
// is counted.
func (s *Shadow) Observe(d policies.Decision) {
	if s == nil {
		return
	}
	candidate := s.c.Candidate()
	if candidate == nil || candidate.Digest() == d.BundleDigest {
		return
	}
	s.queue.put(d)
}

// Run compares what was observed until ctx ends. One goroutine may run it.
func (s *Shadow) Run(ctx context.Context) {
	for {
		d, ok := s.queue.take(ctx)
		if !ok {
			return
		}
		begin := time.Now()
		s.compareSafely(ctx, d)
		s.rest(ctx, time.Since(begin))
	}
}

// compareSafely keeps a panic of the comparison from ending the process: what it
// compares is of whoever writes pods, and of two bundles.
func (s *Shadow) compareSafely(ctx context.Context, before policies.Decision) {
	defer func() {
		if r := recover(); r != nil {
			s.c.Logger.Error("comparison with the candidate policy panicked", slog.String(keyStack, string(debug.Stack())))
			s.mu.Lock()
			defer s.mu.Unlock()
			s.totals.results[resultPanic]++
		}
	}()
	s.compare(ctx, before)
}

func (s *Shadow) compare(ctx context.Context, before policies.Decision) {
	both, p := s.now()
	switch {
	case both.candidate == nil || both.idle():
		return // it was taken back, or is in force now
	case before.BundleDigest != both.active.Digest():
		s.queue.superseded.Add(1) // of a period that is over
		return
	}
	after, failed := s.ask(ctx, both.candidate, before.Input())
	if ctx.Err() != nil {
		return // the process ends: that is no outcome of the candidate's
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	change := diff.Compare(diff.Case{Input: before.Input(), Example: before.ID},
		diff.Answer{Decision: before, Owners: s.ownersOf(before.BundleDigest)},
		diff.Answer{Decision: after, Owners: s.ownersOf(both.candidate.Digest())})
	if change != nil && failed {
		change.Undecided = panicked
	}
	seen := outcome{before: before, after: after, change: change, failed: failed}
	p.add(seen, s.c.Clock())
	s.totals.add(seen)
}

// ask keeps a panic of the candidate from ending the process, with it the gate of
// the node.
func (s *Shadow) ask(ctx context.Context, e *policies.Engine, in policies.Input) (d policies.Decision, failed bool) {
	defer func() {
		if r := recover(); r != nil {
			s.c.Logger.Error("candidate policy panicked", slog.String(keyDigest, e.Digest()), slog.String(keyStack, string(debug.Stack())))
			d, failed = policies.Decision{}, true
		}
	}()
	return s.decide(ctx, e, in), false
}

// sides are the engines of a period.
type sides struct{ active, candidate *policies.Engine }

func (s *Shadow) sides() sides { return sides{s.c.Active(), s.c.Candidate()} }

// idle reports whether there is nothing to compare with: both are one bundle.
func (a sides) idle() bool { return a.candidate != nil && a.candidate.Digest() == a.active.Digest() }

// now returns the bundles of now and their period, a new one where a bundle has
// changed. Both are read with the lock held: whoever came with those of before would
// begin their period again.
func (s *Shadow) now() (sides, *period) {
	s.mu.Lock()
	defer s.mu.Unlock()
	both := s.sides()
	if s.current.of(both) {
		return both, s.current
	}
	if s.current.compared > 0 {
		s.previous, s.current.until = s.current, s.c.Clock()
	}
	s.current = newPeriod(both, s.c.Clock())
	return both, s.current
}

// Trouble returns why the candidate is of no use as it is, nil for nothing: for
// readiness, as a warning.
func (s *Shadow) Trouble() error {
	if s == nil {
		return nil
	}
	both := s.sides()
	if both.idle() {
		return nil
	}
	return s.trouble(both)
}

func (s *Shadow) trouble(both sides) error {
	failure := s.c.Failure()
	switch {
	case both.candidate == nil && failure != nil:
		return fmt.Errorf("no candidate bundle is loaded: %w", failure)
	case both.candidate == nil:
		return errors.New("no candidate bundle is loaded; hint: see the log of the process for its source")
	case failure != nil:
		return fmt.Errorf("the candidate bundle is compared, but its source is broken: %w", failure)
	case both.active == nil:
		return errors.New("no bundle is in force; hint: a candidate is compared with what the active bundle decides")
	case both.idle():
		return errors.New("the candidate is the bundle in force; hint: name the next one with --policy-shadow")
	case both.candidate.Manifest().Serial <= both.active.Manifest().Serial:
		return fmt.Errorf("the candidate's serial %d is not above the active bundle's %d: it could not be put in force; hint: build it again with a higher serial",
			both.candidate.Manifest().Serial, both.active.Manifest().Serial)
	}
	return nil
}
