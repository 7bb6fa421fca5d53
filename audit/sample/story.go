package sample

import (
	"context"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies"
)

// repeats is how often kubelet tried the denied mount again.
const repeats = 3

// tell has the events of the sample recorded. docs/AUDIT_EVENTS.md shows them,
// with their places.
func (w *world) tell(ctx context.Context) error {
	for _, chapter := range []func(context.Context) error{
		w.begin, w.delivery, w.refusals, w.handover, w.rotation, w.end,
	} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) begin(ctx context.Context) error {
	return w.record(ctx, audit.PolicyLoaded(w.policy.report()), audit.DriverStarted())
}

func (w *world) delivery(ctx context.Context) error {
	d := w.policy.decide(ctx, mount())
	intent := audit.Decided(d)
	return w.record(ctx, intent, audit.Finished(intent.ID, d, files("v1", ""), "").Took(31*time.Millisecond))
}

func (w *world) refusals(ctx context.Context) error {
	for range 1 + repeats {
		if err := w.record(ctx, audit.Decided(w.policy.decide(ctx, strangers()))); err != nil {
			return err
		}
	}
	in := mount()
	claim := claimOf(in)
	claim.PodUID = "99999999-9999-4999-8999-999999999999"
	return w.record(ctx, audit.Rejected(claim, audit.ReasonIdentityUnconfirmed))
}

// handover comes right after somebody took a checkpoint away.
func (w *world) handover(ctx context.Context) error {
	if err := w.keep(); err != nil {
		return err
	}
	return w.log.RotateKey(ctx)
}

func (w *world) rotation(ctx context.Context) error {
	in := mount()
	in.Phase = policies.PhaseRotate
	d := w.policy.decide(ctx, in)
	asked := audit.Decided(d)
	expires := time.Now().Add(time.Hour).UTC()
	return w.record(ctx, asked, audit.Rotated(asked.ID, d, files("v2", "v1"), audit.Rotation{ExpiresAt: &expires}))
}

func (w *world) end(ctx context.Context) error {
	return w.record(ctx, audit.Unmounted(claimOf(mount()), ""), audit.DriverStopped(audit.ReasonSignal))
}

func (w *world) record(ctx context.Context, events ...audit.Event) error {
	for _, e := range events {
		if err := w.recorder.Record(ctx, e); err != nil {
			return err
		}
	}
	return nil
}
