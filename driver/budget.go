package driver

import (
	"fmt"
	"sync"
)

// namespaceShare is the part of the node's budget that one namespace may fill.
const namespaceShare = 4

// budgetError is a volume that the node has no memory for.
type budgetError struct {
	scope              string // node, namespace or volume
	used, asked, limit int64  // bytes
}

// Error names the scope. The figures are not in it: kubelet counts equal texts
// as one event, and a tenant has no business with the node's use.
func (e *budgetError) Error() string { return "the memory budget of " + e.scope + " is used up" }

// detail is for the plugin's own log.
func (e *budgetError) detail() string {
	return fmt.Sprintf("%d of %d bytes in use, %d more asked for", e.used, e.limit, e.asked)
}

// budget counts the tmpfs bytes that volumes on this node may fill. Their
// pages are charged to the plugin's pod and outlive its container, so an
// out-of-memory kill would be a crash loop: the refusal must come first.
type budget struct {
	limit   int64
	largest int64 // what one volume may fill

	mu    sync.Mutex
	used  int64
	perNS map[string]int64
	held  map[targetKey]share
}

// share is what one volume may fill.
type share struct {
	namespace string
	bytes     int64
}

func newBudget(limit, largest int64) *budget {
	return &budget{limit: limit, largest: largest, perNS: map[string]int64{}, held: map[targetKey]share{}}
}

// admit refuses a volume for which there would be no room if it were a large
// one, before any provider is called. It takes nothing: a delivery whose
// provider hangs must not hold what others need.
func (b *budget) admit(k targetKey, namespace string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.check(k, namespace, b.largest)
}

// reserve takes so many bytes in all for a volume, once its size is known and
// before its first byte is written. It never takes any away.
func (b *budget) reserve(k targetKey, namespace string, bytes int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bytes > b.largest {
		return &budgetError{"one volume", b.held[k].bytes, bytes, b.largest}
	}
	if err := b.check(k, namespace, bytes); err != nil {
		return err
	}
	if bytes > b.held[k].bytes {
		b.set(k, share{namespace, bytes})
	}
	return nil
}

func (b *budget) check(k targetKey, namespace string, bytes int64) error {
	more := bytes - b.held[k].bytes
	if more <= 0 {
		return nil
	}
	if b.used+more > b.limit {
		return &budgetError{"this node", b.used, more, b.limit}
	}
	if most := b.limit / namespaceShare; b.perNS[namespace]+more > most {
		return &budgetError{"namespace " + namespace, b.perNS[namespace], more, most}
	}
	return nil
}

// settle replaces a share by what the volume really may fill, whatever the
// limit: what is mounted is mounted. A privileged container can give its
// volume any size, or none; it counts for the largest one and no more, or one
// pod could spend everybody's memory on paper.
func (b *budget) settle(k targetKey, namespace string, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bytes <= 0 || bytes > b.largest {
		bytes = b.largest
	}
	b.set(k, share{namespace, bytes})
}

// own says whose a volume is. After volumes.db was lost, the mount table alone
// does not.
func (b *budget) own(k targetKey, namespace string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.held[k]; s.bytes > 0 {
		b.set(k, share{namespace, s.bytes})
	}
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
	if s.bytes == 0 {
		delete(b.held, k)
	} else {
		b.held[k] = s
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
