package hardening

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Target opens the directory that kubelet made for a volume of a pod. If there
// is none the error is fs.ErrNotExist.
func (s *System) Target(podUID, volume string) (*Target, error) {
	if err := checkTarget(podUID, volume); err != nil {
		return nil, err
	}
	dir, err := openAt(s.pods, path.Join(podUID, csiVolumes, volume), openPath|unix.O_DIRECTORY, resolvePods)
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
		return fmt.Errorf("make mount directory: %w", err)
	}
	d, err := t.open(openPath, resolvePods)
	if err != nil {
		return err
	}
	return d.Close()
}

// open opens the mount directory, or the root of what is mounted there. It
// refuses what is not a real directory.
func (t *Target) open(flags, resolve uint64) (*descriptor, error) {
	d, err := openAt(t.dir, mountName, flags|unix.O_DIRECTORY, resolve)
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
	d, err := t.open(openDir, resolveInside)
	if err != nil {
		return nil, err
	}
	names, err := d.names()
	if err == nil && len(names) > 0 {
		err = ErrOccupied
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// State says what is at the target, without touching it. The mount table is
// the only truth: a marker within the volume could be planted.
func (t *Target) State() (State, error) {
	stack, table, err := t.stack()
	if err != nil {
		return StateUnknown, err
	}
	if len(stack) == 0 {
		return t.plainState()
	}
	top := stack[len(stack)-1]
	switch {
	case top.ours() && len(inside(table, top)) == 0:
		return StateOurs, nil
	case holdsOurs(stack):
		return StateCovered, nil
	case len(stack) == 1 && t.legacy(top):
		return StateLegacy, nil
	}
	return StateForeign, nil
}

func (t *Target) plainState() (State, error) {
	d, err := t.emptyDir()
	switch {
	case errors.Is(err, unix.ENOENT):
		return StateAbsent, nil
	case errors.Is(err, ErrOccupied):
		return StateOccupied, nil
	case err != nil:
		return StateUnknown, err
	}
	return StateEmpty, d.Close()
}

// stack returns the mounts at the target, lowest first, and the mount table.
// The table knows places by path only, and somebody may rename a directory
// above between two steps: what it says is compared with what a lookup meets.
func (t *Target) stack() (stack, table []mountLine, err error) {
	const attempts = 16
	for range attempts {
		stack, table, err = t.readStack()
		if err != nil {
			return nil, nil, err
		}
		// This lookup stops before it enters what is mounted, so that a dead
		// network file system cannot block it.
		d, err := openAt(t.dir, mountName, openPath, resolveInside)
		_ = d.Close()
		if errors.Is(err, unix.EXDEV) == (len(stack) > 0) {
			return stack, table, nil
		}
	}
	return nil, nil, errChanging
}

func (t *Target) readStack() (stack, table []mountLine, err error) {
	base, _, err := t.dir.mountID()
	if err != nil {
		return nil, nil, err
	}
	dir, err := t.dir.spelling()
	if err != nil {
		return nil, nil, err
	}
	table, err = readMountTable()
	if err != nil {
		return nil, nil, err
	}
	return stackAt(table, base, path.Join(dir, mountName)), table, nil
}

// openMount opens the root of a mount that was found on top of the target, and
// makes sure that it is that one.
func (t *Target) openMount(m mountLine) (*descriptor, error) {
	d, err := t.open(openPath, resolvePods)
	if err != nil {
		return nil, err
	}
	id, isRoot, err := d.mountID()
	if err == nil && (id != m.id || !isRoot) {
		err = errChanging
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// legacy reports whether m looks like a volume that the upstream driver wrote:
// a tmpfs with ..data and nothing in it but links and hidden directories.
func (t *Target) legacy(m mountLine) bool {
	if !m.plainTmpfs() {
		return false
	}
	root, err := t.openMount(m)
	if err != nil {
		return false
	}
	defer func() { _ = root.Close() }()
	names, err := topNames(root)
	if err != nil {
		return false
	}
	for _, name := range names {
		if _, err := readLink(root, name); err != nil && !strings.HasPrefix(name, reservedStart) {
			return false
		}
	}
	_, err = readLink(root, dataName)
	return err == nil
}

// OpenVolume opens the volume that is attached here. It is ErrNotOurs unless
// our mount is on top. Limits and group are read from the superblock's
// options, which nobody can lower or hand to another group later.
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
		top := stack[len(stack)-1]
		if top.ours() {
			_, err := t.clearInside(top)
			return err
		}
		if !holdsOurs(stack) {
			return ErrNotOurs
		}
		if err := t.unmountTop(); err != nil {
			return err
		}
	}
	return errTooMany
}

func holdsOurs(stack []mountLine) bool {
	for _, m := range stack {
		if m.ours() {
			return true
		}
	}
	return false
}
