package driver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
)

const (
	// decisionInterval is how often policy is asked again about a volume whose
	// content is not fetched again.
	decisionInterval = 5 * time.Minute
	// firstBackoff doubles with every refresh that fails in a row.
	firstBackoff = 15 * time.Second
	// refreshPercent of a time to live passes before the next fetch.
	refreshPercent = 80
)

// republish keeps a mounted volume fresh. It never unmounts, and whatever goes
// wrong keeps the content and answers OK (promise P9): an error would only
// delay kubelet's next call, and on kubelets before kubernetes#139045 a final
// code made it delete the live mount. Only content that was just taken away is
// worth an answer, which is not a final one.
func (d *Driver) republish(ctx context.Context, req *csi.NodePublishVolumeRequest, t target) error {
	rec, known := d.c.Records.get(t.key)
	if known && !d.due(rec) {
		d.metrics.publishSkipped.Add(ctx, 1, with())
		return nil
	}
	m, err := parsePublish(req, t)
	if err != nil {
		m.wipe()
		d.c.Recorder.Owe(audit.Rejected(auditClaim(m), classify(err).reason))
		d.postpone(ctx, t, err)
		return nil
	}
	m.wasVerified = rec.TokenVerified
	hardening.FaultPoint("refresh/due")
	err = d.refreshBounded(ctx, m, func(dir *hardening.Target) error { return d.refresh(ctx, m, dir, rec) })
	if _, revoked := errors.AsType[*revokedError](err); revoked {
		return statusOf(err)
	}
	if err != nil {
		d.postpone(ctx, t, err)
	}
	return nil
}

// due reports whether policy is asked about a volume: its time has come, there
// is something to ask before that, or something that kubelet has not been told.
func (d *Driver) due(rec record) bool {
	return rec.Redecide || rec.Denial.Untold || d.timeCome(rec)
}

// timeCome reports whether the time of a volume has come. A time further off than
// any that is set was set by a clock that is back now: waiting for it could
// keep a denial from being noticed for years.
func (d *Driver) timeCome(rec record) bool {
	now := d.c.Clock()
	return !now.Before(rec.DueAt) || rec.DueAt.Sub(now) > d.longestWait()
}

// longestWait is the most that lies between two evaluations of a volume.
func (d *Driver) longestWait() time.Duration { return max(d.c.Rotation.Interval, decisionInterval) }

// stuckTimeout is how long a refresh may go on after its caller has given up.
const stuckTimeout = 5 * time.Second

var errStuck = errors.New("the volume does not answer: somebody may hold it up with fanotify(7)")

// refreshBounded refreshes a volume in a goroutine that it does not wait for
// beyond the end of ctx. A container with CAP_SYS_ADMIN can hold up every open
// of a file in its volume for as long as it likes; that must hold up neither
// the unpublish nor anybody else. The goroutine owns what it uses, and until it
// ends the volume is not refreshed again.
func (d *Driver) refreshBounded(ctx context.Context, m *mountRequest, refresh func(*hardening.Target) error) error {
	if !d.refreshing.add(m.key) {
		m.wipe()
		return errStuck
	}
	done := make(chan error, 1)
	var over atomic.Bool // whoever sets it first: the goroutine ended, or it was left behind
	go func() {
		err := d.refreshSafely(m.key, refresh)
		m.wipe()
		if !over.CompareAndSwap(false, true) {
			d.reconcile(m.target)
		}
		// Before the answer: kubelet's next call must not find it still running.
		d.refreshing.remove(m.key)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(stuckTimeout):
	}
	if !over.CompareAndSwap(false, true) {
		return <-done
	}
	return errStuck
}

// reconcile corrects what a refresh that went on after its call may have
// remembered and reserved for a volume that was unmounted meanwhile.
func (d *Driver) reconcile(t target) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_, release, err := d.locks.acquire(ctx, t.key)
	if err != nil {
		return // whoever has the target now does the same
	}
	defer release()
	if _, err := d.stats(t); err != nil {
		d.forget(t)
	}
}

// refreshSafely opens the target for itself, and keeps a panic from ending the
// process: no interceptor sees this goroutine.
func (d *Driver) refreshSafely(k targetKey, refresh func(*hardening.Target) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			d.c.Logger.Error("refresh panicked", slog.String(keyStack, string(debug.Stack())))
			err = errors.New("refresh panicked")
		}
	}()
	dir, err := d.c.Volumes.Target(k.podUID, k.volume)
	if err != nil {
		return fmt.Errorf("open target: %w", err)
	}
	defer dir.Close()
	return refresh(dir)
}

// refresh decides again and, where rotation is on, fetches again.
func (d *Driver) refresh(ctx context.Context, m *mountRequest, dir *hardening.Target, rec record) error {
	a, err := d.decide(ctx, m, policies.PhaseRotate)
	denial, denied := errors.AsType[*policies.DeniedError](err)
	if err != nil && !denied {
		rec.Undecided = true
		d.c.Records.put(rec)
		return err
	}
	d.requests.keep(m, a)
	rec = d.foundEmpty(rec, dir, denied)
	only := rec.Redecide && !d.timeCome(rec) // only decided on again
	rec = rec.decided(d.c.Clock(), d.longestWait()+republishPeriod).by(a.decision)
	r := revocation{m: m, dir: dir, asked: a, cause: audit.ReasonPolicyDenied, held: rec.Denial.Held, err: &revokedError{denial}}
	if denied {
		return d.deny(ctx, r, rec)
	}
	rec.Denial = rec.Denial.allowed()
	if only && !rec.Denial.Empty {
		d.stays(rec, a)
		return nil
	}
	if !d.fetches(rec, dir) {
		rec = identified(rec, m, a)
		rec.DueAt, rec.Failures = d.c.Clock().Add(decisionInterval), 0
		d.c.Records.put(rec)
		if err := d.told(r, rec); err != nil {
			return err
		}
		return d.expire(ctx, r, rec)
	}
	rec.Denial.Untold = false // it comes back, or an event says why it does not
	d.c.Records.put(rec)
	err = d.fetchAgain(ctx, r, rec)
	if err == nil {
		return nil
	}
	if expired := d.expire(ctx, r, rec); expired != nil {
		return expired
	}
	return err
}

// fetches reports whether the provider is asked for a volume that policy allows:
// where rotation is on, and to bring back what a denial took away. What a time
// to live took away stays away without rotation, which is what it needs.
func (d *Driver) fetches(rec record, dir *hardening.Target) bool {
	return d.c.Rotation.Enabled || !rec.Denial.Expired && isEmpty(dir)
}

func isEmpty(dir *hardening.Target) bool {
	vol, err := dir.OpenVolume()
	if err != nil {
		return false
	}
	defer vol.Close()
	return vol.Empty()
}

// fetchAgain gets the content and puts what is new of it in place.
func (d *Driver) fetchAgain(ctx context.Context, r revocation, rec record) error {
	a := r.asked
	a.mounted = rec.Versions
	got, err := d.rotate(ctx, r.m, a, r.dir)
	hardening.FaultPoint("refresh/rotated")
	now := d.c.Clock()
	if err != nil {
		d.c.Recorder.Owe(audit.RotationFailed(a.intent, a.decision, reasonOf(err)).Took(now.Sub(a.begin)))
		return err
	}
	if got.Changed || cutOff(rec, got) {
		d.c.Recorder.Owe(audit.Rotated(a.intent, a.decision, filesOf(got, nil), lateness(rec, a)).Took(now.Sub(a.begin)))
	}
	hardening.FaultPoint("refresh/event-owed")
	rec = identified(rec, r.m, a).fetched(now)
	rec.DueAt, rec.Versions, rec.Denial = now.Add(d.refreshAfter(a.decision.Obligations)), versionsOf(got), rec.Denial.restored()
	d.c.Records.put(rec)
	hardening.FaultPoint("refresh/remembered")
	d.tellStatus(rec)
	if got.Changed {
		d.tellPod(podstatus.Rotated, rec, "")
	}
	d.metrics.rotated(ctx, rec.Provider, "", now.Sub(a.begin).Seconds())
	d.countClamped(ctx, rec.Provider, got)
	return nil
}

// cutOff reports whether a refresh that changed nothing met the content of one
// that a crash kept from being recorded: it is not what the last record says.
func cutOff(rec record, got provider.Delivered) bool {
	return rec.Restored && len(rec.Versions) > 0 && !slices.Equal(rec.Versions, versionsOf(got))
}

// rotate fetches with the versions that are mounted, and swaps the generation
// inside the same superblock if the bytes differ.
func (d *Driver) rotate(ctx context.Context, m *mountRequest, a asked, dir *hardening.Target) (provider.Delivered, error) {
	grant, err := a.decision.Grant()
	if err != nil {
		return provider.Delivered{}, err
	}
	vol, err := dir.OpenVolume()
	if err != nil {
		return provider.Delivered{}, err
	}
	defer vol.Close()
	hardening.FaultPoint("refresh/volume-opened")
	// Whatever comes of it: what was taken and is not used goes back.
	defer d.settle(m.key, grant.Subject().Namespace, vol)
	// After the fetch, whatever came of it, and before the first byte is written.
	untouched := sync.OnceValue(func() error { return d.checkUntouched(m, dir.ScrubBeneath) })
	got, err := d.fill(ctx, m, provider.Call{
		Grant: grant, Effective: a.effective, Volume: guarded{vol, untouched}, CurrentVersions: providerVersions(a.mounted), Rotate: true,
	}, vol)
	if touched := untouched(); touched != nil {
		return provider.Delivered{}, touched
	}
	return got, err
}

// lateness says how long after its time a rotation came. A volume whose record
// was lost has no time to keep.
func lateness(rec record, a asked) audit.Rotation {
	if rec.DueAt.IsZero() || !a.begin.After(rec.DueAt) {
		return audit.Rotation{}
	}
	return audit.Rotation{LateByMS: a.begin.Sub(rec.DueAt).Milliseconds()}
}

// postpone sets the next try of a volume whose refresh failed.
func (d *Driver) postpone(ctx context.Context, t target, err error) {
	rec, _ := d.c.Records.get(t.key)
	rec.PodUID, rec.Volume = t.key.podUID, t.key.volume
	rec.Failures++
	rec.Redecide = false // the next try decides
	rec.DueAt = d.c.Clock().Add(d.backoff(rec.Failures))
	d.c.Records.put(rec)
	o := classify(err)
	d.metrics.rotated(ctx, rec.Provider, o.metric, 0)
	if o.reason != audit.ReasonAborted { // or it is the end of the pod that ended the refresh
		d.tellPod(podstatus.RotationFailed, rec, o.reason)
	}
	d.c.Logger.WarnContext(ctx, "refresh failed, the mounted content stays", slog.String(keyNamespace, rec.Namespace), slog.String(keyPod, rec.Pod),
		slog.String(keyVolume, rec.Volume), slog.String(keyError, o.text), slog.String(keyCause, causeOf(err)), slog.Int(keyCount, rec.Failures))
}

func (d *Driver) backoff(failures int) time.Duration {
	most := d.longestWait()
	wait := firstBackoff
	for range failures - 1 {
		if wait *= 2; wait >= most {
			return most
		}
	}
	return wait
}

// refreshAfter is the time from a fetch to the next: the interval, or most of
// the time to live where policy set a shorter one.
func (d *Driver) refreshAfter(o policies.Obligations) time.Duration {
	wait := decisionInterval
	if d.c.Rotation.Enabled {
		wait = d.c.Rotation.Interval
	}
	if early := ttlOf(o) / 100 * refreshPercent; early > 0 && early < wait {
		return early
	}
	return wait
}

// identified is the record of a volume that a decision was carried out for.
func identified(rec record, m *mountRequest, a asked) record {
	in := a.decision.Input()
	rec = named(rec, m, a)
	rec.Class, rec.ClassUID, rec.ClassGeneration = in.SPC.Name, in.SPC.UID, in.SPC.Generation
	rec.Provider, rec.ParametersSHA256, rec.DecisionID = in.SPC.Provider, in.SPC.ParametersSHA256, a.decision.ID
	rec.TokenVerified = tokenVerified(in)
	return rec
}

func tokenVerified(in policies.Input) bool {
	return in.Subject.TokenVerified != nil && *in.Subject.TokenVerified
}

// named fills in whose volume it is, and leaves what is known of its content.
func named(rec record, m *mountRequest, a asked) record {
	in := a.decision.Input()
	rec.PodUID, rec.Volume = m.key.podUID, m.key.volume
	rec.Namespace, rec.Pod, rec.ServiceAccount = in.Subject.Namespace, in.Subject.PodName, in.Subject.ServiceAccount
	return rec
}

// uncover detaches what somebody mounted over our volume, and reports whether
// the volume is on top now.
func (d *Driver) uncover(t target, dir *hardening.Target) bool {
	d.c.Recorder.Owe(audit.IntegrityFailure(d.subject(t.key), audit.ReasonVolumeCovered))
	if err := dir.Uncover(); err != nil {
		d.c.Logger.Warn("foreign mount over a volume not detached", slog.String(keyPodUID, t.key.podUID), slog.String(keyVolume, t.key.volume), slog.Any(keyError, err))
		return false
	}
	return true
}
