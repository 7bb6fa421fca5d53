package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/hardening"
)

// unpublish scrubs and unmounts everything at the target and removes the
// directory. It is idempotent: what is gone is fine (kubernetes#90752).
func (d *Driver) unpublish(_ context.Context, t target) error {
	subject := d.subject(t.key)
	found, err := d.detach(t)
	hardening.FaultPoint("unpublish/detached")
	if found.Foreign > 0 {
		d.c.Recorder.Owe(audit.ForeignMount(subject, audit.ForeignUnmounted))
	}
	if found.Plain > 0 {
		// Under the volume or in its place, on the node's disk.
		d.c.Recorder.Owe(audit.IntegrityFailure(subject, audit.ReasonProviderWroteTarget))
	}
	if err != nil {
		// Kubelet shows nobody that an unmount failed, so we must.
		d.c.Recorder.Owe(audit.Unmounted(subject, audit.ReasonUnmountFailed))
		rec, _ := d.c.Records.get(t.key)
		d.tellPod(podstatus.UnmountFailed, rec, "")
		d.c.Logger.Error("unmount failed", slog.String(keyPodUID, t.key.podUID), slog.String(keyVolume, t.key.volume), slog.Any(keyError, err))
		return fmt.Errorf("unmount: %w", err)
	}
	reason := audit.Reason("")
	if found.ScrubErrors > 0 {
		reason = audit.ReasonScrubIncomplete
		d.c.Logger.Warn("volume was not scrubbed whole before its unmount", slog.String(keyPodUID, t.key.podUID),
			slog.String(keyVolume, t.key.volume), slog.Int(keyCount, found.ScrubErrors))
	}
	if found.Ours > 0 {
		d.c.Recorder.Owe(audit.Unmounted(subject, reason))
	}
	hardening.FaultPoint("unpublish/event-owed")
	d.forget(t)
	hardening.FaultPoint("unpublish/forgotten")
	return nil
}

// detach takes everything off the target. Where its directory is gone a volume
// may be left that was moved with it.
func (d *Driver) detach(t target) (hardening.Detached, error) {
	dir, err := d.c.Volumes.Target(t.key.podUID, t.key.volume)
	if errors.Is(err, fs.ErrNotExist) {
		return d.c.Volumes.DetachMoved(t.key.podUID, t.key.volume)
	}
	if err != nil {
		return hardening.Detached{}, fmt.Errorf("open target: %w", err)
	}
	defer dir.Close()
	return dir.Detach()
}

func (d *Driver) forget(t target) {
	rec, _ := d.c.Records.get(t.key)
	d.brake.bury(rec.Denial, d.c.Clock())
	d.c.Records.remove(t.key)
	d.requests.forget(t.key)
	d.pending.forget(t.key)
	d.budget.release(t.key)
	d.legacy.remove(t.key)
	d.orphans.forget(t.key)
	if d.c.Statuses != nil {
		d.c.Statuses.Forget(t.key.podUID, t.key.volume)
	}
}
