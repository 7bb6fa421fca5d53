package hardening

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	errHoles   = errors.New("file has holes, which no file of ours has")
	errSlow    = errors.New("not done in time: somebody keeps files from being opened, or there is too much to lock")
	errTooMuch = errors.New("lock files: there are more than a volume can have")
)

// relockers bounds the volumes that are locked at a time: each reads the mount
// table, which somebody can make long. Those that are held up keep their place.
const relockers = 16

// Relock locks the files of every mount of ours that lacks noswap, as must be
// done after each start: the mappings of the last process went with it. A
// volume whose opens somebody holds up is an error and does not hold up the
// others: it is locked once it answers.
func (s *System) Relock() (n int, err error) {
	mounts, err := s.mounts()
	if err != nil {
		return 0, err
	}
	waiting := map[int]Mounted{}
	done := make(chan relocked, len(mounts))
	slots := make(chan struct{}, relockers)
	for i, m := range mounts {
		if !m.lock {
			continue
		}
		waiting[i] = m.Mounted
		go func() {
			slots <- struct{}{}
			n, err := s.relock(m.Mounted)
			<-slots
			done <- relocked{i, n, err}
		}()
	}
	var errs []error
	timeout := time.NewTimer(scrubTimeout)
	defer timeout.Stop()
	for len(waiting) > 0 {
		select {
		case r := <-done:
			n += r.files
			errs = append(errs, waiting[r.of].notLocked(r.err))
			delete(waiting, r.of)
		case <-timeout.C:
			for _, m := range waiting {
				errs = append(errs, m.notLocked(errSlow))
			}
			return n, errors.Join(errs...)
		}
	}
	return n, errors.Join(errs...)
}

// relocked is what became of one volume.
type relocked struct {
	of    int
	files int
	err   error
}

func (m Mounted) notLocked(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("lock volume %s of pod %s: %w", m.Volume, m.PodUID, err)
}

func (s *System) relock(m Mounted) (n int, err error) {
	t, err := s.Target(m.PodUID, m.Volume)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	v, err := t.OpenVolume()
	if errors.Is(err, ErrNotOurs) {
		return 0, nil // covered: locked again when it is uncovered and rotates
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if !v.lock {
		return 0, nil
	}
	return s.relockVolume(t.key(), v)
}

func (s *System) relockVolume(key string, v *Volume) (int, error) {
	swept := v.dropLeftovers()
	n, err := v.relock()
	return n, errors.Join(err, swept, s.dropIfGone(key, v.held))
}

// dropLeftovers removes what would otherwise have to be locked.
func (v *Volume) dropLeftovers() error {
	view, err := writableView(v.root)
	if err != nil {
		return err
	}
	return errors.Join(v.removeLeftovers(view), view.Close())
}

// relock maps and locks every regular file of an attached volume. Where a scrub
// was cut off, or is complete, there is no generation, but what is left of one.
func (v *Volume) relock() (int, error) {
	l := newLocker()
	current, err := readLink(v.root, dataName)
	switch {
	case err == nil:
		err = l.lockCurrent(v)
	case errors.Is(err, unix.ENOENT):
		err = nil
	}
	err = errors.Join(err, l.lockOthers(v.root, current))
	return len(l.maps), errors.Join(err, v.held.swap(l.maps))
}

// locker locks files of one volume. A privileged container can have filled it
// with any number of files of any size: what no volume of ours has is left out,
// or one pod's would use up mappings and memory for all.
type locker struct {
	maps  [][]byte
	files int
	bytes int64
}

func newLocker() *locker { return &locker{files: maxVolumeInodes, bytes: maxVolumeBytes} }

func (l *locker) lockCurrent(v *Volume) error {
	list, gen, err := v.generation()
	if err != nil {
		return err
	}
	defer func() { _ = gen.Close() }()
	return l.lock(gen, list)
}

// lockOthers locks what is still there of other generations: those that a
// subPath has mounted, and one that a rotation or a scrub left behind when the
// process was killed. It goes on after an error.
func (l *locker) lockOthers(root *descriptor, current string) error {
	names, err := topNames(root)
	if err != nil {
		return fmt.Errorf("list volume: %w", err)
	}
	var errs []error
	for _, name := range names {
		if name != current && strings.HasPrefix(name, reservedStart) {
			errs = append(errs, l.lockGeneration(root, name))
		}
	}
	return errors.Join(errs...)
}

func (l *locker) lockGeneration(root *descriptor, name string) error {
	dir, err := openAt(root, name, openDir, resolveInside)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) {
		return nil // ..data, or what somebody planted
	}
	if err != nil {
		return fmt.Errorf("open generation: %w", err)
	}
	defer func() { _ = dir.Close() }()
	list, err := listTree(dir)
	if err != nil {
		return err
	}
	return l.lock(dir, list)
}

// lock maps and locks the regular files of a list. One that cannot be locked
// is an error and keeps no other from it.
func (l *locker) lock(dir *descriptor, list []FileInfo) error {
	var errs []error
	for _, f := range list {
		if !f.Mode.IsRegular() || f.Size == 0 || f.Size > maxVolumeBytes {
			continue
		}
		err := l.lockFile(dir, f)
		if errors.Is(err, errTooMuch) {
			return errors.Join(append(errs, err)...)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("lock %+q: %w", f.Path, err))
		}
	}
	return errors.Join(errs...)
}

// lockFile locks a file that has all its pages, as each has that we wrote. A
// privileged container can make others as large as it likes: locking them would
// fill the holes with memory that this process pays for.
func (l *locker) lockFile(dir *descriptor, f FileInfo) error {
	d, err := openRegular(dir, path.Clean(f.Path))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	st, err := d.stat()
	if err != nil {
		return err
	}
	if st.Blocks*512 < f.Size {
		return errHoles
	}
	if l.files, l.bytes = l.files-1, l.bytes-f.Size; l.files < 0 || l.bytes < 0 {
		return errTooMuch
	}
	mapped, err := lockFile(d, f.Size)
	if err == nil {
		l.maps = append(l.maps, mapped)
	}
	return err
}

func lockAt(gen *descriptor, name string, size int64) ([]byte, error) {
	d, err := openRegular(gen, name)
	if err != nil {
		return nil, err
	}
	mapped, err := lockFile(d, size)
	return mapped, errors.Join(err, d.Close())
}

// dropIfGone releases mappings that were made for a target while it was
// detached: nobody else would.
func (s *System) dropIfGone(key string, l *lockSet) error {
	s.mu.Lock()
	gone := s.locks[key] != l
	s.mu.Unlock()
	if !gone {
		return nil
	}
	return l.release()
}
