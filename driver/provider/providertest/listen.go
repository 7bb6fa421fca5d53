package providertest

import (
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
)

// socketDir makes a directory with a short name: the path of a unix socket has
// 108 bytes at most, and t.TempDir spends most of them on the test's name.
func socketDir(t testing.TB, owner int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "p") //nolint:usetesting // t.TempDir makes names that are too long for a socket
	if err != nil {
		t.Fatalf("make socket directory: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if owner != 0 {
		if err := os.Chown(dir, owner, -1); err != nil {
			t.Fatalf("give socket directory away: %v", err)
		}
	}
	return dir
}

// listen opens a socket as user uid. The kernel remembers who called listen(2)
// and tells whoever connects (SO_PEERCRED, unix(7)).
func listen(path string, uid int) (net.Listener, error) {
	if uid == 0 {
		return net.Listen("unix", path)
	}
	type result struct {
		net.Listener
		error
	}
	done := make(chan result)
	go func() {
		// Credentials belong to the thread. It is never unlocked, so the
		// runtime ends it together with this goroutine.
		runtime.LockOSThread()
		id := uintptr(uid)
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, id, id, id); errno != 0 {
			done <- result{error: errno}
			return
		}
		l, err := net.Listen("unix", path)
		done <- result{l, err}
	}()
	r := <-done
	return r.Listener, r.error
}

// cutListener accepts connections that count what is written to them and, if
// after is not 0, break off after so many bytes each.
type cutListener struct {
	net.Listener
	after   int
	written *atomic.Int64
}

// Accept wraps the connection.
func (l *cutListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	cut := &cutConn{Conn: c, cuts: l.after > 0, written: l.written}
	cut.left.Store(int64(l.after))
	return cut, nil
}

// cutConn closes itself after so many bytes.
type cutConn struct {
	net.Conn
	cuts    bool
	left    atomic.Int64
	written *atomic.Int64
}

// Write writes what is left, then closes.
func (c *cutConn) Write(p []byte) (int, error) {
	if left := c.left.Add(-int64(len(p))); c.cuts && left <= 0 {
		return c.last(p[:max(0, int64(len(p))+left)])
	}
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

func (c *cutConn) last(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	if closed := c.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = net.ErrClosed
	}
	return n, err
}
