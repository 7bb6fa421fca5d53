package bundle

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// Fetcher is where signed bundles come from.
type Fetcher interface {
	// Resolve names what is there now, cheaply: equal names are equal artifacts.
	Resolve(ctx context.Context) (version string, err error)
	// Fetch returns what Resolve named.
	Fetch(ctx context.Context, version string) (signature.Artifact, error)
}

// Vouch verifies the signatures of an artifact and names who signed. An error that
// is a *LoadError says which reason it is; any other is ReasonUntrusted.
type Vouch func(ctx context.Context, a signature.Artifact) (signers []string, err error)

// Floor is the lowest serial that the cluster lets into force.
type Floor interface {
	Read(ctx context.Context) (store.Mark, error)
}

// Signed says where a Source finds signed policy, who vouches for it, and what it
// remembers.
type Signed struct {
	Fetcher Fetcher      // required
	Vouch   Vouch        // required
	Store   *store.Store // required
	// BreakGlass vouches for bundles for emergencies, by other keys. It may be nil.
	BreakGlass Vouch
	// Fallback is asked where neither source nor store has a good bundle. It may be nil.
	Fallback Fetcher
	// MinSerial is a floor of serials; 0 is none.
	MinSerial int64
	// Floor is that of the cluster. It may be nil: then a node that forgets what it
	// has seen takes any serial from MinSerial on.
	Floor Floor
	// Raise tells the cluster of a serial that is in force. It may be nil.
	Raise func(ctx context.Context, m store.Mark) error
	// Compile makes an engine of a bundle; nil means policies.Compile.
	Compile func(context.Context, policies.Bundle, policies.Options) (*policies.Engine, error)
	// Background calls f beside the attempt; nil: an attempt ends when the compiler
	// does, and a bundle can hold it up for ever.
	Background func(f func())
	// Patience is how long an attempt waits for the compiler; 0 means 90 seconds, or
	// 20 at a start.
	Patience time.Duration
	// Monotonic is the time since some moment, whatever the clock is set to; nil
	// means that of the process.
	Monotonic func() time.Duration
	// After calls f when d has passed, unless stop is called before: what is over
	// then ends at once. nil: at the next attempt.
	After func(d time.Duration, f func()) (stop func() bool)
}

// By vouches with the keys and identities of t.
func By(t *signature.Trust) Vouch {
	return func(ctx context.Context, a signature.Artifact) ([]string, error) {
		v, err := t.Verify(ctx, a)
		failure, ok := errors.AsType[*signature.Error](err)
		switch {
		case err == nil:
			return v.Signers, nil
		case ok && failure.Reason == signature.Unsigned:
			return nil, &LoadError{ReasonUnsigned, err}
		case ok && failure.Reason == signature.Interrupted:
			return nil, &LoadError{ReasonUnreadable, err}
		}
		return nil, &LoadError{ReasonUntrusted, err}
	}
}

const (
	// emergencyLimit is how long a break-glass bundle is in force at most.
	emergencyLimit = 4 * time.Hour
	// emergencyStep is how often it is written down how much of that is left, and what
	// a restart costs: no more than that is ever lost, so that no number of restarts,
	// with a clock that is set back before each, adds to it.
	emergencyStep = time.Minute
	// longestLifetime is that of a bundle, as policies.Compile holds it.
	longestLifetime = 90 * 24 * time.Hour
	// keepTimeEvery is how old the time in the store may be.
	keepTimeEvery = time.Hour
	// raiseEvery is how often the cluster is told of the serial in force again:
	// somebody may have removed the ConfigMap, or written a lower one.
	raiseEvery = 5 * time.Minute
	// floorTimeout bounds one question to the cluster.
	floorTimeout = 5 * time.Second
)

// Origin is where a bundle in force came from.
type Origin string

// The origins.
const (
	OriginSource   Origin = "source"
	OriginStore    Origin = "store"
	OriginFallback Origin = "fallback"
)

// standing is a bundle that may be in force.
type standing struct {
	bundle policies.Bundle // without content once it was reported
	engine *policies.Engine
	origin Origin
	since  time.Time
	// last is when a bundle for emergencies ends by what has passed, whatever
	// becomes of the clock; 0 for others.
	last time.Duration
}

// keeper is the part of a Source that is about signed policy.
type keeper struct {
	Signed

	clock   trustedClock
	options policies.Options // of the compiler

	mu        sync.Mutex // never held while somebody else is asked
	regular   *standing
	emergency *standing
	known     string // version of the source that is in force
	cluster   *store.Mark
	stop      func() bool // of the timer; nil without

	// Of the one attempt that runs, and of what it calls.
	waits        time.Duration // for the compiler
	lag          lag
	compilations []*compilation

	disk     sync.Mutex
	trials   store.Trials    // what is being loaded, or an earlier process died over
	trying   map[string]bool // the former
	state    store.State
	local    bool        // the floor of this node is known
	wanted   *store.Kept // not in the store yet
	dirty    bool        // nor is the state
	keptTime time.Time
	refused  *refusal   // what the source has, nil if that was not refused
	lost     error      // why there is no state, nil at a first start
	failing  error      // why the store does not take what it should
	raised   store.Mark // the cluster has it
	raisedAt time.Duration
	raising  error // why it does not take more
}

func newKeeper(c Signed, o policies.Options) (*keeper, error) {
	switch {
	case c.Fetcher == nil || c.Vouch == nil || c.Store == nil:
		return nil, errors.New("make policy source: Fetcher, Vouch or Store is missing")
	case c.MinSerial < 0:
		return nil, errors.New("make policy source: MinSerial is negative")
	}
	if c.Monotonic == nil {
		start := time.Now()
		c.Monotonic = func() time.Duration { return time.Since(start) }
	}
	k := &keeper{Signed: c}
	state, err := c.Store.State()
	switch {
	case err == nil:
		k.state, k.local, k.keptTime = state, state.Floor.Serial > 0, state.Time
	case !store.Absent(err):
		// Whoever can damage it can remove it: both leave a node without a floor.
		k.lost = err
	}
	if k.Compile == nil {
		k.Compile = policies.Compile
	}
	if k.Background == nil {
		k.Background = func(f func()) { f() }
	}
	if k.trials, err = c.Store.Trials(); err != nil {
		k.trials = store.Trials{} // none, or damaged: then nobody knows
	}
	k.trying = map[string]bool{}
	k.clock = trustedClock{wall: o.Clock, monotonic: c.Monotonic, mark: k.state.Time, at: c.Monotonic()}
	k.options = o
	k.options.Clock = k.clock.now
	return k, nil
}

// inForce returns what decides now; both may be nil. The caller holds mu.
func (k *keeper) inForce() *standing {
	if k.emergency != nil {
		return k.emergency
	}
	return k.regular
}

// needsRegular reports whether there is no bundle to go on with.
func (k *keeper) needsRegular() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.regular == nil || k.over(k.regular)
}

// over reports whether a bundle has ended.
func (k *keeper) over(s *standing) bool {
	return !k.clock.now().Before(s.bundle.Manifest.NotAfter) || s.last > 0 && k.Monotonic() >= s.last
}
