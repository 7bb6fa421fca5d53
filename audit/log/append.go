package log

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// maxBatch and maxBatchBytes bound one transaction, so that its fsync
	// stays short.
	maxBatch      = 256
	maxBatchBytes = 4 << 20
	// fill leaves little room in pages: keys only ever grow.
	fill = 0.95
)

// The states of a request: whoever waits may withdraw it until the writer has
// taken it.
const (
	queued int32 = iota
	taken
	withdrawn
)

type request struct {
	leaf     []byte
	at       time.Time // of the event
	reserved bool
	state    atomic.Int32
	done     chan result
}

type result struct {
	index int64
	err   error
}

func (q *request) cost() int64 { return costOf(len(q.leaf)) }

// costOf is about what a leaf takes in the file: itself, two hashes, and its
// share of pages.
func costOf(size int) int64 { return int64(size+size/4) + 512 }

// Append returns the index of a leaf in its epoch once it is on the disk. An
// error means that the leaf is not in the log and will not be. When what a
// required sink lacks fills 80 % of the retention it is ErrFull. While a write
// is under way the end of ctx does not interrupt it.
func (l *Log) Append(ctx context.Context, leaf []byte) (int64, error) {
	return l.append(ctx, leaf, false)
}

// AppendReserved is Append for what must never wait: it may fill the retention,
// and use the reserve of a full disk.
func (l *Log) AppendReserved(ctx context.Context, leaf []byte) (int64, error) {
	return l.append(ctx, leaf, true)
}

func checkLeaf(leaf []byte) error {
	switch {
	case len(leaf) > MaxLeafBytes:
		return ErrTooLarge
	case !json.Valid(leaf) || !bytes.HasPrefix(leaf, []byte("{")):
		return ErrNotJSON
	}
	return nil
}

func (l *Log) append(ctx context.Context, leaf []byte, reserved bool) (int64, error) {
	if err := checkLeaf(leaf); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	q := &request{leaf: bytes.Clone(leaf), at: timeOf(leaf), reserved: reserved, done: make(chan result, 1)}
	select {
	case <-l.quit:
		return 0, ErrClosed
	default:
	}
	select {
	case l.requests <- q:
	case <-l.quit:
		return 0, ErrClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return l.await(ctx, q)
}

func (l *Log) await(ctx context.Context, q *request) (int64, error) {
	cause := ErrClosed
	select {
	case r := <-q.done:
		return r.index, r.err
	case <-ctx.Done():
		cause = ctx.Err()
	case <-l.done:
	}
	if q.state.CompareAndSwap(queued, withdrawn) {
		return 0, cause
	}
	r := <-q.done
	return r.index, r.err
}

// write is the only one that adds leaves, and that begins and ends epochs.
func (l *Log) write() {
	defer close(l.done)
	tick := time.NewTicker(l.c.CheckpointEvery)
	defer tick.Stop()
	for {
		select {
		case q := <-l.requests:
			l.commit(l.batch(q))
		case f := <-l.commands:
			f()
		case <-tick.C:
			l.rollIfDue(0)
			l.provide(0)
			l.signIfNew()
		case <-l.quit:
			l.drain()
			return
		}
	}
}

func (l *Log) drain() {
	for {
		select {
		case q := <-l.requests:
			l.commit(l.batch(q))
		default:
			return
		}
	}
}

// batch takes what is waiting already: the more wait, the more share an fsync.
func (l *Log) batch(q *request) []*request {
	var batch []*request
	size := 0
	for {
		if q.state.CompareAndSwap(queued, taken) {
			batch = append(batch, q)
			size += len(q.leaf)
		}
		if len(batch) >= maxBatch || int64(size) >= min(maxBatchBytes, l.c.EpochBytes/8) {
			return batch
		}
		select {
		case q = <-l.requests:
		default:
			return batch
		}
	}
}

// commit makes a batch durable and says so to whoever waits.
func (l *Log) commit(batch []*request) {
	var cost int64
	for _, q := range batch {
		cost += q.cost()
	}
	needed := l.needed()
	l.rollIfDue(cost)
	l.prune(cost, needed)
	l.provide(cost)
	batch = l.admit(batch, needed)
	if len(batch) == 0 {
		return
	}
	first, err := l.store(batch)
	l.settle(err)
	for i, q := range batch {
		if err != nil {
			q.done <- result{err: err}
			continue
		}
		q.done <- result{index: first + int64(i)}
	}
}

// admit answers those there is no room for, and returns the others.
func (l *Log) admit(batch []*request, needed int64) []*request {
	l.mu.Lock()
	held, broken, spent := l.heldLocked(needed), l.broken, l.spent
	l.mu.Unlock()
	kept := batch[:0]
	for _, q := range batch {
		switch {
		case broken != nil:
			q.done <- result{err: broken}
		case spent && !q.reserved:
			q.done <- result{err: errSpent()}
		case held > 0 && held+q.cost() > l.room(q.reserved):
			q.done <- result{err: ErrFull}
		default:
			if held > 0 {
				held += q.cost()
			}
			kept = append(kept, q)
		}
	}
	return kept
}

// store writes a batch in one transaction: leaves, hashes and size together,
// and the signature that keeps the tail short.
func (l *Log) store(batch []*request) (first int64, err error) {
	if err := l.checkFile(); err != nil {
		return 0, err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	e, h := l.active, head{l.active.origin, []note.Signer{l.signer}}
	first = e.size
	t := e.tail
	l.mu.Unlock()
	leaves := make([][]byte, len(batch))
	for i, q := range batch {
		leaves[i] = q.leaf
		t.add(q.at)
	}
	sign := t.long()
	err = e.db.Update(func(tx *bolt.Tx) error {
		size, ok := number(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaSize)))
		if !ok || size != first {
			return fmt.Errorf("the file holds %d events, not %d", size, first)
		}
		if err := addLeaves(tx, first, leaves); err != nil || !sign {
			return err
		}
		_, _, err := h.store(tx)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("write audit log: %w", err)
	}
	// What was written into a file that is not ours any more is not durable.
	if err := l.checkFile(); err != nil {
		return 0, err
	}
	if sign {
		t = tail{}
	}
	return first, l.advance(e, first+int64(len(batch)), t)
}

func addLeaves(tx *bolt.Tx, n int64, leaves [][]byte) error {
	events, stored := tx.Bucket([]byte(bucketEvents)), tx.Bucket([]byte(bucketHashes))
	events.FillPercent, stored.FillPercent = fill, fill
	for _, leaf := range leaves {
		hashes, err := tlog.StoredHashes(n, leaf, hashReader{stored})
		if err != nil {
			return err
		}
		at := tlog.StoredHashIndex(0, n)
		for i, h := range hashes {
			if err := stored.Put(key(at+int64(i)), h[:]); err != nil {
				return err
			}
		}
		if err := events.Put(key(n), leaf); err != nil {
			return err
		}
		n++
	}
	return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaSize), key(n))
}

// advance remembers the new state of the file.
func (l *Log) advance(e *active, size int64, t tail) error {
	if _, err := l.measure(e); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.size, e.tail = size, t
	if t.events == 0 {
		e.signed = size
	}
	l.tell()
	return nil
}

// settle keeps how the last append went. A disk that is full may have room
// again; after any other error nobody knows what is on the disk, since a page
// whose write failed counts as written at the next fsync.
func (l *Log) settle(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed, l.failAt = err, l.c.Clock()
	if err == nil || isFull(err) || errors.Is(err, ErrReplaced) {
		return
	}
	l.broken = fmt.Errorf("%w: %w", ErrBroken, err)
	l.c.Logger.Error("audit log is broken, nothing will be granted", slog.Any(keyError, err))
}

// signIfNew signs what no checkpoint covers yet.
func (l *Log) signIfNew() {
	l.mu.Lock()
	news := l.active.size > l.active.signed && l.broken == nil
	l.mu.Unlock()
	if !news {
		return
	}
	if _, err := l.Checkpoint(); err != nil {
		l.c.Logger.Warn("audit log not signed, trying again", slog.Any(keyError, err))
	}
}
