package audit

import "slices"

// entryOverhead is about what an entry takes beside its leaves.
const entryOverhead = 1 << 10

// entry is an event on its way into the log. It has no lists, which may be
// large: they are in the leaves, which shrink as its parts become durable.
type entry struct {
	event   Event
	key     string // of repeats
	attempt string // of an intent: of attempts
	leaves  [][]byte
	size    int64    // about what it takes in memory
	rules   []string // ids of those that denied, each once

	account account
	epoch   int64  // of the charge
	charge  int64  // 0: none
	text    []byte // of the input, to be kept once the event will stay
}

func newEntry(e Event, key string, leaves [][]byte) *entry {
	n := &entry{event: summary(e), key: key, leaves: leaves, size: entryOverhead, rules: denying(e.Policy)}
	n.event.input = nil
	for _, leaf := range leaves {
		n.size += int64(len(leaf))
	}
	return n
}

// shift forgets the first leaf.
func (n *entry) shift() {
	n.leaves[0] = nil
	n.leaves = n.leaves[1:]
}

// denying returns the ids of the rules that denied, each once.
func denying(p *Policy) []string {
	if p == nil {
		return nil
	}
	var ids []string
	for _, r := range p.Rules {
		if r.Denies && !slices.Contains(ids, r.ID) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}
