package shadow

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/portcullis-csi/portcullis/policies"
)

const (
	queueDecisions = 1024
	queueBytes     = 16 << 20
	// sharePart of the queue, or of a list, is the most that one namespace gets.
	sharePart = 4
)

// queue holds decisions until somebody has time for them, oldest first.
type queue struct {
	mu        sync.Mutex
	items     []waiting
	bytes     int
	namespace map[string]usage // what each namespace has of it
	ready     chan struct{}    // holds one token while there may be items

	full, share, superseded atomic.Int64 // decisions that were not compared
}

type waiting struct {
	decision policies.Decision
	size     int
}

type usage struct{ count, bytes int }

func newQueue() *queue {
	return &queue{namespace: map[string]usage{}, ready: make(chan struct{}, 1)}
}

// put takes a decision, or counts it.
func (q *queue) put(d policies.Decision) {
	size, namespace := sizeOf(d), d.Input().Subject.Namespace
	q.mu.Lock()
	defer q.mu.Unlock()
	used := q.namespace[namespace]
	switch {
	case len(q.items) >= queueDecisions || q.bytes+size > queueBytes:
		q.full.Add(1)
		return
	case used.count >= queueDecisions/sharePart || used.bytes+size > queueBytes/sharePart:
		q.share.Add(1)
		return
	}
	q.items = append(q.items, waiting{d, size})
	q.bytes += size
	q.namespace[namespace] = usage{used.count + 1, used.bytes + size}
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take waits for a decision until ctx ends.
func (q *queue) take(ctx context.Context) (policies.Decision, bool) {
	for {
		if ctx.Err() != nil {
			return policies.Decision{}, false
		}
		if d, ok := q.pop(); ok {
			return d, true
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
		}
	}
}

func (q *queue) pop() (policies.Decision, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		q.items = nil // what the array held is free now
		return policies.Decision{}, false
	}
	first := q.items[0]
	q.items[0] = waiting{}
	q.items = q.items[1:]
	q.bytes -= first.size
	namespace := first.decision.Input().Subject.Namespace
	used := q.namespace[namespace]
	if used.count == 1 {
		delete(q.namespace, namespace)
	} else {
		q.namespace[namespace] = usage{used.count - 1, used.bytes - first.size}
	}
	return first.decision, true
}

func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}
