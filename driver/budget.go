package driver

import (
	"context"
	"fmt"
	"sync"
)

// namespaceShare is the part of the node's budget that one namespace may fill.
const namespaceShare = 4

// budgetError is a volume that the node has no memory for.
type budgetError struct {
	scope        string // node, or the namespace
	used, budget int64  // bytes
	asked        int64
}

// Error names the limit and what it is needed for.
func (e *budgetError) Error() string {
	return fmt.Sprintf("memory budget of %s: %d of %d bytes are in use and this volume may need %d", e.scope, e.used, e.budget, e.asked)
}

// budget counts the tmpfs bytes that volumes on this node may fill. Their
// pages are charged to the plugin's pod and outlive its container, so an
// out-of-memory kill would be a crash loop: the refusal must come first.
type budget struct {
	limit int64

	mu      sync.Mutex
	used    int64
	perNS   map[string]int64
	held    map[targetKey]share
	open    int           // shares whose size is not known yet
	changed chan struct{} // closed and replaced when bytes come free
}

// share is what one volume may fill.
type share struct {
	namespace string
	bytes     int64
	open      bool // reserved for the largest volume; what it really needs is not known yet
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, perNS: map[string]int64{}, held: map[targetKey]share{}, changed: make(chan struct{})}
}

// reserve takes bytes for a new volume before any provider is called. While
// the budget is short only because other deliveries have reserved more than
// they will need, it waits for those: a node that starts a hundred pods at
// once must not refuse any of them.
func (b *budget) reserve(ctx context.Context, k targetKey, namespace string, bytes int64) error {
	for {
		wait, err := b.tryReserve(k, namespace, bytes)
		if err == nil || wait == nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return err
		}
	}
}

func (b *budget) tryReserve(k targetKey, namespace string, bytes int64) (wait <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	err = b.check(k, namespace, bytes)
	if err == nil {
		b.set(k, share{namespace, bytes, true})
		return nil, nil
	}
	if b.open > 0 {
		return b.changed, err
	}
	return nil, err
}

func (b *budget) check(k targetKey, namespace string, bytes int64) error {
	more := bytes - b.held[k].bytes
	if more <= 0 {
		return nil
	}
	if b.used+more > b.limit {
		return &budgetError{"this node", b.used, b.limit, more}
	}
	if most := b.limit / namespaceShare; b.perNS[namespace]+more > most {
		return &budgetError{"namespace " + namespace, b.perNS[namespace], most, more}
	}
	return nil
}

// extend takes as much more for a mounted volume as there is, up to bytes in
// all, and returns what the volume may fill now. It never takes any away: a
// volume that holds two generations of its content can always rotate.
func (b *budget) extend(k targetKey, namespace string, bytes int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	has := b.held[k].bytes
	room := min(b.limit-b.used, b.limit/namespaceShare-b.perNS[namespace])
	if bytes = min(bytes, has+max(room, 0)); bytes > has {
		b.set(k, share{namespace, bytes, true})
		return bytes
	}
	return has
}

// settle replaces a share by what the volume really may fill, whatever the
// limit: what is mounted is mounted.
func (b *budget) settle(k targetKey, namespace string, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(k, share{namespace, bytes, false})
}

// release gives a target's bytes back.
func (b *budget) release(k targetKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(k, share{})
}

// set replaces a share. The caller holds the lock.
func (b *budget) set(k targetKey, s share) {
	old := b.held[k]
	b.used += s.bytes - old.bytes
	b.count(old.namespace, -old.bytes)
	b.count(s.namespace, s.bytes)
	if old.open {
		b.open--
	}
	if s.open {
		b.open++
	}
	if s.bytes == 0 {
		delete(b.held, k)
	} else {
		b.held[k] = s
	}
	if s.bytes < old.bytes || old.open && !s.open {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

func (b *budget) count(namespace string, bytes int64) {
	if b.perNS[namespace] += bytes; b.perNS[namespace] == 0 {
		delete(b.perNS, namespace)
	}
}

// inUse returns the bytes that are taken now.
func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
