package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

var (
	errForeignMount  = errors.New("something that is not ours is mounted at the target")
	errOccupied      = errors.New("the target directory holds files and nothing is mounted on it")
	errTargetGone    = errors.New("the directory of a mounted volume is gone")
	errSelfWritten   = errors.New("the provider wrote into the target directory itself")
	errBundleExpired = errors.New("the policy bundle expired while secrets were fetched")
)

// asked is a request that policy has answered and the log has recorded.
type asked struct {
	decision  policies.Decision
	effective kube.Effective
	class     *spcv1.SecretProviderClass
	seen      audit.Seen
	intent    string    // id of the durable intent event
	notAfter  time.Time // end of the bundle that decided; zero for none
	begin     time.Time
	mounted   []objectVersion // what the volume holds now, on a rotation
	standing  standing
}

// publish releases the requested objects to one pod, or nothing at all: when
// it fails, nothing is mounted and the target is as it was.
func (d *Driver) publish(ctx context.Context, m *mountRequest, dir *hardening.Target) error {
	a, err := d.decide(ctx, m, policies.PhaseMount)
	if err != nil {
		return err
	}
	grant, err := a.decision.Grant()
	if err != nil {
		return err
	}
	got, err := d.deliver(ctx, m, a, dir)
	d.c.Recorder.Owe(audit.Finished(a.intent, a.decision, filesOf(got, err), reasonOf(err)).Took(d.c.Clock().Sub(a.begin)))
	hardening.FaultPoint("publish/delivery-owed")
	if err != nil {
		return err
	}
	d.remember(m, a, got)
	hardening.FaultPoint("publish/remembered")
	d.tellMounted(m, a)
	d.countClamped(ctx, grant.Provider(), got)
	return nil
}

// decide confirms who asks, gathers the facts, asks the policy, and makes the
// decision durable: the event comes before the fetch, since a release that
// leaves no trace must not happen (promise P1).
func (d *Driver) decide(ctx context.Context, m *mountRequest, phase policies.Phase) (asked, error) {
	a := asked{begin: d.c.Clock()}
	input, err := d.facts(ctx, m, phase, &a)
	if err != nil {
		if !m.gaveWay(ctx, err) {
			d.c.Recorder.Owe(audit.Rejected(auditClaim(m), classify(err).reason))
		}
		return a, err
	}
	engine := d.c.Policy.Active()
	a.notAfter = engine.Manifest().NotAfter
	a.decision = engine.Decide(ctx, input)
	if a.decision.Verdict() == policies.VerdictError && errors.Is(ctx.Err(), context.Canceled) {
		// An unpublish came in between: no policy was slow, and nobody should
		// be told so.
		if !m.gaveWay(ctx, ctx.Err()) {
			d.c.Recorder.Owe(audit.Rejected(auditClaim(m), audit.ReasonAborted))
		}
		return a, ctx.Err()
	}
	hardening.FaultPoint("decide/decided")
	d.countDecision(ctx, phase, a.decision.Verdict())
	d.c.Decided(a.decision)
	event := audit.Decided(a.decision).SawObjects(a.seen)
	a.intent = event.ID
	err = d.record(ctx, m, a.decision, event)
	hardening.FaultPoint("decide/recorded")
	if err != nil {
		return a, err
	}
	grant, err := a.decision.Grant()
	// Only what policy has allowed becomes a label: a class can call its
	// provider what it likes.
	m.provider = grant.Provider()
	if cause := a.decision.Cause(); cause != nil {
		d.c.Logger.WarnContext(ctx, "policy did not reach a decision", slog.String(keyDecision, a.decision.ID), slog.Any(keyError, cause))
	}
	return a, err
}

// record makes an allow durable. A refusal needs no proof to stand: its event
// is owed where it cannot be recorded, and where it revokes nobody waits for
// the log (promise P8). Nor does it where nothing is fetched: an allow that
// releases nothing must not hold up the denial of the next volume.
func (d *Driver) record(ctx context.Context, m *mountRequest, decision policies.Decision, e audit.Event) error {
	allowed := decision.Verdict() == policies.VerdictAllow
	if m.again != nil || !allowed && decision.Input().Phase == policies.PhaseRotate {
		d.c.Recorder.Owe(e)
		return nil
	}
	err := d.c.Recorder.Record(ctx, e)
	if err == nil || !allowed {
		if err != nil {
			d.c.Recorder.Owe(e)
		}
		return nil
	}
	return fmt.Errorf("record decision %s: %w", decision.ID, err)
}

func (d *Driver) facts(ctx context.Context, m *mountRequest, phase policies.Phase, a *asked) (policies.Input, error) {
	confirmed, err := d.c.Verifier.Verify(ctx, m.asks(phase))
	if err != nil {
		return policies.Input{}, err
	}
	if confirmed.ContextTokens {
		if err := m.takeContextTokens(); err != nil {
			return policies.Input{}, err
		}
	}
	if m.again != nil {
		if confirmed, err = m.again.complete(confirmed); err != nil {
			return policies.Input{}, err
		}
	}
	a.standing = standingOf(confirmed)
	d.tellUnverified(ctx, phase, confirmed)
	hardening.FaultPoint("decide/identity-confirmed")
	d.budget.own(m.key, m.claim.Namespace) // which is confirmed now
	a.class, err = d.c.Classes.Class(ctx, m.claim.Namespace, m.class)
	if err != nil {
		return policies.Input{}, &classError{namespace: m.claim.Namespace, name: m.class, err: err}
	}
	hardening.FaultPoint("decide/class-read")
	a.seen = audit.Seen{
		Pod: confirmed.Pod.ResourceVersion, Namespace: confirmed.Namespace.ResourceVersion,
		ServiceAccount: confirmed.ServiceAccount.ResourceVersion, Class: a.class.ResourceVersion,
	}
	input, effective, err := kube.BuildInput(kube.Facts{
		Phase: phase, Now: d.c.Clock(), Cluster: d.c.Cluster, Node: d.c.Node, DriverName: d.c.DriverName,
		Pod: confirmed.Pod, Namespace: confirmed.Namespace, ServiceAccount: confirmed.ServiceAccount, Class: a.class,
		VolumeName: m.key.volume, VolumeMountGroup: m.group,
		Tokens: confirmed.Tokens, TokenVerified: &confirmed.TokenVerified,
	})
	a.effective = effective
	return input, err
}

// deliver fetches into a detached volume that nobody can see, checks it, and
// attaches it complete and read-only in one step (promise P4).
func (d *Driver) deliver(ctx context.Context, m *mountRequest, a asked, dir *hardening.Target) (provider.Delivered, error) {
	grant, err := a.decision.Grant()
	if err != nil {
		return provider.Delivered{}, err
	}
	if err := d.budget.admit(m.key, grant.Subject().Namespace); err != nil {
		return provider.Delivered{}, err
	}
	hardening.FaultPoint("deliver/admitted")
	attached := false
	defer func() {
		if !attached { // also when something panicked
			d.budget.release(m.key)
		}
	}()
	vol, err := d.newVolume(grant)
	if err != nil {
		return provider.Delivered{}, fmt.Errorf("make volume: %w", err)
	}
	defer vol.Close()
	hardening.FaultPoint("deliver/volume-made")
	got, err := d.fill(ctx, m, provider.Call{Grant: grant, Effective: a.effective, Volume: vol}, vol)
	if touched := d.checkUntouched(m, dir.ScrubPlain); touched != nil {
		return got, touched
	}
	if err != nil {
		return got, err
	}
	if err := d.c.Recorder.Confirm(ctx, a.intent); err != nil {
		return got, fmt.Errorf("record decision %s: %w", a.decision.ID, err)
	}
	if !a.notAfter.IsZero() && !d.c.Clock().Before(a.notAfter) {
		return got, errBundleExpired
	}
	if err := ctx.Err(); err != nil {
		return got, err
	}
	hardening.FaultPoint("deliver/checked")
	if err := d.attach(m, vol, dir); err != nil {
		return got, err
	}
	attached = true
	hardening.FaultPoint("deliver/attached")
	d.settle(m.key, grant.Subject().Namespace, vol)
	return got, nil
}

func (d *Driver) attach(m *mountRequest, vol *hardening.Volume, dir *hardening.Target) error {
	if err := dir.Prepare(); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	hardening.FaultPoint("attach/directory-made")
	err := vol.Attach(dir)
	if err == nil {
		return nil
	}
	// A provider that writes by itself may do so after its reply.
	if touched := d.checkUntouched(m, dir.ScrubPlain); touched != nil {
		err = touched
	}
	// Kubelet sends no unpublish after a final code, so nothing may stay.
	return errors.Join(fmt.Errorf("attach volume: %w", err), dir.Discard())
}

// fill has a volume filled, or refilled, and reserves what it needs as soon as
// that is known.
func (d *Driver) fill(ctx context.Context, m *mountRequest, c provider.Call, vol *hardening.Volume) (provider.Delivered, error) {
	var refused error
	vol.Allow(d.c.MaxVolumeBytes, func(total int64) error {
		refused = d.budget.reserve(m.key, c.Grant.Subject().Namespace, total)
		hardening.FaultPoint("deliver/budget-taken")
		return refused
	})
	vol.Hurry(ctx.Done()) // which ends when an unpublish wants the target
	c.Tokens, c.Secrets = m.tokens, m.secrets
	got, err := d.c.Deliverer.Deliver(ctx, c)
	if err != nil && refused != nil {
		return got, refused
	}
	return got, err
}

// largestVolume is what a volume may fill at most: two generations of the
// largest content, while one takes the other's place.
func (c Config) largestVolume() int64 {
	return hardening.Limits{Bytes: c.MaxVolumeBytes}.SizeBytes()
}

func (d *Driver) newVolume(g policies.Grant) (*hardening.Volume, error) {
	l := hardening.Limits{Bytes: d.c.MaxVolumeBytes}
	if gid, ok := g.FSGroup(); ok {
		l.GID = int(gid)
	}
	return d.c.Volumes.NewVolume(l)
}

// checkUntouched refuses when the provider has written into the real target
// directory: that is a plain directory on the node's disk (promise P5).
func (d *Driver) checkUntouched(m *mountRequest, scrub func() (int, error)) error {
	found, err := scrub()
	switch {
	case errors.Is(err, hardening.ErrMounted):
		// Nothing was mounted when the call began.
		d.c.Recorder.Owe(audit.ForeignMount(d.subject(m.key), audit.ForeignKept))
		return errForeignMount
	case found > 0: // also if not all of it could be removed
		d.c.Recorder.Owe(audit.IntegrityFailure(d.subject(m.key), audit.ReasonProviderWroteTarget))
		return errors.Join(errSelfWritten, err)
	case err != nil:
		return fmt.Errorf("check target directory: %w", err)
	}
	return nil
}

// guarded is a mounted volume whose content is only replaced once the provider
// was seen to have left the directory beneath it alone.
type guarded struct {
	*hardening.Volume
	check func() error // asked once
}

// Replace implements provider.Volume.
func (g guarded) Replace(files []hardening.File) (changed bool, err error) {
	if err := g.check(); err != nil {
		return false, err
	}
	return g.Volume.Replace(files)
}

func (d *Driver) remember(m *mountRequest, a asked, got provider.Delivered) {
	in := a.decision.Input()
	now := d.c.Clock()
	rec := record{
		PodUID: m.key.podUID, Volume: m.key.volume, Namespace: in.Subject.Namespace, Pod: in.Subject.PodName,
		ServiceAccount: in.Subject.ServiceAccount, Class: in.SPC.Name, ClassUID: in.SPC.UID, ClassGeneration: in.SPC.Generation,
		Provider: in.SPC.Provider, ParametersSHA256: in.SPC.ParametersSHA256, DecisionID: a.decision.ID,
		DueAt: now.Add(d.refreshAfter(a.decision.Obligations)), Versions: versionsOf(got),
		TokenVerified: tokenVerified(in),
	}.by(a.decision).fetched(now)
	d.c.Records.put(rec)
	d.requests.keep(m, a)
	d.c.Logger.Info("volume mounted", slog.String(keyNamespace, rec.Namespace), slog.String(keyPod, rec.Pod),
		slog.String(keyVolume, rec.Volume), slog.String(keyProvider, rec.Provider), slog.String(keyDecision, rec.DecisionID),
		slog.Int(keyCount, len(got.Files)), slog.Duration(keyDuration, now.Sub(a.begin)))
}

// tellMounted tells whoever is interested what is new on the node. The pod has
// its secrets: nothing here may fail or wait.
func (d *Driver) tellMounted(m *mountRequest, a asked) {
	rec, _ := d.c.Records.get(m.key)
	d.tellStatus(rec)
	if len(a.class.Spec.SecretObjects) > 0 {
		d.tellPod(podstatus.NotSynced, rec, "")
	}
}

// look opens the target and says what is there. A directory that kubelet has
// not made is a request for a pod that kubelet does not know.
func (d *Driver) look(t target) (*hardening.Target, hardening.State, error) {
	dir, err := d.c.Volumes.Target(t.key.podUID, t.key.volume)
	if _, known := d.c.Records.get(t.key); known && errors.Is(err, fs.ErrNotExist) {
		// Somebody moved it. A final code would have kubelet delete what is left.
		return nil, 0, errTargetGone
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, &requestError{fieldTarget, "has no directory made by kubelet", "call the driver through kubelet, and check --kubelet-root"}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open target: %w", err)
	}
	state, err := dir.State()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("look at target: %w", err), dir.Close())
	}
	return dir, state, nil
}
