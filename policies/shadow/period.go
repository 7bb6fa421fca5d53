package shadow

import (
	"encoding/json"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/diff"
)

// The bounds of a period: whoever writes pods chooses how many differences there
// are, and how long.
const (
	maxGroups     = 1000
	maxGroupBytes = 2 << 20
	maxNamespaces = 1000
	maxOwners     = 1000
	maxRules      = 64
	maxVolumes    = 10_000
	maxWorkloads  = 10_000
	// maxChangeBytes is the most that one group may take: a quarter of what a
	// namespace has.
	maxChangeBytes = maxGroupBytes / sharePart / sharePart
)

// others stands for what is beyond a bound of different names.
const others = "(others)"

// outcome is one comparison.
type outcome struct {
	before, after policies.Decision
	change        *diff.Change // nil: nothing differs
	failed        bool         // the candidate panicked
}

// flips reports whether the effect is another one.
func (o outcome) flips() bool { return o.change != nil && o.change.Flips() }

// resultPanic is a comparison of which nothing came.
const resultPanic = "panic"

// result words an outcome for metrics.
func (o outcome) result() string {
	switch {
	case o.failed:
		return resultPanic
	case o.flips():
		return "flip"
	case o.change != nil:
		return "change"
	default:
		return "same"
	}
}

// rules are the ids of those that make a flip.
func (o outcome) rules() []string {
	ids := slices.Concat(o.change.RulesAdded, o.change.RulesGone)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// period is what was compared between two changes of bundles. Its caller has the
// lock. It holds no engine: those of large bundles take hundreds of megabytes.
type period struct {
	active, candidate Bundle
	since             time.Time
	until             time.Time // zero for the current one

	compared, changes, undecided, panics, unlisted int64

	flips      map[Kind]int64
	matrix     map[string]int64
	rules      map[string]int64
	owners     map[string]int64
	groups     map[string]*Group
	bytes      int
	namespaces map[string]*namespace
	volumes    set
	workloads  set
	grouped    set // volumes of groups
}

// namespace is what one namespace has of the lists.
type namespace struct {
	NamespaceCount
	groups, bytes int
}

// of reports whether the period is that of two bundles.
func (p *period) of(both sides) bool {
	return p.active.Digest == both.active.Digest() && p.candidate.Digest == both.candidate.Digest()
}

func newPeriod(both sides, now time.Time) *period {
	seed := maphash.MakeSeed()
	return &period{
		active: bundleOf(both.active), candidate: bundleOf(both.candidate), since: now, flips: map[Kind]int64{}, matrix: map[string]int64{}, rules: map[string]int64{}, owners: map[string]int64{},
		groups: map[string]*Group{}, namespaces: map[string]*namespace{},
		volumes: newSet(seed, maxVolumes), workloads: newSet(seed, maxWorkloads), grouped: newSet(seed, maxVolumes),
	}
}

func (p *period) add(o outcome, now time.Time) {
	in := o.before.Input()
	from, to := o.before.Effect(), o.after.Effect()
	w := diff.WorkloadOf(in)
	p.compared++
	p.matrix[string(from)+"->"+string(to)]++
	p.volumes.add(in.Subject.PodUID, in.Volume.Name)
	p.workloads.add(w.Namespace, w.Kind, w.Name)
	if o.failed {
		p.panics++
	}
	if from == policies.EffectUndecided && to == policies.EffectUndecided {
		p.undecided++
	}
	switch {
	case o.flips():
		p.flip(o, kindOf(from, to), now)
	case o.change != nil:
		p.changes++
	}
}

func (p *period) flip(o outcome, kind Kind, now time.Time) {
	p.flips[kind]++
	for _, id := range o.rules() {
		count(p.rules, id, maxRules)
	}
	owners := o.change.Owners
	if len(owners) == 0 {
		owners = []string{""}
	}
	for _, owner := range owners {
		count(p.owners, owner, maxOwners)
	}
	in := o.before.Input()
	n := p.namespace(in.Subject.Namespace)
	n.Flips[kind]++
	g := p.group(o.change, n, now)
	if g == nil {
		n.Unlisted++
		p.unlisted++
		return
	}
	g.Kind, g.Last = kind, now
	if p.grouped.add(g.Key(), in.Subject.PodUID, in.Volume.Name) {
		g.Volumes++
	}
}

// group finds the group of a change or makes one, nil where there is no room.
func (p *period) group(c *diff.Change, n *namespace, now time.Time) *Group {
	key := c.Key()
	if g := p.groups[key]; g != nil {
		g.Count++
		return g
	}
	text, err := json.Marshal(c)
	size := len(text) + len(key)
	switch {
	case err != nil || size > maxChangeBytes:
		return nil
	case len(p.groups) >= maxGroups || p.bytes+size > maxGroupBytes:
		return nil
	case n.groups >= maxGroups/sharePart || n.bytes+size > maxGroupBytes/sharePart:
		return nil
	}
	g := &Group{Change: *c, First: now}
	p.groups[key] = g
	p.bytes += size
	n.groups++
	n.bytes += size
	return g
}

// namespace returns what a namespace has, that of all others where there are too many.
func (p *period) namespace(name string) *namespace {
	if n := p.namespaces[name]; n != nil {
		return n
	}
	if len(p.namespaces) >= maxNamespaces {
		name = ""
		if n := p.namespaces[name]; n != nil {
			return n
		}
	}
	n := &namespace{NamespaceCount: NamespaceCount{Namespace: name, Flips: map[Kind]int64{}}}
	p.namespaces[name] = n
	return n
}

// count counts names, of which there are only so many.
func count(counts map[string]int64, name string, most int) {
	if _, known := counts[name]; !known && len(counts) >= most {
		name = others
	}
	counts[name]++
}

func (p *period) report(now time.Time) Report {
	if !p.until.IsZero() {
		now = p.until
	}
	r := Report{
		Active: p.active, Candidate: p.candidate, Since: p.since.UTC(), Until: now.UTC(),
		Compared: p.compared, Flips: map[Kind]int64{}, Changes: p.changes, Undecided: p.undecided, Panics: p.panics, Matrix: maps.Clone(p.matrix),
		Workloads: p.workloads.len(), Volumes: p.volumes.len(), AtLeast: p.volumes.full || p.workloads.full || p.grouped.full,
		Rules: sortCounts(p.rules), Owners: sortCounts(p.owners), Namespaces: []NamespaceCount{}, Flipped: []Group{}, Unlisted: p.unlisted,
	}
	for _, k := range kinds() {
		r.Flips[k] = p.flips[k]
	}
	for _, name := range slices.Sorted(maps.Keys(p.namespaces)) {
		n := p.namespaces[name].NamespaceCount
		n.Flips = maps.Clone(n.Flips)
		r.Namespaces = append(r.Namespaces, n)
	}
	for _, g := range p.groups {
		one := *g
		one.First, one.Last = g.First.UTC(), g.Last.UTC()
		r.Flipped = append(r.Flipped, one)
	}
	sortGroups(r.Flipped)
	return r
}
