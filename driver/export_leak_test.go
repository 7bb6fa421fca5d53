package driver

import "context"

// Len returns how many volumes are remembered.
func (r *Records) Len() int { return len(r.keys()) }

// LocksHeld returns how many targets are locked or waited for.
func (d *Driver) LocksHeld() int { return Locks{d.locks}.Len() }

// HoldTarget locks a target as a publish does, and keeps it.
func (d *Driver) HoldTarget(ctx context.Context, podUID, volume string) (release func(), err error) {
	_, release, err = d.locks.acquire(ctx, targetKey{podUID, volume})
	return release, err
}

// HoldBudget counts a volume that is not there.
func (d *Driver) HoldBudget(podUID, volume, namespace string, bytes int64) (release func()) {
	k := targetKey{podUID, volume}
	d.budget.settle(k, namespace, bytes)
	return func() { d.budget.release(k) }
}
