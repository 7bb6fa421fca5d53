package hardening

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sealAttrs are the flags of every attached volume.
const (
	openAttrs = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	sealAttrs = openAttrs | unix.MOUNT_ATTR_RDONLY
)

// tmpfsConfig is what a tmpfs is made of.
type tmpfsConfig struct {
	limits  Limits
	noswap  bool
	context string
}

// newTmpfs makes a tmpfs that is mounted nowhere; it vanishes with its
// descriptor.
func newTmpfs(c tmpfsConfig) (*descriptor, error) {
	fs, err := newDescriptor(unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC))
	if err != nil {
		return nil, fmt.Errorf("open tmpfs: %w", err)
	}
	defer func() { _ = fs.Close() }()
	if err := c.apply(fs); err != nil {
		return nil, err
	}
	if err := unix.FsconfigCreate(fs.fd()); err != nil {
		return nil, fmt.Errorf("create tmpfs%s: %w", kernelMessage(fs), err)
	}
	root, err := newDescriptor(unix.Fsmount(fs.fd(), unix.FSMOUNT_CLOEXEC, openAttrs))
	if err != nil {
		return nil, fmt.Errorf("mount tmpfs: %w", err)
	}
	return root, nil
}

func (c tmpfsConfig) apply(fs *descriptor) error {
	options := [][2]string{
		{"source", Marker},
		{"size", strconv.FormatInt(c.limits.SizeBytes(), 10)},
		{"nr_inodes", strconv.Itoa(c.limits.nrInodes())},
		{"mode", octal(c.limits.dirMode())},
		{"uid", "0"},
		{"gid", strconv.Itoa(c.limits.GID)},
		// A huge page per small file would multiply what size= bounds.
		{"huge", "never"},
	}
	if c.context != "" {
		options = append(options, [2]string{"context", c.context})
	}
	for _, o := range options {
		if err := unix.FsconfigSetString(fs.fd(), o[0], o[1]); err != nil {
			return fmt.Errorf("set tmpfs option %s%s: %w", o[0], kernelMessage(fs), err)
		}
	}
	if c.noswap {
		if err := unix.FsconfigSetFlag(fs.fd(), "noswap"); err != nil {
			return fmt.Errorf("set tmpfs option noswap%s: %w", kernelMessage(fs), err)
		}
	}
	return nil
}

// kernelMessage returns what the kernel wrote about the last option, since its
// error number alone is nearly always EINVAL.
func kernelMessage(fs *descriptor) string {
	buf := make([]byte, 256)
	n, err := unix.Read(fs.fd(), buf)
	if err != nil || n <= 0 {
		return ""
	}
	return " (" + strings.ToValidUTF8(strings.TrimSpace(string(buf[:n])), "?") + ")"
}

// seal makes the mount of root read-only. It is EBUSY while anything is open
// for writing, which is the proof that nothing will change after the attach.
func seal(root *descriptor) error {
	attr := unix.MountAttr{Attr_set: sealAttrs, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(root.fd(), "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("seal volume read-only: %w", err)
	}
	return nil
}

// writableView returns a private mount of the same superblock that can be
// written to, while every mount that a pod sees stays read-only. Mounts that
// somebody made inside the volume are not part of it.
func writableView(root *descriptor) (*descriptor, error) {
	view, err := newDescriptor(unix.OpenTree(root.fd(), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH))
	if err != nil {
		return nil, fmt.Errorf("clone volume: %w", err)
	}
	attr := unix.MountAttr{Attr_set: openAttrs, Attr_clr: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(view.fd(), "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, errors.Join(fmt.Errorf("make view writable: %w", err), view.Close())
	}
	if err := unlockSuperblock(view); err != nil {
		return nil, errors.Join(err, view.Close())
	}
	return view, nil
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
