package hardening_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

// workOfEveryKind has the runtime and the standard library make the system calls
// that they make seldom: profiles, memory that is given back, more threads than
// before, files that go to a connection, connections that go to one another, and
// names that are looked up.
func workOfEveryKind() {
	dir, err := os.MkdirTemp("", "work")
	if err != nil {
		fmt.Print(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for _, step := range []struct {
		name string
		do   func(dir string) error
	}{
		{"profile", profileOnce}, {"memory", giveMemoryBack}, {"threads", manyThreads}, {"root", filesBelowARoot},
		{"file to file", copyFiles}, {"file to connection", serveAFile}, {"connection to connection", relay}, {"names", lookUp}, {"signals", signalItself},
	} {
		fmt.Printf("%s: %v\n", step.name, step.do(dir))
	}
}

func profileOnce(string) error {
	var cpu, events bytes.Buffer
	err := errors.Join(pprof.StartCPUProfile(&cpu), trace.Start(&events))
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		runtime.Gosched()
	}
	trace.Stop()
	pprof.StopCPUProfile()
	return errors.Join(err, pprof.Lookup("heap").WriteTo(io.Discard, 0), pprof.Lookup("threadcreate").WriteTo(io.Discard, 2))
}

func giveMemoryBack(string) error {
	for range 4 {
		large := make([]byte, 64<<20)
		for i := 0; i < len(large); i += 4096 {
			large[i] = 1
		}
		runtime.KeepAlive(large)
		debug.FreeOSMemory()
	}
	debug.SetMemoryLimit(128 << 20)
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	runtime.SetDefaultGOMAXPROCS()
	return nil
}

func manyThreads(string) error {
	var threads, begun sync.WaitGroup
	stop := make(chan struct{})
	for range 64 {
		begun.Add(1)
		threads.Go(func() { runtime.LockOSThread(); begun.Done(); <-stop })
	}
	begun.Wait()
	close(stop)
	threads.Wait() // without unlocking: each ends with its goroutine
	return nil
}

func filesBelowARoot(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	now := time.Now()
	err = errors.Join(root.MkdirAll("a/b", 0o700), root.WriteFile("a/b/c", []byte("c"), 0o600), root.Symlink("b", "a/link"), root.Link("a/b/c", "a/d"),
		root.Rename("a/d", "a/e"), root.Chmod("a/e", 0o640), root.Chown("a/e", 0, 0), root.Lchown("a/link", 0, 0), root.Chtimes("a/e", now, now))
	_, stat := root.Stat("a/link/c")
	_, link := root.Readlink("a/link")
	_, read := os.ReadDir(dir)
	err = errors.Join(err, stat, link, read, os.Chtimes(dir+"/a/e", now, now), root.RemoveAll("a"), root.Close())
	return errors.Join(err, filepath.WalkDir(dir, func(_ string, _ os.DirEntry, err error) error { return err }))
}

func copyFiles(dir string) error {
	if err := os.WriteFile(dir+"/file", bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		return err
	}
	from, err := os.Open(dir + "/file")
	if err != nil {
		return err
	}
	to, err := os.Create(dir + "/copy")
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Truncate(10), to.Sync(), to.Close(), from.Close())
}

func serveAFile(dir string) error {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: time.Second}
	done := make(chan error)
	go func() { done <- s.Serve(l) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/file") //nolint:noctx // of this process
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if n != 1<<20 {
		err = errors.Join(err, fmt.Errorf("%d bytes came", n))
	}
	err = errors.Join(err, resp.Body.Close(), s.Shutdown(context.Background()))
	if end := <-done; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// relay copies from a connection to another, in the kernel.
func relay(string) error {
	pair := func() (near, far net.Conn, err error) {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		defer l.Close()
		if near, err = new(net.Dialer).Dial("tcp", l.Addr().String()); err != nil {
			return nil, nil, err
		}
		far, err = l.Accept()
		return near, far, err
	}
	in, from, err := pair()
	if err != nil {
		return err
	}
	to, out, err := pair()
	if err != nil {
		return err
	}
	go func() {
		_, _ = in.Write(make([]byte, 1<<20))
		_ = in.Close()
	}()
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}()
	n, err := io.Copy(io.Discard, out)
	if n != 1<<20 {
		err = errors.Join(err, fmt.Errorf("%d bytes came", n))
	}
	return errors.Join(err, from.Close(), out.Close())
}

// lookUp asks for a name over UDP, where nobody answers. The resolver dials from
// several goroutines: one for each kind of address.
func lookUp(string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var asked atomic.Bool
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked.Store(true)
		return new(net.Dialer).DialContext(ctx, "udp", "127.0.0.1:9")
	}}
	if _, err := r.LookupHost(ctx, "api.example.invalid"); err == nil {
		return errors.New("a name of nobody has an address")
	}
	if !asked.Load() {
		return errors.New("nobody was asked")
	}
	_, err := r.LookupHost(ctx, "localhost")
	return err
}

// signalItself is what the runtime does to preempt a goroutine, and syscall.Kill.
func signalItself(string) error {
	if err := syscall.Kill(os.Getpid(), 0); err != nil {
		return err
	}
	return unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGURG)
}

// TestWhatTheRuntimeNeedsIsAllowed: in the builds in which a call without a rule
// ends the process too.
func TestWhatTheRuntimeNeedsIsAllowed(t *testing.T) {
	out := confinedChild(t, "work")
	if n := strings.Count(out, ": <nil>\n"); n != 9 || strings.Count(out, "\n") != 9 {
		t.Errorf("a confined process says\n%swant 9 times nil (a call without a rule ends it: %t)", out, hardening.ViolationsEnd)
	}
}
