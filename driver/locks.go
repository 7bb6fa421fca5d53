package driver

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
)

// errPreempted is what a publish gets while an unpublish waits for its target.
var errPreempted = errors.New("an unpublish of this volume goes first")

// targetLocks holds one lock a target, so that two calls for one target never
// stack two mounts. A lock remembers how to cancel what its holder does, and
// how many unpublishes wait, since those must not wait for a provider that
// hangs (promise P8), nor for publishes that came before them.
type targetLocks struct {
	mu   sync.Mutex
	held map[targetKey]*targetLock
}

// targetKey names a volume of a pod on this node.
type targetKey struct{ podUID, volume string }

func (k targetKey) compare(other targetKey) int {
	return cmp.Or(cmp.Compare(k.podUID, other.podUID), cmp.Compare(k.volume, other.volume))
}

type targetLock struct {
	free        chan struct{} // holds one token while nobody has the lock
	cancel      context.CancelFunc
	unpublishes int  // waiting
	users       int  // holding or waiting
	yields      bool // its holder is cancelled by whoever else wants the target
}

func newTargetLocks() *targetLocks { return &targetLocks{held: map[targetKey]*targetLock{}} }

// acquire waits until the target is free or ctx ends. The returned context is
// cancelled when an unpublish wants the target; release must be called once.
func (l *targetLocks) acquire(ctx context.Context, k targetKey) (context.Context, func(), error) {
	lock := l.enter(k, 0)
	if err := lock.take(ctx); err != nil {
		l.leave(k, lock)
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	preempted := lock.unpublishes > 0
	if !preempted {
		lock.cancel = cancel
	}
	l.mu.Unlock()
	release := func() {
		l.mu.Lock()
		lock.cancel = nil
		l.mu.Unlock()
		cancel()
		lock.free <- struct{}{}
		l.leave(k, lock)
	}
	if preempted {
		release()
		return nil, nil, errPreempted
	}
	return ctx, release, nil
}

// try acquires a target that nobody has and nobody waits for. The returned
// context is cancelled as soon as anybody wants it: what is done of our own
// accord holds up no call of kubelet's.
func (l *targetLocks) try(ctx context.Context, k targetKey) (_ context.Context, release func(), free bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[k] != nil {
		return nil, nil, false
	}
	lock := &targetLock{free: make(chan struct{}, 1), users: 1, yields: true}
	ctx, lock.cancel = context.WithCancel(ctx)
	l.held[k] = lock
	return ctx, func() {
		l.mu.Lock()
		lock.cancel()
		lock.cancel, lock.yields = nil, false
		l.mu.Unlock()
		lock.free <- struct{}{}
		l.leave(k, lock)
	}, true
}

// keys returns the targets that somebody has or waits for.
func (l *targetLocks) keys() []targetKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.held))
}

// preempt cancels the publish that holds the target, turns away those that
// wait, and acquires it.
func (l *targetLocks) preempt(ctx context.Context, k targetKey) (release func(), err error) {
	lock := l.enter(k, 1)
	err = lock.take(ctx)
	l.mu.Lock()
	lock.unpublishes--
	l.mu.Unlock()
	if err != nil {
		l.leave(k, lock)
		return nil, err
	}
	return func() {
		lock.free <- struct{}{}
		l.leave(k, lock)
	}, nil
}

func (t *targetLock) take(ctx context.Context) error {
	select {
	case <-t.free:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *targetLocks) enter(k targetKey, unpublishes int) *targetLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	lock := l.held[k]
	if lock == nil {
		lock = &targetLock{free: make(chan struct{}, 1)}
		lock.free <- struct{}{}
		l.held[k] = lock
	}
	lock.users++
	lock.unpublishes += unpublishes
	if (unpublishes > 0 || lock.yields) && lock.cancel != nil {
		lock.cancel()
	}
	return lock
}

func (l *targetLocks) leave(k targetKey, lock *targetLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lock.users--
	if lock.users == 0 {
		delete(l.held, k)
	}
}
