package hardening

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// What bounds the way through what a hostile container built, and builds on
// while it is removed. Names are taken as they are read, as rm -r does: a list
// of them has no bound of its own.
const (
	maxScrubDepth   = 64
	maxScrubEntries = 1 << 20 // of one directory
)

// scrubber removes trees whose content is hostile: a privileged container may
// have put anything there. It opens nothing that can block, follows no link,
// enters no other mount, and counts what it cannot remove instead of stopping.
type scrubber struct {
	truncate bool // before unlinking
	// patient leaves a file its name while a lease keeps its content: who looks
	// again later finds it and empties it, which nobody can without the name.
	patient bool
	// shared says that the directory is on a file system of others: content
	// under a second name may be anybody's, so such files are only unlinked.
	shared bool
	found  int // entries that are not directories
	failed int
	first  error
}

func (s *scrubber) err() error {
	if s.failed == 0 {
		return nil
	}
	return &ScrubError{Count: s.failed, First: s.first}
}

func (s *scrubber) fail(what string, err error) {
	if err == nil {
		return
	}
	if s.failed++; s.first == nil {
		s.first = fmt.Errorf("%s: %w", what, err)
	}
}

// empty removes everything below the root of a volume.
func (s *scrubber) empty(root *descriptor) {
	st, err := root.stat()
	s.fail("examine volume", err)
	dir, err := s.enter(root, st)
	if err != nil {
		s.fail("open volume", err)
		return
	}
	defer func() { _ = dir.Close() }()
	// First, so that a volume whose scrub was cut off is known to be empty. An
	// error comes again with the entry.
	_ = unix.Unlinkat(dir.fd(), dataName, 0)
	s.entries(dir, maxScrubDepth)
}

func (s *scrubber) entries(dir *descriptor, depth int) {
	left := maxScrubEntries
	err := dir.each(func(name string) bool {
		s.remove(dir, name, depth)
		left--
		return left > 0
	})
	if err == nil && left == 0 {
		err = errors.New("it does not end")
	}
	s.fail("list directory", err)
}

// remove removes one entry and all that is below it.
func (s *scrubber) remove(dir *descriptor, name string, depth int) {
	d, err := openAt(dir, name, openPath, resolveInside)
	if errors.Is(err, unix.ENOENT) {
		return
	}
	if err != nil {
		s.fail("open entry", err)
		return
	}
	defer func() { _ = d.Close() }()
	st, err := d.stat()
	if err != nil {
		s.fail("examine entry", err)
		return
	}
	if isKind(st, unix.S_IFDIR) {
		s.directory(d, st, depth)
		s.unlink(dir, d, name, unix.AT_REMOVEDIR)
		return
	}
	s.found++
	if s.truncate && isKind(st, unix.S_IFREG) && (!s.shared || st.Nlink == 1) {
		err := truncateFile(d)
		s.fail("truncate file", err)
		FaultPoint("scrub/truncated")
		if s.patient && errors.Is(err, unix.EAGAIN) {
			return
		}
	}
	s.unlink(dir, d, name, 0)
}

func (s *scrubber) directory(d *descriptor, st unix.Stat_t, depth int) {
	if depth == 0 {
		s.fail("enter directory", errors.New("too deep"))
		return
	}
	sub, err := s.enter(d, st)
	if err != nil {
		s.fail("open directory", err)
		return
	}
	s.entries(sub, depth-1)
	_ = sub.Close()
}

// enter opens a directory, taking it back only where that is needed: a reader
// that is just passing through the old generation shall meet ENOENT, which it
// knows from Kubernetes volumes, and not EACCES.
func (s *scrubber) enter(d *descriptor, st unix.Stat_t) (*descriptor, error) {
	if st.Uid != 0 || st.Mode&uint32(modeWhileFilled) != uint32(modeWhileFilled) {
		s.fail("take directory", takeBack(d, 0, modeWhileFilled))
	}
	return d.reopen(openDir)
}

func (s *scrubber) unlink(dir, d *descriptor, name string, flags int) {
	err := unix.Unlinkat(dir.fd(), name, flags)
	if errors.Is(err, unix.EPERM) && !s.shared {
		_, _ = clearAttributes(d), clearAttributes(dir)
		err = unix.Unlinkat(dir.fd(), name, flags)
	}
	if !errors.Is(err, unix.ENOENT) {
		s.fail("unlink entry", err)
	}
	FaultPoint("scrub/unlinked")
}

// truncateFile frees the pages of a file. O_NONBLOCK turns a lease that a pod
// holds on its file (F_SETLEASE in fcntl(2)) from a wait of 45 seconds into an
// error, and the file is reopened through its descriptor, so that no exchange
// by name can put a FIFO or a device here.
func truncateFile(d *descriptor) error {
	if err := takeBack(d, 0, 0o600); err != nil {
		return err
	}
	FaultPoint("scrub/taken-back")
	w, err := d.reopen(openWrite)
	if err != nil {
		return err
	}
	return errors.Join(unix.Ftruncate(w.fd(), 0), w.Close())
}

// takeBack makes an entry root's own: a process without CAP_DAC_OVERRIDE can
// neither enter nor open what belongs to a pod's user.
func takeBack(d *descriptor, gid int, mode fs.FileMode) error {
	err := chown(d, gid)
	if errors.Is(err, unix.EPERM) && clearAttributes(d) == nil {
		err = chown(d, gid)
	}
	if err != nil {
		return err
	}
	err = chmodDescriptor(d, mode)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return chmodProc(d, mode)
	}
	return err
}

// dropACLs removes the access lists of a directory. A default one, which a
// privileged container can have left, would give every new file readers beyond
// its mode (acl(5)).
func dropACLs(d *descriptor) error {
	for _, name := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		err := unix.Removexattr(d.procPath(), name)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return nil
}

func chown(d *descriptor, gid int) error {
	return unix.Fchownat(d.fd(), "", 0, gid, unix.AT_EMPTY_PATH)
}

// chmodDescriptor is fchmodat2, from Linux 6.6 on; fchmod itself refuses
// descriptors made with O_PATH.
func chmodDescriptor(d *descriptor, mode fs.FileMode) error {
	return unix.Fchmodat(d.fd(), "", uint32(mode), unix.AT_EMPTY_PATH)
}

// chmodProc does the same on older kernels.
func chmodProc(d *descriptor, mode fs.FileMode) error {
	return unix.Chmod(d.procPath(), uint32(mode))
}

// clearAttributes undoes chattr +i and +a, which tmpfs has since Linux 6.0.
func clearAttributes(d *descriptor) error {
	r, err := d.reopen(openRead)
	if err != nil {
		return err
	}
	return errors.Join(unix.IoctlSetPointerInt(r.fd(), unix.FS_IOC_SETFLAGS, 0), r.Close())
}
