package log

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/note"
)

const (
	// readLeaves and readBytes bound what is copied at once: a transaction, or
	// a file, is held no longer than that takes, however slow the reader is.
	readLeaves = 512
	readBytes  = 1 << 20
)

// Leaf is a stored leaf and its place.
type Leaf struct {
	Position
	Data []byte
}

// next is the place after it.
func (l Leaf) next() Position { return Position{l.Epoch, l.Index + 1} }

// Each gives f every kept leaf in order, of the log as it is now.
func (l *Log) Each(f func(p Position, leaf []byte) error) error {
	return l.each(Position{}, f)
}

func (l *Log) each(from Position, f func(p Position, leaf []byte) error) error {
	end, err := l.tip()
	if err != nil {
		return err
	}
	for {
		leaves, err := l.Read(from, readLeaves)
		if err != nil || len(leaves) == 0 {
			return err
		}
		for _, leaf := range leaves {
			if leaf.Epoch > end.Epoch || leaf.Epoch == end.Epoch && leaf.Index >= end.Index {
				return nil
			}
			if err := f(leaf.Position, leaf.Data); err != nil {
				return err
			}
		}
		from = leaves[len(leaves)-1].next()
	}
}

// Read returns up to n leaves from a place on, fewer than n also where an epoch
// ends or they are long, and none if there is nothing yet. The zero Position is
// the oldest kept leaf. What was deleted, or never was there, is ErrGone.
func (l *Log) Read(from Position, n int) ([]Leaf, error) {
	if err := l.checkFile(); err != nil {
		return nil, err
	}
	for {
		at, err := l.locate(from)
		switch {
		case err != nil:
			return nil, err
		case at.index < at.size || at.active != nil:
			leaves, err := l.readAt(at, min(n, readLeaves))
			return leaves, l.readError(at, err)
		}
		from = Position{at.next, 0}
	}
}

// spot is where to read.
type spot struct {
	number, size int64
	index        int64   // of the first leaf
	next         int64   // the epoch after it
	active       *active // nil for a closed epoch; else to be given back
	verifier     note.Verifier
}

// locate finds the epoch of a position, or the one after the epoch that was
// read to its end before it was deleted.
func (l *Log) locate(p Position) (spot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return spot{}, ErrClosed
	}
	numbers := append(l.numbersLocked(), 0)
	if p.Epoch == 0 || p.Epoch == l.deleted.Epoch && p.Index >= l.deleted.Index {
		p = Position{numbers[0], 0}
	}
	index := max(p.Index, 0)
	for i, e := range l.older {
		if e.Number == p.Epoch {
			return spot{number: e.Number, size: e.Size, index: index, next: numbers[i+1], verifier: l.verifier}, nil
		}
	}
	if e := l.active; e.number == p.Epoch {
		e.readers.Add(1)
		return spot{number: e.number, size: e.size, index: index, active: e}, nil
	}
	return spot{}, fmt.Errorf("epoch %d: %w", p.Epoch, ErrGone)
}

func (l *Log) numbersLocked() (list []int64) {
	for _, e := range l.older {
		list = append(list, e.Number)
	}
	return append(list, l.active.number)
}

func (l *Log) readAt(at spot, n int) (leaves []Leaf, err error) {
	size := 0
	take := func(i int64, data []byte) error {
		if i >= at.size || len(leaves) >= n || size > readBytes {
			return errStop
		}
		leaves = append(leaves, Leaf{Position{at.number, i}, append([]byte(nil), data...)})
		size += len(data)
		return nil
	}
	if at.active != nil {
		defer at.active.readers.Done()
		err = at.active.view(func(tx *bolt.Tx) error { return eachFrom(tx, at.index, take) })
		return leaves, err
	}
	c, err := openClosed(l.dir, EpochFile(at.number), at.verifier)
	if err != nil {
		return nil, err
	}
	err = errors.Join(c.from(bucketEvents, at.index, take), c.close())
	return leaves, err
}

func eachFrom(tx *bolt.Tx, index int64, f func(i int64, leaf []byte) error) error {
	c := tx.Bucket([]byte(bucketEvents)).Cursor()
	for k, v := c.Seek(key(index)); k != nil; k, v = c.Next() {
		n, ok := number(k)
		if !ok {
			return fmt.Errorf("the log has an event with a key of %d bytes", len(k))
		}
		if err := f(n, v); errors.Is(err, errStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// readError tells an epoch that was deleted meanwhile from one that somebody
// removed.
func (l *Log) readError(at spot, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.number <= l.deleted.Epoch {
		return fmt.Errorf("epoch %d: %w", at.number, ErrGone)
	}
	return fmt.Errorf("epoch %d: %w", at.number, ErrReplaced)
}

// Follow gives f every leaf from a place on, and then those that come, once
// they are durable, until ctx ends, the log is closed (ErrClosed) or f fails. It
// never keeps the writer waiting. A follower so slow that the epoch it reads is
// deleted gets ErrGone.
func (l *Log) Follow(ctx context.Context, from Position, f func(Leaf) error) error {
	for {
		l.mu.Lock()
		grown := l.grown
		l.mu.Unlock()
		leaves, err := l.Read(from, readLeaves)
		if err != nil {
			return err
		}
		for _, leaf := range leaves {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(leaf); err != nil {
				return err
			}
			from = leaf.next()
		}
		if len(leaves) > 0 {
			continue
		}
		select {
		case <-grown:
		case <-l.quit:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tell wakes whoever follows. The caller holds mu.
func (l *Log) tell() {
	close(l.grown)
	l.grown = make(chan struct{})
}

// tip is the place of the next leaf.
func (l *Log) tip() (Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Position{}, ErrClosed
	}
	return Position{l.active.number, l.active.size}, nil
}

// Recent are the leaves of the last epochs.
type Recent struct {
	l    *Log
	from Position
}

// Recent returns the last two epochs, and as many before them as it takes to
// have all leaves of this time before the last epoch began, by the log's own
// clock. What a crash interrupted is there, without a look at the whole log.
func (l *Log) Recent(span time.Duration) Recent {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Recent{l, Position{l.active.number, 0}}
	for i := len(l.older) - 1; i >= 0; i-- {
		e := l.older[i]
		if i < len(l.older)-1 && l.active.began.Sub(e.To) > span {
			break
		}
		r.from.Epoch = e.Number
	}
	return r
}

// Each gives f these leaves in order, each with its index in its epoch. Of an
// epoch that is damaged the rest is passed over, and so told at the end: those
// after it are in order.
func (r Recent) Each(f func(index int64, leaf []byte) error) error {
	var found error
	from := r.from
	for {
		err := r.l.each(from, func(p Position, leaf []byte) error {
			from = p
			return f(p.Index, leaf)
		})
		damaged, ok := errors.AsType[*TamperedError](err)
		if !ok {
			return errors.Join(found, err)
		}
		if found == nil {
			found = damaged
		}
		if from, ok = r.l.after(from.Epoch); !ok {
			return found
		}
	}
}

// after is where the next epoch begins.
func (l *Log) after(epoch int64) (Position, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.numbersLocked() {
		if n > epoch {
			return Position{n, 0}, true
		}
	}
	return Position{}, false
}
