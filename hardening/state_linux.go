package hardening

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

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
	top, covered := stack[len(stack)-1], stack[:len(stack)-1]
	whose, err := t.owner(top)
	if err != nil {
		return StateUnknown, err
	}
	switch {
	case whose == ownerHere && len(inside(table, top)) == 0:
		return StateOurs, nil
	case whose == ownerHere, holdsOurs(covered):
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
	return nil, nil, ErrChanging
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
	if err := d.isMount(m); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// isMount is ErrChanging unless d is the root of the mount of a line that was
// read before d was opened. The kernel gives the id of a mount that is gone to
// the next one, so that equal ids prove nothing by themselves: a bind of
// somebody's directory would be scrubbed as our volume. While d is open, its
// id is its own, and what the table says of it now is true of d.
func (d *descriptor) isMount(m mountLine) error {
	if err := d.seemsMount(m); err != nil {
		return err
	}
	table, err := readMountTable()
	if err != nil {
		return err
	}
	for _, now := range table {
		if now.id == m.id && now.kind == m.kind && now.source == m.source && now.root == m.root && now.device == m.device {
			return nil
		}
	}
	return ErrChanging
}

// seemsMount is ErrChanging if d is certainly not the root of that mount.
func (d *descriptor) seemsMount(m mountLine) error {
	id, isRoot, err := d.mountID()
	if err == nil && (id != m.id || !isRoot) {
		err = ErrChanging
	}
	return err
}

// legacy reports whether m looks like a volume that the upstream driver wrote.
func (t *Target) legacy(m mountLine) bool {
	if !m.plainTmpfs() {
		return false
	}
	root, err := t.openMount(m)
	if err != nil {
		return false
	}
	// If somebody holds the open up: whatever it is, it is not left as it is for
	// that.
	is, _ := inTime(func() (bool, error) {
		defer func() { _ = root.Close() }()
		return atomicWriterLayout(root), nil
	}, func(bool) {})
	return is
}

// atomicWriterLayout reports whether a volume is exactly as the upstream
// driver's AtomicWriter makes it. Nothing in it may lead out: it is given to
// pods as it is.
func atomicWriterLayout(root *descriptor) bool {
	names, err := topNames(root)
	if err != nil {
		return false
	}
	for _, name := range names {
		if strings.HasPrefix(name, reservedStart) {
			continue
		}
		if have, err := readLink(root, name); err != nil || have != linkTarget(name) {
			return false
		}
	}
	return leadsToGeneration(root)
}

// leadsToGeneration reports whether ..data is a link to a hidden directory of
// the volume itself.
func leadsToGeneration(root *descriptor) bool {
	name, err := readLink(root, dataName)
	if err != nil || !strings.HasPrefix(name, reservedStart) || name == ".." {
		return false
	}
	dir, err := openAt(root, name, openPath|unix.O_DIRECTORY, resolveInside)
	_ = dir.Close()
	return err == nil && !strings.Contains(name, "/")
}

func holdsOurs(stack []mountLine) bool {
	for _, m := range stack {
		if m.ours() {
			return true
		}
	}
	return false
}
