package hardening

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// How paths are resolved. Below the pods directory links are refused, mounts
// are not: the kubelet's root may hold several file systems. Inside a volume
// mounts are refused too, since only a hostile container could have made them.
const (
	resolvePods   = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	resolveInside = resolvePods | unix.RESOLVE_NO_XDEV
)

// How things are opened. O_NONBLOCK keeps FIFOs and file leases from blocking.
const (
	openPath  = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	openDir   = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	openRead  = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	openWrite = unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
)

func newDescriptor(n int, err error) (*descriptor, error) {
	if err != nil {
		return nil, err
	}
	return &descriptor{n: n}, nil
}

// Close closes the descriptor once.
func (d *descriptor) Close() error {
	if d == nil || d.n < 0 {
		return nil
	}
	n := d.n
	d.n = -1
	return unix.Close(n)
}

// procPath names the open file itself, for calls that take paths only. It is
// the one magic link that is followed: it leads to what we hold.
func (d *descriptor) procPath() string { return "/proc/self/fd/" + strconv.Itoa(d.fd()) }

// reopen opens what d refers to again, which no rename can exchange.
func (d *descriptor) reopen(flags int) (*descriptor, error) {
	opened, err := d.reopenAsIs(flags)
	if errors.Is(err, unix.EACCES) && flags == openRead {
		return d.reopenAsOwner(flags)
	}
	return opened, err
}

func (d *descriptor) reopenAsIs(flags int) (*descriptor, error) {
	return retry(func() (int, error) { return unix.Open(d.procPath(), flags&^unix.O_NOFOLLOW, 0) })
}

// openAt opens a relative path beneath dir.
func openAt(dir *descriptor, path string, flags, resolve uint64) (*descriptor, error) {
	return openHow(dir, path, unix.OpenHow{Flags: flags, Resolve: resolve})
}

// createAt makes a new file beneath dir, readable by nobody until it is ready.
func createAt(dir *descriptor, path string) (*descriptor, error) {
	return openHow(dir, path, unix.OpenHow{
		Flags: openWrite | unix.O_CREAT | unix.O_EXCL, Mode: 0o600, Resolve: resolveInside,
	})
}

func openHow(dir *descriptor, path string, how unix.OpenHow) (*descriptor, error) {
	return retry(func() (int, error) { return unix.Openat2(dir.fd(), path, &how) })
}

// retry repeats an open that a signal or, as openat2(2) tells, a concurrent
// rename interrupted. An adversary could rename for ever, hence the bound.
func retry(open func() (int, error)) (*descriptor, error) {
	const attempts = 64
	var n int
	var err error
	for range attempts {
		n, err = open()
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	return newDescriptor(n, err)
}

// names lists a directory opened with openDir, from its start.
func (d *descriptor) names() ([]string, error) {
	var names []string
	err := d.each(func(name string) bool { names = append(names, name); return true })
	if err != nil {
		return nil, err
	}
	return names, nil
}

// each goes through such a directory for as long as next is true.
func (d *descriptor) each(next func(name string) bool) error {
	if _, err := unix.Seek(d.fd(), 0, unix.SEEK_SET); err != nil {
		return fmt.Errorf("rewind directory: %w", err)
	}
	buf := make([]byte, 8<<10)
	for {
		n, err := unix.ReadDirent(d.fd(), buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read directory: %w", err)
		}
		if n == 0 {
			return nil
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if !next(name) {
				return nil
			}
		}
	}
}

func (d *descriptor) stat() (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstat(d.fd(), &st)
	return st, err
}

// mountID returns the id under which the mount of d is listed in mountinfo,
// and whether d is the root of that mount.
func (d *descriptor) mountID() (id int, isRoot bool, err error) {
	var st unix.Statx_t
	// A foreign mount may be a network file system whose server is gone.
	const flags = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC | unix.AT_NO_AUTOMOUNT
	if err := unix.Statx(d.fd(), "", flags, unix.STATX_MNT_ID, &st); err != nil {
		return 0, false, fmt.Errorf("read mount id: %w", err)
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, false, errors.New("read mount id: the kernel gives none")
	}
	return int(st.Mnt_id), st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil //nolint:gosec // mount ids are positive ints in the kernel
}

// spelling returns the path under which the mount table lists d.
func (d *descriptor) spelling() (string, error) {
	path, err := os.Readlink(d.procPath())
	if err != nil {
		return "", fmt.Errorf("read path of descriptor: %w", err)
	}
	return path, nil
}

func readMountTable() ([]mountLine, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	return parseMountTable(string(text))
}

func isKind(st unix.Stat_t, kind uint32) bool { return st.Mode&unix.S_IFMT == kind }
