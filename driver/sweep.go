package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/hardening"
)

// orphanWait lies between the two answers of the API server that make a volume
// an orphan: kubelet may come back to it, and an API server may be restored from
// a backup.
const orphanWait = 10 * time.Minute

// Pods knows which pods the cluster has.
type Pods interface {
	// PodExists reports whether a pod of this UID is in the cluster. No answer
	// is an error, never false.
	PodExists(ctx context.Context, uid string) (bool, error)
}

// orphans are the volumes whose pod the API server did not know, and since when.
type orphans struct {
	mu    sync.Mutex
	since map[targetKey]time.Time
}

// missing notes one more answer, and reports whether it confirms an earlier
// one. A clock that was set back begins anew.
func (o *orphans) missing(k targetKey, now time.Time) (confirmed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since == nil {
		o.since = map[targetKey]time.Time{}
	}
	first, known := o.since[k]
	if !known || now.Before(first) {
		o.since[k] = now
		return false
	}
	return now.Sub(first) >= orphanWait
}

// waits reports whether an answer now could not confirm anything.
func (o *orphans) waits(k targetKey, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	first, known := o.since[k]
	return known && !now.Before(first) && now.Sub(first) < orphanWait
}

func (o *orphans) forget(k targetKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.since, k)
}

// keep forgets all that is not mounted any more.
func (o *orphans) keep(mounts []hardening.Mounted) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.since, func(k targetKey, _ time.Time) bool {
		return !slices.ContainsFunc(mounts, func(m hardening.Mounted) bool { return k == targetKey{m.PodUID, m.Volume} })
	})
}

func (o *orphans) count() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return int64(len(o.since))
}

// Sweep removes volumes that nobody will ever unpublish: kubelet keeps no note of
// them, the API server has answered twice, ten minutes apart, that there is no
// such pod, and no process on the node has them mounted or open. It is called
// once a minute or so, from the start on; whatever cannot be answered for certain
// leaves a volume alone.
func (d *Driver) Sweep(ctx context.Context) {
	mounts, err := d.c.Volumes.Mounts()
	if err != nil {
		d.c.Logger.WarnContext(ctx, "orphaned volumes not looked for", slog.Any(keyError, err))
		return
	}
	d.orphans.keep(mounts)
	for _, m := range mounts {
		if ctx.Err() != nil {
			return
		}
		k := targetKey{m.PodUID, m.Volume}
		if err := d.sweep(ctx, k); err != nil {
			d.c.Logger.WarnContext(ctx, "volume without a pod not removed", slog.String(keyPodUID, k.podUID), slog.String(keyVolume, k.volume), slog.Any(keyError, err))
		}
	}
}

func (d *Driver) sweep(ctx context.Context, k targetKey) error {
	dir, err := d.c.Volumes.Target(k.podUID, k.volume)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // unpublished meanwhile
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if known, err := dir.KubeletKnows(); known || err != nil {
		d.orphans.forget(k)
		return err
	}
	if d.orphans.waits(k, d.c.Clock()) {
		return nil
	}
	exists, err := d.c.Pods.PodExists(ctx, k.podUID)
	if err != nil {
		return fmt.Errorf("ask whether the pod exists: %w", err)
	}
	if exists {
		d.orphans.forget(k)
		return nil
	}
	if !d.orphans.missing(k, d.c.Clock()) {
		return nil
	}
	return d.removeOrphan(ctx, k, dir)
}

func (d *Driver) removeOrphan(ctx context.Context, k targetKey, dir *hardening.Target) error {
	_, release, err := d.locks.acquire(ctx, k)
	if err != nil {
		return nil // a call of kubelet's is there: it is no orphan
	}
	defer release()
	// Under the lock: kubelet may have come back since.
	if known, err := dir.KubeletKnows(); known || err != nil {
		return err
	}
	held, err := dir.Held()
	if err != nil {
		return err
	}
	if held {
		return hardening.ErrBusy
	}
	subject := d.subject(k)
	found, err := dir.DetachIdle()
	if found.Ours == 0 {
		return err
	}
	// It is gone, whatever was left to do.
	reason := audit.ReasonOrphaned
	if err != nil || found.ScrubErrors > 0 {
		reason = audit.ReasonScrubIncomplete
		d.c.Logger.WarnContext(ctx, "volume without a pod was not scrubbed whole", slog.String(keyPodUID, k.podUID), slog.String(keyVolume, k.volume), slog.Any(keyError, err))
	}
	d.c.Recorder.Owe(audit.Unmounted(subject, reason))
	d.c.Logger.InfoContext(ctx, "volume without a pod removed", slog.String(keyPodUID, k.podUID), slog.String(keyVolume, k.volume))
	d.forget(target{key: k})
	return nil
}
