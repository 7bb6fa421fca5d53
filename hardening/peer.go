package hardening

import (
	"fmt"
	"net"
	"slices"
)

// PeerError says who was at the other end of a unix socket.
type PeerError struct{ UID int }

// Error names the user.
func (e *PeerError) Error() string { return fmt.Sprintf("user %d is at the other end", e.UID) }

// CheckPeer returns a *PeerError unless one of these users is at the other end
// of a unix socket.
func CheckPeer(conn net.Conn, uids []int) error {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("read peer of socket: %w", ErrUnsupported)
	}
	uid, err := PeerUID(unix)
	if err != nil {
		return err
	}
	if !slices.Contains(uids, uid) {
		return &PeerError{uid}
	}
	return nil
}
