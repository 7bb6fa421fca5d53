package driver

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/hardening"
)

// Recover brings the driver's memory in line with the mount table, which alone
// says what is mounted, and gives every delivery that a crash interrupted its
// end. It is called once, before Serve.
func (d *Driver) Recover(intents []audit.Intent) error {
	relocked, unlocked := d.c.Volumes.Relock()
	if unlocked != nil {
		// One volume that somebody tampered with must not keep the only
		// process that can unmount the others from starting (promise P8).
		d.unlocked.Store(&unlocked)
		d.c.Logger.Error("pages of some mounted volumes are not locked again", slog.Any(keyError, unlocked))
	}
	hardening.FaultPoint("recover/locked")
	mounts, err := d.c.Volumes.Mounts()
	if err != nil {
		return fmt.Errorf("read the mount table: %w", err)
	}
	mounted := make(map[targetKey]bool, len(mounts))
	for i, m := range mounts {
		k := targetKey{m.PodUID, m.Volume}
		mounted[k] = true
		rec, known := d.c.Records.get(k)
		if !known {
			d.c.Records.put(d.rebuilt(k, i, len(mounts)))
		}
		d.tellStatusAgain(rec)
		d.budget.settle(k, rec.Namespace, m.SizeBytes)
	}
	for _, k := range d.c.Records.keys() {
		d.tellAgain(k, mounted[k])
	}
	hardening.FaultPoint("recover/remembered")
	d.endIntents(intents, mounted)
	hardening.FaultPoint("recover/ends-owed")
	d.c.Logger.Info("mounted volumes found", slog.Int(keyCount, len(mounts)), slog.Int(keyRelocked, relocked), slog.Int(keyInterrupted, len(intents)))
	return nil
}

// tellAgain owes what the plugin before may have died with: that it unmounted a
// volume, unless the node's end did, or emptied one. A second event of the kind
// does no harm.
func (d *Driver) tellAgain(k targetKey, mounted bool) {
	rec, _ := d.c.Records.get(k)
	switch {
	case !mounted:
		d.c.Recorder.Owe(audit.Unmounted(d.subject(k), ""))
		d.c.Records.remove(k)
	case rec.Restored && rec.Denial.Empty && !lapsed(d.c.Clock(), rec.Denial.RevokedAt, brakeWindow):
		d.c.Recorder.Owe(audit.RevokedEarlier(d.subject(k), rec.Denial.RevokedBy, rec.Denial.cause()))
	}
}

// rebuilt is the record of a volume that volumes.db does not know. The due
// times are spread over an interval, or every volume of the node would ask the
// providers at once.
func (d *Driver) rebuilt(k targetKey, i, n int) record {
	interval := decisionInterval
	if d.c.Rotation.Enabled {
		interval = d.c.Rotation.Interval
	}
	now := d.c.Clock()
	rec := record{PodUID: k.podUID, Volume: k.volume, DueAt: now.Add(interval * time.Duration(i) / time.Duration(n))}.fetched(now)
	if d.emptyAt(k) {
		// For the brake: it was revoked, and nobody knows when.
		rec.Denial.RevokedAt = now
	}
	return rec
}

func (d *Driver) emptyAt(k targetKey) bool {
	dir, err := d.c.Volumes.Target(k.podUID, k.volume)
	if err != nil {
		return false
	}
	defer dir.Close()
	return isEmpty(dir)
}

func (d *Driver) endIntents(intents []audit.Intent, mounted map[targetKey]bool) {
	for _, in := range intents {
		d.c.Recorder.Owe(audit.Ended(in, mounted[targetKey{in.PodUID, in.Volume}]))
	}
}

// settle counts what a mounted volume may fill from now on. Where the kernel
// does not tell, the reservation stands, which is the larger figure.
func (d *Driver) settle(k targetKey, namespace string, vol *hardening.Volume) {
	if stats, err := vol.Stats(); err == nil {
		d.budget.settle(k, namespace, stats.BytesTotal)
	}
}
