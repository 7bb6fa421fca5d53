package admin_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/portcullis-csi/portcullis/audit/admin"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

const strangerEnv = "ADMIN_TEST_SOCKET"

// TestMain serves as the process of another user too.
func TestMain(m *testing.M) {
	path := os.Getenv(strangerEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	if _, err := admin.Dial(path, nil).RotateKey(context.Background()); err != nil {
		fmt.Println("refused:", err)
		os.Exit(0)
	}
	fmt.Println("served")
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends p.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestAnotherUserIsRefused: the file's mode keeps others out, and if somebody
// loosens it, the kernel's word about the peer does.
func TestAnotherUserIsRefused(t *testing.T) {
	hardeningtest.NeedRoot(t)
	dir, err := os.MkdirTemp("", "admin") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, admin.SocketName)
	l, err := hardening.ListenPrivate(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var log buffer
	memory := newMemoryLog(leaves(0, 1))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- admin.Serve(ctx, l, admin.Config{Log: memory, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Peer: func(c net.Conn) error { return hardening.CheckPeer(c, []int{os.Geteuid()}) }})
	}()
	if got := asStranger(t, path); !strings.Contains(got, "permission denied") || !strings.Contains(got, "hint: run as the user") {
		t.Errorf("another user got %q, want that permission is denied", got)
	}
	for _, p := range []string{dir, path} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if got := asStranger(t, path); !strings.Contains(got, "refused:") || !strings.Contains(got, "hangs up on other users") || memory.rotated != 0 {
		t.Errorf("another user who can reach the socket got %q, want a refusal", got)
	}
	if !strings.Contains(log.String(), "user 65532 is at the other end") {
		t.Errorf("the log says %q, want who was refused", log.String())
	}
	if _, err := admin.Dial(path, nil).RotateKey(t.Context()); err != nil {
		t.Errorf("RotateKey() of the own user = %v, want no error", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve() = %v, want no error", err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket after the end: %v, want it removed", err)
	}
}

func asStranger(t *testing.T, path string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = []string{strangerEnv + "=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("other user: %v: %s", err, out)
	}
	return string(out)
}
