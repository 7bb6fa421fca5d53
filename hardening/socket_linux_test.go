package hardening_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	check(t, "listen", err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestCheckSocket(t *testing.T) {
	me := os.Geteuid()
	dir := t.TempDir()
	socket := func(name string, mode fs.FileMode) string {
		p := filepath.Join(dir, name)
		listen(t, p)
		check(t, "chmod", os.Chmod(p, mode))
		return p
	}
	good := socket("good.sock", 0o600)
	link := filepath.Join(dir, "link.sock")
	file := filepath.Join(dir, "file.sock")
	linkedDir := filepath.Join(dir, "run")
	check(t, "prepare", joined(os.Symlink(good, link), os.WriteFile(file, nil, 0o600), os.Symlink(dir, linkedDir)))
	tests := []struct {
		name, path string
		owners     []int
		reason     string // none: accepted
	}{
		{"good", good, []int{me}, ""},
		{"one of several owners", good, []int{me + 7, me}, ""},
		{"readable by all", socket("open.sock", 0o755), []int{me}, ""},
		{"below a linked directory", filepath.Join(linkedDir, "good.sock"), []int{me}, ""},
		{"link", link, []int{me}, "symbolic link"},
		{"file", file, []int{me}, "not a socket"},
		{"directory", dir, []int{me}, "not a socket"},
		{"another owner", good, []int{me + 7}, "owned by uid"},
		{"no owner allowed", good, nil, "owned by uid"},
		{"writable by the group", socket("group.sock", 0o660), []int{me}, "writable by group"},
		{"writable by others", socket("other.sock", 0o602), []int{me}, "writable by group or others"},
		{"writable by all", socket("all.sock", 0o777), []int{me}, "writable by group or others"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := hardening.CheckSocket(tt.path, tt.owners)
			if tt.reason == "" {
				if err != nil {
					t.Errorf("CheckSocket(%q, %v) = %v, want nil", tt.path, tt.owners, err)
				}
				return
			}
			e, ok := errors.AsType[*hardening.SocketError](err)
			if !ok || !strings.Contains(e.Reason, tt.reason) || e.Remedy == "" {
				t.Errorf("CheckSocket(%q, %v) = %v, want a SocketError with %q and a remedy", tt.path, tt.owners, err, tt.reason)
			}
		})
	}
	if err := hardening.CheckSocket(filepath.Join(dir, "absent"), []int{me}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("CheckSocket(absent) = %v, want %v", err, fs.ErrNotExist)
	}
}

func TestCheckSocketOfAnotherUser(t *testing.T) {
	hardeningtest.NeedRoot(t)
	p := filepath.Join(t.TempDir(), "planted.sock")
	listen(t, p)
	check(t, "chown", os.Chown(p, 1000, 1000))
	if err := hardening.CheckSocket(p, []int{0}); err == nil || !strings.Contains(err.Error(), "owned by uid 1000") {
		t.Errorf("CheckSocket(planted) = %v, want the owner named", err)
	}
	check(t, "CheckSocket(allowed)", hardening.CheckSocket(p, []int{0, 1000}))
}

func TestPeerUID(t *testing.T) {
	p := filepath.Join(t.TempDir(), "peer.sock")
	l := listen(t, p)
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: p})
	check(t, "dial", err)
	got, err := hardening.PeerUID(conn)
	if err != nil || got != os.Geteuid() {
		t.Errorf("PeerUID() = %d, %v, want %d, nil", got, err, os.Geteuid())
	}
	accepted, err := l.AcceptUnix()
	check(t, "accept", err)
	if got, err := hardening.PeerUID(accepted); err != nil || got != os.Geteuid() {
		t.Errorf("PeerUID() of the other end = %d, %v, want %d, nil", got, err, os.Geteuid())
	}
	check(t, "close", joined(conn.Close(), accepted.Close()))
	if got, err := hardening.PeerUID(conn); err == nil {
		t.Errorf("PeerUID() of a closed connection = %d, nil, want an error", got)
	}
}
