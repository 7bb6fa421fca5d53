package sample

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies"
)

// repeats is how often kubelet tried the denied mount again.
const repeats = 3

// tell has the events of the sample recorded, by two processes. What is between
// them is what a thief would have: the log as it was then.
// docs/AUDIT_EVENTS.md shows the events with their places.
func (p Paths) tell(ctx context.Context) error {
	decides, err := starter(ctx)
	if err != nil {
		return err
	}
	if err := p.process(ctx, decides, (*world).first); err != nil {
		return err
	}
	if err := os.CopyFS(p.Earlier, os.DirFS(p.Log)); err != nil {
		return fmt.Errorf("copy the log: %w", err)
	}
	return p.process(ctx, decides, (*world).second)
}

func (w *world) first(ctx context.Context) error {
	return errors.Join(
		w.record(ctx, audit.PolicyLoaded(w.policy.report()), audit.DriverStarted()),
		w.delivery(ctx),
		w.record(ctx, audit.DriverStopped(audit.ReasonSignal)),
	)
}

func (w *world) second(ctx context.Context) error {
	was := w.log.Opening()
	epochs, err := w.log.Epochs()
	if err != nil {
		return err
	}
	last := epochs[len(epochs)-1]
	found := audit.LogFound(audit.Opening{Epoch: last.Number, Size: last.Size, Root: last.Root, Unsigned: was.Unsigned})
	return errors.Join(
		w.record(ctx, found, audit.DriverStarted()),
		w.refusals(ctx),
		w.keep(), // and right after that, the key is replaced
		w.log.RotateKey(ctx),
		w.rotation(ctx),
		w.record(ctx, audit.Unmounted(claimOf(mount()), ""), audit.DriverStopped(audit.ReasonSignal)),
	)
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

func (w *world) rotation(ctx context.Context) error {
	in := mount()
	in.Phase = policies.PhaseRotate
	d := w.policy.decide(ctx, in)
	asked := audit.Decided(d)
	expires := time.Now().Add(time.Hour).UTC()
	return w.record(ctx, asked, audit.Rotated(asked.ID, d, files("v2", "v1"), audit.Rotation{ExpiresAt: &expires}))
}

func (w *world) record(ctx context.Context, events ...audit.Event) error {
	for _, e := range events {
		if err := w.recorder.Record(ctx, e); err != nil {
			return err
		}
	}
	return nil
}
