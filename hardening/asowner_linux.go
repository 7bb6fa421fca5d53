package hardening

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// reopenAsOwner opens a file for reading that only its owner may read: one with
// an owner of its own, of which a rotation asks whether it has changed, and whose
// pages a start locks again. Root without CAP_DAC_OVERRIDE may not; as the owner,
// for this one call and in this thread alone, it can do less than before, not
// more (setfsuid(2)).
func (d *descriptor) reopenAsOwner(flags int) (*descriptor, error) {
	st, err := d.stat()
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return nil, err
	}
	setFSUID(st.Uid)
	opened, err := d.reopenAsIs(flags)
	setFSUID(0) // the real user is root: this never fails
	// The kernel takes a change of user for a reason to dump core again, by
	// /proc/sys/fs/suid_dumpable.
	if dumpable != 1 {
		dumpable = 0
	}
	err = errors.Join(err, unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(dumpable), 0, 0, 0))
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
}

// setFSUID has the calling thread open files as a user. It tells of no error:
// without CAP_SETUID nothing changes, and the open is refused as before.
func setFSUID(uid uint32) {
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
}
