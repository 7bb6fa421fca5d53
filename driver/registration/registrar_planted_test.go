package registration_test

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/driver/registration"
	"github.com/portcullis-csi/portcullis/hardening"
)

func TestADirectoryThatComesLater(t *testing.T) {
	n := start(t, registry(t))
	n.await("the refusal", func() bool {
		return errors.Is(n.registrar.Err(), os.ErrNotExist)
	})
	if text := n.registrar.Err().Error(); !strings.Contains(text, "--plugin-registration-dir") {
		t.Errorf("Err() = %q, want the flag in it", text)
	}
	time.Sleep(5 * look)
	if got := strings.Count(n.log.String(), "level=WARN"); got != 1 {
		t.Errorf("log has %d warnings after several looks, want 1:\n%s", got, n.log)
	}
	must(t, os.Mkdir(n.dir, 0o750))
	n.awaitSocket()
	n.register(true, "")
	n.wantErr(nil)
}

// TestAnotherRegistrar is a node-driver-registrar that still runs beside the
// plugin: its socket is left alone until it is gone.
func TestAnotherRegistrar(t *testing.T) {
	dir := registry(t)
	must(t, os.Mkdir(dir, 0o750))
	path := filepath.Join(dir, driverName+"-reg.sock")
	l, err := hardening.Listen(t.Context(), path)
	must(t, err)
	other, err := os.Lstat(path)
	must(t, err)
	n := start(t, dir)
	n.await("the refusal", func() bool { return errors.Is(n.registrar.Err(), hardening.ErrSocketInUse) })
	if text := n.registrar.Err().Error(); !strings.Contains(text, "node-driver-registrar") {
		t.Errorf("Err() = %q, want it to name node-driver-registrar", text)
	}
	if !os.SameFile(other, n.socket()) {
		t.Error("the socket of another process was replaced while it answered")
	}
	must(t, l.Close())
	n.awaitSocket()
	n.register(true, "")
	n.wantErr(nil)
}

// TestWhatIsNoSocketIsLeftAlone: nothing is followed, removed or opened that
// somebody planted in the socket's place, and the plugin comes back by itself.
func TestWhatIsNoSocketIsLeftAlone(t *testing.T) {
	tests := map[string]func(path string) error{
		"file":      func(path string) error { return os.WriteFile(path, []byte("kept"), 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"FIFO":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"link to nothing": func(path string) error {
			return os.Symlink(filepath.Join(filepath.Dir(path), "elsewhere"), path)
		},
		"link to a socket that nobody serves": func(path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + "2", Net: "unix"})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			return errors.Join(l.Close(), os.Symlink(path+"2", path))
		},
	}
	for name, plant := range tests {
		for _, when := range []string{"before", "while it serves"} {
			t.Run(name+" "+when, func(t *testing.T) {
				dir := registry(t)
				must(t, os.Mkdir(dir, 0o750))
				path := filepath.Join(dir, driverName+"-reg.sock")
				if when == "before" {
					must(t, plant(path))
				}
				n := start(t, dir)
				if when != "before" {
					n.awaitSocket()
					must(t, os.Remove(path))
					must(t, plant(path))
				}
				planted, err := os.Lstat(path)
				must(t, err)
				n.await("the refusal", func() bool { return errors.Is(n.registrar.Err(), hardening.ErrSocketInUse) })
				time.Sleep(3 * look)
				now, err := os.Lstat(path)
				must(t, err)
				if !os.SameFile(planted, now) || now.Mode() != planted.Mode() {
					t.Errorf("there is %v now, want what was planted, %v", now.Mode(), planted.Mode())
				}
				if text := n.registrar.Err().Error(); strings.Contains(text, "--endpoint") {
					t.Errorf("Err() = %q, want no advice about another socket", text)
				}
				if names, err := os.ReadDir(dir); err != nil || slices.ContainsFunc(names, func(e os.DirEntry) bool { return e.Name() == "elsewhere" }) {
					t.Errorf("directory = %v, %v, want nothing made through the link", names, err)
				}
				must(t, os.Remove(path))
				n.awaitSocket()
				n.register(true, "")
				n.wantErr(nil)
			})
		}
	}
}

// TestTwoPluginsDoNotFight: the second leaves the socket of the first alone, so
// that kubelet is not told of a new plugin at every look, and comes after it.
func TestTwoPluginsDoNotFight(t *testing.T) {
	n := running(t)
	n.register(true, "")
	mine := n.socket()
	second := start(t, n.dir)
	second.await("the refusal", func() bool { return errors.Is(second.registrar.Err(), hardening.ErrSocketInUse) })
	time.Sleep(10 * look)
	if !os.SameFile(mine, n.socket()) || !mine.ModTime().Equal(n.socket().ModTime()) {
		t.Error("the socket was made anew while both ran")
	}
	n.wantErr(nil)
	n.stop()
	second.await("the take-over", func() bool { return errors.Is(second.registrar.Err(), registration.ErrWaiting) })
	second.register(true, "")
	second.wantErr(nil)
}

// TestTheSocketOutlivesTheProcess: kubelet deregisters a driver whose socket
// is removed, and pods could not be unmounted until a successor is there.
func TestTheSocketOutlivesTheProcess(t *testing.T) {
	n := running(t)
	n.register(true, "")
	n.stop()
	if n.socket() == nil {
		t.Fatal("the socket is gone after the end, want it to stay")
	}
	next := start(t, n.dir)
	next.awaitSocket()
	next.register(true, "")
	next.wantErr(nil)
}

// TestBeforeTheFirstLook: nobody is waited for where there is no socket.
func TestBeforeTheFirstLook(t *testing.T) {
	r, err := registration.New(registration.Config{Dir: registry(t), DriverName: driverName, Endpoint: endpoint, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	if err := r.Err(); err == nil || errors.Is(err, registration.ErrWaiting) || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("Err() before Run() = %v, want that there is no socket yet, with a hint", err)
	}
}

func TestNewRefuses(t *testing.T) {
	good := registration.Config{Dir: "/registration", DriverName: driverName, Endpoint: endpoint, Logger: slog.New(slog.DiscardHandler)}
	if _, err := registration.New(good); err != nil {
		t.Fatalf("New(%+v) = %v, want nil", good, err)
	}
	tests := map[string]struct {
		spoil func(c *registration.Config)
		want  string
	}{
		"no directory":        {func(c *registration.Config) { c.Dir = "" }, "Dir"},
		"relative directory":  {func(c *registration.Config) { c.Dir = "registration" }, "Dir"},
		"directory with dots": {func(c *registration.Config) { c.Dir = "/a/../b" }, "Dir"},
		"no endpoint":         {func(c *registration.Config) { c.Endpoint = "" }, "Endpoint"},
		"endpoint with unix:": {func(c *registration.Config) { c.Endpoint = "unix:///csi/csi.sock" }, "Endpoint"},
		"endpoint with dots":  {func(c *registration.Config) { c.Endpoint = "/csi/./csi.sock" }, "Endpoint"},
		"no name":             {func(c *registration.Config) { c.DriverName = "" }, "DriverName"},
		"name with a slash":   {func(c *registration.Config) { c.DriverName = "../csi" }, "DriverName"},
		"path too long":       {func(c *registration.Config) { c.Dir = "/" + strings.Repeat("a", 80) }, "shorter Dir"},
		"negative interval":   {func(c *registration.Config) { c.Interval = -1 }, "Interval"},
		"no logger":           {func(c *registration.Config) { c.Logger = nil }, "Logger"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := good
			tt.spoil(&c)
			if _, err := registration.New(c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New(%+v) = %v, want an error about %s", c, err, tt.want)
			}
		})
	}
}

func FuzzKubeletsWords(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[31m", "\"quoted\"", "\xff\xfe", strings.Repeat("é", 600)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := registration.Clip(s)
		if len(got) > 512 || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("Clip(%q) = %q, want at most 512 bytes of printable ASCII", s, got)
		}
	})
}
