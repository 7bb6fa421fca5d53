package hardening

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// restrict sets the mode of a socket before bind(2) makes its file, which then
// has this mode from its first moment (unix(7): the inode gets the socket's
// mode less the mask). A chmod afterwards would leave a window, and umask(2)
// would change the whole process.
func restrict(_, _ string, c syscall.RawConn) error {
	var err error
	if ctl := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); ctl != nil {
		return ctl
	}
	return err
}
