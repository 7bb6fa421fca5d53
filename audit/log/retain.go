package log

import (
	"errors"
	"io/fs"
	"log/slog"
	"math"
)

// grantPercent of the retention is for everything that a required sink still
// lacks; the rest is for AppendReserved alone.
const grantPercent = 80

// needed returns the oldest epoch that somebody needs, or one beyond all.
func (l *Log) needed() int64 {
	if l.c.Needed == nil {
		return math.MaxInt64
	}
	if epoch, anybody := l.c.Needed(); anybody {
		return epoch
	}
	return math.MaxInt64
}

// heldLocked is how many bytes the epochs take that are at least this one.
func (l *Log) heldLocked(from int64) (held int64) {
	for _, e := range l.older {
		if e.Number >= from {
			held += e.Bytes
		}
	}
	if l.active.number >= from {
		held += l.active.used
	}
	return held
}

// room is how many bytes the epochs that somebody needs may take, for this
// class of leaf.
func (l *Log) room(reserved bool) int64 {
	if reserved {
		return l.c.RetentionBytes
	}
	return l.c.RetentionBytes / 100 * grantPercent
}

// prune deletes the oldest closed epochs that nobody needs while all together
// would take more than they may. Being kept longer costs nothing.
func (l *Log) prune(cost, needed int64) {
	for {
		l.mu.Lock()
		over := l.heldLocked(0)+cost > l.c.RetentionBytes
		if !over || len(l.older) == 0 || l.older[0].Number >= needed {
			l.mu.Unlock()
			return
		}
		oldest := l.older[0]
		l.mu.Unlock()
		if !l.delete(oldest) {
			return
		}
	}
}

// delete removes an epoch, not while a snapshot takes hold of it. One that
// cannot be removed stays, and so does what is after it: there are no holes.
func (l *Log) delete(e Epoch) bool {
	l.writing.Lock()
	defer l.writing.Unlock()
	err := l.dir.Remove(EpochFile(e.Number))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if l.undeleted != e.Number {
			l.c.Logger.Error("oldest epoch of the audit log not deleted, the log takes more room than it may", slog.Int64(keyEpoch, e.Number), slog.Any(keyError, err))
		}
		l.undeleted = e.Number
		return false
	}
	l.older = l.older[1:]
	l.deleted = Position{e.Number, e.Size}
	l.c.Logger.Info("oldest epoch of the audit log deleted, its retention is over", slog.Int64(keyEpoch, e.Number), slog.Int64(keyCount, e.Size), slog.Int64(keyBytes, e.Bytes))
	return true
}
