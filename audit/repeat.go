package audit

import (
	"strings"
	"time"
)

const (
	// repeatWindow is how long equal events are one event. Kubelet retries a
	// refused mount for as long as the pod exists.
	repeatWindow = 10 * time.Minute
	// aliasLife is longer than a publish may take.
	aliasLife = 5 * time.Minute
	// maxWindows bounds the memory; beyond it every event is written.
	maxWindows = 8192
)

// repeats counts events that say again what the log says already. It is
// guarded by the recorder's mutex.
type repeats struct {
	windows map[string]*window
	aliases map[string]alias
}

type window struct {
	event       Event // the one in the log that stands for the others
	durable     bool
	count       int64
	first, last time.Time
}

// alias leads from the id of an event that was not written to the one that
// stands for it.
type alias struct {
	id    string
	until time.Time
}

func newRepeats() *repeats {
	return &repeats{windows: map[string]*window{}, aliases: map[string]alias{}}
}

// repeatKey is equal for events that say the same, and "" for those that must
// each be written: whatever begins or ends a delivery.
func repeatKey(e Event) string {
	if e.Stage != "" {
		return ""
	}
	switch e.Type {
	case TypeMount, TypeRotate, TypeSync, TypeAdmission:
		if e.Policy != nil && e.Policy.DecisionID != "" {
			return string(e.Type) + " " + e.Policy.DecisionID
		}
	case TypeForeignMount, TypeIntegrityFailure, TypeUnmount:
	default:
		return ""
	}
	if w := e.Workload; w != nil && e.Reason != "" {
		return strings.Join([]string{string(e.Type), string(e.Reason), w.Namespace, w.Pod, w.PodUID, w.ServiceAccount, w.Volume}, " ")
	}
	return ""
}

// absorb reports whether the event is only counted. Otherwise it hands it the
// count of a window that has ended.
func (r *repeats) absorb(e *Event) bool {
	key := repeatKey(*e)
	w, ok := r.windows[key]
	switch {
	case key == "" || !ok || w.event.ID == e.ID:
		return false
	case !e.Time.Before(w.event.Time.Add(repeatWindow)):
		e.Repeated = w.count
		return false
	case e.allowed() && !w.durable:
		// What grants must stand in the log itself (promise P1).
		return false
	}
	if w.count == 0 {
		w.first = e.Time
	}
	w.count++
	w.last = e.Time
	if e.allowed() {
		r.aliases[e.ID] = alias{w.event.ID, e.Time.Add(aliasLife)}
	}
	return true
}

// note opens a window at an event that is written, or owed and so will be.
func (r *repeats) note(e Event, durable bool) {
	key := repeatKey(e)
	if key == "" {
		return
	}
	w, ok := r.windows[key]
	switch {
	case ok && w.event.ID == e.ID:
		w.durable = w.durable || durable
	case ok && e.Time.Before(w.event.Time.Add(repeatWindow)):
		// Two at once: the first stands for both windows.
	case ok || len(r.windows) < maxWindows:
		next := &window{event: summary(e), durable: durable}
		if ok && w.count > e.Repeated {
			next.count, next.first, next.last = w.count-e.Repeated, w.first, w.last
		}
		r.windows[key] = next
	}
}

// original returns the id of the event in the log that stands for this one.
func (r *repeats) original(id string) string {
	if a, ok := r.aliases[id]; ok {
		return a.id
	}
	return id
}

// close forgets windows that have ended, or all of them, and returns an event
// for each that counted something.
func (r *repeats) close(now time.Time, all bool) []Event {
	var counts []Event
	for key, w := range r.windows {
		if !all && now.Before(w.event.Time.Add(repeatWindow)) {
			continue
		}
		if w.count > 0 {
			counts = append(counts, w.counted())
		}
		delete(r.windows, key)
	}
	for id, a := range r.aliases {
		if now.After(a.until) {
			delete(r.aliases, id)
		}
	}
	return counts
}

// counted is the event that tells how often its parent came again.
func (w *window) counted() Event {
	e := newEvent(TypeAuditRepeated, w.event.Outcome)
	e.ParentID, e.Severity, e.Reason = w.event.ID, w.event.Severity, w.event.Reason
	e.Actor, e.Workload, e.Class, e.Policy = w.event.Actor, w.event.Workload, w.event.Class, w.event.Policy
	first, last := w.first.UTC(), w.last.UTC()
	e.Count, e.FirstTime, e.LastTime = w.count, &first, &last
	return e
}

// summary keeps of an event what a window needs, and not its lists.
func summary(e Event) Event {
	base, _ := stripped(e)
	return base
}
