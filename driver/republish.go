package driver

import (
	"context"
	"log/slog"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/portcullis-csi/portcullis/audit"
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
	// refreshPart of a time to live passes before the next fetch.
	refreshPercent = 80
)

// republish keeps a mounted volume fresh. It never unmounts, and whatever goes
// wrong keeps the content and answers OK (promise P9): an error would only
// delay kubelet's next call, and on kubelets before kubernetes#139045 a final
// code made it delete the live mount.
func (d *Driver) republish(ctx context.Context, req *csi.NodePublishVolumeRequest, t target, dir *hardening.Target) error {
	rec, known := d.c.Records.get(t.key)
	now := d.c.Clock()
	if known && now.Before(rec.DueAt) {
		d.metrics.publishSkipped.Add(ctx, 1, with())
		return nil
	}
	m, err := parsePublish(req, t)
	if err != nil {
		d.c.Recorder.Owe(audit.Rejected(auditClaim(m), classify(err).reason))
		d.postpone(ctx, rec, t, err)
		return nil
	}
	if err := d.refresh(ctx, m, dir, rec); err != nil {
		d.postpone(ctx, rec, t, err)
	}
	return nil
}

// refresh decides again and, where rotation is on, fetches again.
func (d *Driver) refresh(ctx context.Context, m *mountRequest, dir *hardening.Target, rec record) error {
	a, err := d.decide(ctx, m, policies.PhaseRotate)
	if err != nil {
		return err
	}
	if !d.c.Rotation.Enabled {
		rec.DueAt = d.c.Clock().Add(decisionInterval)
		d.c.Records.put(d.identified(rec, m, a))
		return nil
	}
	a.mounted = rec.Versions
	got, err := d.rotate(ctx, m, a, dir)
	now := d.c.Clock()
	if err != nil {
		d.c.Recorder.Owe(audit.RotationFailed(a.intent, a.decision, reasonOf(err)).Took(now.Sub(a.begin)))
		return err
	}
	if got.Changed {
		d.c.Recorder.Owe(audit.Rotated(a.intent, a.decision, filesOf(got, nil), lateness(rec, a)).Took(now.Sub(a.begin)))
	}
	rec.FetchedAt, rec.DueAt, rec.Failures = now, now.Add(d.refreshAfter(a.decision.Obligations)), 0
	rec.Versions = versionsOf(got)
	d.c.Records.put(d.identified(rec, m, a))
	d.metrics.rotated(ctx, rec.Provider, "", now.Sub(a.begin).Seconds())
	d.countClamped(ctx, rec.Provider, got)
	return nil
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
	vol.Allow(d.c.MaxVolumeBytes, d.budget.extend(m.key, grant.Subject().Namespace, d.largestVolume()))
	// Whatever comes of it: what was taken and is not used goes back.
	defer d.settle(m.key, grant.Subject().Namespace, vol)
	return d.c.Deliverer.Deliver(ctx, provider.Call{
		Grant: grant, Effective: a.effective, Tokens: m.tokens, Secrets: m.secrets, Volume: vol,
		CurrentVersions: providerVersions(a.mounted), Rotate: true,
	})
}

// lateness says how long after its time a rotation came. A volume whose record
// was lost has no time to keep.
func lateness(rec record, a asked) audit.Rotation {
	if rec.DueAt.IsZero() || !a.begin.After(rec.DueAt) {
		return audit.Rotation{}
	}
	return audit.Rotation{LateByMS: a.begin.Sub(rec.DueAt).Milliseconds()}
}

// postpone sets the next try of a volume whose refresh failed. A deny keeps
// the content too: taking it away is for the revocation, not for a refresh.
func (d *Driver) postpone(ctx context.Context, rec record, t target, err error) {
	rec.PodUID, rec.Volume = t.key.podUID, t.key.volume
	rec.Failures++
	rec.DueAt = d.c.Clock().Add(d.backoff(rec.Failures))
	d.c.Records.put(rec)
	o := classify(err)
	d.metrics.rotated(ctx, rec.Provider, o.metric, 0)
	d.c.Logger.WarnContext(ctx, "refresh failed, the mounted content stays", slog.String(keyNamespace, rec.Namespace),
		slog.String(keyPod, rec.Pod), slog.String(keyVolume, rec.Volume), slog.String(keyError, o.text), slog.Int(keyCount, rec.Failures))
}

func (d *Driver) backoff(failures int) time.Duration {
	most := max(d.c.Rotation.Interval, decisionInterval)
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
	if ttl := time.Duration(o.TTLSeconds) * time.Second * refreshPercent / 100; ttl > 0 && ttl < wait {
		return ttl
	}
	return wait
}

// identified fills in what a rebuilt record lacks.
func (d *Driver) identified(rec record, m *mountRequest, a asked) record {
	in := a.decision.Input()
	rec.PodUID, rec.Volume = m.key.podUID, m.key.volume
	rec.Namespace, rec.Pod, rec.ServiceAccount = in.Subject.Namespace, in.Subject.PodName, in.Subject.ServiceAccount
	rec.Class, rec.ClassUID, rec.ClassGeneration = in.SPC.Name, in.SPC.UID, in.SPC.Generation
	rec.Provider, rec.ParametersSHA256, rec.DecisionID = in.SPC.Provider, in.SPC.ParametersSHA256, a.decision.ID
	return rec
}

// uncover detaches what somebody mounted over our volume.
func (d *Driver) uncover(t target, dir *hardening.Target) {
	d.c.Recorder.Owe(audit.IntegrityFailure(d.subject(t.key), audit.ReasonVolumeCovered))
	if err := dir.Uncover(); err != nil {
		d.c.Logger.Warn("foreign mount over a volume not detached", slog.String(keyPodUID, t.key.podUID), slog.String(keyVolume, t.key.volume), slog.Any(keyError, err))
	}
}
