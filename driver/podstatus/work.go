package podstatus

import (
	"context"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// next works off one object, and reports whether there may be another.
func (w *Writer) next(ctx context.Context, q queue) bool {
	k, shutdown := q.Get()
	if shutdown {
		return false
	}
	defer q.Done(k)
	e, a, changes := w.begin(k)
	if e == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, a.limit)
	defer cancel()
	began := time.Now()
	err := a.run(ctx)
	if w.end(k, outcome{e, a, changes, err, time.Since(began)}) {
		q.AddAfter(k, max(wait.Jitter(w.pause(k, err), retryJitter), delayAsked(err)))
	}
	return true
}

// pause is the wait before an object is tried again.
func (w *Writer) pause(k objectKey, err error) time.Duration {
	pause := w.backoff.When(k)
	if troubleOf(err).lasts() {
		pause *= lastingFactor
	}
	return pause
}

// begin returns what is to be done about an object; a nil entry: nothing.
func (w *Writer) begin(k objectKey) (*entry, *attempt, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.objects[k]
	if e == nil {
		return nil, nil, 0 // its pod is gone
	}
	if !e.dirty {
		e.queued = false
		return nil, nil, 0
	}
	limit, slow, may := w.lane.enter(k)
	if !may {
		return nil, nil, 0 // it stays queued, in the lane
	}
	e.queued = false
	return e, &attempt{client: w.client, want: object(k, w.c.Node, e.volumes), live: e.live, limit: limit, slow: slow}, e.changes
}

// outcome is what came of an attempt.
type outcome struct {
	entry   *entry
	attempt *attempt
	changes int // of the entry when it began
	err     error
	took    time.Duration
}

// end notes what came of an attempt, and reports whether it is to be made again
// after a while.
func (w *Writer) end(k objectKey, o outcome) (again bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, parked := range w.lane.leave(k.namespace, o) {
		if w.queue != nil {
			w.queue.Add(parked)
		}
	}
	e, t := o.entry, troubleOf(o.err)
	if w.objects[k] != e {
		return false // forgotten meanwhile
	}
	e.live = kept(o.attempt.live)
	if t == troubleGone {
		w.c.Logger.Info("status object dropped: its pod or namespace is gone", slog.String(keyNamespace, k.namespace), slog.String(keyObject, k.name))
		w.remove(k, e)
		return false
	}
	w.trouble(e, t)
	if t == troubleNone {
		w.backoff.Forget(k)
		e.dirty = e.changes != o.changes // then it is in the queue again
		return false
	}
	if e.queued { // by a change, which is tried at once
		return false
	}
	e.queued = true
	return true
}
