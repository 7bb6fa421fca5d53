package hardening

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxStack bounds the mounts that one call takes off a target.
const maxStack = 256

var errTooMany = errors.New("mounts at the target do not end")

// Detach removes everything that is mounted at exactly this target until
// nothing is left, and then the directory: kubelet owns that place. A volume
// of ours or of the upstream driver is emptied first, since a mount elsewhere
// (a container still ending, a daemon with a copy of the mount table) would go
// on reading it; not so a volume that was made for another target, whose pod
// may run. Volumes of this target that somebody moved go too. It succeeds if
// there is nothing to do.
func (t *Target) Detach() (Detached, error) {
	var d Detached
	err := t.detachMounts(&d)
	if err != nil {
		return d, fmt.Errorf("detach volume: %w", err)
	}
	err = errors.Join(t.sys.detachMoved(t.key(), &d), t.sys.unlockTarget(t.key()), t.removeDir(&d))
	FaultPoint("detach/directory-removed")
	return d, err
}

func (t *Target) detachMounts(d *Detached) error {
	for range maxStack {
		stack, _, err := t.stack()
		if err != nil {
			// Unmounting must not wait for a readable mount table (P8).
			return errors.Join(err, t.detachBlindly(d))
		}
		if len(stack) == 0 {
			return nil
		}
		top := stack[len(stack)-1]
		whose := t.empty(top, d)
		FaultPoint("detach/scrubbed")
		err = t.unmountTop()
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			continue // gone meanwhile; look again
		}
		if err != nil {
			return err
		}
		FaultPoint("detach/unmounted")
		*whose++
	}
	return errTooMany
}

// empty scrubs the mount on top if that is a volume of this target, and returns
// the counter of its kind.
func (t *Target) empty(top mountLine, d *Detached) (whose *int) {
	switch {
	case top.ours() && t.scrubMount(top, d):
		return &d.Ours
	case t.legacy(top):
		t.scrubMount(top, d)
		return &d.Legacy
	}
	return &d.Foreign
}

// scrubMount empties the mount on top, and reports false if it is a volume that
// was made for another target. Its failures are counted, never fatal: the
// unmount follows in any case.
func (t *Target) scrubMount(top mountLine, d *Detached) (mine bool) {
	root, err := t.openMount(top)
	if err != nil {
		d.ScrubErrors++
		return true
	}
	defer func() { _ = root.Close() }()
	// Asked of the descriptor that is scrubbed. A volume that lost its owner is
	// this target's: nobody but its own pod can have taken that away.
	if whose, err := ownerOf(root, t.key()); top.ours() && (err != nil || whose == ownerElsewhere) {
		return false
	}
	foreign, err := t.clearInside(top)
	d.Foreign += foreign
	if err != nil {
		d.ScrubErrors++
	}
	d.scrub(root)
	return true
}

// scrub empties the volume under root.
func (d *Detached) scrub(root *descriptor) {
	view, err := writableView(root)
	if err != nil {
		d.ScrubErrors++
		return
	}
	FaultPoint("detach/view-made")
	if e, ok := errors.AsType[*ScrubError](scrubWithin(view, scrubber{truncate: true})); ok {
		d.ScrubErrors += e.Count
	}
}

// scrubWithin empties a view and closes it. What could not be removed is a
// *ScrubError. If that takes too long it goes on by itself.
func scrubWithin(view *descriptor, s scrubber) error {
	_, err := inTime(func() (int, error) {
		s.empty(view)
		_ = view.Close()
		return 0, s.err()
	}, func(int) {})
	if errors.Is(err, errBlocked) {
		return &ScrubError{Count: 1, First: err}
	}
	return err
}

// removeDir removes the mount directory, with what others wrote into it.
func (t *Target) removeDir(d *Detached) error {
	err := unix.Unlinkat(t.dir.fd(), mountName, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOTDIR) {
		err = unix.Unlinkat(t.dir.fd(), mountName, 0)
	}
	if errors.Is(err, unix.ENOTEMPTY) {
		d.Foreign += t.clearPlain()
		found, scrubErr := t.ScrubPlain()
		d.Plain += found
		if scrubErr != nil {
			d.ScrubErrors++
		}
		err = unix.Unlinkat(t.dir.fd(), mountName, unix.AT_REMOVEDIR)
	}
	return removeError(err)
}

// removeError says what keeps the mount directory from being removed.
func removeError(err error) error {
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOTEMPTY):
		return ErrOccupied
	case errors.Is(err, unix.EBUSY):
		return ErrMounted
	case errors.Is(err, unix.ENOTDIR):
		return ErrNotDirectory
	case errors.Is(err, unix.EISDIR):
		return ErrChanging
	}
	return fmt.Errorf("remove mount directory: %w", err)
}

// Discard removes the empty mount directory after a failed first publish, for
// which no unpublish will come. It is ErrOccupied or ErrMounted if there is
// more than that, which it leaves alone.
func (t *Target) Discard() error {
	return removeError(unix.Unlinkat(t.dir.fd(), mountName, unix.AT_REMOVEDIR))
}

// ScrubPlain empties the mount directory itself, where a provider that ignores
// the protocol wrote secrets to the node's disk, and returns how many files it
// found. A file in place of the directory is one of them. A link there goes too,
// and is ErrNotDirectory. It is ErrMounted if something is mounted there.
func (t *Target) ScrubPlain() (found int, err error) {
	dir, err := t.again()
	if err != nil {
		return 0, fmt.Errorf("scrub mount directory: %w", err)
	}
	return scrubPlainWithin(dir)
}

// ScrubBeneath is ScrubPlain for the directory that a mount at the target
// hides. A provider in a mount namespace of its own does not see the volume,
// and what it writes to the target goes there.
func (t *Target) ScrubBeneath() (found int, err error) {
	// A copy of the one mount that kubelet's directory is on, without what is
	// mounted on it.
	const flags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH
	dir, err := newDescriptor(unix.OpenTree(t.dir.fd(), "", flags))
	if err != nil {
		return 0, fmt.Errorf("look beneath the volume: %w", err)
	}
	return scrubPlainWithin(dir)
}

// scrubPlainWithin closes the parent, whenever that ends.
func scrubPlainWithin(parent *descriptor) (found int, err error) {
	return inTime(func() (int, error) {
		defer func() { _ = parent.Close() }()
		return scrubPlain(parent)
	}, func(int) {})
}

func scrubPlain(parent *descriptor) (found int, err error) {
	s := scrubber{truncate: true, shared: true}
	dir, err := openMountDir(parent, openDir, resolveInside)
	switch {
	case errors.Is(err, unix.ENOENT):
		return 0, nil
	case errors.Is(err, ErrNotDirectory):
		// A link holds nothing that a provider could have written: whoever made
		// it wanted the volume elsewhere.
		_, linkErr := readLink(parent, mountName)
		s.remove(parent, mountName, maxScrubDepth)
		if linkErr == nil {
			return 0, errors.Join(ErrNotDirectory, s.err())
		}
		return s.found, s.err()
	case err != nil:
		return 0, fmt.Errorf("scrub mount directory: %w", err)
	}
	defer func() { _ = dir.Close() }()
	s.entries(dir, maxScrubDepth)
	return s.found, s.err()
}
