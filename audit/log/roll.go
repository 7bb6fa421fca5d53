package log

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// rollRetry is how long a roll-over that failed is left alone: the epoch goes
// on growing meanwhile, and nobody waits for it.
const rollRetry = time.Second

// due reports whether the active epoch should end before it takes so much more.
func (l *Log) due(cost int64) bool {
	now := l.c.Clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.active
	if l.closed || l.broken != nil || e.size < 2 {
		return false
	}
	if since := age(now, l.rollAt); !l.rollAt.IsZero() && since >= 0 && since < rollRetry {
		return false
	}
	return e.used+cost > l.c.EpochBytes || age(now, e.began) >= l.c.EpochAge
}

// rollIfDue ends the epoch if it should. What fails is tried again; whoever
// appends does not see it, unless the log is broken for good.
func (l *Log) rollIfDue(cost int64) {
	if !l.due(cost) {
		return
	}
	err := l.rollOver(nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	again := !l.rollAt.IsZero()
	l.rollAt = time.Time{}
	if err != nil {
		l.rollAt = l.c.Clock()
	}
	if err != nil && !again {
		l.c.Logger.Warn("epoch of the audit log not ended, it grows until that works", slog.Int64(keyEpoch, l.active.number), slog.Any(keyError, err))
	}
}

// ending is all that the last transaction of an epoch writes.
type ending struct {
	leaves [][]byte
	size   int64 // of the whole epoch
	root   tlog.Hash
}

// rollOver ends the active epoch and begins the next, which a new key may sign.
// What needs room on the disk is there before the old one is closed, and the
// next has its name only after that: so a closed last epoch without another
// that waits for its name means that one was removed.
func (l *Log) rollOver(k *nextKey) error {
	if err := l.checkFile(); err != nil {
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	e, broken := l.active, l.broken
	l.mu.Unlock()
	if broken != nil {
		return broken
	}
	signers := []note.Signer{l.signer}
	if k != nil {
		signers = append(signers, k.signer)
	}
	end, err := l.plan(e, k)
	if err != nil {
		return fmt.Errorf("end epoch %d: %w", e.number, err)
	}
	next, err := l.create(e.number+1, boundaryOf(e.number, end.size, end.root), head{signers: signers[len(signers)-1:]})
	if err != nil {
		return fmt.Errorf("begin epoch %d: %w", e.number+1, err)
	}
	l.at("created")
	if err := l.extend(next, 0); err != nil { // without its reserve it is of no use
		return errors.Join(fmt.Errorf("begin epoch %d: %w", next.number, err), next.db.Close(), l.discard(next.name))
	}
	if err := l.end(e, end, head{e.origin, signers}); isFull(err) {
		return errors.Join(fmt.Errorf("end epoch %d: %w", e.number, err), next.db.Close(), l.discard(next.name))
	} else if err != nil { // nobody knows whether it is on the disk
		return l.breakUp(fmt.Errorf("end epoch %d: %w", e.number, errors.Join(err, next.db.Close())))
	}
	l.at("closed")
	if err := l.install(next, k); err != nil {
		return l.breakUp(fmt.Errorf("begin epoch %d: %w", next.number, errors.Join(err, next.db.Close())))
	}
	l.at("renamed")
	l.succeed(e, next, end)
	return nil
}

// at tells a test how far a roll-over is.
func (l *Log) at(step string) {
	if l.step != nil {
		l.step(step)
	}
}

// plan makes the last leaves of an epoch, and the tree as it will be then.
func (l *Log) plan(e *active, k *nextKey) (end ending, err error) {
	err = e.view(func(tx *bolt.Tx) error {
		size, root, err := treeOf(tx)
		if err != nil {
			return err
		}
		stored := hashReader{tx.Bucket([]byte(bucketHashes))}
		if k != nil {
			b := boundaryOf(e.number, size, root)
			b.PreviousKey, b.Key = k.before, k.vkey
			leaf, err := l.boundary(KindRotated, b)
			if err != nil {
				return err
			}
			end.leaves = append(end.leaves, leaf)
			if root, err = rootAfter(stored, size, end.leaves); err != nil {
				return err
			}
		}
		leaf, err := l.boundary(KindClosed, boundaryOf(e.number, size+int64(len(end.leaves)), root))
		if err != nil {
			return err
		}
		end.leaves = append(end.leaves, leaf)
		end.size = size + int64(len(end.leaves))
		end.root, err = rootAfter(stored, size, end.leaves)
		return err
	})
	return end, err
}

// end writes the last leaves, the mark and the final checkpoint at once.
func (l *Log) end(e *active, end ending, h head) error {
	return e.db.Update(func(tx *bolt.Tx) error {
		if err := addLeaves(tx, end.size-int64(len(end.leaves)), end.leaves); err != nil {
			return err
		}
		if err := tx.Bucket([]byte(bucketMeta)).Put([]byte(metaClosed), []byte(closedMark)); err != nil {
			return err
		}
		c, _, err := h.store(tx)
		if err == nil && c != (checkpoint{end.size, end.root}) {
			err = errors.New("it changed meanwhile")
		}
		return err
	})
}

// install gives the next epoch its name, and the next key before it. The old
// epoch is closed by then, so it takes nothing but renames.
func (l *Log) install(next *active, k *nextKey) error {
	if k == nil {
		return l.place(next)
	}
	if err := errors.Join(k.install(l.dir, l.at), l.place(next)); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signer, l.verifier = k.signer, k.verifier
	return nil
}

// breakUp is for what only the next start can mend.
func (l *Log) breakUp(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = fmt.Errorf("%w: %w", ErrBroken, err)
	l.c.Logger.Error("audit log is broken, nothing will be granted", slog.Any(keyError, err))
	return l.broken
}

// succeed makes the next epoch the active one. The file of the old one is
// closed once nobody reads through it any more.
func (l *Log) succeed(e, next *active, end ending) {
	bytes, err := l.measure(e)
	if err != nil {
		bytes = l.c.EpochBytes // about
	}
	l.mu.Lock()
	l.older = append(l.older, Epoch{
		Number: e.number, Origin: e.origin, Size: end.size, Root: end.root, Bytes: bytes, Closed: true,
		From: e.began, To: timeOf(end.leaves[len(end.leaves)-1]),
	})
	l.active = next
	l.tell()
	l.mu.Unlock()
	l.closing.Go(func() {
		e.readers.Wait()
		if err := l.shut(e); err != nil {
			l.c.Logger.Warn("file of an ended epoch not closed", slog.Int64(keyEpoch, e.number), slog.Any(keyError, err))
		}
	})
}
