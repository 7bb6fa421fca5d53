package audit

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

const (
	// maxAttempts bounds the memory; beyond it every attempt is written.
	maxAttempts = 4096
	// attemptLife is far longer than a delivery takes.
	attemptLife = 15 * time.Minute
)

var (
	errNoIntent = errors.New("there is no intent of this id")
	errHeld     = errors.New("an effect came before its intent was confirmed, which is a defect")
)

// The states of an attempt.
type attemptState int

const (
	written attemptState = iota // its intent is in the log
	held                        // not yet: one like it is, which failed
	gone                        // it is on its way, or it failed to get there
)

// attempt is a delivery between its intent and its end.
type attempt struct {
	key   string
	at    time.Time
	state attemptState
	event Event // of one that is held
}

// failure is an attempt in the log that came to nothing, and stands for those
// after it that came to the same.
type failure struct {
	at    time.Time // of its intent
	end   Event
	count int64
	first time.Time
	last  time.Time
	// carrier is the id of an intent on its way that tells the count.
	carrier string
}

func (f *failure) holds(at time.Time) bool { return f.near(at, repeatWindow) }

func (f *failure) near(at time.Time, d time.Duration) bool {
	since := at.Sub(f.at)
	return since > -d && since < d
}

// attempts keep a pod whose provider fails from leaving two events each time
// that kubelet tries again. The first intent is written before the provider is
// asked. One that is equal, within the window, is held back: the decision is in
// the log. Before an effect it is written (Confirm); if it comes to the same as
// the first, there is none, and it is counted. They are guarded by the
// recorder's mutex.
type attempts struct {
	open   map[string]*attempt // by the id of the intent
	failed map[string]*failure // by key
}

func newAttempts() *attempts {
	return &attempts{open: map[string]*attempt{}, failed: map[string]*failure{}}
}

// attemptKey is equal for intents of which one may stand for the others.
func attemptKey(e Event) string {
	if e.Stage != StageIntent || e.Policy == nil || e.Policy.DecisionID == "" {
		return ""
	}
	return decisionKey(e)
}

// hold reports whether an intent is held back. Otherwise it hands it the count
// of a window that has ended.
func (a *attempts) hold(key string, e *Event) bool {
	f, ok := a.failed[key]
	switch {
	case key == "" || !ok:
		return false
	case f.holds(e.Time) && len(a.open) < maxAttempts:
		a.open[e.ID] = &attempt{key: key, at: e.Time, state: held, event: *e}
		return true
	}
	a.load(f, e)
	return false
}

// load has an intent that will be written tell a count.
func (a *attempts) load(f *failure, e *Event) {
	if f.count > 0 && f.carrier == "" {
		e.Repeated, f.carrier = f.count, e.ID
	}
}

// told settles the count that an intent tells which is in the log.
func (a *attempts) told(key string, e Event) {
	if f, ok := a.failed[key]; ok && f.carrier == e.ID {
		f.count, f.carrier = f.count-e.Repeated, ""
	}
}

// begin remembers an intent that is in the log, until its end.
func (a *attempts) begin(key string, e Event) {
	if key == "" {
		return
	}
	if have, ok := a.open[e.ID]; ok {
		have.state, have.event = written, Event{}
	} else if len(a.open) < maxAttempts {
		a.open[e.ID] = &attempt{key: key, at: e.Time}
	}
}

// drop gives back the count that an intent was to tell which is not written.
func (a *attempts) drop(key, id string) {
	if f, ok := a.failed[key]; ok && f.carrier == id {
		f.carrier = ""
	}
	if have, ok := a.open[id]; ok {
		have.state, have.event = gone, Event{}
	}
}

// ending is what the end of an attempt asks for.
type ending struct {
	counted bool   // nothing is to be written
	before  *Event // an intent that is to be written first
	key     string
}

// end ends an attempt.
func (a *attempts) end(e Event) ending {
	one, ok := a.open[e.ParentID]
	if !ok {
		return ending{}
	}
	delete(a.open, e.ParentID)
	f := a.failed[one.key]
	failing := e.Outcome == OutcomeFailure || e.Outcome == OutcomeDenied
	switch {
	case one.state == gone: // whatever became of its intent was seen to
		return ending{counted: failing}
	case one.state == held && failing && f != nil && f.end.Reason == e.Reason:
		f.add(one.at)
		return ending{counted: true}
	}
	out := ending{}
	if one.state == held {
		out.before, out.key = &one.event, one.key
		if f != nil {
			a.load(f, out.before)
		}
	}
	if failing {
		a.fail(one, e)
	}
	return out
}

// fail has an attempt stand for those that follow. What the one before it has
// counted is told by whichever intent is written next. An intent that was held
// is only owed by now, and the disk may be full: so the window stays that of the
// last one in the log, or a provider that fails in two ways in turn would be
// asked for ever without any (promise P1).
func (a *attempts) fail(one *attempt, e Event) {
	f, ok := a.failed[one.key]
	if !ok && (one.state == held || len(a.failed) >= maxAttempts) {
		return
	}
	next := &failure{at: one.at, end: summary(e)}
	if ok {
		next.count, next.first, next.last, next.carrier = f.count, f.first, f.last, f.carrier
	}
	if one.state == held {
		next.at = f.at
	}
	a.failed[one.key] = next
}

func (f *failure) add(at time.Time) {
	if f.count == 0 || at.Before(f.first) {
		f.first = at
	}
	if f.count == 0 || at.After(f.last) {
		f.last = at
	}
	f.count++
}

// close forgets failures whose time has passed, or all, and returns an event for
// each that counted something.
func (a *attempts) close(now time.Time, all bool) []Event {
	var counts []Event
	for key, f := range a.failed {
		if !all && (f.near(now, repeatWindow+repeatGrace) || f.carrier != "") {
			continue
		}
		if f.count > 0 {
			w := window{event: f.end, count: f.count, first: f.first, last: f.last}
			counts = append(counts, w.counted())
		}
		delete(a.failed, key)
	}
	for id, one := range a.open {
		if since := now.Sub(one.at); since > attemptLife || since < -attemptLife {
			delete(a.open, id)
		}
	}
	return counts
}

// Confirm returns nil only if the intent with this id, which Record took, is
// durable. Nothing that it allows may take effect before. Of an attempt that
// is like one that failed a short while ago, Record only holds the intent.
func (r *Recorder) Confirm(ctx context.Context, id string) error {
	e, key, err := r.claim(id)
	if err != nil || key == "" {
		return err
	}
	n, err := r.intentEntry(e, key)
	if err != nil {
		return err
	}
	return r.await(ctx, n)
}

// claim returns an intent that is held, for the caller to write, and no key if
// it is in the log already.
func (r *Recorder) claim(id string) (e Event, key string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one, ok := r.attempts.open[id]
	switch {
	case !ok || one.state == gone:
		return e, "", errors.Join(ErrUnavailable, errNoIntent)
	case one.state == written:
		return e, "", nil
	}
	e, one.event, one.state = one.event, Event{}, gone
	if f := r.attempts.failed[one.key]; f != nil {
		r.attempts.load(f, &e)
	}
	return e, one.key, nil
}

func (r *Recorder) intentEntry(e Event, key string) (*entry, error) {
	leaves, err := r.leaves(e)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.attempts.drop(key, e.ID)
		return nil, err
	}
	n := newEntry(e, "", leaves)
	n.attempt = key
	r.attach(n, e.input)
	return n, nil
}

// ends reports whether the end of an attempt is only counted. An intent that was
// held, and came to something else than the one before it, is owed first.
func (r *Recorder) ends(e Event) bool {
	if e.Stage != StageComplete {
		return false
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return false
	}
	end := r.attempts.end(r.finish(e))
	r.mu.Unlock()
	if end.before == nil {
		return end.counted
	}
	if e.Outcome == OutcomeSuccess {
		r.c.Logger.Error("audit event is out of order", slog.String(keyID, e.ParentID), slog.Any(keyError, errHeld))
	}
	n, err := r.intentEntry(*end.before, end.key)
	if err != nil {
		r.c.Logger.Error("audit event is malformed and was not written", slog.String(keyID, e.ParentID), slog.Any(keyError, err))
		return false
	}
	r.oweTo(r.reserved, n) // where its end will be, behind it
	return false
}
