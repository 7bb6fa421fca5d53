package hardening

import (
	"errors"
	"fmt"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

var errHoles = errors.New("file has holes, which no file of ours has")

// Relock locks the files of every mount of ours that lacks noswap, as must be
// done after each start: the mappings of the last process went with it. A
// volume whose opens somebody holds up is an error and does not hold up the
// others: it is locked once it answers.
func (s *System) Relock() (n int, err error) {
	mounts, err := s.Mounts()
	if err != nil {
		return 0, err
	}
	waiting := map[int]Mounted{}
	done := make(chan relocked, len(mounts))
	for i, m := range mounts {
		waiting[i] = m
		go func() {
			n, err := s.relock(m)
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
				errs = append(errs, m.notLocked(errBlocked))
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
	swept := v.sweepLeftovers()
	n, err := v.relock()
	return n, errors.Join(err, swept, s.dropIfGone(key, v.held))
}

// sweepLeftovers removes what would otherwise have to be locked.
func (v *Volume) sweepLeftovers() error {
	view, err := writableView(v.root)
	if err != nil {
		return err
	}
	return errors.Join(sweepLeftovers(view), view.Close())
}

// relock maps and locks every regular file of an attached volume. Where a scrub
// was cut off, or is complete, there is no generation, but what is left of one.
func (v *Volume) relock() (int, error) {
	list, gen, err := v.generation()
	if errors.Is(err, unix.ENOENT) {
		list, gen, err = v.everything()
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = gen.Close() }()
	var maps [][]byte
	var errs []error
	for _, f := range list {
		if !f.Mode.IsRegular() || f.Size == 0 || f.Size > maxVolumeBytes {
			continue
		}
		mapped, err := lockWhole(gen, path.Clean(f.Path), f.Size)
		if err != nil {
			errs = append(errs, fmt.Errorf("lock %+q: %w", f.Path, err))
			continue
		}
		maps = append(maps, mapped)
	}
	return len(maps), errors.Join(append(errs, v.held.swap(maps))...)
}

// everything opens the root and lists all generations that are there.
func (v *Volume) everything() (list []FileInfo, root *descriptor, err error) {
	root, err = openAt(v.root, ".", openDir, resolveInside)
	if err != nil {
		return nil, nil, fmt.Errorf("open volume: %w", err)
	}
	l := lister{left: maxVolumeInodes}
	if err := l.list(root, "", maxDepth+1); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("list volume: %w", err), root.Close())
	}
	return l.found, root, nil
}

// lockWhole locks a file that has all its pages, as each has that we wrote. A
// privileged container can make others as large as it likes: locking them would
// fill the holes with memory that this process pays for.
func lockWhole(gen *descriptor, name string, size int64) ([]byte, error) {
	d, err := openRegular(gen, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	st, err := d.stat()
	if err != nil {
		return nil, err
	}
	if st.Blocks*512 < size {
		return nil, errHoles
	}
	return lockFile(d, size)
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
