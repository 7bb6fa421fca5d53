package log

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
)

// The reserve is a file that only takes room. When the disk is full it is
// removed, and what must never wait, and nothing else, is written into the room
// that it leaves: some five hundred ends, unmounts and alarms. Nothing is
// granted until the file is back in its full size.
const reserveBytes = 1 << 20

// errSpent is why nothing is granted meanwhile.
func errSpent() error { return fmt.Errorf("%w: %w", ErrDiskFull, syscall.ENOSPC) }

// release gives the room of the reserve to the log.
func (l *Log) release() {
	err := l.dir.Remove(reserveFileName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.c.Logger.Error("reserve of the audit log not released", slog.Any(keyError, err))
	}
	// Some file systems give room back only once the removal is on the disk.
	_ = syncDirectory(l.dir)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.spent {
		l.c.Logger.Error("disk of the audit log is full, nothing will be granted until there is room")
	}
	l.spent = true
}

// refill makes the reserve whole again once the disk has room for it and as
// much beside.
func (l *Log) refill() {
	l.mu.Lock()
	spent := l.spent
	l.mu.Unlock()
	if !spent || !l.diskHas(2*reserveBytes) {
		return
	}
	if err := l.fillReserve(); err != nil {
		_ = l.discard(reserveFileName) // what there is of it would only be in the way
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spent = false
}

// openReserve makes it at the start. A disk that is full is no reason not to
// start: somebody has to unmount.
func (l *Log) openReserve() {
	info, err := l.dir.Lstat(reserveFileName)
	l.spent = err != nil || !info.Mode().IsRegular() || info.Size() != reserveBytes
	l.refill()
	if l.spent {
		l.c.Logger.Error("disk of the audit log is full, nothing will be granted until there is room")
	}
}

func (l *Log) fillReserve() error {
	if err := l.discard(reserveFileName); err != nil {
		return err
	}
	f, err := l.dir.OpenFile(reserveFileName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, reserveBytes))
	return errors.Join(err, f.Sync(), f.Close())
}

// diskHas reports whether the disk has room for so many bytes.
func (l *Log) diskHas(bytes uint64) bool {
	var s syscall.Statfs_t
	if err := syscall.Fstatfs(int(l.held.Fd()), &s); err != nil {
		return true // then trying will tell
	}
	return s.Bavail >= bytes/uint64(max(s.Bsize, 1)) //nolint:gosec // G115: a block has a size above 0
}
