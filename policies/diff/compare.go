package diff

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

// maxMessages bounds the findings that one flip shows in words.
const maxMessages = 3

// Change is one difference of decisions that workloads may have many of.
type Change struct {
	Workload       Workload        `json:"workload"`
	ServiceAccount string          `json:"serviceAccount"`
	Volume         string          `json:"volume"`
	Class          string          `json:"class"`
	From           policies.Effect `json:"from"`
	To             policies.Effect `json:"to"`
	Undecided      string          `json:"undecided,omitempty"` // why there is no verdict on one side

	RulesAdded    []string            `json:"rulesAdded"` // that refuse, or would but for monitor mode or a waiver
	RulesGone     []string            `json:"rulesGone"`
	GrantsAdded   []policies.GrantRef `json:"grantsAdded"`
	GrantsGone    []policies.GrantRef `json:"grantsGone"`
	WarningsAdded []string            `json:"warningsAdded"`
	WarningsGone  []string            `json:"warningsGone"`
	// Obligations differ where both sides allow.
	Obligations *ObligationChange `json:"obligations,omitempty"`
	// Owners answer for the grants that changed, or for those that served before.
	Owners []string `json:"owners"`
	// Findings are some of those that are new, in words.
	Findings []policies.Finding `json:"findings"`

	Count   int64  `json:"count"`             // of decisions
	Example string `json:"example,omitempty"` // the first of them

	key string
}

// Owners say who answers for a grant, "" for one that they do not know.
type Owners interface{ Owner(grant string) string }

// Answer is the decision of one of the bundles, and who owns its grants.
type Answer struct {
	policies.Decision
	Owners Owners
}

// Flips reports whether the effect is another one.
func (c Change) Flips() bool { return c.From != c.To }

// ObligationChange holds the conditions of both sides.
type ObligationChange struct {
	From policies.Obligations `json:"from"`
	To   policies.Obligations `json:"to"`
}

// Key is equal for changes that are one line of a report: all but the words and
// the count.
func (c Change) Key() string { return c.key }

// Compare says what changed between the answers of two bundles to one input, nil
// for nothing. The grants of both are needed to name their owners.
func Compare(k Case, before, after Answer) *Change {
	change := &Change{
		Workload: k.Workload, ServiceAccount: k.Input.Subject.ServiceAccount, Volume: k.Input.Volume.Name, Class: k.Input.SPC.Name,
		From: before.Effect(), To: after.Effect(), Count: max(k.Weight, 1), Example: k.Example,
	}
	if change.Workload == (Workload{}) {
		change.Workload = WorkloadOf(k.Input)
	}
	if change.From != change.To {
		change.Undecided = string(cmp.Or(after.Undecided, before.Undecided))
	}
	change.RulesAdded, change.RulesGone = rules(before.Decision, after.Decision)
	change.WarningsAdded, change.WarningsGone = split(warning(before.Decision), warning(after.Decision))
	added, gone := split(before.Grants, after.Grants)
	change.GrantsAdded, change.GrantsGone = refs(added, after.Owners), refs(gone, before.Owners)
	if before.Verdict() == policies.VerdictAllow && after.Verdict() == policies.VerdictAllow && !sameObligations(before.Decision, after.Decision) {
		change.Obligations = &ObligationChange{before.Obligations, after.Obligations}
	}
	if !change.differs() {
		return nil
	}
	change.Owners = owners(change, before, after)
	change.Findings = messages(change.RulesAdded, after.Decision)
	change.key = change.identify()
	return change
}

func (c *Change) differs() bool {
	return c.Flips() || c.Obligations != nil ||
		len(c.RulesAdded)+len(c.RulesGone)+len(c.WarningsAdded)+len(c.WarningsGone)+len(c.GrantsAdded)+len(c.GrantsGone) > 0
}

// owners are whom to call.
func owners(change *Change, before, after Answer) []string {
	concerned := slices.Concat(change.GrantsAdded, change.GrantsGone)
	if len(concerned) == 0 {
		concerned = slices.Concat(refs(before.Grants, before.Owners), refs(after.Grants, after.Owners))
	}
	owners := []string{}
	for _, g := range concerned {
		if g.Owner != "" {
			owners = append(owners, g.Owner)
		}
	}
	slices.Sort(owners)
	return slices.Compact(owners)
}

// rules returns which rules refuse now and did not, and which no longer do. One
// that monitor mode or a waiver excuses refuses less than one that nothing does.
func rules(before, after policies.Decision) (added, gone []string) {
	refusedBefore, refusedAfter := policies.RuleIDs(before.Deny), policies.RuleIDs(after.Deny)
	added, gone = split(refusedBefore, refusedAfter)
	excused, spared := split(slices.Concat(refusedBefore, excused(before)), slices.Concat(refusedAfter, excused(after)))
	return union(added, excused), union(gone, spared)
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// excused are the rules that would deny but for monitor mode or a waiver.
func excused(d policies.Decision) []string {
	var ids []string
	for _, f := range d.Warn {
		if f.Monitored || f.Waived {
			ids = append(ids, f.ID)
		}
	}
	return ids
}

func warning(d policies.Decision) []string {
	var ids []string
	for _, f := range d.Warn {
		if !f.Monitored && !f.Waived {
			ids = append(ids, f.ID)
		}
	}
	return ids
}

// split returns what is only in after and what is only in before.
func split(before, after []string) (added, gone []string) {
	added, gone = []string{}, []string{}
	for _, id := range after {
		if !slices.Contains(before, id) && !slices.Contains(added, id) {
			added = append(added, id)
		}
	}
	for _, id := range before {
		if !slices.Contains(after, id) && !slices.Contains(gone, id) {
			gone = append(gone, id)
		}
	}
	slices.Sort(added)
	slices.Sort(gone)
	return added, gone
}

func refs(ids []string, grants Owners) []policies.GrantRef {
	all := []policies.GrantRef{}
	for _, id := range ids {
		all = append(all, policies.GrantRef{ID: id, Owner: grants.Owner(id)})
	}
	return all
}

func messages(rules []string, d policies.Decision) []policies.Finding {
	shown := []policies.Finding{}
	for _, f := range slices.Concat(d.Deny, d.Warn) {
		if slices.Contains(rules, f.ID) && len(shown) < maxMessages {
			shown = append(shown, f)
		}
	}
	return shown
}

func sameObligations(a, b policies.Decision) bool {
	x, errX := json.Marshal(a.Obligations)
	y, errY := json.Marshal(b.Obligations)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// unlike keeps a name of an input, which anybody wrote, from looking like two
// fields: what flips of one workload must not hide among those of another.
func unlike(name string) string {
	if strings.ContainsRune(name, 0) {
		return strconv.Quote(name)
	}
	return name
}

// identify is equal for changes that are one line of the report: all but the words
// and the count.
func (c *Change) identify() string {
	var grants []string
	for _, g := range c.GrantsAdded {
		grants = append(grants, "+"+g.ID)
	}
	for _, g := range c.GrantsGone {
		grants = append(grants, "-"+g.ID)
	}
	obligations, err := json.Marshal(c.Obligations)
	if err != nil {
		obligations = nil
	}
	return strings.Join([]string{
		c.Workload.Namespace, unlike(c.Workload.Kind), unlike(c.Workload.Name), c.ServiceAccount, c.Volume, c.Class, string(c.From), string(c.To), c.Undecided,
		strings.Join(c.RulesAdded, ","), strings.Join(c.RulesGone, ","), strings.Join(c.WarningsAdded, ","), strings.Join(c.WarningsGone, ","),
		strings.Join(grants, ","), string(obligations),
	}, "\x00")
}
