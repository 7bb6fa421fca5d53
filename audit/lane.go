package audit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
	// hangGrace is how long an append that cannot be interrupted is waited for.
	hangGrace = 200 * time.Millisecond
	// logEvery keeps a log that stays broken from filling the operator's.
	logEvery = time.Minute
	// gapEvery is how often a lane that is stuck tells its gap: each takes room
	// of the reserve.
	gapEvery = 10 * time.Minute
)

// gap is what could not even be owed.
type gap struct {
	count       int64
	first, last time.Time
	reason      Reason
}

// lane appends owed events in their order, and tries again until it works.
type lane struct {
	r      *Recorder
	append func(ctx context.Context, leaf []byte) (int64, error)

	mu      sync.Mutex
	queue   []*entry
	bytes   int64 // of the queue
	gap     gap
	gapAt   time.Time // when one was written last
	err     error     // of the last try
	closing bool

	wake   chan struct{}
	ctx    context.Context // ends when closing takes too long
	cancel context.CancelFunc
	done   chan struct{}
}

func newLane(r *Recorder, f func(context.Context, []byte) (int64, error)) *lane {
	l := &lane{r: r, append: f, wake: make(chan struct{}, 1), done: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	go l.run()
	return l
}

// push never blocks. It reports false if the event is only counted.
func (l *lane) push(e *entry) bool {
	l.mu.Lock()
	// What counts others is little, bounded by itself, and must not be lost.
	full := e.event.Type != TypeAuditCounted &&
		(len(l.queue) >= l.r.c.QueueLimit || len(l.queue) > 0 && l.bytes+e.size > l.r.c.QueueBytes)
	if !full {
		l.queue = append(l.queue, e)
		l.bytes += e.size
	}
	l.mu.Unlock()
	if full {
		l.miss(e.event.Time, ReasonQueueFull, max(e.event.Count, 1))
		return false
	}
	l.nudge()
	return true
}

// miss counts what will not be written: an event, or as many as it would have
// counted.
func (l *lane) miss(at time.Time, reason Reason, n int64) {
	l.mu.Lock()
	if l.gap.count == 0 {
		l.gap.first = at
	}
	l.gap.count += n
	l.gap.last, l.gap.reason = at, reason
	l.mu.Unlock()
	l.nudge()
}

// full reports whether as much is owed as may be.
func (l *lane) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) >= l.r.c.QueueLimit || l.bytes >= l.r.c.QueueBytes
}

func (l *lane) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lane) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *lane) run() {
	defer close(l.done)
	retry := firstRetry
	var logged time.Time
	for {
		more, err := l.step()
		switch {
		case err != nil:
			if now := l.r.c.Clock(); now.Sub(logged) > logEvery {
				logged = now
				l.r.c.Logger.Error("owed audit events wait for the log", slog.Int64(keyCount, l.owed()), slog.Any(keyError, err))
			}
			if !l.pause(retry) {
				return
			}
			retry = min(retry*2, lastRetry)
		case more:
			retry = firstRetry
		default:
			retry = firstRetry
			if l.over() {
				return
			}
			select {
			case <-l.wake:
			case <-l.ctx.Done():
				return
			}
		}
	}
}

// pause waits before the next try; new events do not shorten it, the end does.
func (l *lane) pause(d time.Duration) bool {
	if l.isClosing() {
		d = firstRetry
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-l.ctx.Done():
			return false
		case <-l.wake:
			if l.isClosing() {
				return true
			}
		}
	}
}

// step writes the gap, if there is one, and then the oldest event: what is
// missing is told before what came after it, and also while the log takes
// nothing else.
func (l *lane) step() (more bool, err error) {
	missing, head := l.next()
	if missing.count > 0 {
		if err := l.writeGap(missing); err != nil {
			return true, l.settle(err)
		}
	}
	if head == nil {
		return missing.count > 0, nil
	}
	for len(head.leaves) > 0 {
		if err := l.write(l.append, head.leaves[0]); err != nil {
			return true, l.settle(err)
		}
		head.shift()
	}
	l.r.note(head, true)
	l.mu.Lock()
	l.queue[0] = nil
	l.queue = l.queue[1:]
	l.bytes -= head.size
	l.mu.Unlock()
	return true, l.settle(nil)
}

// next returns the gap, if it is to be told now, and the oldest event.
func (l *lane) next() (missing gap, head *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := l.r.c.Clock().Sub(l.gapAt)
	if l.err == nil || l.closing || since < 0 || since >= gapEvery {
		missing = l.gap
	}
	if len(l.queue) > 0 {
		head = l.queue[0]
	}
	return missing, head
}

func (l *lane) settle(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	return err
}

func (l *lane) writeGap(g gap) error {
	e := newEvent(TypeAuditGap, OutcomeFailure)
	e.Severity, e.Reason = SeverityCritical, g.reason
	first, last := g.first.UTC(), g.last.UTC()
	e.Count, e.FirstTime, e.LastTime = g.count, &first, &last
	e = l.r.finish(e)
	leaves, err := l.r.leaves(e)
	if err != nil {
		return err
	}
	// With the reserve: denials that nobody can count look like none.
	if err := l.write(l.r.c.Log.AppendReserved, leaves[0]); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gapAt = e.Time
	l.gap.count -= g.count
	l.gap.first = l.gap.last
	return nil
}

func (l *lane) write(f func(context.Context, []byte) (int64, error), leaf []byte) error {
	ctx, cancel := context.WithTimeout(l.ctx, l.r.c.Timeout)
	defer cancel()
	_, err := f(ctx, leaf)
	return err
}

func (l *lane) isClosing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing
}

// over reports whether the end has come and nothing is owed, in one look: what was
// owed after the queue was found empty and before the end must be written.
func (l *lane) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing && len(l.queue) == 0 && l.gap.count == 0
}

func (l *lane) owed() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.queue)) + l.gap.count
}

// close writes what is owed until ctx ends, and returns how many events are
// left.
func (l *lane) close(ctx context.Context) int64 {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	l.nudge()
	select {
	case <-l.done:
	case <-ctx.Done():
		l.cancel()
		select {
		case <-l.done:
		case <-time.After(hangGrace): // the disk hangs, the end must not
		}
	}
	l.cancel()
	return l.owed()
}
