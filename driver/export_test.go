package driver

import "context"

// Locks opens targetLocks to tests.
type Locks struct{ *targetLocks }

func NewTargetLocks() Locks { return Locks{newTargetLocks()} }

func (l Locks) Acquire(ctx context.Context, podUID, volume string) (context.Context, func(), error) {
	return l.acquire(ctx, targetKey{podUID, volume})
}

func (l Locks) Preempt(ctx context.Context, podUID, volume string) (func(), error) {
	return l.preempt(ctx, targetKey{podUID, volume})
}

func (l Locks) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

// Budget opens budget to tests.
type Budget struct{ *budget }

func NewBudget(limit int64) Budget { return Budget{newBudget(limit)} }

func (b Budget) Reserve(ctx context.Context, podUID, namespace string, bytes int64) error {
	return b.reserve(ctx, targetKey{podUID, "v"}, namespace, bytes)
}

func (b Budget) Extend(podUID, namespace string, bytes int64) int64 {
	return b.extend(targetKey{podUID, "v"}, namespace, bytes)
}

func (b Budget) Settle(podUID, namespace string, bytes int64) {
	b.settle(targetKey{podUID, "v"}, namespace, bytes)
}

func (b Budget) Release(podUID string) { b.release(targetKey{podUID, "v"}) }
func (b Budget) InUse() int64          { return b.inUse() }

// Line opens line to tests.
var Line = line

// Record opens record to tests.
type Record = record

func (r *Records) Put(rec Record)                           { r.put(rec) }
func (r *Records) Get(podUID, volume string) (Record, bool) { return r.get(targetKey{podUID, volume}) }
func (r *Records) Remove(podUID, volume string)             { r.remove(targetKey{podUID, volume}) }
