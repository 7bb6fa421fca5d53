package hardening

import (
	"fmt"
	"net"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// CheckSocket refuses a unix socket that somebody else could have put there: a
// link, not a socket, owned by a uid that is not in ownerUIDs, or writable by
// group or others. Directories above may be links (/var/run is). The answer
// holds for this moment only; ask PeerUID on the connection too.
func CheckSocket(path string, ownerUIDs []int) error {
	bad := func(reason, remedy string) error { return &SocketError{Path: path, Reason: reason, Remedy: remedy} }
	d, err := newDescriptor(unix.Open(path, openPath, 0))
	if err != nil {
		return fmt.Errorf("open socket %+q: %w", clip(path), err)
	}
	defer func() { _ = d.Close() }()
	st, err := d.stat()
	if err != nil {
		return fmt.Errorf("examine socket %+q: %w", clip(path), err)
	}
	switch {
	case isKind(st, unix.S_IFLNK):
		return bad("is a symbolic link", "put the socket itself there")
	case !isKind(st, unix.S_IFSOCK):
		return bad("is not a socket", "remove it and start the provider again")
	case !slices.Contains(ownerUIDs, int(st.Uid)):
		return bad("is owned by uid "+strconv.Itoa(int(st.Uid)), "run the provider as root, or name its uid with --provider-uid")
	case st.Mode&0o022 != 0:
		return bad("is writable by group or others", "make its mode 0700 or 0755 at most")
	}
	return nil
}

// PeerUID returns the uid of the process at the other end, as the
// kernel recorded it (SO_PEERCRED in unix(7)).
func PeerUID(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("read peer of socket: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return 0, fmt.Errorf("read peer of socket: %w", err)
	}
	if credErr != nil {
		return 0, fmt.Errorf("read peer of socket: %w", credErr)
	}
	return int(cred.Uid), nil
}
