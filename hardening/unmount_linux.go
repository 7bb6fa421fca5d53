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
// its directories from being removed (EBUSY).
func (t *Target) clearInside(top mountLine) (n int, err error) {
	return clearBelow(top, func() (*descriptor, error) { return t.openMount(top) })
}

// clearPlain does the same inside the mount directory itself, and returns how
// many mounts it detached. What it could not detach keeps the directory from
// being removed, and the next call tries again.
func (t *Target) clearPlain() (n int) {
	base, _, err := t.dir.mountID()
	if err != nil {
		return 0
	}
	dir, err := t.dir.spelling()
	if err != nil {
		return 0
	}
	plain := mountLine{id: base, point: path.Join(dir, mountName)}
	n, _ = clearBelow(plain, func() (*descriptor, error) { return t.open(openPath, resolveInside) })
	return n
}

// clearBelow detaches the mounts that sit on m below its point, where open
// opens the directory at that point. Each step may uncover others.
func clearBelow(m mountLine, open func() (*descriptor, error)) (n int, err error) {
	for range maxStack {
		table, err := readMountTable()
		if err != nil {
			return n, err
		}
		children := inside(table, m)
		if len(children) == 0 {
			return n, nil
		}
		// The shortest path first: it may hide the others.
		next := slices.MinFunc(children, func(a, b mountLine) int { return cmp.Compare(len(a.point), len(b.point)) })
		root, err := open()
		if err != nil {
			return n, err
		}
		err = detachInside(root, strings.TrimPrefix(next.point, m.point+"/"))
		_ = root.Close()
		if err != nil {
			return n, err
		}
		n++
	}
	return n, errTooMany
}

func detachInside(root *descriptor, name string) error {
	parent, err := openAt(root, path.Dir(name), openPath|unix.O_DIRECTORY, resolveInside)
	if err != nil {
		return fmt.Errorf("open directory inside volume: %w", err)
	}
	defer func() { _ = parent.Close() }()
	return detachAt(parent, path.Base(name))
}
