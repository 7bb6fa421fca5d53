package hardening

import (
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// Target opens the directory that kubelet made for a volume of a pod. If there
// is none the error is fs.ErrNotExist.
func (s *System) Target(podUID, volume string) (*Target, error) {
	if err := checkTarget(podUID, volume); err != nil {
		return nil, err
	}
	dir, err := openAt(s.pods, path.Join(podUID, csiVolumes, volume), openPath|unix.O_DIRECTORY, resolvePods)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		err = fmt.Errorf("%w (%w)", ErrNotDirectory, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open directory of volume %s of pod %s: %w", volume, podUID, err)
	}
	return &Target{sys: s, dir: dir, podUID: podUID, volume: volume}, nil
}

// Close releases the directory.
func (t *Target) Close() error { return t.dir.Close() }

func (t *Target) key() string { return targetKey(t.podUID, t.volume) }

// Prepare makes the mount directory, which kubelet leaves to the driver.
func (t *Target) Prepare() error {
	err := unix.Mkdirat(t.dir.fd(), mountName, uint32(dirModeGroup))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make mount directory: %w", vanished(err))
	}
	d, err := t.open(openPath, resolvePods)
	if err != nil {
		return vanished(err)
	}
	return d.Close()
}

// vanished explains that what was there a moment ago is not: somebody removed
// the directory that kubelet made, or the one in it.
func vanished(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w (%w)", ErrChanging, err)
	}
	return err
}

// open opens the mount directory, or the root of what is mounted there. It
// refuses what is not a real directory.
func (t *Target) open(flags, resolve uint64) (*descriptor, error) {
	return openMountDir(t.dir, flags, resolve)
}

func openMountDir(parent *descriptor, flags, resolve uint64) (*descriptor, error) {
	d, err := openAt(parent, mountName, flags|unix.O_DIRECTORY, resolve)
	switch {
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil, ErrNotDirectory
	case errors.Is(err, unix.EXDEV):
		return nil, ErrMounted
	case err != nil:
		return nil, fmt.Errorf("open mount directory: %w", err)
	}
	return d, nil
}

// emptyDir opens the mount directory if nothing is mounted on it or in it.
func (t *Target) emptyDir() (*descriptor, error) {
	parent, err := t.again()
	if err != nil {
		return nil, err
	}
	return inTime(func() (*descriptor, error) {
		defer func() { _ = parent.Close() }()
		return openEmpty(parent)
	}, func(d *descriptor) { _ = d.Close() })
}

// again opens the directory of the volume once more, for work that may outlive
// the target.
func (t *Target) again() (*descriptor, error) {
	return openAt(t.dir, ".", openPath|unix.O_DIRECTORY, resolveInside)
}

func openEmpty(parent *descriptor) (*descriptor, error) {
	d, err := openMountDir(parent, openDir, resolveInside)
	if err != nil {
		return nil, err
	}
	first := false
	err = d.each(func(string) bool { first = true; return false })
	if err == nil && first {
		err = ErrOccupied
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// OpenVolume opens the volume that is attached here. It is ErrNotOurs unless
// a mount of ours that was made for this target is on top. Limits and group are
// read from the superblock's options, which nobody can lower or hand to another
// group later.
func (t *Target) OpenVolume() (*Volume, error) {
	stack, _, err := t.stack()
	if err != nil {
		return nil, err
	}
	if len(stack) == 0 || !stack[len(stack)-1].ours() {
		return nil, ErrNotOurs
	}
	top := stack[len(stack)-1]
	root, err := t.openMount(top)
	if err != nil {
		return nil, fmt.Errorf("open volume: %w", err)
	}
	// Asked of the descriptor that will be written through, which no rename and
	// no mount can exchange any more.
	whose, err := ownerOf(root, t.key())
	if err == nil && whose != ownerHere {
		err = ErrNotOurs
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	_, noswap := top.option("noswap")
	v := &Volume{sys: t.sys, root: root, limits: limitsOf(top), lock: !noswap, held: &lockSet{}, phase: phaseAttached}
	if v.lock {
		v.held = t.sys.lockSetOf(t.key())
	}
	return v, nil
}

// Uncover detaches the foreign mounts that cover our volume, on top of it or
// inside of it.
func (t *Target) Uncover() error {
	for range maxStack {
		stack, _, err := t.stack()
		if err != nil {
			return err
		}
		if len(stack) == 0 {
			return ErrNotOurs
		}
		top, covered := stack[len(stack)-1], stack[:len(stack)-1]
		whose, err := t.owner(top)
		if err != nil {
			return err
		}
		if whose == ownerHere {
			_, err := t.clearInside(top)
			return err
		}
		if !holdsOurs(covered) {
			return ErrNotOurs
		}
		if err := t.unmountTop(); err != nil {
			return err
		}
	}
	return errTooMany
}
