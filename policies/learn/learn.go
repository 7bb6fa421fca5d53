package learn

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

const (
	// DefaultValidity is how long a drafted grant is valid.
	DefaultValidity = 90 * 24 * time.Hour
	// DefaultOwner is who answers for a draft until somebody does.
	DefaultOwner = "unreviewed"
	// maxDrafts and maxSeen bound the memory, whatever is read.
	maxDrafts  = 10000
	maxSecrets = 100_000 // of all drafts, with their copies and audiences
	maxSeen    = 8       // workloads and images that are named for each draft
	maxNarrow  = 100     // owners, or repositories, that a draft is narrowed to
	// maxSkips bounds how many reasons are told apart.
	maxSkips = 64
)

// EffectMonitored is the effect of decisions that only monitor mode let through,
// which learning is mostly about.
const EffectMonitored = "allowed_monitored"

// Config says what to learn from, and what to put into drafts.
type Config struct {
	// Engine leaves out what its bundle grants already; nil: nothing is.
	Engine *policies.Engine
	// Effects are those of the decisions to learn from; absent: EffectMonitored.
	Effects []string
	Owner   string    // absent: DefaultOwner
	Expiry  time.Time // the last day; absent: DefaultValidity from Now
	Now     time.Time // absent: the time of the call
	// Narrow has drafts name the owners and image repositories of the pods that
	// asked. It narrows and never identifies: whoever writes pods chooses these.
	Narrow bool
}

// Learner collects what recorded decisions asked for.
type Learner struct {
	c       Config
	effects map[string]bool
	drafts  map[string]*draft
	others  map[string]*Remaining
	names   int // that drafts hold
	skips   map[string]int64
	result  Result
}

// New returns a Learner, or an error that names what is wrong.
func New(c Config) (*Learner, error) {
	if c.Now.IsZero() {
		c.Now = time.Now()
	}
	if c.Expiry.IsZero() {
		c.Expiry = c.Now.Add(DefaultValidity)
	}
	if c.Expiry.Before(c.Now.Truncate(24 * time.Hour)) {
		return nil, fmt.Errorf("learn grants: expiry %s has passed; hint: give a later date", c.Expiry.UTC().Format(time.DateOnly))
	}
	if c.Owner == "" {
		c.Owner = DefaultOwner
	}
	if len(c.Effects) == 0 {
		c.Effects = []string{EffectMonitored}
	}
	l := &Learner{c: c, effects: map[string]bool{}, drafts: map[string]*draft{}, others: map[string]*Remaining{}, skips: map[string]int64{}}
	for _, e := range c.Effects {
		if !slices.Contains([]string{"allow", EffectMonitored, "deny"}, e) {
			return nil, fmt.Errorf("learn grants: effect %q is not allow, %s or deny", e, EffectMonitored)
		}
		l.effects[e] = true
	}
	return l, nil
}

// errTooMany is returned by Add when drafts would take more memory than a
// review could use.
var errTooMany = fmt.Errorf("learn grants: more than %d grants, or %d secrets, would be drafted; hint: learn from fewer namespaces or from a shorter time", maxDrafts, maxSecrets)

// Add learns from one decision. What cannot be learnt from is counted; an error
// ends learning.
func (l *Learner) Add(ctx context.Context, r policies.Recorded) error {
	l.result.Decisions++
	if !l.effects[r.Effect] {
		l.result.OtherEffects++
		return nil
	}
	if len(r.Input) == 0 {
		l.result.InputGone++
		return nil
	}
	in, err := policies.ReadInput(r.Input, r.NowNS)
	if err != nil {
		l.skip("its input is not one of this version")
		return nil //nolint:nilerr // it is counted, and the rest may be learnt from
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	l.result.Used++
	return l.learn(ctx, in, r)
}

func (l *Learner) skip(why string) {
	if _, ok := l.skips[why]; ok || len(l.skips) < maxSkips {
		l.skips[why]++
	}
}

// learn files each request that lacks a grant under the draft that would have it.
func (l *Learner) learn(ctx context.Context, in policies.Input, r policies.Recorded) error {
	lacking, others := l.lacking(ctx, in)
	times := r.Repeated + 1
	for _, rule := range others {
		l.remain(in, rule, times)
	}
	for _, request := range in.Requests {
		if !lacking(request) {
			continue
		}
		d, err := l.draftFor(in, request)
		if err != nil {
			return err
		}
		if l.names += d.add(in, request); l.names > maxSecrets {
			return errTooMany
		}
	}
	for _, d := range l.touched() {
		d.seen(in, r.Time, times)
	}
	return nil
}

// ruleCopies is the library's warning about copies that no grant lists.
const ruleCopies = "PR-030"

// grantRules are the library's findings that another grant mends. PR-100 is none:
// every grant that serves a file limits its mode.
func grantRules() []string { return []string{"PR-001", "PR-013", "PR-020", "PR-101", ruleCopies} }

// lacking returns which requests the bundle does not grant, and the ids of the
// rules that object for another reason.
func (l *Learner) lacking(ctx context.Context, in policies.Input) (of func(policies.Request) bool, others []string) {
	if l.c.Engine == nil {
		return func(policies.Request) bool { return true }, nil
	}
	in.NowNS = l.c.Now.UnixNano()
	d := l.c.Engine.Decide(ctx, in)
	if d.Verdict() == policies.VerdictError {
		l.skip("the bundle does not decide on it: " + string(d.Undecided))
		return func(policies.Request) bool { return false }, nil
	}
	secrets, copies := map[string]bool{}, false
	for _, f := range slices.Concat(d.Deny, d.Warn) {
		switch {
		case slices.Contains(grantRules(), f.ID):
			secrets[f.Secret] = true
			copies = copies || f.ID == ruleCopies
		case f.Monitored || slices.Contains(policies.RuleIDs(d.Deny), f.ID):
			others = append(others, f.ID)
		}
	}
	slices.Sort(others)
	return func(r policies.Request) bool { return secrets[r.Secret] || copies && len(r.Sync) > 0 }, slices.Compact(others)
}

func (l *Learner) remain(in policies.Input, rule string, times int64) {
	key := strings.Join([]string{rule, in.Subject.Namespace, in.Subject.ServiceAccount}, " ")
	m, ok := l.others[key]
	if !ok {
		if len(l.others) >= maxDrafts {
			return
		}
		m = &Remaining{Rule: rule, Namespace: in.Subject.Namespace, ServiceAccount: in.Subject.ServiceAccount}
		l.others[key] = m
	}
	m.Decisions += times
	m.Workloads = noted(m.Workloads, workload(in))
}

// Result is what was learnt.
type Result struct {
	Suggestions []Suggestion `json:"suggestions"` // in the order of their ids
	// Remaining are rules that object whatever is granted.
	Remaining    []Remaining `json:"remaining"`
	Skipped      []Skipped   `json:"skipped"`
	Decisions    int64       `json:"decisions"`    // that were read
	OtherEffects int64       `json:"otherEffects"` // of these, not learnt from for their effect
	InputGone    int64       `json:"inputGone"`    // not learnt from since the input was dropped
	Used         int64       `json:"used"`
}

// Suggestion is a drafted grant and who asked for it.
type Suggestion struct {
	Grant     bundle.Grant `json:"grant"`
	Decisions int64        `json:"decisions"` // that it would have served
	Last      time.Time    `json:"last"`
	Workloads []string     `json:"workloads"` // kind/name of the pods' owners, the first few
	Images    []string     `json:"images"`    // the first few
}

// Remaining is a rule that a grant does not satisfy.
type Remaining struct {
	Rule           string   `json:"rule"`
	Namespace      string   `json:"namespace"`
	ServiceAccount string   `json:"serviceAccount"`
	Decisions      int64    `json:"decisions"`
	Workloads      []string `json:"workloads"`
}

// Skipped counts decisions that nothing was drafted from.
type Skipped struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
}

// Result returns what was learnt so far.
func (l *Learner) Result() Result {
	result := l.result
	skips := maps.Clone(l.skips)
	for _, d := range l.drafts {
		s := d.suggestion(l.c)
		if !acceptable(s) {
			skips["no grant can name what they asked for"] += s.Decisions
			continue
		}
		result.Suggestions = append(result.Suggestions, s)
	}
	slices.SortFunc(result.Suggestions, func(a, b Suggestion) int { return strings.Compare(a.Grant.ID, b.Grant.ID) })
	for _, key := range slices.Sorted(maps.Keys(l.others)) {
		result.Remaining = append(result.Remaining, *l.others[key])
	}
	for _, why := range slices.Sorted(maps.Keys(skips)) {
		result.Skipped = append(result.Skipped, Skipped{why, skips[why]})
	}
	return result
}

// acceptable reports whether a bundle would take the draft as it will be written.
func acceptable(s Suggestion) bool {
	var text bytes.Buffer
	if err := WriteYAML(&text, Result{Suggestions: []Suggestion{s}}); err != nil {
		return false
	}
	grants, err := bundle.ParseGrants(text.Bytes())
	if err != nil || len(grants) != 1 {
		return false
	}
	_, err = bundle.IndexGrants(grants, nil)
	return err == nil
}
