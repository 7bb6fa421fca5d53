package hardening

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// writableView returns a private mount of the same superblock that can be
// written to, while every mount that a pod sees stays read-only. Mounts that
// somebody made inside the volume are not part of it.
func writableView(root *descriptor) (*descriptor, error) {
	view, err := cloneVolume(root)
	if err != nil {
		return nil, err
	}
	if err := makeWritable(view); err != nil {
		return nil, errors.Join(err, view.Close())
	}
	return view, nil
}

// cloneVolume returns a mount of the same superblock that is attached nowhere.
func cloneVolume(root *descriptor) (*descriptor, error) {
	view, err := newDescriptor(unix.OpenTree(root.fd(), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH))
	if errors.Is(err, unix.EINVAL) {
		err = ErrChanging // somebody unmounted it since it was opened
	}
	if err != nil {
		return nil, fmt.Errorf("clone volume: %w", err)
	}
	return view, nil
}

func makeWritable(view *descriptor) error {
	attr := unix.MountAttr{Attr_set: openAttrs, Attr_clr: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(view.fd(), "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("make view writable: %w", err)
	}
	return unlockSuperblock(view)
}

// unlockSuperblock undoes mount -o remount,ro, with which a privileged
// container could keep its secrets from being revoked.
func unlockSuperblock(view *descriptor) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(view.fd(), &st); err != nil {
		return fmt.Errorf("read volume flags: %w", err)
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	fs, err := newDescriptor(unix.Fspick(view.fd(), "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH))
	if err != nil {
		return fmt.Errorf("pick volume: %w", err)
	}
	defer func() { _ = fs.Close() }()
	if err := unix.FsconfigSetFlag(fs.fd(), "rw"); err != nil {
		return fmt.Errorf("make superblock writable: %w", err)
	}
	if err := unix.FsconfigReconfigure(fs.fd()); err != nil {
		return fmt.Errorf("make superblock writable%s: %w", kernelMessage(fs), err)
	}
	return nil
}
