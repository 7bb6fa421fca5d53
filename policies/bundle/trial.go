package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// A bundle may be well signed and still end the process that loads it, by more memory
// than the container has, or keep it busy for ever. Its source would have it again at
// the next start, and then nobody would unmount. So what is about to be loaded is
// written down before and struck out after, and nobody waits for a compiler longer
// than a bundle is worth.
const (
	// fatalTrials is how many times in a row a bundle may have ended the process
	// before it is left alone for refusedFor.
	fatalTrials = 3
	// compilePatience is how long an attempt waits for the compiler, and startPatience
	// that at a start, behind which unmounting waits.
	compilePatience = 90 * time.Second
	startPatience   = 20 * time.Second
	// maxCompilations bounds those that run at once: one that never ends must not
	// keep out the bundle that mends it.
	maxCompilations = 3
)

// maxRemembered is how many bundles that ended a process are remembered.
const maxRemembered = 8

// A trial is named by what is loaded: the tarball of what is to come into force, or the
// bundle of a candidate.
const (
	tarballTrial   = "tarball "
	candidateTrial = "candidate "
)

// trialOf names an artifact by what is loaded of it.
func trialOf(a signature.Artifact) string {
	sum := sha256.Sum256(a.Tarball)
	return tarballTrial + "sha256:" + hex.EncodeToString(sum[:])
}

// Trial writes down that the process is about to load a bundle that is not to come into
// force, or refuses one over which it ended too often; end strikes it out. The bundle in
// force is remembered by itself: it may be the same. Without Signed there is nothing to
// remember in, and whoever tries is let.
func (s *Source) Trial(digest string) (end func(), err error) {
	if s == nil || s.keeper == nil {
		return func() {}, nil
	}
	if !s.life.enter() {
		return nil, errClosed
	}
	defer s.life.working.RUnlock()
	trial := candidateTrial + digest
	if err := s.keeper.begin(trial); err != nil {
		return nil, err
	}
	return func() {
		if s.life.enter() { // else it was withdrawn
			defer s.life.working.RUnlock()
			s.keeper.end(trial)
		}
	}, nil
}

// begin writes down that an artifact is about to be loaded, or refuses it.
func (k *keeper) begin(trial string) error {
	k.disk.Lock()
	defer k.disk.Unlock()
	begun := k.trials[trial]
	switch {
	case k.trying[trial]:
		return nil // the compiler still has it
	case begun >= fatalTrials && k.Monotonic() < refusedFor:
		return refuse(ReasonInvalid, "the process has ended %d times in a row while it loaded this policy bundle, %s, which is left alone for its first %s; hint: give the container more memory, or publish a smaller bundle", begun, trial, refusedFor)
	}
	if len(k.trials) >= maxRemembered {
		clear(k.trials)
	}
	k.trying[trial], k.trials[trial] = true, begun+1
	_ = k.Store.KeepTrials(k.trials) // a full disk stops no policy
	return nil
}

// end strikes it out.
func (k *keeper) end(trial string) {
	k.disk.Lock()
	defer k.disk.Unlock()
	if !k.trying[trial] {
		return
	}
	delete(k.trying, trial)
	delete(k.trials, trial)
	_ = k.Store.KeepTrials(k.trials)
}

// withdraw strikes out what the compiler still has: the end of the process is not its
// doing, and what ends later finds the store closed.
func (k *keeper) withdraw() {
	k.disk.Lock()
	defer k.disk.Unlock()
	if len(k.trying) == 0 {
		return
	}
	for trial := range k.trying {
		delete(k.trials, trial)
	}
	clear(k.trying)
	_ = k.Store.KeepTrials(k.trials)
}

// compilation is a bundle that the compiler has.
type compilation struct {
	digest     string
	breakGlass bool
	done       chan struct{}
	engine     *policies.Engine
	err        error
}

// errCompiling is returned for a bundle that the compiler has not ended with.
var errCompiling = errors.New("the policy bundle is still being compiled, and the next look has it if that ends; hint: give the process more CPU, or publish a smaller bundle")

// compile makes an engine, or returns errCompiling when that takes long. The compiler
// cannot be stopped: what it ends with later is there for the next attempt. One
// attempt runs at a time.
func (k *keeper) compile(ctx context.Context, trial string, b policies.Bundle) (*policies.Engine, error) {
	c := k.compilationOf(b)
	if c == nil {
		if len(k.compilations) >= maxCompilations {
			return nil, refuse(ReasonUnreadable, "%d other policy bundles are still being compiled; hint: publish a good one, then restart the process", len(k.compilations))
		}
		c = &compilation{digest: b.Digest, breakGlass: b.BreakGlass, done: make(chan struct{})}
		k.compilations = append(k.compilations, c)
		detached := context.WithoutCancel(ctx)
		k.Background(func() {
			defer close(c.done)
			c.engine, c.err = k.Compile(detached, b, k.options)
			k.end(trial)
		})
	}
	timer := time.NewTimer(k.waits)
	defer timer.Stop()
	select {
	case <-c.done:
		k.compilations = slices.DeleteFunc(k.compilations, func(o *compilation) bool { return o == c })
		return c.engine, c.err
	case <-timer.C:
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, ctx.Err()
		}
	}
	return nil, &LoadError{ReasonUnreadable, errCompiling}
}

// compilationOf returns that of a bundle, and forgets all others that have ended.
func (k *keeper) compilationOf(b policies.Bundle) (found *compilation) {
	var running []*compilation
	for _, c := range k.compilations {
		if c.digest == b.Digest && c.breakGlass == b.BreakGlass {
			found = c
			continue
		}
		select {
		case <-c.done:
		default:
			running = append(running, c)
		}
	}
	k.compilations = running
	if found != nil {
		k.compilations = append(k.compilations, found)
	}
	return found
}
