package driver

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
)

// The pace of decisions that nobody has called for. Each reads what is not
// cached from the API server, and all nodes get a bundle at about the same time.
// With 110 volumes a bundle is followed by the last first evaluation after 6.5
// seconds, and by the last second one after 17.
const (
	reauthorisePause = 50 * time.Millisecond // between two: twenty a second
	reauthoriseStart = time.Second           // the first is up to this late, at random
	reauthorisers    = 2                     // at once
	// reauthoriseTimeout bounds one, which reads at most three objects.
	reauthoriseTimeout = 15 * time.Second
	// busyPause doubles with each look at a volume that is in use, until
	// longestBusy.
	busyPause   = time.Second
	longestBusy = 8 * time.Second
	// errorPause doubles with each try that reached no verdict. After maxTries,
	// some two minutes, kubelet's next call is to decide.
	errorPause = 2 * time.Second
	maxTries   = 6
)

// errNotOnTop is a target where kubelet's next call has something to see to.
var errNotOnTop = errors.New("the volume is not what is on top at its target")

// PolicyChanged has all mounted volumes decided on by the bundle that is in force
// now, but for those that were. It does not wait.
func (d *Driver) PolicyChanged() { nudge(d.pending.plans) }

// PodChanged has the mounted volumes of a pod decided on, since the pod runs
// something else than they were decided for. It does not wait.
func (d *Driver) PodChanged(uid string) {
	now := d.c.Clock()
	for _, k := range d.targets() {
		if k.podUID == uid {
			d.pending.add(task{key: k, cause: causePod, at: now})
		}
	}
}

// targets are the volumes that are mounted, or about to be: what a call decides
// on while something changes must be looked at when it is over. In this order: a
// mount that is just over has left the first and is in the second.
func (d *Driver) targets() []targetKey {
	keys := append(d.locks.keys(), d.c.Records.keys()...)
	slices.SortFunc(keys, targetKey.compare)
	return slices.Compact(keys)
}

// Reauthorise decides on mounted volumes again, of its own accord, until ctx
// ends: when another bundle is in force, when a pod has changed, and to confirm
// a denial. It asks no provider, and gives way to every call of kubelet's.
func (d *Driver) Reauthorise(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, reauthorisers)
	d.PolicyChanged() // since the process before
	for {
		timer := time.NewTimer(d.pending.wait(d.c.Clock()))
		select {
		case <-ctx.Done():
		case <-d.pending.plans:
			d.plan()
		case <-d.pending.wake:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		t, ok := d.pending.take(d.c.Clock())
		if !ok {
			continue
		}
		slots <- struct{}{} // each ends by itself
		running.Go(func() {
			defer func() { <-slots }()
			d.reauthorise(ctx, t)
		})
		sleep(ctx, reauthorisePause)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// plan spreads the volumes that the bundle in force has not decided on, in any
// order, and takes the place of the plan for the bundle before.
func (d *Driver) plan() {
	d.brake.begin(d.c.Policy.Active().Digest(), d.c.Clock())
	d.pending.cancel()
	busy := d.locks.keys()
	keys := slices.DeleteFunc(d.targets(), func(k targetKey) bool {
		rec, known := d.c.Records.get(k)
		// The task of a denial may have been one with that of a bundle that was in
		// force for a moment, and was cancelled with it.
		return known && d.upToDate(rec) && !rec.Denial.unconfirmed() && !slices.Contains(busy, k)
	})
	d.ask(keys, causePolicy, d.c.Clock().Add(rand.N(reauthoriseStart))) //nolint:gosec // G404: spreads load
}

// ask has volumes decided on from a time on, in any order.
func (d *Driver) ask(keys []targetKey, c cause, at time.Time) {
	rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] }) //nolint:gosec // G404: who guesses the order gains nothing
	for _, k := range keys {
		d.pending.add(task{key: k, cause: c, at: at})
		at = at.Add(reauthorisePause)
	}
}

// upToDate reports whether the last verdict on a volume was by the policy in
// force; where none is, there is nothing to decide by.
func (d *Driver) upToDate(rec record) bool {
	e := d.c.Policy.Active()
	return e == nil || rec.Bundle == e.Digest() && rec.Library == e.LibraryDigest()
}

// by notes which policy reached a verdict, so that nobody asks it again.
func (r record) by(decision policies.Decision) record {
	r.Bundle, r.Library, r.Redecide = decision.BundleDigest, decision.LibraryDigest, false
	return r
}

// reauthorise carries out a task, or puts it off while the target is in use.
func (d *Driver) reauthorise(ctx context.Context, t task) {
	held, release, free := d.locks.try(ctx, t.key)
	if !free {
		d.putOff(t, busyPause, longestBusy)
		return
	}
	defer release()
	rec, known := d.c.Records.get(t.key)
	if !known {
		return // unmounted, or never mounted
	}
	switch {
	case t.cause == causePod, t.cause == causeBrake:
	case !d.upToDate(rec):
		t.cause = causePolicy
	case rec.Denial.unconfirmed():
		t.cause = causeDenial
		if at := rec.Denial.First.Add(confirmAfter); d.c.Clock().Before(at) {
			t.at = at
			d.pending.add(t)
			return
		}
	case t.cause == causeDenial && rec.Denial.outstanding():
	default:
		return // a call of kubelet's was first
	}
	d.decideAgain(held, t, rec)
}

// decideAgain asks policy, if it is known what kubelet would ask.
func (d *Driver) decideAgain(ctx context.Context, t task, rec record) {
	last, known := d.requests.get(t.key)
	if !known {
		d.leave(ctx, t)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reauthoriseTimeout)
	defer cancel()
	m := &mountRequest{
		target: target{key: t.key, path: hardening.TargetPath(d.c.KubeletRoot, t.key.podUID, t.key.volume)},
		claim:  last.claim, class: last.class, group: last.group, again: &again{last, t.cause},
	}
	err := d.refreshBounded(ctx, m, func(dir *hardening.Target) error { return d.redecide(ctx, m, dir, rec) })
	_, revoked := errors.AsType[*revokedError](err)
	switch {
	case err == nil, revoked:
	case errors.Is(err, errStuck), errors.Is(ctx.Err(), context.Canceled):
		d.putOff(t, busyPause, longestBusy)
	case errors.Is(err, errElsewise), errors.Is(err, errNotOnTop), t.tries >= maxTries:
		d.leave(ctx, t)
	default:
		d.metrics.reauthorisations.Add(ctx, 1, with("cause", string(t.cause), "outcome", "error"))
		d.c.Logger.WarnContext(ctx, "mounted volume not decided on again, its content stays", slog.String(keyPodUID, t.key.podUID),
			slog.String(keyVolume, t.key.volume), slog.String(keyError, classify(err).text), slog.String(keyCause, causeOf(err)), slog.Int(keyCount, t.tries+1))
		d.putOff(t, errorPause, time.Minute)
	}
}

// putOff has a task tried again, each time after twice the pause.
func (d *Driver) putOff(t task, pause, longest time.Duration) {
	t.at = d.c.Clock().Add(min(pause<<min(t.tries, maxTries), longest))
	t.tries++
	d.pending.add(t)
}

// leave has kubelet's next call decide. The caller holds the target, so that
// nobody writes an older record over this one.
func (d *Driver) leave(ctx context.Context, t task) {
	rec, known := d.c.Records.get(t.key)
	if !known || rec.Redecide {
		return
	}
	rec.Redecide = true
	d.c.Records.put(rec)
	d.metrics.reauthorisations.Add(ctx, 1, with("cause", string(t.cause), "outcome", "left"))
}

// redecide is a refresh without a fetch. What policy denies goes the way of every
// denial; what it allows stays as it is, and an error changes nothing at all: not
// even the next time that kubelet's call is for.
func (d *Driver) redecide(ctx context.Context, m *mountRequest, dir *hardening.Target, rec record) error {
	if state, err := dir.State(); err != nil || state != hardening.StateOurs {
		return errNotOnTop
	}
	a, err := d.decide(ctx, m, policies.PhaseRotate)
	denial, denied := errors.AsType[*policies.DeniedError](err)
	if err != nil && !denied {
		return err
	}
	d.metrics.reauthorisations.Add(ctx, 1, with("cause", string(m.again.cause), "outcome", a.decision.Verdict().String()))
	rec = rec.decided(d.c.Clock(), d.longestWait()+republishPeriod).by(a.decision)
	if denied {
		return d.deny(ctx, revocation{m: m, dir: dir, asked: a, cause: audit.ReasonPolicyDenied, held: rec.Denial.Held, err: &revokedError{denial}}, rec)
	}
	rec.Denial = rec.Denial.allowed()
	d.stays(rec, a)
	return nil
}

// stays notes that policy allows a mounted volume whose content is not fetched
// now. It is fetched at its time, or sooner where the time to live is shorter
// than it was; what was taken away comes back with kubelet's next call.
func (d *Driver) stays(rec record, a asked) {
	now := d.c.Clock()
	rec.DecisionID, rec.TokenVerified = a.decision.ID, tokenVerified(a.decision.Input())
	switch due := rec.FetchedAt.Add(d.refreshAfter(a.decision.Obligations)); {
	case rec.Denial.Empty:
		rec.DueAt, rec.Failures = now, 0
	case d.c.Rotation.Enabled && !rec.FetchedAt.IsZero() && due.Before(rec.DueAt):
		rec.DueAt = due
	}
	d.c.Records.put(rec)
}
