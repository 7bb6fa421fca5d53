package driver

import (
	"context"
	"sync"
)

// targetLocks holds one lock a target, so that two calls for one target never
// stack two mounts. A lock remembers how to cancel what its holder does, since
// an unpublish must not wait for a provider that hangs (promise P8).
type targetLocks struct {
	mu   sync.Mutex
	held map[targetKey]*targetLock
}

// targetKey names a volume of a pod on this node.
type targetKey struct{ podUID, volume string }

type targetLock struct {
	free    chan struct{} // holds one token while nobody has the lock
	cancel  context.CancelFunc
	waiters int
}

func newTargetLocks() *targetLocks { return &targetLocks{held: map[targetKey]*targetLock{}} }

// acquire waits until the target is free or ctx ends. The returned context is
// cancelled when another caller preempts this one; release must be called once.
func (l *targetLocks) acquire(ctx context.Context, k targetKey) (context.Context, func(), error) {
	lock := l.enter(k)
	select {
	case <-lock.free:
	case <-ctx.Done():
		l.leave(k, lock)
		return nil, nil, ctx.Err()
	}
	ctx, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	lock.cancel = cancel
	l.mu.Unlock()
	release := func() {
		l.mu.Lock()
		lock.cancel = nil
		l.mu.Unlock()
		cancel()
		lock.free <- struct{}{}
		l.leave(k, lock)
	}
	return ctx, release, nil
}

// preempt cancels whoever holds the target, then acquires it.
func (l *targetLocks) preempt(ctx context.Context, k targetKey) (func(), error) {
	l.mu.Lock()
	if lock := l.held[k]; lock != nil && lock.cancel != nil {
		lock.cancel()
	}
	l.mu.Unlock()
	_, release, err := l.acquire(ctx, k)
	return release, err
}

func (l *targetLocks) enter(k targetKey) *targetLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	lock := l.held[k]
	if lock == nil {
		lock = &targetLock{free: make(chan struct{}, 1)}
		lock.free <- struct{}{}
		l.held[k] = lock
	}
	lock.waiters++
	return lock
}

func (l *targetLocks) leave(k targetKey, lock *targetLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lock.waiters--
	if lock.waiters == 0 {
		delete(l.held, k)
	}
}
