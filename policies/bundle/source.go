package bundle

import (
	"cmp"
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

// Config is where a Source finds policy, and what it accepts.
type Config struct {
	// Verifier reads a bundle as it is. Either it or Signed is required.
	Verifier Verifier
	// AllowUnsigned accepts bundles of Verifier without a signature. Only
	// development builds set it.
	AllowUnsigned bool
	// Signed says all about signed policy.
	Signed *Signed
	// Trial is asked before a bundle of Verifier is compiled, by its digest, and may refuse
	// it: what ends a process over and over must not be what is only looked at. end is
	// called after. It may be nil.
	Trial func(digest string) (end func(), err error)
	// Report is called after each attempt that changed something or failed, one
	// call at a time. It may be nil and must not block.
	Report func(Report)
	// Compile holds the options of the engines. Its Clock is also the Source's.
	Compile policies.Options
}

// Source holds the active engine and replaces it when a good bundle arrives.
type Source struct {
	config  Config
	keeper  *keeper // nil without Signed
	active  atomic.Pointer[policies.Engine]
	ended   bool                  // active decides nothing more; guarded by the keeper
	failure atomic.Pointer[error] // of the last attempt
	// reloading keeps two attempts from overtaking each other.
	reloading sync.Mutex
	troubled  bool // the source failed, and that was told
	trigger   chan struct{}
	reporting sync.Mutex

	mu       sync.Mutex
	told     map[string]time.Time
	failures map[Reason]int64

	life life
}

// NewSource returns a Source without an active engine.
func NewSource(c Config) (*Source, error) {
	if (c.Verifier == nil) == (c.Signed == nil) {
		return nil, errors.New("make policy source: Verifier is missing, or Signed is there too")
	}
	if c.Compile.Clock == nil {
		c.Compile.Clock = time.Now
	}
	if c.Report == nil {
		c.Report = func(Report) {}
	}
	s := &Source{config: c, trigger: make(chan struct{}, 1), told: map[string]time.Time{}, failures: map[Reason]int64{}}
	s.life.closed, s.life.running = make(chan struct{}), map[*context.CancelFunc]struct{}{}
	if c.Signed == nil {
		return s, nil
	}
	var err error
	s.keeper, err = newKeeper(*c.Signed, c.Compile)
	return s, err
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
func (s *Source) Reload(ctx context.Context) error { return s.look(ctx, 0) }

// look makes one attempt, in which the source may take so long; 0 is as long as ctx
// allows.
func (s *Source) look(ctx context.Context, patience time.Duration) error {
	if !s.life.enter() {
		return errClosed
	}
	defer s.life.working.RUnlock()
	ctx, cancel := s.life.limit(ctx)
	defer cancel()
	s.reloading.Lock()
	defer s.reloading.Unlock()
	var err error
	if s.keeper != nil {
		s.keeper.waits = cmp.Or(s.keeper.Patience, compilePatience)
		if patience > 0 {
			s.keeper.waits = cmp.Or(s.keeper.Patience, startPatience)
		}
		err = s.attempt(ctx, patience)
	} else {
		err = s.reload(ctx)
	}
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

// reload is about unsigned policy.
func (s *Source) reload(ctx context.Context) error {
	b, err := s.config.Verifier.Load(ctx)
	if err != nil {
		reason := ReasonUnreadable
		if known, ok := errors.AsType[*LoadError](err); ok {
			reason = known.Reason // of a Verifier that looks at signatures
		}
		return s.failed(policies.Bundle{}, OriginSource, &LoadError{reason, fmt.Errorf("load policy bundle: %w", err)})
	}
	if err := s.acceptable(b); err != nil {
		return s.failed(b, OriginSource, err)
	}
	if b.Digest == s.Active().Digest() && b.Signed == s.Active().Signed() {
		return nil
	}
	if s.config.Trial != nil {
		end, err := s.config.Trial(b.Digest)
		if err != nil {
			return s.failed(b, OriginSource, err)
		}
		defer end()
	}
	engine, err := policies.Compile(ctx, b, s.config.Compile)
	if err != nil {
		return s.failed(b, OriginSource, &LoadError{ReasonInvalid, fmt.Errorf("compile policy bundle: %w", err)})
	}
	s.active.Store(engine)
	s.tell(Report{Bundle: b, Origin: OriginSource, Change: ChangeLoaded})
	return nil
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
