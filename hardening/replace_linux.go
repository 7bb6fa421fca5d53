package hardening

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Replace puts files in place of the content of an attached volume, in the
// same superblock and by one rename, and reports whether it had to. Files that
// equal the content in names, owners, modes and bytes change nothing. If
// changed is true the new content is in place even if err is not nil: err then
// tells what of the old could not be removed. Otherwise the old content stays.
func (v *Volume) Replace(files []File) (changed bool, err error) {
	if v.phase != phaseAttached {
		return false, ErrNotAttached
	}
	plan, err := newLayout(files, v.limits)
	if err != nil {
		return false, err
	}
	if v.holds(plan) {
		_ = v.shrink(plan.pageBytes()) // or with the next rotation
		return false, nil
	}
	FaultPoint("replace/compared")
	view, err := writableView(v.root)
	if err != nil {
		return false, fmt.Errorf("replace content: %w", err)
	}
	defer func() { _ = view.Close() }()
	FaultPoint("replace/view-made")
	// What stays is met again once the new content is there.
	_ = v.removeLeftovers(view)
	if err := v.makeRoom(plan); err != nil {
		return false, err
	}
	FaultPoint("replace/room-made")
	changed, err = v.rotate(view, plan)
	if changed {
		// The new content is there; a size that somebody who writes meanwhile
		// keeps from being set is set with the next rotation.
		_ = v.fit(plan.pageBytes())
		FaultPoint("replace/fitted")
	}
	return changed, err
}

func (v *Volume) rotate(view *descriptor, plan layout) (changed bool, err error) {
	// Undoes what a privileged container may have done to the root.
	if err := takeBack(view, plan.gid, plan.mode); err != nil {
		return false, fmt.Errorf("restore volume: %w", err)
	}
	if err := dropACLs(view); err != nil {
		return false, fmt.Errorf("restore volume: %w", err)
	}
	FaultPoint("replace/root-restored")
	before, err := topNames(view)
	if err != nil {
		return false, fmt.Errorf("replace content: %w", err)
	}
	gen, err := writeGeneration(view, plan, v.lock)
	if err == nil {
		err = gen.publish(view, plan.names)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("replace content: %w", err), gen.drop())
		// Nothing of the new generation was ever to be seen: all that was not
		// there before goes.
		return false, errors.Join(err, sweep(view, before, nil))
	}
	gen.close()
	v.linger()
	err = v.removeOld(view, append(slices.Clone(plan.names), dataName, gen.name))
	FaultPoint("replace/old-swept")
	l := newLocker()
	if v.lock {
		// Before the mappings of the old generation go: what a subPath has
		// mounted of it must stay locked.
		err = errors.Join(err, l.lockOthers(v.root, gen.name))
	}
	return true, errors.Join(err, v.held.swap(append(gen.maps, l.maps...)))
}

// linger waits for readers on their way into the old generation.
func (v *Volume) linger() {
	timer := time.NewTimer(v.sys.linger)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-v.hurry:
	}
}

// removeOld removes what a rotation has superseded. It is unlinked, not
// truncated: who has an old file open keeps its bytes. What a subPath has
// mounted stays.
func (v *Volume) removeOld(view *descriptor, keep []string) error {
	bound, err := v.bindings()
	if err != nil {
		return fmt.Errorf("remove old content: %w", err)
	}
	return sweep(view, keep, bound)
}

// topNames lists the root of a volume.
func topNames(view *descriptor) ([]string, error) {
	dir, err := openAt(view, ".", openDir, resolveInside)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	return dir.names()
}

// sweep unlinks everything in the root that is neither in keep nor bound: the
// old generation, names that no longer exist, and what others left there.
func sweep(view *descriptor, keep []string, bound bindings) error {
	names, err := topNames(view)
	if err != nil {
		return fmt.Errorf("list volume: %w", err)
	}
	s := scrubber{}
	for _, name := range names {
		switch {
		case slices.Contains(keep, name):
		case bound[name] != nil:
			s.prune(view, name, bound[name])
		default:
			s.remove(view, name, maxScrubDepth)
		}
	}
	return s.err()
}

// holds reports whether the volume is exactly plan. What cannot be read for
// certain counts as different: writing it anew is safe.
func (v *Volume) holds(plan layout) bool {
	list, gen, err := v.generation()
	if err != nil {
		return false
	}
	defer func() { _ = gen.Close() }()
	return slices.Equal(list, plan.entries()) && plan.owns(v.root) && plan.owns(gen) &&
		v.holdsNames(plan) && v.holdsBytes(gen, plan)
}

// owns reports whether a directory has the owner and the mode of the plan.
func (p layout) owns(dir *descriptor) bool {
	st, err := dir.stat()
	return err == nil && infoOf(st) == FileInfo{GID: p.gid, Mode: p.mode | fs.ModeDir}
}

// holdsNames compares the links in the root.
func (v *Volume) holdsNames(plan layout) bool {
	names, err := v.ownNames()
	if err != nil || len(names) != len(plan.names)+2 { // and ..data, and its generation
		return false
	}
	for _, name := range plan.names {
		if have, err := readLink(v.root, name); err != nil || have != linkTarget(name) {
			return false
		}
	}
	return true
}

// ownNames lists the root without old generations that are bound elsewhere.
func (v *Volume) ownNames() ([]string, error) {
	current, err := readLink(v.root, dataName)
	if err != nil {
		return nil, err
	}
	names, err := topNames(v.root)
	if err != nil {
		return nil, err
	}
	bound, err := v.bindings()
	if err != nil {
		return nil, err
	}
	delete(bound, current)
	return slices.DeleteFunc(names, func(name string) bool { return bound[name] != nil }), nil
}

func (v *Volume) holdsBytes(gen *descriptor, plan layout) bool {
	buf := make([]byte, 16<<10)
	defer clear(buf)
	for _, f := range plan.files {
		same := false
		err := f.Data.Use(func(want []byte) error {
			var err error
			same, err = hasBytes(gen, f.Path, want, buf)
			return err
		})
		if err != nil || !same {
			return false
		}
	}
	return true
}

// hasBytes compares by reading: a mapping of a file that a hostile container
// truncates meanwhile would end this process with SIGBUS.
func hasBytes(gen *descriptor, name string, want, buf []byte) (bool, error) {
	d, err := openRegular(gen, name)
	if err != nil {
		return false, err
	}
	defer func() { _ = d.Close() }()
	for off := 0; ; {
		n, err := unix.Pread(d.fd(), buf, int64(off))
		if err != nil {
			return false, err
		}
		if n == 0 {
			return off == len(want), nil
		}
		if n > len(want)-off || !bytes.Equal(buf[:n], want[off:off+n]) {
			return false, nil
		}
		off += n
	}
}
