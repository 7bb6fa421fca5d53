package driver

import (
	"context"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/policies"
)

// republishPeriod is about how late kubelet may come for a volume that is due:
// it calls once in one to one and a half minutes.
const republishPeriod = 2 * time.Minute

// decided notes that policy reached a verdict. The time to live counts only
// while it does: what passed without, because policy was broken or the plugin
// down, is excused.
func (r record) decided(now time.Time, longest time.Duration) record {
	gap := now.Sub(r.DecidedAt)
	switch {
	case r.DecidedAt.IsZero() || gap < 0:
	case r.Undecided:
		r.Excused += gap
	case gap > longest:
		r.Excused += gap - longest
	}
	r.DecidedAt, r.Undecided = now, false
	return r
}

// fetched notes that the content is as fresh as can be.
func (r record) fetched(now time.Time) record {
	r.FetchedAt, r.DecidedAt = now, now
	r.Excused, r.Undecided, r.TTLMissed, r.Failures, r.Restored = 0, false, false, 0, false
	return r
}

// outlived reports whether the content is older than its time to live.
func (r record) outlived(now time.Time, o policies.Obligations) bool {
	ttl := ttlOf(o)
	return ttl > 0 && !r.FetchedAt.IsZero() && !r.Denial.Empty && now.Sub(r.FetchedAt)-r.Excused > ttl
}

// ttlOf bounds what policy says, since a product that overflows would be over
// at once.
func ttlOf(o policies.Obligations) time.Duration {
	const longest = int64(365 * 24 * time.Hour / time.Second)
	return time.Duration(min(max(o.TTLSeconds, 0), longest)) * time.Second
}

// expire deals with content that was not fetched again within its time to live: it stays, with an event, or goes where policy
// says on_expire: scrub. The error is a *revokedError if it went.
func (d *Driver) expire(ctx context.Context, r revocation, rec record) error {
	o := r.asked.decision.Obligations
	if !rec.outlived(d.c.Clock(), o) {
		return nil
	}
	if !rec.TTLMissed {
		rec.TTLMissed = true
		d.c.Records.put(rec)
		d.c.Recorder.Owe(audit.TTLMissed(r.asked.intent, r.asked.decision))
		d.tellPod(podstatus.TTLMissed, rec, "")
	}
	if o.OnExpire != policies.OnLossScrub {
		return nil
	}
	r.cause, r.err = audit.ReasonTTLExpired, &revokedError{}
	now := d.c.Clock()
	rec = named(rec, r.m, r.asked)
	rec.Denial, rec.DueAt = rec.Denial.denied(now), now.Add(firstBackoff)
	rec.Denial.DecisionID, rec.Denial.Held = r.asked.decision.ID, r.held
	return d.revoke(ctx, r, rec)
}
