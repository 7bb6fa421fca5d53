package audit

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Resumed is what an earlier process left in the log.
type Resumed struct {
	// Intents are deliveries without an end, oldest first. Whoever starts must
	// give each its end with Ended.
	Intents []Intent

	shares *shares // of the last epoch
}

// Resume reads the log once: for the deliveries without an end, and for what
// refusals of each namespace have used of the last epoch, so that whoever makes
// the plugin restart gets no new share by it. With an error, what came after the
// leaf that could not be read counts all the same: of deliveries before it
// nobody can tell any more whether they have ended.
func Resume(l Leaves) (Resumed, error) {
	s := scan{open: map[string][]byte{}, shares: newShares(), refusals: map[string]bool{}, whole: true}
	err := l.Each(s.leaf)
	found, failed := s.resumed()
	if err = errors.Join(err, s.strange, failed); err != nil {
		return found, fmt.Errorf("look for open intents: %w", err)
	}
	return found, nil
}

// Resume has the recorder count on from where an earlier process stopped.
func (r *Recorder) Resume(found Resumed) {
	log, ok := r.c.Log.(Epochs)
	if !ok {
		return
	}
	epoch, limit := log.Epoch()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shares.enter(epoch, limit)
	if found.shares == nil {
		return
	}
	for a, used := range found.shares.accounts {
		r.shares.add(a, used.events)
	}
}

// scan follows the leaves in their order.
type scan struct {
	open     map[string][]byte // leaves of intents by their id
	order    []string
	shares   *shares
	refusals map[string]bool // ids of those that counts may follow
	whole    bool            // the last leaf may be followed by another epoch
	strange  error           // of the first leaf that is no event
}

// brief is what a scan reads of each event. The rest takes most of the time.
type brief struct {
	Schema   string `json:"schema"`
	ID       string `json:"id"`
	Type     Type   `json:"type"`
	Stage    Stage  `json:"stage"`
	ParentID string `json:"parentId"`
	Actor    struct {
		Unconfirmed bool `json:"unconfirmed"`
	} `json:"actor"`
	Workload *struct {
		Namespace string `json:"namespace"`
	} `json:"workload"`
	Policy *struct {
		Effect Effect `json:"effect"`
	} `json:"policy"`
}

func parseBrief(leaf []byte) (b brief, err error) {
	if err = json.Unmarshal(leaf, &b); err == nil && b.Schema != SchemaID {
		err = fmt.Errorf("schema is %q, want %q", b.Schema, SchemaID)
	}
	return b, err
}

func (b brief) event() Event {
	e := Event{ID: b.ID, Type: b.Type, Stage: b.Stage, ParentID: b.ParentID, Actor: Actor{Unconfirmed: b.Actor.Unconfirmed}}
	if b.Workload != nil {
		e.Workload = &Workload{Namespace: b.Workload.Namespace}
	}
	if b.Policy != nil {
		e.Policy = &Policy{Effect: b.Policy.Effect}
	}
	return e
}

func (s *scan) leaf(index int64, leaf []byte) error {
	if index == 0 { // of another epoch
		clear(s.shares.accounts)
		clear(s.refusals)
		if !s.whole {
			clear(s.open)
		}
	}
	b, err := parseBrief(leaf)
	if err != nil {
		if s.strange == nil {
			s.strange = fmt.Errorf("event %d: parse event: %w", index, err)
		}
		clear(s.open)
		return nil
	}
	s.whole = b.Type == TypeLogClosed
	switch b.Stage {
	case StageIntent:
		s.open[b.ID] = leaf
		s.order = append(s.order, b.ID)
	case StageComplete:
		delete(s.open, b.ParentID)
	default:
		s.charge(b.event(), len(leaf))
	}
	return nil
}

// charge counts a refusal, or the count of its repeats, for its account.
func (s *scan) charge(e Event, size int) {
	counted := e.Type == TypeAuditRepeated && s.refusals[e.ParentID]
	if counted {
		e.Type = TypeMount
	}
	a, refusal := accountOf(e)
	if !refusal {
		return
	}
	s.shares.add(a, leafCost(size))
	if !counted {
		s.refusals[e.ID] = true
	}
}

func (s *scan) resumed() (Resumed, error) {
	found := Resumed{shares: s.shares}
	for _, id := range s.order {
		leaf, ok := s.open[id]
		if !ok {
			continue
		}
		delete(s.open, id)
		e, err := Parse(leaf)
		if err != nil {
			return Resumed{}, fmt.Errorf("look for open intents: %w", err)
		}
		found.Intents = append(found.Intents, intentOf(e))
	}
	return found, nil
}
