package bundle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// ErrUnsigned is returned for policy that no signature vouches for.
var ErrUnsigned = errors.New("policy bundle is not signed; hint: unsigned policy is for development builds")

// ErrExpired is returned for policy whose not_after has passed.
var ErrExpired = errors.New("policy bundle has expired; hint: publish a bundle with a later not_after")

// Verifier reads one bundle from where it is kept and vouches for it. Only a
// Verifier that has checked a signature sets Bundle.Signed.
type Verifier interface {
	Load(ctx context.Context) (policies.Bundle, error)
}

// Path is the Verifier of a directory or a tarball, which vouches for nothing:
// its bundles are unsigned.
type Path string

// Load reads the bundle.
func (p Path) Load(context.Context) (policies.Bundle, error) { return Open(string(p)) }

// Report says what became of an attempt to load a bundle.
type Report struct {
	Time     time.Time
	Digest   string // of the bundle that was tried, "" if it could not be read
	Manifest policies.Manifest
	Signed   bool
	Active   string // digest of the bundle in force afterwards, "" for none
	Err      error  // nil: the tried bundle is in force now
	// Bundle is what was tried, for WriteTarball; without modules and data if it
	// could not be read.
	Bundle policies.Bundle
}

// Config is where a Source finds policy, and what it accepts.
type Config struct {
	// Verifier reads the bundle. Required.
	Verifier Verifier
	// AllowUnsigned accepts bundles without a signature. Only development
	// builds set it.
	AllowUnsigned bool
	// Report is called after each attempt that changed something or failed. It
	// may be nil and must not block.
	Report func(Report)
	// Compile holds the options of the engines. Its Clock is also the Source's.
	Compile policies.Options
}

// Source holds the active engine and replaces it when a good bundle arrives.
type Source struct {
	config  Config
	active  atomic.Pointer[policies.Engine]
	failure atomic.Pointer[error] // of the last attempt
	// reloading keeps two attempts from overtaking each other.
	reloading sync.Mutex
	trigger   chan struct{}
}

// NewSource returns a Source without an active engine.
func NewSource(c Config) (*Source, error) {
	if c.Verifier == nil {
		return nil, errors.New("make policy source: Verifier is missing")
	}
	if c.Compile.Clock == nil {
		c.Compile.Clock = time.Now
	}
	if c.Report == nil {
		c.Report = func(Report) {}
	}
	return &Source{config: c, trigger: make(chan struct{}, 1)}, nil
}

// Active returns the engine in force. Before the first good bundle it is nil,
// which decides nothing.
func (s *Source) Active() *policies.Engine {
	if s == nil {
		return nil
	}
	return s.active.Load()
}

// Reload reads the bundle and puts it in force. If anything about it is wrong
// the engine in force stays. A bundle with the digest in force is not compiled
// again.
func (s *Source) Reload(ctx context.Context) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	err := s.reload(ctx)
	s.failure.Store(&err)
	return err
}

// Failure returns the error of the last attempt, nil if that was good: policy
// may be active and its source broken, which somebody has to see.
func (s *Source) Failure() error {
	if last := s.failure.Load(); last != nil {
		return *last
	}
	return nil
}

func (s *Source) reload(ctx context.Context) error {
	b, err := s.config.Verifier.Load(ctx)
	if err != nil {
		return s.report(policies.Bundle{}, fmt.Errorf("load policy bundle: %w", err))
	}
	if err := s.acceptable(b); err != nil {
		return s.report(b, err)
	}
	if b.Digest == s.Active().Digest() && b.Signed == s.Active().Signed() {
		return nil
	}
	engine, err := policies.Compile(ctx, b, s.config.Compile)
	if err != nil {
		return s.report(b, fmt.Errorf("compile policy bundle: %w", err))
	}
	s.active.Store(engine)
	return s.report(b, nil)
}

func (s *Source) acceptable(b policies.Bundle) error {
	if !b.Signed && !s.config.AllowUnsigned {
		return ErrUnsigned
	}
	if end := b.Manifest.NotAfter; !end.IsZero() && !s.config.Compile.Clock().Before(end) {
		return fmt.Errorf("%w (not_after %s)", ErrExpired, end.UTC().Format(time.RFC3339))
	}
	return nil
}

func (s *Source) report(b policies.Bundle, err error) error {
	s.config.Report(Report{
		Time: s.config.Compile.Clock(), Digest: b.Digest, Manifest: b.Manifest, Signed: b.Signed,
		Active: s.Active().Digest(), Err: err, Bundle: b,
	})
	return err
}

// Trigger asks Run for an attempt now, on SIGHUP for example. It does not wait.
func (s *Source) Trigger() {
	select {
	case s.trigger <- struct{}{}:
	default:
	}
}

// Run attempts a reload at each interval and at each Trigger, until ctx ends.
// Failures are reported, not returned: the engine in force stays.
func (s *Source) Run(ctx context.Context, interval time.Duration) error {
	if interval <= 0 {
		return errors.New("run policy source: interval must be positive")
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-s.trigger:
		}
		// The report is where failures go; the engine in force stays.
		_ = s.Reload(ctx)
	}
}
