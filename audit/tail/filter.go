package tail

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
)

// Filter is which events somebody wants to see. The zero Filter is all.
type Filter struct {
	Namespace, Pod  string    // of the workload
	Decision        string    // id of the decision
	Types, Outcomes []string  // any of these
	Since           time.Time // not before
}

// Check refuses a filter that no event can match: an answer of no events would
// look like a quiet node.
func (f Filter) Check() error {
	for _, t := range f.Types {
		if !slices.Contains(Types(), t) {
			return fmt.Errorf("%+q is no type of event; hint: docs/AUDIT_EVENTS.md lists them, %s is one", t, audit.TypeMount)
		}
	}
	for _, o := range f.Outcomes {
		if !slices.Contains(Outcomes(), o) {
			return fmt.Errorf("%+q is no outcome; hint: it is one of %s", o, strings.Join(Outcomes(), ", "))
		}
	}
	return nil
}

// Types are the words that Filter.Types may hold.
func Types() []string {
	var words []string
	for _, k := range audit.Kinds() {
		words = append(words, string(k.Type))
	}
	return words
}

// Outcomes are the words that Filter.Outcomes may hold.
func Outcomes() []string {
	return []string{string(audit.OutcomeSuccess), string(audit.OutcomeFailure), string(audit.OutcomeDenied), string(audit.OutcomeUnknown)}
}

func (f Filter) all() bool {
	return f.Namespace == "" && f.Pod == "" && f.Decision == "" && len(f.Types) == 0 && len(f.Outcomes) == 0 && f.Since.IsZero()
}

func (f Filter) decided(e audit.Event) bool {
	return f.Decision == "" || e.Policy != nil && e.Policy.DecisionID == f.Decision
}

// ParseSince reads a time as RFC 3339 has it, or how long before now it was.
func ParseSince(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("%+q is no time; hint: give 90m, 24h or 2026-03-01T12:00:00Z", text)
}

// Matches reports whether the filter lets an entry through. Only the empty one
// does so with what cannot be read.
func (f Filter) Matches(e Entry) bool {
	if f.all() {
		return true
	}
	if e.Unreadable {
		return false
	}
	var w audit.Workload
	if e.Event.Workload != nil {
		w = *e.Event.Workload
	}
	return f.decided(e.Event) && (f.Namespace == "" || f.Namespace == w.Namespace) && (f.Pod == "" || f.Pod == w.Pod) &&
		(len(f.Types) == 0 || slices.Contains(f.Types, string(e.Event.Type))) &&
		(len(f.Outcomes) == 0 || slices.Contains(f.Outcomes, string(e.Event.Outcome))) &&
		!e.Event.Time.Before(f.Since)
}
