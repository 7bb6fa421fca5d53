package hardening

import (
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
