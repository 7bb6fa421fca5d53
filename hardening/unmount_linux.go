package hardening

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// detachBlindly unmounts without knowing what.
func (t *Target) detachBlindly(d *Detached) error {
	for range maxStack {
		err := t.unmountTop()
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		d.Foreign++
	}
	return errTooMany
}

// unmountTop detaches the topmost mount at the target. The kernel looks only
// the last component up, without opening it, so that a dead network file
// system cannot block here, and with UMOUNT_NOFOLLOW it follows no link there.
func (t *Target) unmountTop() error {
	return detachAt(t.dir, mountName)
}

func detachAt(dir *descriptor, name string) error {
	if err := unix.Unmount(dir.procPath()+"/"+name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return nil
}

// clearInside detaches what is mounted inside the volume on top, which keeps
// its directories from being removed (EBUSY). Each step may uncover others.
func (t *Target) clearInside(top mountLine) (n int, err error) {
	for range maxStack {
		table, err := readMountTable()
		if err != nil {
			return n, err
		}
		children := inside(table, top)
		if len(children) == 0 {
			return n, nil
		}
		// The shortest path first: it may hide the others.
		next := slices.MinFunc(children, func(a, b mountLine) int { return cmp.Compare(len(a.point), len(b.point)) })
		if err := t.detachChild(top, next); err != nil {
			return n, err
		}
		n++
	}
	return n, errTooMany
}

func (t *Target) detachChild(top, child mountLine) error {
	root, err := t.openMount(top)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return detachInside(root, strings.TrimPrefix(child.point, top.point+"/"))
}

func detachInside(root *descriptor, name string) error {
	parent, err := openAt(root, path.Dir(name), openPath|unix.O_DIRECTORY, resolveInside)
	if err != nil {
		return fmt.Errorf("open directory inside volume: %w", err)
	}
	defer func() { _ = parent.Close() }()
	return detachAt(parent, path.Base(name))
}
