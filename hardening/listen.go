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
func Listen(ctx context.Context, path string) (net.Listener, error) {
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
	return u, nil
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
