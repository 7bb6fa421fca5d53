package inputs

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies"
)

// maxOpen bounds how many events whose parts are not all there yet are waited for.
const maxOpen = 1024

// Leaves gives the stored events in their order, each with the number of its
// epoch and its index there.
type Leaves func(f func(epoch, index int64, leaf []byte) error) error

// errStop ends a walk through the leaves.
var errStop = errors.New("nobody reads on")

// Recorded gives the decisions of a log, each with its input where the store
// has it; nil stands for a store that has none. Decisions that were only counted
// are those of Repeated. One whose event lacks a part, which audit verify lists,
// is left out: what fired is not known.
func Recorded(l Leaves, s *Store) iter.Seq2[policies.Recorded, error] {
	return func(yield func(policies.Recorded, error) bool) {
		j := joiner{store: s, open: map[string]*open{}}
		err := l(func(epoch, index int64, leaf []byte) error {
			e, err := audit.Parse(leaf)
			if err != nil {
				return fmt.Errorf("event %d of epoch %d: %w", index, epoch, err)
			}
			if r, ok := j.event(e, epoch, index); ok && !yield(r, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(policies.Recorded{}, err)
		}
	}
}

// joiner puts decisions together again.
type joiner struct {
	store *Store
	open  map[string]*open
	order []string // of open, oldest first
}

// open is a decision of which parts are missing.
type open struct {
	record policies.Recorded
	have   int
}

// event returns the decision that an event completes.
func (j *joiner) event(e audit.Event, epoch, index int64) (policies.Recorded, bool) {
	if !isDecision(e) {
		return policies.Recorded{}, false
	}
	o := &open{}
	if p := e.Part; p != nil {
		if p.Number == 1 {
			j.begin(p.First, o)
		} else if o = j.open[p.First]; o == nil || p.Number != o.have+1 {
			return policies.Recorded{}, false
		}
	}
	if o.have == 0 {
		o.record = recordOf(e)
		o.record.Epoch, o.record.Index = epoch, index
	}
	o.have++
	add(&o.record, e.Policy)
	if p := e.Part; p != nil {
		if o.have < p.Of {
			return policies.Recorded{}, false
		}
		delete(j.open, p.First)
	}
	return j.finished(o.record), true
}

// begin waits for the parts that follow, and no longer for the oldest of too
// many others.
func (j *joiner) begin(id string, o *open) {
	j.open[id] = o
	j.order = append(j.order, id)
	if len(j.order) > maxOpen {
		delete(j.open, j.order[0])
		j.order = j.order[1:]
	}
}

func isDecision(e audit.Event) bool {
	switch e.Type {
	case audit.TypeMount, audit.TypeRotate, audit.TypeSync, audit.TypeAdmission:
		return e.Policy != nil && e.Policy.DecisionID != "" && e.Stage != audit.StageComplete && (e.Part != nil || e.Policy.InputSHA256 != "")
	default:
		return false
	}
}

func recordOf(e audit.Event) policies.Recorded {
	p := e.Policy
	return policies.Recorded{
		Time: e.Time, EventID: e.ID, DecisionID: p.DecisionID, Effect: string(p.Effect), Phase: policies.Phase(p.Phase),
		LibraryDigest: p.LibraryDigest, BundleDigest: p.BundleDigest, BundleSerial: p.BundleSerial,
		InputSHA256: p.InputSHA256, NowNS: p.NowNS, Repeated: e.Repeated,
	}
}

func add(r *policies.Recorded, p *audit.Policy) {
	for _, rule := range p.Rules {
		if rule.Denies {
			r.Deny = append(r.Deny, rule.ID)
		} else {
			r.Warn = append(r.Warn, rule.ID)
		}
	}
	r.Grants, r.Waivers = append(r.Grants, p.Grants...), append(r.Waivers, p.Waivers...)
}

func (j *joiner) finished(r policies.Recorded) policies.Recorded {
	for _, names := range []*[]string{&r.Deny, &r.Warn, &r.Grants, &r.Waivers} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	if j.store == nil {
		return r
	}
	if text, err := j.store.Input(r.InputSHA256); err == nil {
		r.Input = text
	}
	return r
}
