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
// more (setfsuid(2)). The process dumps no core afterwards, if it did before.
func (d *descriptor) reopenAsOwner(flags int) (*descriptor, error) {
	st, err := d.stat()
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = setFSUID(st.Uid)
	var opened *descriptor
	if err == nil {
		opened, err = d.reopenAsIs(flags) // which somebody may hold up
	}
	err = errors.Join(err, setFSUID(0)) // the real user is root: this is never refused
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
}

// setFSUID has the calling thread open files as a user. It tells of no refusal:
// without CAP_SETUID nothing changes, and the open is refused as before.
//
// The kernel takes a change of user for a reason to dump core again, by
// /proc/sys/fs/suid_dumpable. What it was before is not asked: that may be what
// another thread is about to undo.
func setFSUID(uid uint32) error {
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
