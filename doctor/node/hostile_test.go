package node_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/doctor/node"
)

const driver = "secrets-store.csi.k8s.io"

// place is a node of the test's own.
func place(t *testing.T) node.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "d") //nolint:usetesting // paths of its directories are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, d := range []string{"kubelet/pods", "reg", "providers", "state"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return node.Config{
		Driver: driver, KubeletRoot: filepath.Join(dir, "kubelet"), CSISocket: filepath.Join(dir, "csi.sock"), Registry: filepath.Join(dir, "reg"),
		ProviderDirs: []string{filepath.Join(dir, "none"), filepath.Join(dir, "providers")}, StateDir: filepath.Join(dir, "state"),
		HealthAddrs: []string{"127.0.0.1:1"}, Probe: 300 * time.Millisecond,
	}
}

// sockets are all that are asked.
func sockets(c node.Config) []string {
	return []string{c.CSISocket, filepath.Join(c.Registry, driver+"-reg.sock"), filepath.Join(c.ProviderDirs[1], "vault.sock"), filepath.Join(c.StateDir, "admin.sock")}
}

func gather(t *testing.T, c node.Config) *doctor.Node {
	t.Helper()
	n, err := node.Gather(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// errors are what each socket made of its question.
func errorsOf(n *doctor.Node) map[string]error {
	all := map[string]error{"CSI": n.Plugin.Err, "registration": n.Registration.Err, "log": n.Log.Err}
	for _, p := range n.Providers.Value {
		all["provider "+p.Name] = p.Err
	}
	return all
}

// serve has a function deal with every connection to a socket.
func serve(t *testing.T, l net.Listener, each func(net.Conn)) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go each(conn)
		}
	}()
}

func listen(t *testing.T, network, at string) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), network, at)
	if err != nil {
		t.Fatal(err)
	}
	if network == "unix" {
		if err := os.Chmod(at, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// Nothing waits for somebody who does not answer, who talks without end, or who
// speaks another language.
func TestHostileSockets(t *testing.T) {
	done := t.Context().Done()
	for name, each := range map[string]func(net.Conn){
		"hangs": func(conn net.Conn) {
			<-done
			_ = conn.Close()
		},
		"hangs up": func(conn net.Conn) { _ = conn.Close() },
		"floods": func(conn net.Conn) {
			junk := []byte(strings.Repeat("\x1b[2Jjunk", 1<<12))
			for {
				if _, err := conn.Write(junk); err != nil {
					return
				}
			}
		},
		"drips": func(conn net.Conn) {
			for {
				if _, err := conn.Write([]byte("x")); err != nil {
					return
				}
				select {
				case <-time.After(20 * time.Millisecond):
				case <-done:
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := place(t)
			for _, path := range sockets(c) {
				serve(t, listen(t, "unix", path), each)
			}
			health := listen(t, "tcp", "127.0.0.1:0")
			serve(t, health, each)
			c.HealthAddrs = []string{health.Addr().String()}
			began := time.Now()
			n := gather(t, c)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("Gather() took %v, want a few probes of %v", took, c.Probe)
			}
			found := errorsOf(n)
			found["readiness"] = n.Ready.Err
			if len(found) != 5 {
				t.Errorf("asked %d, want 5: %v", len(found), found)
			}
			for what, err := range found {
				if err == nil {
					t.Errorf("%s: no error", what)
				}
			}
		})
	}
}

func TestSocketsThatAreNone(t *testing.T) {
	c := place(t)
	n := gather(t, c)
	if got := fmt.Sprint(n.Plugin.Err, n.Registration.Err); got != "it is not there it is not there" {
		t.Errorf("errors of absent sockets = %s", got)
	}
	if n.Ready.Err == nil || n.ReadyAddr != "127.0.0.1:1" || len(n.Providers.Value) > 0 || n.Log.Err == nil {
		t.Errorf("Ready, Providers, Log of an empty node = %v, %v, %v", n.Ready, n.Providers, n.Log.Err)
	}
	for _, path := range sockets(c) {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n = gather(t, c)
	if got := fmt.Sprint(n.Plugin.Err, n.Registration.Err); got != "it is not a socket it is not a socket" {
		t.Errorf("errors of files = %s", got)
	}
	if p := n.Providers.Value; len(p) != 1 || p[0].Err == nil || p[0].Hint == "" || p[0].Path != sockets(c)[2] {
		t.Errorf("Providers = %+v, want vault with an error and a hint", p)
	}
	for _, path := range sockets(c)[:2] {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		l := listen(t, "unix", path)
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		_ = l.Close()
	}
	n = gather(t, c)
	if got := fmt.Sprint(n.Plugin.Err, n.Registration.Err); got != "nobody serves it nobody serves it" {
		t.Errorf("errors of dead sockets = %s", got)
	}
}

// The first address that answers counts, and only an answer of readiness is one.
func TestReadinessAddresses(t *testing.T) {
	answer := func(code int, text string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(code)
			_, _ = w.Write([]byte(text))
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	c := place(t)
	good := answer(http.StatusServiceUnavailable, "[-] policy: none\nnot ready\n")
	c.HealthAddrs = []string{"127.0.0.1:1", answer(http.StatusNotFound, "[+] x"), answer(http.StatusFound, "[+] x"), good, answer(http.StatusOK, "[+] later\n")}
	n := gather(t, c)
	if n.Ready.Err != nil || n.ReadyAddr != good || len(n.Ready.Value) != 1 || n.Ready.Value[0].Detail != "none" {
		t.Errorf("Ready = %+v at %s, want that of %s", n.Ready, n.ReadyAddr, good)
	}
}

func TestPolicyBundles(t *testing.T) {
	c := place(t)
	if n := gather(t, c); n.Bundle.Value != nil || n.Bundle.Err != nil {
		t.Errorf("Bundle without a path = %+v", n.Bundle)
	}
	c.PolicyPath = "../../policies/rego/starter"
	n := gather(t, c)
	if n.Bundle.Err != nil || n.Bundle.Value == nil || !strings.HasPrefix(n.Bundle.Value.Digest, "sha256:") {
		t.Errorf("Bundle of the starter policy = %+v", n.Bundle)
	}
	c.PolicyPath = c.StateDir
	if n := gather(t, c); n.Bundle.Err == nil {
		t.Error("Bundle of an empty directory has no error")
	}
	broken := t.TempDir()
	if err := os.CopyFS(broken, os.DirFS("../../policies/rego/starter")); err != nil {
		t.Fatal(err)
	}
	check := filepath.Join(broken, "portcullis", "checks", "tls", "tls.rego")
	if err := os.WriteFile(check, []byte("package nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.PolicyPath = broken
	if n := gather(t, c); n.Bundle.Err == nil {
		t.Error("Bundle with a check that does not compile has no error")
	}
}

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*node.Config){
		"no driver":     func(c *node.Config) { c.Driver = "" },
		"no providers":  func(c *node.Config) { c.ProviderDirs = nil },
		"no addresses":  func(c *node.Config) { c.HealthAddrs = nil },
		"relative root": func(c *node.Config) { c.KubeletRoot = "kubelet" },
		"relative dir":  func(c *node.Config) { c.ProviderDirs[0] = "x" },
	} {
		c := place(t)
		change(&c)
		if _, err := node.Gather(t.Context(), c); err == nil {
			t.Errorf("%s: Gather() has no error", name)
		}
	}
	c := place(t)
	if err := c.Is(); err != nil {
		t.Errorf("Is() = %v of a node", err)
	}
	if err := os.RemoveAll(filepath.Dir(c.CSISocket)); err != nil {
		t.Fatal(err)
	}
	if err := c.Is(); err == nil {
		t.Error("Is() = nil without anything of a node")
	}
}

// Whoever gives up gets an answer: errors in their places.
func TestCanceled(t *testing.T) {
	c := place(t)
	serve(t, listen(t, "unix", c.CSISocket), func(net.Conn) {})
	c.Probe = time.Minute
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("enough"))
	defer cancel()
	began := time.Now()
	n, err := node.Gather(ctx, c)
	if took := time.Since(began); err != nil || n.Plugin.Err == nil || took > 20*time.Second {
		t.Errorf("Gather() = %v, plugin %v, after %v", err, n.Plugin.Err, took)
	}
}

// Whoever may write to a directory of sockets leads doctor nowhere: it follows no
// link, opens no FIFO, asks nobody who is not trusted, and prints no name that a
// terminal would obey.
func TestHostileProviderDirectory(t *testing.T) {
	c := place(t)
	dir := c.ProviderDirs[1]
	elsewhere := filepath.Join(c.StateDir, "elsewhere.sock")
	called := make(chan struct{}, 16)
	each := func(conn net.Conn) { called <- struct{}{}; _ = conn.Close() }
	serve(t, listen(t, "unix", elsewhere), each)
	open := filepath.Join(dir, "open.sock")
	serve(t, listen(t, "unix", open), each)
	err := errors.Join(
		os.Chmod(open, 0o777), os.Symlink(elsewhere, filepath.Join(dir, "link.sock")), os.Symlink("link2.sock", filepath.Join(dir, "link2.sock")),
		syscall.Mkfifo(filepath.Join(dir, "fifo.sock"), 0o600), os.Mkdir(filepath.Join(dir, "dir.sock"), 0o700),
		os.WriteFile(filepath.Join(dir, "a\x1b[2J.sock"), nil, 0o600), os.WriteFile(filepath.Join(dir, strings.Repeat("x", 200)+".sock"), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var names []string
	for _, p := range gather(t, c).Providers.Value {
		names = append(names, p.Name)
		if p.Err == nil || p.Hint == "" {
			t.Errorf("%s: %v and the hint %q, want it refused with one", p.Name, p.Err, p.Hint)
		}
	}
	if got := strings.Join(names, " "); got != "dir fifo link link2 open" {
		t.Errorf("providers are %q, want those whose names a class could have", got)
	}
	if took := time.Since(began); took > 10*time.Second || len(called) > 0 {
		t.Errorf("Gather() took %v and called %d of them, want none", took, len(called))
	}
}
