package hardening

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// lockBudget is the RLIMIT_MEMLOCK that suffices without CAP_IPC_LOCK: the
// default node budget for volumes.
const lockBudget = 128 << 20

// lockAllowed returns why mappings cannot be locked, nil if they can.
func lockAllowed() error {
	if !hasCapability(unix.CAP_IPC_LOCK) {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
			return fmt.Errorf("read RLIMIT_MEMLOCK: %w", err)
		}
		if limit.Cur < lockBudget {
			return fmt.Errorf("no CAP_IPC_LOCK and RLIMIT_MEMLOCK is %d", limit.Cur)
		}
	}
	page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("map page: %w", err)
	}
	err = unix.Mlock(page)
	return errors.Join(err, unix.Munmap(page))
}

func hasCapability(c int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[c/32].Effective&(1<<(c%32)) != 0
}

// lockFile maps the pages of a file and locks them. The descriptor must be
// open for reading only: the mapping keeps it, and a writer would keep the
// volume from being sealed (mount_setattr is EBUSY then).
func lockFile(d *descriptor, size int64) ([]byte, error) {
	mapped, err := unix.Mmap(d.fd(), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map file: %w", err)
	}
	if err := unix.Mlock(mapped); err != nil {
		return nil, errors.Join(fmt.Errorf("lock file in memory: %w", err), unix.Munmap(mapped))
	}
	return mapped, nil
}

// swap puts maps in place of what is held, and releases that.
func (l *lockSet) swap(maps [][]byte) error {
	l.mu.Lock()
	old := l.maps
	l.maps = maps
	l.mu.Unlock()
	return unmapAll(old)
}

func (l *lockSet) release() error { return l.swap(nil) }

func unmapAll(maps [][]byte) error {
	var errs []error
	for _, m := range maps {
		if err := unix.Munmap(m); err != nil {
			errs = append(errs, fmt.Errorf("unmap file: %w", err))
		}
	}
	return errors.Join(errs...)
}

// lockSetOf returns the mappings of a target, making an empty set if need be.
func (s *System) lockSetOf(key string) *lockSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.locks[key]
	if !ok {
		l = &lockSet{}
		if s.locks != nil {
			s.locks[key] = l
		}
	}
	return l
}

// adopt makes l the mappings of a target for the life of its volume.
func (s *System) adopt(key string, l *lockSet) error {
	s.mu.Lock()
	old := s.locks[key]
	if s.locks != nil {
		s.locks[key] = l
	}
	s.mu.Unlock()
	if old == nil || old == l {
		return nil
	}
	return old.release()
}

// disown undoes adopt for a volume that did not get to its target.
func (s *System) disown(key string, l *lockSet) error {
	s.mu.Lock()
	if s.locks[key] == l {
		delete(s.locks, key)
	}
	s.mu.Unlock()
	return l.release()
}

// unlockTarget drops the mappings of a target whose volume is gone.
func (s *System) unlockTarget(key string) error {
	s.mu.Lock()
	l := s.locks[key]
	delete(s.locks, key)
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.release()
}
