package bundle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// tellAgain is how long one failure is one event.
const (
	tellAgain = time.Hour
	maxTold   = 64
)

// attempt looks at the source; and without a good bundle from there at the store and
// at the fallback. It returns what is wrong with the source.
func (s *Source) attempt(ctx context.Context, patience time.Duration) error {
	s.settle()
	err := s.fromSource(ctx, patience)
	if s.keeper.needsRegular() {
		s.fromStore(ctx)
	}
	if s.keeper.Fallback != nil && s.keeper.needsRegular() {
		s.fromFallback(ctx)
	}
	s.remember(ctx)
	return err
}

func (s *Source) fromSource(ctx context.Context, patience time.Duration) error {
	k := s.keeper
	// What has arrived is verified and compiled without haste.
	asking, cancel := ctx, func() {}
	if patience > 0 {
		asking, cancel = context.WithTimeout(ctx, patience)
	}
	defer cancel()
	version, err := k.Fetcher.Resolve(asking)
	if err != nil {
		return s.failed(policies.Bundle{}, OriginSource, refuse(ReasonUnreadable, "load policy bundle: %w", err))
	}
	k.mu.Lock()
	same, standing := version == k.known, k.inForce()
	k.mu.Unlock()
	if same && standing != nil && standing.origin == OriginSource {
		if k.over(standing) {
			return s.failed(standing.bundle, OriginSource, &LoadError{ReasonExpired, ErrExpired})
		}
		if err := k.lagging(ctx, standing); err != nil {
			return s.failed(standing.bundle, OriginSource, err)
		}
		s.recovered(standing)
		return nil
	}
	if r := k.refused; r != nil && r.stands(version, k.elapsed()) {
		return s.refused(store.Kept{Version: version}, r.bundle, OriginSource, r.err)
	}
	k.refused = nil
	a, err := k.Fetcher.Fetch(asking, version)
	if err != nil {
		return s.failed(policies.Bundle{}, OriginSource, refuse(ReasonUnreadable, "load policy bundle: %w", err))
	}
	return s.take(ctx, store.Kept{Version: version, Artifact: a}, OriginSource)
}

// fromStore verifies what an earlier process kept, as if a stranger had brought it.
func (s *Source) fromStore(ctx context.Context) {
	k := s.keeper
	k.disk.Lock()
	kept, err := k.Store.Bundle()
	k.disk.Unlock()
	switch {
	case store.Absent(err):
	case err != nil:
		_ = s.failed(policies.Bundle{}, OriginStore, &LoadError{ReasonUnreadable, err})
	default:
		_ = s.take(ctx, kept, OriginStore)
	}
}

func (s *Source) fromFallback(ctx context.Context) {
	version, err := s.keeper.Fallback.Resolve(ctx)
	if err == nil {
		a, failure := s.keeper.Fallback.Fetch(ctx, version)
		if err = failure; err == nil {
			_ = s.take(ctx, store.Kept{Version: version, Artifact: a}, OriginFallback)
			return
		}
	}
	_ = s.failed(policies.Bundle{}, OriginFallback, refuse(ReasonUnreadable, "load policy bundle of --policy-fallback: %w", err))
}

// take puts an artifact in force if all of it is good.
func (s *Source) take(ctx context.Context, kept store.Kept, from Origin) error {
	k := s.keeper
	found, b, err := s.examine(ctx, kept.Artifact, from)
	if err == nil && b.BreakGlass && from != OriginSource {
		err = refuse(ReasonBreakGlass, "break-glass bundle in the %s; hint: publish it at the source", from)
	}
	if err != nil {
		if from == OriginSource {
			k.refuse(kept.Version, b, err)
		}
		return s.refused(kept, b, from, err)
	}
	k.mu.Lock()
	emergency := k.emergency
	k.mu.Unlock()
	if !s.accept(found, kept) {
		if from == OriginSource {
			s.recovered(found)
		}
		return nil
	}
	r := Report{Bundle: b, Origin: from, Change: ChangeLoaded}
	switch {
	case b.BreakGlass:
		r.Change = ChangeBreakGlass
	case emergency != nil && from == OriginSource:
		r.Change = ChangeBreakGlassEnded
	case from == OriginFallback:
		r.Change = ChangeFallback
	}
	if from == OriginSource {
		s.troubled = false
	}
	s.tell(r)
	return nil
}

// recovered tells that a source which failed is good again.
func (s *Source) recovered(now *standing) {
	if s.troubled {
		s.troubled = false
		s.tell(Report{Bundle: now.bundle, Origin: now.origin, Change: ChangeRecovered})
	}
}

// failed is about what did not arrive, or is over.
func (s *Source) failed(b policies.Bundle, from Origin, err error) error {
	return s.refused(store.Kept{}, b, from, err)
}

// refused counts a failure, and tells each an hour at most: a source that is broken
// is looked at every half minute. What nobody vouches for is not read, so that only
// its version tells it from others like it; that of the store anybody may have
// written.
func (s *Source) refused(kept store.Kept, b policies.Bundle, from Origin, err error) error {
	if errors.Is(err, context.Canceled) {
		return err // the process ends
	}
	reason := ReasonOf(err)
	s.mu.Lock()
	s.failures[reason]++
	subject := b.Digest
	if subject == "" && from != OriginStore {
		subject = kept.Version
	}
	key, now := fmt.Sprint(from, reason, subject), s.config.Compile.Clock()
	at, told := s.told[key]
	if since := now.Sub(at); told && since >= 0 && since < tellAgain {
		s.mu.Unlock()
		return err
	}
	if len(s.told) >= maxTold {
		clear(s.told)
	}
	s.told[key] = now
	s.mu.Unlock()
	if from == OriginSource {
		s.troubled = true
	}
	s.tell(Report{Bundle: b, Origin: from, Reason: reason, Err: err})
	return err
}
