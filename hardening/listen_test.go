package hardening_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening"
)

func TestParseEndpoint(t *testing.T) {
	for _, c := range []struct{ endpoint, want, err string }{
		{"unix:///csi/csi.sock", "/csi/csi.sock", ""},
		{"unix://csi/csi.sock", "/csi/csi.sock", ""}, // upstream's form
		{"unix:/csi/csi.sock", "/csi/csi.sock", ""},
		{"tcp://127.0.0.1:1", "", "want unix:///"},
		{"/csi/csi.sock", "", "want unix:///"},
		{"unix:///csi/../etc/csi.sock", "", "without dots"},
		{"unix://", "", "want unix:///"},
		{"", "", "want unix:///"},
	} {
		t.Run(c.endpoint, func(t *testing.T) {
			got, err := hardening.ParseEndpoint(c.endpoint)
			if got != c.want {
				t.Errorf("ParseEndpoint(%q) = %q, want %q", c.endpoint, got, c.want)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("ParseEndpoint(%q) error = %v, want %q", c.endpoint, err, c.err)
			}
		})
	}
}

func TestListenMakesAPrivateSocketThatStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "csi.sock")
	l, err := hardening.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode = %v, want a socket with mode 0600", info.Mode())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("socket after close: %v, want it to stay: its removal deregisters the driver", err)
	}
	again, err := hardening.Listen(t.Context(), path)
	if err != nil {
		t.Fatalf("Listen(stale socket) = %v, want nil", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	served := filepath.Join(dir, "served.sock")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", served)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := hardening.Listen(t.Context(), served); !errors.Is(err, hardening.ErrSocketInUse) {
		t.Errorf("Listen(served) = %v, want ErrSocketInUse", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hardening.Listen(t.Context(), file); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("Listen(file) = %v, want an error that it is not a socket", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "keep" {
		t.Errorf("the file was touched: %q, %v", text, err)
	}
	link := filepath.Join(dir, "link.sock")
	if err := os.Symlink(served, link); err != nil {
		t.Fatal(err)
	}
	if _, err := hardening.Listen(t.Context(), link); err == nil {
		t.Error("Listen(symbolic link) = nil, want an error")
	}
	missing := filepath.Join(dir, "missing")
	want := "the directory " + missing + " is not there"
	if _, err := hardening.Listen(t.Context(), filepath.Join(missing, "x.sock")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), want) {
		t.Errorf("Listen(in a missing directory) = %v, want os.ErrNotExist and %q", err, want)
	}
}

func TestSocketAbandoned(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.sock")
	l, err := hardening.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	abandoned := func(what, path string, want bool) {
		t.Helper()
		if got := hardening.SocketAbandoned(t.Context(), path); got != want {
			t.Errorf("SocketAbandoned(%s) = %t, want %t", what, got, want)
		}
	}
	abandoned("one that is served", path, false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	abandoned("one whose listener is gone", path, true)
	abandoned("nothing", filepath.Join(dir, "nothing"), false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if hardening.SocketAbandoned(ctx, path) {
		t.Error("SocketAbandoned(given up) = true, want false: nobody has asked")
	}
}
