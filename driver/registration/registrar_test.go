package registration_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/portcullis-csi/portcullis/driver/registration"
)

const (
	driverName = "secrets-store.csi.k8s.io"
	endpoint   = "/var/lib/kubelet/plugins/csi-secrets-store/csi.sock"
	look       = 10 * time.Millisecond
)

// node is a registrar that runs, and the directory that it shares with kubelet.
type node struct {
	t         *testing.T
	dir, path string
	registrar *registration.Registrar
	log       *buffer
	stop      func() // as SIGTERM does; returns when the registrar has stopped
}

// buffer collects log lines of several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// registry makes a plugins_registry whose sockets have short names.
func registry(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "r") //nolint:usetesting // t.TempDir makes names that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "plugins_registry")
}

func start(t *testing.T, dir string) *node {
	t.Helper()
	n := &node{t: t, dir: dir, path: filepath.Join(dir, driverName+"-reg.sock"), log: &buffer{}}
	var err error
	n.registrar, err = registration.New(registration.Config{
		Dir: dir, DriverName: driverName, Endpoint: endpoint, Interval: look,
		Logger: slog.New(slog.NewTextHandler(n.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.registrar.Run(ctx) }()
	n.stop = func() { cancel(); <-done }
	t.Cleanup(n.stop)
	return n
}

func running(t *testing.T) *node {
	t.Helper()
	dir := registry(t)
	must(t, os.Mkdir(dir, 0o750))
	n := start(t, dir)
	n.awaitSocket()
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// socket is the file that kubelet would see; nil if there is none.
func (n *node) socket() os.FileInfo {
	info, err := os.Lstat(n.path)
	if err != nil {
		return nil
	}
	return info
}

// awaitSocket waits for a socket that kubelet has not called on yet.
func (n *node) awaitSocket() {
	n.t.Helper()
	n.await("the socket", func() bool { return errors.Is(n.registrar.Err(), registration.ErrWaiting) && n.socket() != nil })
}

func (n *node) await(what string, ok func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			n.t.Fatalf("waited in vain for %s; Err() = %v, log:\n%s", what, n.registrar.Err(), n.log)
		}
		time.Sleep(time.Millisecond)
	}
}

// kubelet connects as kubelet does: anew for each registration.
func (n *node) kubelet() registerapi.RegistrationClient {
	n.t.Helper()
	cc, err := grpc.NewClient("unix:"+n.path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(n.t, err)
	n.t.Cleanup(func() { cc.Close() })
	return registerapi.NewRegistrationClient(cc)
}

// register plays kubelet's part, and says what became of it.
func (n *node) register(registered bool, text string) *registerapi.PluginInfo {
	n.t.Helper()
	k := n.kubelet()
	info, err := k.GetInfo(n.t.Context(), &registerapi.InfoRequest{}, grpc.WaitForReady(true))
	must(n.t, err)
	// An error would make kubelet deregister the driver, whatever it had to say.
	_, err = k.NotifyRegistrationStatus(n.t.Context(), &registerapi.RegistrationStatus{PluginRegistered: registered, Error: text})
	must(n.t, err)
	return info
}

func (n *node) wantErr(want error) {
	n.t.Helper()
	if got := n.registrar.Err(); !errors.Is(got, want) {
		n.t.Errorf("Err() = %v, want %v", got, want)
	}
}

func TestKubeletRegistersThePlugin(t *testing.T) {
	n := running(t)
	if mode := n.socket().Mode(); mode != os.ModeSocket|0o600 {
		t.Errorf("mode of the socket = %v, want a socket of mode 0600", mode)
	}
	info := n.register(true, "")
	got := []any{info.GetType(), info.GetName(), info.GetEndpoint(), info.GetSupportedVersions()}
	if diff := cmp.Diff([]any{"CSIPlugin", driverName, endpoint, []string{"1.0.0"}}, got); diff != "" {
		t.Errorf("GetInfo() (-want +got):\n%s", diff)
	}
	n.wantErr(nil)
	if !strings.Contains(n.log.String(), "kubelet has registered the plugin") {
		t.Errorf("log does not tell of the registration:\n%s", n.log)
	}
	// A kubelet that restarts finds the socket in its directory.
	socket := n.socket()
	n.register(true, "")
	n.wantErr(nil)
	if !os.SameFile(socket, n.socket()) {
		t.Error("a second registration made the socket anew, want the same: kubelet forgets a driver whose socket goes")
	}
}

func TestARegistrationThatFails(t *testing.T) {
	n := running(t)
	hostile := "no\nsuch\x1b[31m driver é" + strings.Repeat("\x00", 10_000)
	n.register(false, hostile)
	n.wantErr(registration.ErrRefused)
	if text := n.registrar.Err().Error(); strings.Contains(text, "such") || !strings.Contains(text, "hint: ") {
		t.Errorf("Err() = %q, want our own words with a hint", text)
	}
	n.register(false, hostile)
	log := n.log.String()
	if got := strings.Count(log, "could not register"); got != 1 {
		t.Errorf("log has %d lines of two failures in a row, want 1:\n%s", got, log)
	}
	if !strings.Contains(log, "such") || strings.ContainsAny(log, "\x1b\x00é") || len(log) > 2000 {
		t.Errorf("log of %d bytes, want kubelet's words, clipped and printable:\n%q", len(log), log)
	}
	n.register(true, "")
	n.wantErr(nil)
	n.register(false, "again")
	n.wantErr(registration.ErrRefused)
}

// TestSocketThatVanishes is what the directory goes through when somebody
// empties it, or kubelet's root is made anew.
func TestSocketThatVanishes(t *testing.T) {
	tests := map[string]func(t *testing.T, n *node){
		"removed":             func(t *testing.T, n *node) { must(t, os.Remove(n.path)) },
		"directory made anew": func(t *testing.T, n *node) { must(t, os.RemoveAll(n.dir)); must(t, os.Mkdir(n.dir, 0o750)) },
		"directory moved away": func(t *testing.T, n *node) {
			must(t, os.Rename(n.dir, n.dir+".old"))
			must(t, os.Mkdir(n.dir, 0o750))
		},
		"another's that nobody serves": func(t *testing.T, n *node) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: n.path + "2", Net: "unix"})
			must(t, err)
			l.SetUnlinkOnClose(false)
			must(t, l.Close())
			must(t, os.Rename(n.path+"2", n.path))
		},
	}
	for name, vanish := range tests {
		t.Run(name, func(t *testing.T) {
			n := running(t)
			n.register(true, "")
			old := n.socket()
			vanish(t, n)
			n.await("another socket", func() bool {
				s := n.socket()
				return s != nil && (!os.SameFile(s, old) || !s.ModTime().Equal(old.ModTime())) && errors.Is(n.registrar.Err(), registration.ErrWaiting)
			})
			n.register(true, "")
			n.wantErr(nil)
		})
	}
}
