package server

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// lateFor is how long an address that was cut off comes after all others.
	lateFor = time.Minute
	// maxLate bounds the memory: far more addresses than connections.
	maxLate = 1024
)

// turns lets in so many reviews at a time, with so many bytes in all. Everybody who
// reaches the port is in the queue, and the API servers are among them, with few
// reviews at a time: so the next turn is of the address that has the fewest. Whoever
// is slow to send what was announced makes room for those who wait, and comes after
// all others from then on: no number of addresses keeps the room full.
type turns struct {
	most  int           // reviews at a time
	bytes int64         // of all of them
	grace time.Duration // after which a body that is not whole yet may be cut off

	mu      sync.Mutex
	inside  []*turn              // the oldest first
	waiting []*turn              // the oldest first
	held    int64                // bytes of those inside
	late    map[string]time.Time // when an address was cut off
}

// turn is one review's.
type turn struct {
	from  string
	bytes int64
	begun chan struct{} // closed when it may go in
	cut   func()        // ends the reading of its body; guarded by the mutex of turns

	since   time.Time // when it went in
	reading bool      // its body is not whole yet
}

// enter waits for a turn for as long as patience lasts and the caller has use of an
// answer. A turn that it returns must leave.
func (t *turns) enter(ctx context.Context, mine *turn, patience time.Duration) bool {
	mine.begun = make(chan struct{})
	t.mu.Lock()
	t.waiting = append(t.waiting, mine)
	t.next()
	t.mu.Unlock()
	select { // or a caller who is gone takes the turn of another
	case <-mine.begun:
		return true
	default:
	}
	end := time.NewTimer(patience)
	defer end.Stop()
	again := time.NewTicker(t.grace/2 + 1)
	defer again.Stop()
	for {
		select {
		case <-mine.begun:
			return true
		case <-again.C:
			t.makeRoom()
		case <-end.C:
			return !t.giveUp(mine)
		case <-ctx.Done():
			return !t.giveUp(mine)
		}
	}
}

// giveUp takes a turn out of the queue. It reports false where it had just begun.
func (t *turns) giveUp(mine *turn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting, mine)
	if i < 0 {
		return false
	}
	t.waiting = slices.Delete(t.waiting, i, i+1)
	return true
}

// read notes that the body is whole: from now on the review takes as long as ours.
func (t *turns) read(mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine.reading, mine.cut = false, nil
}

func (t *turns) leave(mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine.cut = nil
	if i := slices.Index(t.inside, mine); i >= 0 {
		t.inside = slices.Delete(t.inside, i, i+1)
		t.held -= mine.bytes
	}
	t.next()
}

// next lets in who may, with the lock held.
func (t *turns) next() {
	for len(t.inside) < t.most {
		have := t.of()
		best, rank := -1, 0
		for i, w := range t.waiting {
			mine := have[w.from]
			if time.Since(t.late[w.from]) < lateFor {
				mine += t.most
			}
			if t.held+w.bytes <= t.bytes && (best < 0 || mine < rank) {
				best, rank = i, mine
			}
		}
		if best < 0 {
			return
		}
		w := t.waiting[best]
		t.waiting = slices.Delete(t.waiting, best, best+1)
		t.inside = append(t.inside, w)
		t.held += w.bytes
		w.since, w.reading = time.Now(), true
		close(w.begun)
	}
}

// of counts the turns of each address, with the lock held.
func (t *turns) of() map[string]int {
	have := map[string]int{}
	for _, in := range t.inside {
		have[in.from]++
	}
	return have
}

// makeRoom cuts off one body that is slow to come: that of the address with the most
// turns, and of those the oldest.
func (t *turns) makeRoom() {
	t.mu.Lock()
	defer t.mu.Unlock()
	have := t.of()
	var slow *turn
	for _, in := range t.inside {
		if in.reading && in.cut != nil && time.Since(in.since) >= t.grace && (slow == nil || have[in.from] > have[slow.from]) {
			slow = in
		}
	}
	if slow == nil {
		return
	}
	slow.cut()
	slow.cut = nil
	if t.late == nil || len(t.late) >= maxLate {
		t.late = map[string]time.Time{}
	}
	t.late[slow.from] = time.Now()
}
