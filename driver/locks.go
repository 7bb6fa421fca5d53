package driver

import (
	"context"
	"errors"
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

type targetLock struct {
	free        chan struct{} // holds one token while nobody has the lock
	cancel      context.CancelFunc
	unpublishes int // waiting
	users       int // holding or waiting
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
	if unpublishes > 0 && lock.cancel != nil {
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
