package audit

import (
	"cmp"
	"slices"
	"time"
)

const (
	// tellEvery is how often refusals that are not listed are told of one
	// account.
	tellEvery = 10 * time.Minute
	// maxTallies bounds the memory. Beyond it refusals are counted together.
	maxTallies = 512
	// maxCounted bounds how many rules and reasons are counted each by itself.
	maxCounted = 64
)

// tally counts refusals of one account that are not listed.
type tally struct {
	event    Event // that will tell it; its id stands for what is counted
	count    int64
	first    time.Time
	last     time.Time
	severity int // the gravest, as its place in the order
	by       map[Counted]int64
	told     time.Time
}

// tallies are guarded by the recorder's mutex.
type tallies struct {
	accounts map[account]*tally
}

func newTallies() *tallies { return &tallies{accounts: map[account]*tally{}} }

// refused is what a refusal, or a number of equal ones, says when it is only
// counted.
type refused struct {
	account  account
	count    int64
	first    time.Time
	last     time.Time
	severity Severity
	reason   Reason
	rules    []string
}

func refusedOnce(a account, e Event, rules []string) refused {
	return refused{
		account: a, count: 1 + e.Repeated, first: e.Time, last: e.Time,
		severity: e.Severity, reason: e.Reason, rules: rules,
	}
}

// add counts, and returns the id of the event that will tell it.
func (t *tallies) add(r refused) string {
	one, ok := t.accounts[r.account]
	if !ok && len(t.accounts) >= maxTallies {
		r.account = account{}
		one, ok = t.accounts[r.account]
	}
	if !ok {
		one = &tally{}
		t.accounts[r.account] = one
	}
	if one.count == 0 {
		one.event, one.by, one.severity = newCounted(r.account), map[Counted]int64{}, 0
		one.first, one.last = r.first, r.last
	}
	one.count += r.count
	if r.first.Before(one.first) {
		one.first = r.first
	}
	if r.last.After(one.last) {
		one.last = r.last
	}
	one.severity = max(one.severity, slices.Index(severities(), r.severity))
	if len(r.rules) == 0 {
		one.split(Counted{Reason: r.reason}, r.count)
	}
	for _, rule := range r.rules {
		one.split(Counted{Rule: rule}, r.count)
	}
	return one.event.ID
}

func (t *tally) split(key Counted, n int64) {
	if _, ok := t.by[key]; ok || len(t.by) < maxCounted {
		t.by[key] += n
	}
}

// tell returns an event for each account that counted something and has not
// told for a while, or for each.
func (t *tallies) tell(now time.Time, all bool) []Event {
	var events []Event
	for a, one := range t.accounts {
		since := now.Sub(one.told)
		if !all && since >= 0 && since < tellEvery {
			continue
		}
		if one.count == 0 {
			delete(t.accounts, a)
			continue
		}
		events = append(events, one.tells())
		one.count, one.told = 0, now
	}
	return events
}

func newCounted(a account) Event {
	e := newEvent(TypeAuditCounted, OutcomeDenied)
	e.Reason = ReasonShareExceeded
	e.Actor.Unconfirmed = a.claimed
	if a.namespace != "" {
		e.Workload = &Workload{Namespace: a.namespace}
	}
	return e
}

func (t *tally) tells() Event {
	e := t.event
	e.Severity = severities()[t.severity]
	first, last := t.first.UTC(), t.last.UTC()
	e.Count, e.FirstTime, e.LastTime = t.count, &first, &last
	for key, n := range t.by {
		key.Count = n
		e.Counts = append(e.Counts, key)
	}
	slices.SortFunc(e.Counts, func(a, b Counted) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Reason, b.Reason))
	})
	return e
}
