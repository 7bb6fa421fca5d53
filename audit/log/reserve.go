package log

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
)

// The reserve is the end of the active epoch's file: blocks that the disk has
// given already and that no page uses yet. When the disk is full, what must
// never wait, and nothing else, is written there: some five hundred ends,
// unmounts and alarms. Nothing is granted until the reserve is whole again. A
// file of its own, removed when its room is needed, would give that room to
// whoever writes first.
const (
	reserveBytes = 1 << 20
	// aheadBytes is how much is added to it at once.
	aheadBytes = 1 << 20
)

// errSpent is why nothing is granted meanwhile.
func errSpent() error { return fmt.Errorf("%w: %w", ErrDiskFull, syscall.ENOSPC) }

// provide sees to it that the file has the reserve beyond what a batch takes.
func (l *Log) provide(cost int64) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	e := l.active
	whole := e.given >= e.used+reserveBytes+cost
	broken := l.broken != nil
	l.mu.Unlock()
	if whole || broken || l.checkFile() != nil {
		return
	}
	err := errSpent()
	if l.diskHas(reserveBytes) || l.left(e) {
		err = l.extend(e, cost)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	spent := e.given < e.used+reserveBytes
	if spent && !l.spent {
		l.c.Logger.Error("disk of the audit log is full, nothing will be granted until there is room", slog.Any(keyError, err))
	}
	l.spent = spent
}

// extend writes zeros where no page is. Whoever calls it holds writing, so that
// no transaction uses more of the file meanwhile.
func (l *Log) extend(e *active, cost int64) error {
	used, err := l.measure(e)
	if err != nil {
		return err
	}
	l.mu.Lock()
	from := max(e.given, used)
	l.mu.Unlock()
	to := used + reserveBytes + max(aheadBytes, cost)
	n, err := e.raw.WriteAt(make([]byte, to-from), from)
	err = errors.Join(err, e.raw.Sync())
	if err != nil && !isFull(err) {
		n = 0 // then nobody knows what the disk has given
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.given = from + int64(n)
	return err
}

// left reports whether the file has an end that an earlier process left: the
// disk gives nothing new for it.
func (l *Log) left(e *active) bool {
	info, err := e.raw.Stat()
	l.mu.Lock()
	defer l.mu.Unlock()
	return err == nil && info.Size() > max(e.given, e.used)
}

// diskHas reports whether the disk has room for so many bytes.
func (l *Log) diskHas(bytes uint64) bool {
	var s syscall.Statfs_t
	if err := syscall.Fstatfs(int(l.held.Fd()), &s); err != nil {
		return true // then trying will tell
	}
	return s.Bavail >= bytes/uint64(max(s.Bsize, 1))
}

// shut closes the file of an epoch, and gives back what it does not use, but on
// a disk so full that the next start might not get it again. It reads nothing
// there any more: the file may have been cut.
func (l *Log) shut(e *active) error {
	if err := e.db.Close(); err != nil {
		return err
	}
	l.mu.Lock()
	name, used, ended := e.name, e.used, e != l.active
	l.mu.Unlock()
	if !ended && !l.diskHas(4*reserveBytes) {
		return nil
	}
	f, err := openPlain(l.dir, name, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !os.SameFile(info, e.file) || info.Size() <= used {
		return err
	}
	return f.Truncate(used)
}
