package hardening

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// staleDialTimeout is how long an old socket has to prove that somebody still
// serves it.
const staleDialTimeout = time.Second

// ErrSocketInUse means that something which must not be removed is where a
// socket should go.
var ErrSocketInUse = errors.New("endpoint is in use")

// ParseEndpoint returns the path of a unix socket given as unix:///path or, as
// the upstream driver accepts it, unix://path.
func ParseEndpoint(endpoint string) (string, error) {
	rest, ok := strings.CutPrefix(endpoint, "unix:")
	path := "/" + strings.TrimLeft(rest, "/")
	if !ok || path == "/" || filepath.Clean(path) != path {
		return "", fmt.Errorf("parse endpoint %q: want unix:///path/to/the.sock, without dots", endpoint)
	}
	return path, nil
}

// Listen makes a unix socket of mode 0600 in place of one that nobody serves.
// It returns ErrSocketInUse when somebody answers there, or when the file is
// not a socket. The socket outlives the listener: kubelet would forget a
// driver whose socket is gone, and a successor may have put its own there.
// Whoever wants it gone calls Remove.
func Listen(ctx context.Context, path string) (*Socket, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{Control: restrict}).Listen(ctx, "unix", path)
	if errors.Is(err, os.ErrNotExist) { // the kernel's words do not say of what
		return nil, fmt.Errorf("listen on %s: the directory %s is not there: %w", path, filepath.Dir(path), err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, ErrUnsupported), l.Close())
	}
	u.SetUnlinkOnClose(false)
	made, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look at socket: %w", err), l.Close())
	}
	return &Socket{l, path, made}, nil
}

// Socket is a listener that knows its file.
type Socket struct {
	net.Listener
	path string
	made os.FileInfo
}

// InPlace reports whether the socket's file is still the one that was made.
func (s *Socket) InPlace() bool {
	now, err := os.Lstat(s.path)
	// The time counts too, since file systems use inode numbers again.
	return err == nil && os.SameFile(now, s.made) && now.ModTime().Equal(s.made.ModTime())
}

// Remove removes the socket's file, unless something else is at its path by
// now: a successor's socket, or nothing.
func (s *Socket) Remove() error {
	if !s.InPlace() {
		return nil
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove socket: %w", err)
	}
	return nil
}

// ListenPrivate is Listen in a directory that only this process's user can
// reach, for a socket that nobody else may connect to. Closing the listener
// removes the socket, unless something else is at its path by then.
func ListenPrivate(ctx context.Context, path string) (net.Listener, error) {
	if err := checkOwnDirectory(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l, err := Listen(ctx, path)
	if err != nil {
		return nil, err
	}
	return &privateListener{l}, nil
}

// privateListener takes its socket along.
type privateListener struct{ *Socket }

// Close stops listening and removes the socket.
func (l *privateListener) Close() error {
	err := l.Socket.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return errors.Join(err, l.Remove())
}

func checkOwnDirectory(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return &SocketError{Path: dir, Reason: "is not a directory", Remedy: "give a real directory, no link"}
	case !ok || int(stat.Uid) != os.Geteuid():
		return &SocketError{Path: dir, Reason: "belongs to another user", Remedy: "find out who made it, then chown it"}
	case info.Mode().Perm()&0o077 != 0:
		return &SocketError{Path: dir, Reason: fmt.Sprintf("has mode %04o", info.Mode().Perm()), Remedy: "chmod it to 0700"}
	}
	return nil
}

// SocketAbandoned reports whether path is a socket that nobody listens on: the
// kernel refuses to connect. It is false where that is not certain.
func SocketAbandoned(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, staleDialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close() // nothing was written
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at endpoint: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%w: %s is not a socket; remove it, or choose another path", ErrSocketInUse, path)
	}
	ctx, cancel := context.WithTimeout(ctx, staleDialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("%w: another process serves %s; stop it first", ErrSocketInUse, path), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w: %s neither answers nor refuses: %w", ErrSocketInUse, path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}
