package audit

// entryOverhead is about what an entry takes beside its leaves.
const entryOverhead = 1 << 10

// entry is an event on its way into the log. It has no lists, which may be
// large: they are in the leaves, which shrink as its parts become durable.
type entry struct {
	event  Event
	key    string // of repeats
	leaves [][]byte
	size   int64 // about what it takes in memory
}

func newEntry(e Event, key string, leaves [][]byte) *entry {
	n := &entry{event: summary(e), key: key, leaves: leaves, size: entryOverhead}
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
