package driver

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// cause is why a mounted volume is decided on again before kubelet calls.
type cause string

const (
	causePolicy cause = "policy" // another bundle is in force
	causePod    cause = "pod"    // the pod has changed
	causeDenial cause = "denial" // a denial is to be confirmed
	causeBrake  cause = "brake"  // how many volumes are denied is to be known
)

// task is one volume that is to be decided on.
type task struct {
	key   targetKey
	cause cause
	at    time.Time // not before
	tries int       // that came to nothing
}

// pending holds the tasks, at most one a volume: what happens to a volume while
// it waits is one decision. So it is bounded by what is mounted.
type pending struct {
	mu    sync.Mutex
	tasks map[targetKey]task
	wake  chan struct{} // has room for one
	plans chan struct{} // has room for one: another bundle is in force
}

func newPending() *pending {
	return &pending{tasks: map[targetKey]task{}, wake: make(chan struct{}, 1), plans: make(chan struct{}, 1)}
}

// nudge leaves a note in a channel that has room for one.
func nudge(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// add has a volume decided on. Of two tasks the earlier one stands for both; that
// the pod has changed is not forgotten, since a verdict by the bundle in force
// does not answer it.
func (p *pending) add(t task) {
	p.mu.Lock()
	if old, ok := p.tasks[t.key]; ok {
		changed := old.cause == causePod || t.cause == causePod
		if old.at.Before(t.at) {
			t = old
		}
		if changed {
			t.cause = causePod
		}
	}
	p.tasks[t.key] = t
	p.mu.Unlock()
	nudge(p.wake)
}

// take removes the task that has waited longest, if the time of any has come.
func (p *pending) take(now time.Time) (task, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first, ok := p.first()
	if !ok || now.Before(first.at) {
		return task{}, false
	}
	delete(p.tasks, first.key)
	return first, true
}

func (p *pending) first() (task, bool) {
	if len(p.tasks) == 0 {
		return task{}, false
	}
	return slices.MinFunc(slices.Collect(maps.Values(p.tasks)), func(a, b task) int { return a.at.Compare(b.at) }), true
}

// wait is the time until the next task. It is bounded, so that a clock that was
// set keeps nothing waiting.
func (p *pending) wait(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	first, ok := p.first()
	if !ok {
		return time.Minute
	}
	return min(max(first.at.Sub(now), 0), time.Second)
}

// cancel removes the tasks of an earlier bundle.
func (p *pending) cancel() {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.tasks, func(_ targetKey, t task) bool { return t.cause == causePolicy })
}

func (p *pending) forget(k targetKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tasks, k)
}

// waits reports whether a volume is to be decided on.
func (p *pending) waits(k targetKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.tasks[k]
	return ok
}

func (p *pending) count() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int64(len(p.tasks))
}
