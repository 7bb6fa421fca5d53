package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// refuse makes a LoadError.
func refuse(r Reason, format string, a ...any) error {
	return &LoadError{r, fmt.Errorf(format, a...)}
}

// examine makes an engine of an artifact if all of it is as it must be. It changes
// nothing. What it could read of a refused bundle is returned for the report.
func (s *Source) examine(ctx context.Context, a signature.Artifact, from Origin) (*standing, policies.Bundle, error) {
	k := s.keeper
	if err := store.Bounded(a); err != nil {
		return nil, policies.Bundle{}, refuse(ReasonUnreadable, "load policy bundle: %w; hint: see who publishes it", err)
	}
	signers, emergency, err := k.vouch(ctx, a)
	if err != nil {
		return nil, policies.Bundle{}, err
	}
	trial := trialOf(a)
	if err := k.begin(trial); err != nil {
		return nil, policies.Bundle{}, err
	}
	found, b, err := k.open(ctx, a, policies.Bundle{Signed: true, BreakGlass: emergency, Signers: signers})
	if !errors.Is(err, errCompiling) {
		k.end(trial)
	}
	if err != nil {
		return nil, b, err
	}
	found.origin = from
	return found, b, nil
}

// open reads and compiles what somebody vouches for, as says who.
func (k *keeper) open(ctx context.Context, a signature.Artifact, as policies.Bundle) (*standing, policies.Bundle, error) {
	b, err := ReadTarball(bytes.NewReader(a.Tarball))
	if err != nil {
		return nil, b, refuse(ReasonInvalid, "load policy bundle: %w", err)
	}
	b.Signed, b.BreakGlass, b.Signers = as.Signed, as.BreakGlass, as.Signers
	if err := k.admissible(ctx, b); err != nil {
		return nil, b, err
	}
	found := &standing{bundle: b, since: k.clock.now()}
	if found.engine = k.compiled(b); found.engine != nil {
		return found, b, nil
	}
	if found.engine, err = k.compile(ctx, trialOf(a), b); err != nil {
		if _, ok := errors.AsType[*LoadError](err); !ok && !errors.Is(err, context.Canceled) {
			err = refuse(ReasonInvalid, "compile policy bundle: %w", err)
		}
		return nil, b, err
	}
	return found, b, nil
}

// vouch asks those who sign policy, then those who break glass.
func (k *keeper) vouch(ctx context.Context, a signature.Artifact) (signers []string, emergency bool, err error) {
	if signers, err = k.Vouch(ctx, a); err == nil {
		return signers, false, nil
	}
	if k.BreakGlass != nil {
		if signers, failure := k.BreakGlass(ctx, a); failure == nil {
			return signers, true, nil
		}
	}
	if _, ok := errors.AsType[*LoadError](err); !ok {
		err = &LoadError{ReasonUntrusted, err}
	}
	return nil, false, err
}

// compiled returns the engine of equal content that is at hand.
func (k *keeper) compiled(b policies.Bundle) *policies.Engine {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, have := range []*standing{k.regular, k.emergency} {
		if have != nil && have.engine.Digest() == b.Digest && have.engine.BreakGlass() == b.BreakGlass {
			return have.engine
		}
	}
	return nil
}

// admissible refuses a bundle that is well signed and may not be in force.
func (k *keeper) admissible(ctx context.Context, b policies.Bundle) error {
	m, now := b.Manifest, k.clock.now()
	switch {
	case m.Serial < 1:
		return refuse(ReasonInvalid, "policy bundle has no serial; hint: portcullis policy build --serial gives it one")
	case m.NotAfter.IsZero():
		return refuse(ReasonInvalid, "policy bundle has no not_after; hint: portcullis policy build gives it one")
	case !now.Before(m.NotAfter):
		return &LoadError{ReasonExpired, fmt.Errorf("%w (not_after %s)", ErrExpired, m.NotAfter.UTC().Format(time.RFC3339))}
	case b.BreakGlass:
		return k.mayBreakGlass(b, now)
	}
	floors, err := k.floors(ctx)
	if err != nil {
		return err
	}
	for _, f := range floors {
		switch {
		case m.Serial < f.Serial:
			return refuse(ReasonSerial, "policy bundle has serial %d, and %d is the lowest that is accepted, %s; hint: roll back by publishing the old content with a higher serial", m.Serial, f.Serial, f.whose)
		case m.Serial == f.Serial && f.Digest != "" && f.Digest != b.Digest:
			return refuse(ReasonEquivocation, "policy bundle has serial %d, which other content (%s) had; hint: find out who signed both, then publish with a higher serial", m.Serial, f.Digest)
		}
	}
	return nil
}

// mayBreakGlass refuses a bundle for emergencies that lasts too long, or was used.
func (k *keeper) mayBreakGlass(b policies.Bundle, now time.Time) error {
	k.disk.Lock()
	last := k.state.Emergency
	k.disk.Unlock()
	const hint = "; hint: build one with a higher serial, and a not_after at most four hours off"
	same := b.Manifest.Serial == last.Serial && b.Digest == last.Digest
	switch {
	case b.Manifest.NotAfter.Sub(now) > emergencyLimit:
		return refuse(ReasonBreakGlass, "break-glass bundle ends at %s, more than four hours off"+hint, b.Manifest.NotAfter.UTC().Format(time.RFC3339))
	case b.Manifest.Serial > last.Serial:
		return nil
	case same && !last.Over && now.Before(last.End) && last.Left > emergencyStep:
		return nil // a restart does not end it
	default:
		return refuse(ReasonBreakGlass, "break-glass serial %d was used, or is below %d, which was"+hint, b.Manifest.Serial, last.Serial)
	}
}

// floor is one that a serial must reach.
type floor struct {
	store.Mark

	whose string
}

// floors returns each floor that a serial must reach. Without one of its own a node
// needs that of the cluster, if there is to be one: what it forgot may be what an
// attacker made it forget.
func (k *keeper) floors(ctx context.Context) ([]floor, error) {
	k.disk.Lock()
	all, local := []floor{{store.Mark{Serial: k.MinSerial}, "by --policy-min-serial"}}, k.local
	if local {
		all = append(all, floor{k.state.Floor, "since that was in force here"})
	}
	k.disk.Unlock()
	if k.Floor == nil {
		return all, nil
	}
	cluster, err := k.readFloor(ctx)
	switch {
	case cluster != nil:
		return append(all, floor{*cluster, "by the cluster's floor"}), nil
	case local:
		return all, nil
	}
	hint := "; hint: see that --policy-floor is readable"
	if strings.Contains(err.Error(), "; hint: ") {
		hint = "" // who was asked knows more
	}
	return nil, refuse(ReasonFloor, "this node remembers no serial, so nothing is granted before the cluster's floor is readable: %w%s", err, hint)
}
