package inputs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/portcullis-csi/portcullis/audit/inputs"
)

const least = 64 << 10

// text is the i-th of many inputs, of some 600 bytes.
func text(i int) []byte {
	return fmt.Appendf(nil, `{"contract":"portcullis/v1","n":%d,"pad":%q}`, i, strings.Repeat("x", 550))
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func bundleOf(b []byte) string { return "sha256:" + sum(b) }

func open(t testing.TB, dir string, change ...func(*inputs.Config)) *inputs.Store {
	t.Helper()
	c := inputs.Config{Dir: dir, MaxBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&c)
	}
	s, err := inputs.Open(c)
	if err != nil {
		t.Fatalf("Open() = %v, want no error", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func small(c *inputs.Config) { c.MaxBytes = least }

func closed(t testing.TB, s *inputs.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close() = %v, want no error", err)
	}
}

func read(t testing.TB, dir string) *inputs.Store {
	t.Helper()
	s, err := inputs.Read(dir)
	if err != nil {
		t.Fatalf("Read() = %v, want no error", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func directory(t testing.TB) string { return filepath.Join(t.TempDir(), "audit-inputs") }

func keep(s *inputs.Store, b []byte) string {
	s.Keep(sum(b), b)
	return sum(b)
}

func TestWhatIsKeptComesBack(t *testing.T) {
	dir := directory(t)
	s := open(t, dir)
	bundle := bytes.Repeat([]byte("bundle"), 1000)
	id := keep(s, text(1))
	s.KeepBundle(bundleOf([]byte("b")), bundle)
	check := func(when string, s *inputs.Store) {
		t.Helper()
		if got, err := s.Input(id); err != nil || !bytes.Equal(got, text(1)) {
			t.Errorf("Input() %s = %q, %v, want what was kept", when, got, err)
		}
		if got, err := s.Bundle(bundleOf([]byte("b"))); err != nil || !bytes.Equal(got, bundle) {
			t.Errorf("Bundle() %s = %d bytes, %v, want what was kept", when, len(got), err)
		}
		if _, err := s.Input(sum(text(2))); !errors.Is(err, inputs.ErrGone) {
			t.Errorf("Input() of another %s = %v, want %v", when, err, inputs.ErrGone)
		}
	}
	check("at once", s)
	closed(t, s)
	check("after a restart", open(t, dir))
	check("for a reader", read(t, dir))
}

func TestEqualThingsAreKeptOnce(t *testing.T) {
	dir := directory(t)
	s := open(t, dir)
	for range 100 {
		keep(s, text(1))
	}
	closed(t, s)
	s = open(t, dir)
	keep(s, text(1))
	closed(t, s)
	s = read(t, dir)
	if got := s.Stats(); got.Inputs != 1 || got.Bytes > 800 {
		t.Errorf("Stats() = %+v, want one input in some 700 bytes", got)
	}
}

// TestTheOldestGoesFirst: what was of use since it was written counts as new.
func TestTheOldestGoesFirst(t *testing.T) {
	dir := directory(t)
	s := open(t, dir, small)
	bundle := bundleOf([]byte("b"))
	s.KeepBundle(bundle, bytes.Repeat([]byte("b"), 3000))
	first, second := keep(s, text(0)), keep(s, text(1))
	for i := 2; i < 1000; i++ {
		s.Seen(first, bundle)
		last := keep(s, text(i))
		if _, err := s.Input(last); err != nil {
			t.Fatalf("Input(%d) = %v, want no error", i, err)
		}
		if i%20 == 0 { // so that it is written, and not dropped for want of room in the queue
			closed(t, s)
			s = open(t, dir, small)
		}
	}
	closed(t, s)
	s = read(t, dir)
	if _, err := s.Input(second); !errors.Is(err, inputs.ErrGone) {
		t.Errorf("Input() of the oldest = %v, want %v", err, inputs.ErrGone)
	}
	for name, err := range map[string]error{
		"the newest": second1(s.Input(sum(text(999)))), "what was seen": second1(s.Input(first)), "the bundle": second1(s.Bundle(bundle)),
	} {
		if err != nil {
			t.Errorf("%s: %v, want no error", name, err)
		}
	}
	if got := s.Stats(); got.Bytes > least || got.Bytes < least/2 || onDisk(t, dir) > least {
		t.Errorf("Stats() = %+v and %d bytes on the disk, want nearly %d and no more", got, onDisk(t, dir), least)
	}
}

func second1(_ []byte, err error) error { return err }

func onDisk(t testing.TB, dir string) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

// TestWhatIsAlwaysSeenEndsToo: when everything is of use, the room is what counts.
func TestWhatIsAlwaysSeenEndsToo(t *testing.T) {
	dir := directory(t)
	s := open(t, dir, small)
	for i := range 1000 {
		keep(s, text(i))
		for j := max(i-200, 0); i%10 == 0 && j < i; j++ {
			s.Seen(sum(text(j)), "")
		}
	}
	closed(t, s)
	if got := onDisk(t, dir); got > least {
		t.Errorf("%d bytes are on the disk, want at most %d", got, least)
	}
}

func TestKeepingNeverWaits(t *testing.T) {
	dir := directory(t)
	s := open(t, dir, func(c *inputs.Config) { c.MaxBytes = 64 << 20 })
	big := make([]byte, 100<<10)
	for i := range 400 { // five times what may wait
		copy(big, text(i))
		keep(s, bytes.Clone(big))
	}
	closed(t, s)
	got := read(t, dir).Stats()
	if lost := s.Stats().Dropped; int64(got.Inputs)+lost != 400 {
		t.Errorf("%d inputs are kept and %d dropped, want 400 together", got.Inputs, lost)
	}
}

// TestADiskThatFails costs what is kept, and nobody waits for it.
func TestADiskThatFails(t *testing.T) {
	dir := directory(t)
	var said lockedBuffer
	s := open(t, dir, func(c *inputs.Config) { c.Logger = slog.New(slog.NewTextHandler(&said, nil)) })
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		keep(s, text(i))
	}
	_ = s.Close()
	if err := s.Failure(); err == nil {
		t.Error("Failure() = nil, want an error")
	}
	if got := s.Stats(); got.Dropped != 10 || got.Inputs != 0 {
		t.Errorf("Stats() = %+v, want 10 dropped", got)
	}
	if n := strings.Count(said.String(), "not kept"); n != 1 {
		t.Errorf("the log says %d times that inputs are not kept, want once:\n%s", n, said.String())
	}
}

// TestCloseDoesNotWaitForADiskThatHangs: the writer is stuck, and the end of the
// process comes all the same.
func TestCloseDoesNotWaitForADiskThatHangs(t *testing.T) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		s, err := inputs.Open(inputs.Config{Dir: dir, MaxBytes: 1 << 20, Logger: slog.New(slog.NewTextHandler(stuckWriter{stuck}, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		keep(s, text(1))
		if err := s.Close(); err == nil || !strings.Contains(err.Error(), "; hint: ") {
			t.Errorf("Close() = %v, want an error with a hint", err)
		}
		close(stuck)
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Errorf("Close() once the disk answers = %v, want no error", err)
		}
	})
}

// stuckWriter stands for a disk: the store's writer waits in it.
type stuckWriter struct{ until chan struct{} }

func (w stuckWriter) Write(b []byte) (int, error) {
	<-w.until
	return len(b), nil
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestWhatIsRefused(t *testing.T) {
	dir := directory(t)
	s := open(t, dir)
	s.Keep("short", text(1))
	s.Keep(strings.Repeat("z", 64), text(1))
	s.Keep(sum(text(2)), text(1)) // whose digest it is not
	s.Keep(sum(make([]byte, 1<<20)), make([]byte, 1<<20))
	s.KeepBundle(sum(text(1)), text(1)) // not the form of a bundle's digest
	s.KeepBundle(bundleOf(text(1)), make([]byte, 1<<19))
	s.Seen("short", "sha256:short")
	closed(t, s)
	if got := read(t, dir).Stats(); got.Inputs != 0 || got.Bundles != 0 {
		t.Errorf("Stats() = %+v, want nothing", got)
	}
	for _, id := range []string{"", "short", bundleOf(text(1)), sum(text(1)) + "00"} {
		if _, err := s.Input(id); err == nil || errors.Is(err, inputs.ErrGone) {
			t.Errorf("Input(%q) = %v, want that it is no digest", id, err)
		}
	}
	if _, err := s.Bundle(sum(text(1))); err == nil || errors.Is(err, inputs.ErrGone) {
		t.Errorf("Bundle() = %v, want that it is no digest", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, dir string) inputs.Config
		want string
	}{
		{"no directory", func(*testing.T, string) inputs.Config { return inputs.Config{MaxBytes: least} }, "Dir is missing"},
		{"no bound", func(_ *testing.T, dir string) inputs.Config { return inputs.Config{Dir: dir} }, "MaxBytes is below"},
		{"no parent", func(_ *testing.T, dir string) inputs.Config {
			return inputs.Config{Dir: filepath.Join(dir, "a"), MaxBytes: least}
		}, "make its parent"},
		{"a directory for all", func(t *testing.T, dir string) inputs.Config {
			must(t, os.Mkdir(dir, 0o700))
			must(t, os.Chmod(dir, 0o755))
			return inputs.Config{Dir: dir, MaxBytes: least}
		}, "chmod 0700"},
		{"a link", func(t *testing.T, dir string) inputs.Config {
			must(t, os.Symlink(t.TempDir(), dir))
			return inputs.Config{Dir: dir, MaxBytes: least}
		}, "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.make(t, directory(t))
			c.Logger = slog.New(slog.DiscardHandler)
			if _, err := inputs.Open(c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEachGivesWhatIsThere(t *testing.T) {
	s := open(t, directory(t))
	want := map[string]bool{}
	for i := range 50 {
		want[keep(s, text(i))] = true
	}
	s.KeepBundle(bundleOf(text(1)), text(1))
	must(t, s.Each(func(id string, b []byte) error {
		if !want[id] || sum(b) != id {
			t.Errorf("Each() gave %s, which was not kept, or is something else", id)
		}
		delete(want, id)
		return nil
	}))
	if len(want) > 0 {
		t.Errorf("Each() left out %d of 50", len(want))
	}
	stop := errors.New("enough")
	if err := s.Each(func(string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Each() = %v, want %v", err, stop)
	}
}
