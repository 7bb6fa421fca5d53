package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

const (
	// repeatWindow is how long equal events are one event. Kubelet retries a
	// refused mount for as long as the pod exists.
	repeatWindow = 10 * time.Minute
	// repeatGrace is how long a window that has ended waits for an event that
	// tells its count in passing. Kubelet tries again after 2 min 2 s at most,
	// and then the call itself takes time.
	repeatGrace = 5 * time.Minute
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
	event       Event    // the one in the log that stands for the others
	rules       []string // of a denial
	durable     bool
	count       int64
	first, last time.Time
	// carrier is the id of an event on its way that tells the count: until it
	// is in the log or given up, nobody else may tell it.
	carrier string
}

// holds reports whether an event at that time is in the window.
func (w *window) holds(at time.Time) bool { return w.near(at, repeatWindow) }

// near reports whether a time is not far from the window's begin. A window that
// begins far in the future is of a clock that was wrong: it must not swallow
// what happens until then.
func (w *window) near(at time.Time, d time.Duration) bool {
	since := at.Sub(w.event.Time)
	return since > -d && since < d
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
// each be written: whatever begins or ends a delivery. That a rotation failed
// ends none: the content stays as it was.
func repeatKey(e Event) string {
	if e.Stage != "" && (e.Type != TypeRotate || e.Outcome == OutcomeSuccess) {
		return ""
	}
	switch e.Type {
	case TypeMount, TypeRotate, TypeSync, TypeAdmission:
		if e.Stage == "" && e.Policy != nil && e.Policy.DecisionID != "" {
			return decisionKey(e)
		}
	case TypeForeignMount, TypeIntegrityFailure, TypeUnmount:
	case TypeRevoke:
		// A volume that somebody keeps from being emptied is tried every minute.
		if e.Outcome == OutcomeSuccess {
			return ""
		}
	default:
		return ""
	}
	if w := e.Workload; w != nil && e.Reason != "" {
		return strings.Join([]string{string(e.Type), string(e.Reason), w.Namespace, w.Pod, w.PodUID, w.ServiceAccount, w.Volume, reviewed(e)}, " ")
	}
	return ""
}

// reviewed is who asked the API server for what, of refusals at admission: there
// the pod may have no name yet, and there may be no pod at all.
func reviewed(e Event) string {
	if e.Type != TypeAdmission {
		return ""
	}
	class, rules := "", ""
	if e.Class != nil {
		class = e.Class.Name
	}
	if e.Policy != nil {
		for _, r := range e.Policy.Rules {
			rules += r.ID + ","
		}
	}
	return strings.Join([]string{e.Actor.Name, class, rules}, " ")
}

// decisionKey is that of a decision and of why it came about. The decision's id
// alone is of facts and outcome: an allow by a waiver and, after its end, one by
// monitor mode have the same, and the second must not hide behind the first.
func decisionKey(e Event) string {
	text, err := json.Marshal(struct {
		Effect          Effect
		Severity        Severity
		Reason          Reason
		Grants, Waivers []string
		Rules           []Rule
	}{e.Policy.Effect, e.Severity, e.Reason, e.Policy.Grants, e.Policy.Waivers, e.Policy.Rules})
	if err != nil {
		return "" // then each is written
	}
	sum := sha256.Sum256(text)
	return strings.Join([]string{string(e.Type), e.Policy.DecisionID, hex.EncodeToString(sum[:])}, " ")
}

// absorb reports whether the event is only counted. Otherwise it hands it the
// count of a window that has ended.
func (r *repeats) absorb(key string, e *Event) bool {
	w, ok := r.windows[key]
	switch {
	case key == "" || !ok || w.event.ID == e.ID:
		return false
	case !w.holds(e.Time):
		if w.count > 0 && w.carrier == "" {
			e.Repeated, w.carrier = w.count, e.ID
		}
		return false
	case e.allowed() && !w.durable:
		// What grants must stand in the log itself (promise P1).
		return false
	}
	if w.count == 0 || e.Time.Before(w.first) {
		w.first = e.Time
	}
	if w.count == 0 || e.Time.After(w.last) {
		w.last = e.Time
	}
	w.count++
	if e.allowed() || e.Type == TypeRotate { // what follows from it names it as its parent
		r.standIn(*e, w.event.ID)
	}
	return true
}

// note opens a window at an event that is written, or owed and so will be.
func (r *repeats) note(n *entry, durable bool) {
	key, e := n.key, n.event
	if key == "" {
		return
	}
	w, ok := r.windows[key]
	if ok && w.carrier == e.ID {
		w.count, w.carrier = w.count-e.Repeated, ""
	}
	switch {
	case ok && w.event.ID == e.ID:
		w.durable = w.durable || durable
	case ok && w.holds(e.Time):
		// Two at once: the first stands for both windows.
	case ok || len(r.windows) < maxWindows:
		next := &window{event: e, rules: n.rules, durable: durable}
		if ok {
			next.count, next.first, next.last, next.carrier = w.count, w.first, w.last, w.carrier
		}
		r.windows[key] = next
	}
}

// drop gives back the count that an event was to tell which will not be written.
func (r *repeats) drop(key, id string) {
	if w, ok := r.windows[key]; ok && w.carrier == id {
		w.carrier = ""
	}
}

// elsewhere forgets a window whose count an event was to tell which is counted
// itself.
func (r *repeats) elsewhere(key, id string) {
	if w, ok := r.windows[key]; ok && w.carrier == id {
		delete(r.windows, key)
	}
}

// standIn has events that name the first id as their parent name the second.
func (r *repeats) standIn(e Event, id string) { r.aliases[e.ID] = alias{id, e.Time.Add(aliasLife)} }

// original returns the id of the event in the log that stands for this one.
func (r *repeats) original(id string) string {
	if a, ok := r.aliases[id]; ok {
		return a.id
	}
	return id
}

// close forgets windows that have ended, or all of them, and returns those that
// counted something.
func (r *repeats) close(now time.Time, all bool) []*window {
	var counts []*window
	for key, w := range r.windows {
		if !all && (w.near(now, repeatWindow+repeatGrace) || w.carrier != "") {
			continue
		}
		if w.count > 0 {
			counts = append(counts, w)
		}
		delete(r.windows, key)
	}
	for id, a := range r.aliases {
		if now.After(a.until) || a.until.Sub(now) > repeatWindow {
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
