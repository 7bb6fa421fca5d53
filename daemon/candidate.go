package daemon

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/portcullis-csi/portcullis/audit/admin"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/shadow"
)

// CandidateConfig says which bundle decides beside the one in force.
type CandidateConfig struct {
	// Source is where the candidate comes from, with the trust of the bundle in
	// force and without what remembers floors: nothing of it is in force. Its
	// Report and Trial are set here.
	Source bundle.Config
	// Trial is that of the policy in force, which remembers for a candidate too over which
	// bundles the process has ended. May be nil.
	Trial func(digest string) (end func(), err error)
	// CloseSource is called by Close when nothing uses the source any more. May be
	// nil.
	CloseSource func()
	// Active returns the engine in force, nil for none.
	Active func() *policies.Engine
	// Live returns the volumes that there are now. Absent where nobody knows.
	Live   func() iter.Seq2[string, string]
	Logger *slog.Logger
}

// Candidate is the bundle of --policy-shadow, and what it would have decided. The
// nil Candidate, that of a process without the flag, does nothing. No event tells of
// it: the log of the process, readiness and metrics do.
type Candidate struct {
	source *bundle.Source
	shadow *shadow.Shadow
	active func() *policies.Engine
	logger *slog.Logger
	closes func()
	failed string // the error that was logged last; used by one reload at a time
}

// NewCandidate makes a Candidate, which has no bundle until Run has read one.
func NewCandidate(c CandidateConfig) (*Candidate, error) {
	made := &Candidate{active: c.Active, logger: c.Logger, closes: c.CloseSource}
	var err error
	c.Source.Report, c.Source.Trial = made.report, c.Trial
	if made.source, err = bundle.NewSource(c.Source); err != nil {
		return nil, err
	}
	made.shadow, err = shadow.New(shadow.Config{
		Active: c.Active, Candidate: made.source.Active, Failure: made.source.Failure, Live: c.Live, Logger: c.Logger,
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// report logs what became of a bundle: a failure once, though it is tried again
// at each look at the source.
func (c *Candidate) report(r bundle.Report) {
	if r.Err != nil {
		if text := r.Err.Error(); text != c.failed {
			c.failed = text
			c.logger.Warn("candidate policy not loaded; what is in force is not concerned", slog.Any(keyError, r.Err))
		}
		return
	}
	c.failed = ""
	c.shadow.Loaded(r.Bundle)
	c.logger.Info("candidate policy loaded: it is compared, and not in force",
		slog.String(keyDigest, r.Digest), slog.Int64(keySerial, r.Manifest.Serial), slog.Bool(keySigned, r.Signed))
	if active := c.active(); r.Digest != active.Digest() && r.Manifest.Serial <= active.Manifest().Serial {
		c.logger.Warn("the candidate's serial is not above that of the policy in force: it could not take its place",
			slog.Int64(keySerial, r.Manifest.Serial), slog.Int64(keyActiveSerial, active.Manifest().Serial))
	}
}

// Loaded tells of the bundle that is in force now, whose grants have owners.
func (c *Candidate) Loaded(b policies.Bundle) {
	if c != nil {
		c.shadow.Loaded(b)
	}
}

// Observe has a decision compared. It never blocks.
func (c *Candidate) Observe(d policies.Decision) {
	if c != nil {
		c.shadow.Observe(d)
	}
}

// Register makes the metrics.
func (c *Candidate) Register(m metric.Meter) error {
	if c == nil {
		return nil
	}
	return c.shadow.Register(m)
}

// Trigger asks for a look at the source now.
func (c *Candidate) Trigger() {
	if c != nil {
		c.source.Trigger()
	}
}

// Ready is a condition of readiness, as a warning.
func (c *Candidate) Ready() error {
	if c == nil {
		return nil
	}
	return c.shadow.Trouble()
}

// Report is what the admin socket hands out.
func (c *Candidate) Report() ([]byte, error) {
	if c == nil {
		return nil, admin.ErrNoCandidate
	}
	return c.shadow.JSON()
}

// Close ends what reads the candidate, and the connections to where it comes from.
// Comparing goes on until the context of Run ends.
func (c *Candidate) Close() error {
	if c == nil {
		return nil
	}
	c.source.Close()
	if c.closes != nil {
		c.closes()
	}
	return nil
}

// Run reads the candidate, looks for changes at each interval, and compares, until
// ctx ends. The first look is here and not at the start: nothing of a process may
// wait for a bundle that is not in force.
func (c *Candidate) Run(ctx context.Context, interval time.Duration) {
	if c == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.shadow.Run(ctx)
	}()
	// The report is where failures go.
	_ = c.source.Reload(ctx)
	if err := c.source.Run(ctx, interval); err != nil && ctx.Err() == nil {
		c.logger.Error("candidate policy is no longer watched", slog.Any(keyError, err))
	}
	<-done
}
