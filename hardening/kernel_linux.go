package hardening

import (
	"errors"

	"golang.org/x/sys/unix"
)

// badFD is no descriptor: a system call that exists refuses it.
const badFD = -1

// ProbeKernel finds out what the running kernel offers, by making a volume that
// is mounted nowhere where this process may, and by system calls that cannot
// succeed. It changes nothing.
func ProbeKernel() Kernel {
	var k Kernel
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		k.Release = unix.ByteSliceToString(name.Release[:])
	}
	k.MountAPI, k.Missing = mountAPI()
	k.Openat2 = served(func() error {
		fd, err := unix.Openat2(badFD, "x", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}())
	_, _, errno := unix.Syscall6(unix.SYS_FCHMODAT2, ^uintptr(0), 0, 0, 0, 0, 0)
	k.Fchmodat2 = served(errno)
	k.Landlock = landlockABI()
	k.Seccomp = AnswerYes
	if filtersAvailable() != nil {
		k.Seccomp = AnswerNo
	}
	k.Noswap, k.Xattr, k.Refused = tmpfsOffers()
	k.Probed = k.Refused == nil
	if errors.Is(k.Refused, unix.EPERM) {
		k.Refused = nil
	}
	k.LockErr = lockAllowed()
	return k
}

// served tells a system call that is missing from one that refused.
func served(err error) Answer {
	if errors.Is(err, unix.ENOSYS) {
		return AnswerNo
	}
	return AnswerYes
}

// mountAPI asks for each call that a volume needs.
func mountAPI() (all Answer, missing string) {
	for _, call := range []struct {
		name string
		do   func() error
	}{
		{"fsopen", func() error {
			fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
			if err == nil {
				err = unix.Close(fd)
			}
			return err
		}},
		{"fsmount", func() error {
			_, err := unix.Fsmount(badFD, unix.FSMOUNT_CLOEXEC, 0)
			return err
		}},
		{"move_mount", func() error { return unix.MoveMount(badFD, "", badFD, "", unix.MOVE_MOUNT_F_EMPTY_PATH) }},
		{"mount_setattr", func() error { return unix.MountSetattr(badFD, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}) }},
	} {
		if served(call.do()) == AnswerNo {
			return AnswerNo, call.name
		}
	}
	return AnswerYes, ""
}

// landlockABI returns the version, 0 where Landlock is missing or switched off.
func landlockABI() int {
	const versionOnly = 1 // LANDLOCK_CREATE_RULESET_VERSION
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, versionOnly)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// tmpfsOffers makes what every publish makes, detached.
func tmpfsOffers() (noswap, xattr Answer, err error) {
	c := tmpfsConfig{limits: Limits{Bytes: 1}, noswap: true}
	noswap = AnswerYes
	root, err := newTmpfs(c)
	if errors.Is(err, unix.EINVAL) {
		c.noswap, noswap = false, AnswerNo
		root, err = newTmpfs(c)
	}
	if err != nil {
		return AnswerUnknown, AnswerUnknown, err
	}
	defer func() { _ = root.Close() }()
	switch err := claim(root, "probe"); {
	case errors.Is(err, unix.EOPNOTSUPP):
		xattr = AnswerNo
	case err == nil:
		xattr = AnswerYes
	}
	return noswap, xattr, seal(root)
}
