package podstatus

import (
	"context"
	"log/slog"

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
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := a.run(ctx)
	if w.end(k, outcome{e, a, changes, err}) {
		q.AddAfter(k, max(wait.Jitter(w.backoff.When(k), retryJitter), delayAsked(err)))
	}
	return true
}

// begin returns what is to be done about an object; a nil entry: nothing.
func (w *Writer) begin(k objectKey) (*entry, *attempt, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.objects[k]
	if e == nil {
		return nil, nil, 0 // its pod is gone
	}
	e.queued = false
	if !e.dirty {
		return nil, nil, 0
	}
	return e, &attempt{client: w.client, want: object(k, w.c.Node, e.volumes), live: e.live}, e.changes
}

// outcome is what came of an attempt.
type outcome struct {
	entry   *entry
	attempt *attempt
	changes int // of the entry when it began
	err     error
}

// end notes what came of an attempt, and reports whether it is to be made again
// after a while.
func (w *Writer) end(k objectKey, o outcome) (again bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, t := o.entry, troubleOf(o.err)
	if w.objects[k] != e {
		return false // forgotten meanwhile
	}
	e.live = o.attempt.live
	if t == troubleGone {
		w.c.Logger.Info("status object dropped: its pod or namespace is gone", slog.String(keyNamespace, k.namespace), slog.String(keyObject, k.name))
		w.remove(k, e)
		return false
	}
	w.trouble(e, t)
	if !t.again() || t == troubleNone {
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
