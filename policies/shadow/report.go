package shadow

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/diff"
)

// maxMissing bounds the volumes that a report names as not compared.
const maxMissing = 20

// Kind says what a flip would mean for whoever has the volume.
type Kind string

// The kinds of flips.
const (
	Breaks    Kind = "breaks"    // allowed now, denied by the candidate
	Opens     Kind = "opens"     // denied now, allowed by the candidate
	Monitors  Kind = "monitors"  // allowed by both, by one of them only for monitor mode
	Undecided Kind = "undecided" // one of them has no verdict
)

// kinds are all, in the order of reports.
func kinds() []Kind { return []Kind{Opens, Breaks, Undecided, Monitors} }

func kindOf(from, to policies.Effect) Kind {
	switch {
	case from == policies.EffectUndecided || to == policies.EffectUndecided:
		return Undecided
	case from.Allows() && to.Allows():
		return Monitors
	case from.Allows():
		return Breaks
	default:
		return Opens
	}
}

// Bundle names one of the two sides; without a digest there is none.
type Bundle struct {
	Digest   string `json:"digest"`
	Serial   int64  `json:"serial"`
	Revision string `json:"revision,omitempty"`
	Signed   bool   `json:"signed"`
}

// bundleOf names the bundle of an engine, which may be nil.
func bundleOf(e *policies.Engine) Bundle {
	return Bundle{Digest: e.Digest(), Serial: e.Manifest().Serial, Revision: e.Manifest().Revision, Signed: e.Signed()}
}

// Group is one difference, of all decisions that have it.
type Group struct {
	Kind Kind `json:"kind"`
	diff.Change
	Volumes int64     `json:"volumes"` // different ones
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

// Count is how many decisions flip by something.
type Count struct {
	Name      string `json:"name"`
	Decisions int64  `json:"decisions"`
}

// NamespaceCount is how many decisions of a namespace flip, and how many of these
// are in no group.
type NamespaceCount struct {
	Namespace string         `json:"namespace"` // "" for those beyond the bound of the list
	Flips     map[Kind]int64 `json:"flips"`
	Unlisted  int64          `json:"unlisted"`
}

// Dropped are decisions that were not compared, since the process started.
type Dropped struct {
	Full       int64 `json:"full"`       // the queue was full
	Share      int64 `json:"share"`      // their namespace had its share of the queue
	Superseded int64 `json:"superseded"` // a bundle had changed before their turn
}

// Live says how many of the volumes that there are now were compared.
type Live struct {
	Volumes  int64    `json:"volumes"`
	Compared int64    `json:"compared"`
	Missing  []string `json:"missing"` // some that were not, as pod UID/volume
}

// Report says what the candidate would have decided. Its JSON is stable, and
// bounded.
type Report struct {
	Active    Bundle `json:"active"`
	Candidate Bundle `json:"candidate"`
	// Problem is why the candidate is of no use as it is, or not compared at all.
	Problem string    `json:"problem,omitempty"`
	Since   time.Time `json:"since"` // when the two met
	Until   time.Time `json:"until"` // when this was said, or when one was replaced

	Compared  int64            `json:"compared"` // decisions
	Flips     map[Kind]int64   `json:"flips"`    // those whose effect is another one
	Changes   int64            `json:"changes"`  // those that differ in anything else
	Undecided int64            `json:"undecided"`
	Panics    int64            `json:"panics"` // of the candidate
	Matrix    map[string]int64 `json:"matrix"` // decisions by "from->to"
	Workloads int64            `json:"workloads"`
	Volumes   int64            `json:"volumes"`
	// AtLeast: there were too many different workloads or volumes to tell all apart.
	AtLeast bool    `json:"atLeast"`
	Live    *Live   `json:"live,omitempty"`
	Queued  int64   `json:"queued"` // decisions that wait
	Dropped Dropped `json:"dropped"`

	Rules      []Count          `json:"rules"`      // that make flips
	Owners     []Count          `json:"owners"`     // "" where no grant is concerned
	Namespaces []NamespaceCount `json:"namespaces"` // that have flips
	Flipped    []Group          `json:"flipped"`
	Unlisted   int64            `json:"unlisted"` // flips that are in no group

	Previous *Report `json:"previous,omitempty"` // of the bundles before
}

// Total is how many decisions flip.
func (r Report) Total() int64 {
	total := int64(0)
	for _, n := range r.Flips {
		total += n
	}
	return total
}

// JSON is the report as others read it.
func (s *Shadow) JSON() ([]byte, error) { return json.Marshal(s.Report()) }

// Report returns what is known now.
func (s *Shadow) Report() Report {
	both, p := s.now()
	problem := ""
	if err := s.trouble(both); err != nil {
		problem = err.Error()
	}
	live := s.live(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := p.report(s.c.Clock())
	r.Problem, r.Live = problem, live
	if s.previous != nil {
		r.Previous = new(s.previous.report(s.c.Clock()))
	}
	r.Queued = int64(s.queue.length())
	r.Dropped = s.queue.dropped()
	return r
}

func (q *queue) dropped() Dropped {
	return Dropped{Full: q.full.Load(), Share: q.share.Load(), Superseded: q.superseded.Load()}
}

// live asks for the volumes that there are without the lock, under which a
// comparison would wait.
func (s *Shadow) live(p *period) *Live {
	if s.c.Live == nil {
		return nil
	}
	type volume struct{ pod, name string }
	var all []volume
	for pod, name := range s.c.Live() {
		all = append(all, volume{pod, name})
	}
	l := &Live{Volumes: int64(len(all)), Missing: []string{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range all {
		switch {
		case p.volumes.has(v.pod, v.name):
			l.Compared++
		case len(l.Missing) < maxMissing:
			l.Missing = append(l.Missing, v.pod+"/"+v.name)
		}
	}
	slices.Sort(l.Missing)
	return l
}

// sortGroups puts first what matters most: what a candidate opens, then what it
// breaks, and of these what concerns most volumes.
func sortGroups(groups []Group) {
	order := map[Kind]int{}
	for i, k := range kinds() {
		order[k] = i
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(order[a.Kind], order[b.Kind]), cmp.Compare(b.Volumes, a.Volumes), cmp.Compare(a.Key(), b.Key()))
	})
}

func sortCounts(counts map[string]int64) []Count {
	list := make([]Count, 0, len(counts))
	for name, n := range counts {
		list = append(list, Count{name, n})
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Decisions, a.Decisions), cmp.Compare(a.Name, b.Name))
	})
	return list
}
