package hardening_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// privateDir is a directory with a short path, for sockets.
func privateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "private") //nolint:usetesting // the path of a socket must be short
	check(t, "make directory", err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestListenPrivateTakesItsSocketAlong(t *testing.T) {
	path := filepath.Join(privateDir(t), "admin.sock")
	l, err := hardening.ListenPrivate(t.Context(), path)
	check(t, "ListenPrivate", err)
	info, err := os.Lstat(path)
	check(t, "look", err)
	if info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode = %v, want a socket with mode 0600", info.Mode())
	}
	if _, err := hardening.ListenPrivate(t.Context(), path); !errors.Is(err, hardening.ErrSocketInUse) {
		t.Errorf("ListenPrivate(served) = %v, want ErrSocketInUse", err)
	}
	check(t, "close", l.Close())
	check(t, "close again", l.Close())
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after close: %v, want it gone", err)
	}
}

// TestListenPrivateLeavesASuccessorsSocket: what stands at the path by then is
// another's.
func TestListenPrivateLeavesASuccessorsSocket(t *testing.T) {
	path := filepath.Join(privateDir(t), "admin.sock")
	l, err := hardening.ListenPrivate(t.Context(), path)
	check(t, "ListenPrivate", err)
	check(t, "move", os.Rename(path, path+".old"))
	check(t, "put another there", os.WriteFile(path, nil, 0o600))
	check(t, "close", l.Close())
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other's file: %v, want it to stay", err)
	}
}

func TestListenPrivateReplacesWhatACrashLeft(t *testing.T) {
	path := filepath.Join(privateDir(t), "admin.sock")
	crashed, err := hardening.Listen(t.Context(), path) // which leaves its socket
	check(t, "Listen", err)
	check(t, "close", crashed.Close())
	l, err := hardening.ListenPrivate(t.Context(), path)
	check(t, "ListenPrivate over a stale socket", err)
	check(t, "close", l.Close())
}

func TestListenPrivateRefuses(t *testing.T) {
	dir := privateDir(t)
	open := filepath.Join(dir, "open")
	link := filepath.Join(dir, "link")
	file := filepath.Join(dir, "file")
	planted := filepath.Join(dir, "planted")
	check(t, "prepare", joined(os.Mkdir(open, 0o755), os.Chmod(open, 0o750), os.Symlink(dir, link), os.WriteFile(file, nil, 0o600), os.Symlink("/nowhere/x.sock", planted)))
	for name, tt := range map[string]struct{ path, want string }{
		"a directory that the group can read": {filepath.Join(open, "s"), "has mode 0750"},
		"a directory that is a link":          {filepath.Join(link, "s"), "is not a directory"},
		"a file in place of the directory":    {filepath.Join(file, "s"), "is not a directory"},
		"a file in its place":                 {file, "is not a socket"},
		"a dangling link in its place":        {planted, "is not a socket"},
		"no directory":                        {filepath.Join(dir, "absent", "s"), "no such file"},
		"a path that is too long":             {filepath.Join(dir, strings.Repeat("s", 120)), "invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := hardening.ListenPrivate(t.Context(), tt.path); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ListenPrivate(%q) = %v, want %q", tt.path, err, tt.want)
			}
		})
	}
	if _, err := os.Readlink(planted); err != nil {
		t.Errorf("the planted link: %v, want it to stay", err)
	}
}

func TestListenPrivateRefusesAnothersDirectory(t *testing.T) {
	hardeningtest.NeedRoot(t)
	dir := filepath.Join(privateDir(t), "theirs")
	check(t, "prepare", joined(os.Mkdir(dir, 0o700), os.Chown(dir, 1000, 1000)))
	if _, err := hardening.ListenPrivate(t.Context(), filepath.Join(dir, "s")); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("ListenPrivate(in another's directory) = %v, want the reason", err)
	}
}

func TestCheckPeer(t *testing.T) {
	path := filepath.Join(privateDir(t), "peer.sock")
	listen(t, path)
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path})
	check(t, "dial", err)
	defer conn.Close()
	me := os.Geteuid()
	check(t, "CheckPeer(own user)", hardening.CheckPeer(conn, []int{me + 1, me}))
	err = hardening.CheckPeer(conn, []int{me + 1})
	if e, ok := errors.AsType[*hardening.PeerError](err); !ok || e.UID != me {
		t.Errorf("CheckPeer(another) = %v, want a PeerError with %d", err, me)
	}
	if err := hardening.CheckPeer(conn, nil); err == nil {
		t.Error("CheckPeer(nobody) = nil, want an error")
	}
	pipe, other := net.Pipe()
	defer joined(pipe.Close(), other.Close())
	if err := hardening.CheckPeer(pipe, []int{me, 0}); !errors.Is(err, hardening.ErrUnsupported) {
		t.Errorf("CheckPeer(no socket) = %v, want ErrUnsupported", err)
	}
}

func TestFreeBytes(t *testing.T) {
	if n, err := hardening.FreeBytes(t.TempDir()); err != nil || n <= 0 {
		t.Errorf("FreeBytes() = %d, %v, want some", n, err)
	}
	if _, err := hardening.FreeBytes(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("FreeBytes(absent) = %v, want os.ErrNotExist", err)
	}
}
