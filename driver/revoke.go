package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
)

// revokedError is what kubelet is told, once, when content was taken away: the
// pod's author sees it as an event.
type revokedError struct {
	denial *policies.DeniedError // nil if its time to live ran out
}

// Error says why.
func (e *revokedError) Error() string {
	if e.denial == nil {
		return "the mounted secrets were removed: their time to live ran out and they could not be fetched again"
	}
	return "the mounted secrets were revoked: " + textDeniedByPolicy + ruleList(e.denial.RuleIDs())
}

func (e *revokedError) outcome() outcome {
	o := outcome{code: codes.Unavailable, reason: audit.ReasonTTLExpired, metric: metricRotate, text: e.Error(), hint: "see why they could not be fetched: with --enable-secret-rotation they come back with the next fetch, without it when the pod is made anew"}
	if e.denial != nil {
		o.reason, o.metric, o.hint, o.decision = audit.ReasonPolicyDenied, metricDenied, remedyOf(e.denial.Findings), e.denial.DecisionID
	}
	return o
}

// revocation is a mounted volume whose content policy speaks against.
type revocation struct {
	m     *mountRequest
	dir   *hardening.Target
	asked asked
	cause audit.Reason // PolicyDenied or TTLExpired
	held  bool         // the brake held it back before
	err   *revokedError
}

// deny deals with a completed denial of a mounted volume. Nothing is fetched any
// more; the content goes once a second evaluation agrees, unless policy keeps
// it or the brake holds. It waits for no log, API server or provider (P8), and
// nothing but a denial comes here (P9).
func (d *Driver) deny(ctx context.Context, r revocation, rec record) error {
	rec = named(rec, r.m, r.asked)
	now := d.c.Clock()
	rec.Denial = rec.Denial.denied(now)
	rec.Denial.DecisionID = r.asked.decision.ID
	rec.DueAt, rec.Failures = now.Add(confirmAfter), 0
	d.c.Records.put(rec)
	hardening.FaultPoint("deny/noted")
	if r.m.again == nil { // else nobody was to rotate anything
		d.metrics.rotated(ctx, rec.Provider, metricDenied, 0)
	}
	if rec.Denial.First.Equal(now) {
		d.logDenial(rec, "policy denies a mounted volume; its content goes if the next evaluation agrees, unless policy keeps it")
	}
	switch {
	case rec.Denial.Empty && isEmpty(r.dir):
		return d.told(r, rec)
	case !rec.Denial.confirmed():
		d.pending.add(task{key: rec.key(), cause: causeDenial, at: rec.Denial.First.Add(confirmAfter)})
		return nil
	case r.asked.decision.Obligations.OnRevoke == policies.OnLossKeep:
		return d.expire(ctx, r, rec)
	}
	return d.revoke(ctx, r, rec)
}

// revoke empties a volume in place, unless the brake holds: the mount stays, so
// that the pod goes on and the content can come back.
func (d *Driver) revoke(ctx context.Context, r revocation, rec record) error {
	held := rec.Denial.Held
	engine := d.c.Policy.Active()
	if engine.Digest() != r.asked.decision.BundleDigest {
		// Another bundle came into force since, to mend this one perhaps: it decides,
		// and whether the brake holds is not for it to say of this denial.
		d.pending.add(task{key: rec.key(), cause: causePolicy, at: d.c.Clock()})
		return nil
	}
	// A time to live runs out for each volume by itself.
	rec, may := d.revocable(rec, braking{released: engine.MassRevoke(), surveyed: r.cause == audit.ReasonPolicyDenied})
	if !may {
		if !rec.Denial.Held { // it is not known yet whether it is
			d.pending.add(task{key: rec.key(), cause: causeDenial, at: d.c.Clock().Add(confirmAfter)})
		} else if !held {
			d.metrics.revocations.Add(ctx, 1, with("outcome", "held"))
			d.logDenial(rec, "revocation is held back: too many volumes of this node are denied at once")
		}
		return nil
	}
	hardening.FaultPoint("revoke/allowed")
	failure := d.empty(r.dir)
	hardening.FaultPoint("revoke/emptied")
	d.c.Recorder.Owe(audit.Revoked(r.asked.intent, r.asked.decision, r.cause, reasonOf(failure)))
	hardening.FaultPoint("revoke/event-owed")
	if failure != nil {
		d.metrics.revocations.Add(ctx, 1, with("outcome", "failed"))
		d.c.Logger.Error("revoked volume is not empty, another try follows", slog.String(keyPodUID, rec.PodUID), slog.String(keyVolume, rec.Volume),
			slog.String(keyDecision, rec.Denial.DecisionID), slog.Any(keyError, failure))
		return nil
	}
	d.metrics.revocations.Add(ctx, 1, with("outcome", "emptied"))
	rec.Denial.Emptying, rec.Denial.Empty, rec.Denial.Expired = false, true, r.cause == audit.ReasonTTLExpired
	rec.Denial.Untold = r.m.again != nil
	// The provider must not be told of versions that nobody holds any more.
	rec.Versions = nil
	d.c.Records.put(rec)
	hardening.FaultPoint("revoke/remembered")
	d.tellStatus(rec)
	d.logDenial(rec, "mounted secrets revoked: the volume is empty")
	return r.err
}

// told is the answer to kubelet's first call after a volume was emptied without
// one: what a revocation in its call would have answered.
func (d *Driver) told(r revocation, rec record) error {
	if r.m.again != nil || !rec.Denial.Untold {
		return nil
	}
	rec.Denial.Untold = false
	d.c.Records.put(rec)
	if rec.Denial.Expired {
		return &revokedError{}
	}
	return r.err
}

// foundEmpty sees to a volume that was denied and shows nothing, when the record of
// it does not say so: the plugin before was killed while it revoked, within the
// moments by which volumes.db and the log follow. What it had not come to yet goes
// now. Else its event would never be written, and the content not come back, if
// policy allows the volume by this time.
func (d *Driver) foundEmpty(rec record, dir *hardening.Target, denied bool) record {
	if !rec.Restored || rec.Denial.First.IsZero() || rec.Denial.Empty || !isEmpty(dir) {
		return rec
	}
	if failure := d.empty(dir); failure != nil && denied {
		return rec // a revocation from the beginning, with the events of one
	}
	n := &rec.Denial
	n.RevokedBy = cmp.Or(n.RevokedBy, n.DecisionID)
	if n.RevokedAt.IsZero() {
		n.RevokedAt = d.c.Clock()
	}
	n.Emptying, n.Empty, n.Expired, n.Untold = false, true, rec.TTLMissed, true
	rec.Versions = nil
	d.c.Records.put(rec)
	d.c.Recorder.Owe(audit.RevokedEarlier(d.subject(rec.key()), n.RevokedBy, n.cause()))
	d.logDenial(rec, "mounted secrets were revoked before the start: the volume is empty")
	return rec
}

// notEmptyError is content that a revocation could not take away.
type notEmptyError struct{ err error }

// Error gives the first reason.
func (e *notEmptyError) Error() string { return fmt.Sprintf("empty volume: %v", e.err) }

func (d *Driver) empty(dir *hardening.Target) error {
	vol, err := dir.OpenVolume()
	if err == nil {
		err = errors.Join(vol.Scrub(), vol.Close())
	}
	if err != nil {
		return &notEmptyError{err}
	}
	return nil
}

func (d *Driver) logDenial(rec record, text string) {
	d.c.Logger.Warn(text, slog.String(keyNamespace, rec.Namespace), slog.String(keyPod, rec.Pod), slog.String(keyVolume, rec.Volume), //nolint:sloglint // the texts are constants of the callers
		slog.String(keyDecision, rec.Denial.DecisionID))
}
