package log_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

const origin = "test/nodes/node-1"

// config is that of a log in a directory of its own, which signs only when told.
func config(t testing.TB) auditlog.Config {
	t.Helper()
	return auditlog.Config{
		Dir: filepath.Join(t.TempDir(), "audit"), Origin: origin,
		CheckpointEvery: time.Hour, Clock: leafTime, Boundary: boundaries(leafTime), Logger: slog.New(slog.DiscardHandler),
	}
}

func open(t testing.TB, c auditlog.Config) *auditlog.Log {
	t.Helper()
	l, err := auditlog.Open(c)
	if err != nil {
		t.Fatalf("Open() = %v, want no error", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func closeLog(t testing.TB, l *auditlog.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("Close() = %v, want no error", err)
	}
}

// leaf is an event as far as this package knows events.
func leaf(i int) []byte {
	return fmt.Appendf(nil, `{"id":"e%06d","time":"2026-01-15T12:00:00.%06dZ","type":"secret.mount","pad":%q}`, i, i, strings.Repeat("x", 600))
}

// fill appends n leaves, all at once so that they share a few transactions.
func fill(t testing.TB, l *auditlog.Log, from, n int) {
	t.Helper()
	results := make(chan error, n)
	for i := range n {
		go func() {
			_, err := l.Append(t.Context(), leaf(from+i))
			results <- err
		}()
	}
	for range n {
		if err := <-results; err != nil {
			t.Fatalf("Append() = %v, want no error", err)
		}
	}
}

// leaves returns what was appended, without what the log wrote itself.
func leaves(t testing.TB, l *auditlog.Log) []string {
	t.Helper()
	var all []string
	last := auditlog.Position{}
	if err := l.Each(func(p auditlog.Position, leaf []byte) error {
		if p.Epoch == last.Epoch && p.Index != last.Index+1 || p.Epoch != last.Epoch && (p.Index != 0 || p.Epoch < last.Epoch) {
			return fmt.Errorf("leaf %+v after %+v", p, last)
		}
		if last = p; !isBoundary(string(leaf)) {
			all = append(all, string(leaf))
		}
		return nil
	}); err != nil {
		t.Fatalf("Each() = %v, want no error", err)
	}
	return all
}

func TestLogKeepsLeavesOverRestarts(t *testing.T) {
	c := config(t)
	var want []string
	for restart := range 3 {
		l := open(t, c)
		for i := range 5 {
			text := leaf(restart*5 + i)
			index, err := l.Append(t.Context(), text)
			if err != nil || index != int64(len(want))+1 {
				t.Fatalf("Append() = %d, %v, want %d, nil", index, err, len(want)+1)
			}
			want = append(want, string(text))
		}
		if diff := cmp.Diff(want, leaves(t, l)); diff != "" {
			t.Errorf("Each() mismatch (-want +got):\n%s", diff)
		}
		before, _, err := l.Tree()
		if err != nil || before != int64(len(want))+1 {
			t.Errorf("Tree() = %d, %v, want %d", before, err, len(want)+1)
		}
		closeLog(t, l)
	}
}

func TestLogStoresLeavesAsTheyAre(t *testing.T) {
	l := open(t, config(t))
	text := "{\"id\" : \"a\",\n \"b\":\"<&>\\u0000\", \"a\":1e0 }"
	if _, err := l.Append(t.Context(), []byte(text)); err != nil {
		t.Fatalf("Append(%q) = %v, want no error", text, err)
	}
	if diff := cmp.Diff([]string{text}, leaves(t, l)); diff != "" {
		t.Errorf("Each() mismatch (-want +got):\n%s", diff)
	}
}

func TestAppendRefusesWhatIsNoEvent(t *testing.T) {
	tests := []struct {
		name string
		leaf string
		want error
	}{
		{"nothing", "", auditlog.ErrNotJSON},
		{"text", "hello", auditlog.ErrNotJSON},
		{"a list", "[]", auditlog.ErrNotJSON},
		{"two objects", "{}{}", auditlog.ErrNotJSON},
		{"half an object", `{"id":`, auditlog.ErrNotJSON},
		{"33 KiB", `{"a":"` + strings.Repeat("x", 33<<10) + `"}`, auditlog.ErrTooLarge},
	}
	l := open(t, config(t))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := l.Append(t.Context(), []byte(tt.leaf)); !errors.Is(err, tt.want) {
				t.Errorf("Append(%.20q) = %v, want %v", tt.leaf, err, tt.want)
			}
		})
	}
	if n := len(leaves(t, l)); n != 0 {
		t.Errorf("len(Each()) = %d, want 0", n)
	}
}

func TestAppendTakesTheLargestLeaf(t *testing.T) {
	l := open(t, config(t))
	text := `{"a":"` + strings.Repeat("x", auditlog.MaxLeafBytes-8) + `"}`
	if _, err := l.Append(t.Context(), []byte(text)); err != nil {
		t.Errorf("Append(%d bytes) = %v, want no error", len(text), err)
	}
	closeLog(t, l)
}

func TestOpenMakesPrivateFiles(t *testing.T) {
	c := config(t)
	closeLog(t, open(t, c))
	for name, want := range map[string]fs.FileMode{
		".": 0o700, auditlog.EpochFile(1): 0o600, auditlog.KeyFileName: 0o600, auditlog.VKeyFileName: 0o644,
	} {
		info, err := os.Stat(filepath.Join(c.Dir, name))
		if err != nil {
			t.Fatalf("Stat(%q) = %v, want no error", name, err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("Stat(%q).Mode = %04o, want %04o", name, got, want)
		}
	}
}

func TestOpenRefusesFilesThatOthersReach(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, dir string) error
		want  string
	}{
		{"directory open to others", func(t *testing.T, dir string) error { return os.Chmod(dir, 0o755) }, "chmod 0700"},
		{"key open to others", func(t *testing.T, dir string) error {
			return os.Chmod(filepath.Join(dir, auditlog.KeyFileName), 0o640)
		}, "chmod 0600"},
		{"log open to others", func(t *testing.T, dir string) error {
			return os.Chmod(filepath.Join(dir, auditlog.EpochFile(1)), 0o606)
		}, "chmod 0600"},
		{"key is a link", func(t *testing.T, dir string) error {
			key := filepath.Join(dir, auditlog.KeyFileName)
			return errors.Join(os.Rename(key, key+".real"), os.Symlink("node.key.real", key))
		}, "is a link"},
		{"log is a link", func(t *testing.T, dir string) error {
			file := filepath.Join(dir, auditlog.EpochFile(1))
			return errors.Join(os.Rename(file, filepath.Join(dir, "real.db")), os.Symlink("real.db", file))
		}, "is a link"},
		{"key is something else", func(t *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, auditlog.KeyFileName), []byte("PRIVATE+KEY+nonsense"), 0o600)
		}, "is not a node key"},
		{"directory is a link", func(t *testing.T, dir string) error {
			return errors.Join(os.Rename(dir, dir+".real"), os.Symlink(dir+".real", dir))
		}, "is not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(t)
			closeLog(t, open(t, c))
			if err := tt.spoil(t, c.Dir); err != nil {
				t.Fatal(err)
			}
			l, err := auditlog.Open(c)
			if err == nil {
				l.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestOpenRefusesAnotherOrigin(t *testing.T) {
	c := config(t)
	closeLog(t, open(t, c))
	c.Origin = "test/nodes/node-2"
	_, err := auditlog.Open(c)
	if problem, ok := errors.AsType[*auditlog.DirectoryError](err); !ok || !strings.Contains(problem.Problem, origin) {
		t.Errorf("Open(%q) = %v, want a DirectoryError that names %q", c.Origin, err, origin)
	}
}

func TestOpenRefusesConfig(t *testing.T) {
	tests := []struct {
		name   string
		change func(*auditlog.Config)
		want   string
	}{
		{"no directory", func(c *auditlog.Config) { c.Dir = "" }, "Dir is missing"},
		{"no boundary", func(c *auditlog.Config) { c.Boundary = nil }, "Boundary is missing"},
		{"a small epoch", func(c *auditlog.Config) { c.EpochBytes = 1 << 19 }, "at least 1048576 (1 MiB)"},
		{"a large epoch", func(c *auditlog.Config) { c.EpochBytes, c.RetentionBytes = 3<<20, 4<<20 }, "at most half of the retention of 4194304"},
		{"a small retention", func(c *auditlog.Config) { c.RetentionBytes = 1 << 20 }, "at least 1048576 (1 MiB)"},
		{"no logger", func(c *auditlog.Config) { c.Logger = nil }, "Logger is missing"},
		{"no origin", func(c *auditlog.Config) { c.Origin = "" }, "Origin"},
		{"origin with a plus", func(c *auditlog.Config) { c.Origin = "a+b" }, "Origin"},
		{"origin with a line end", func(c *auditlog.Config) { c.Origin = "a\nb" }, "Origin"},
		{"no parent", func(c *auditlog.Config) { c.Dir = filepath.Join(c.Dir, "a", "b") }, "make its parent"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(t)
			tt.change(&c)
			if _, err := auditlog.Open(c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestOpenRestoresThePublicKey(t *testing.T) {
	c := config(t)
	l := open(t, c)
	want, err := l.VerifierKey()
	if err != nil {
		t.Fatalf("VerifierKey() = %v, want no error", err)
	}
	closeLog(t, l)
	path := filepath.Join(c.Dir, auditlog.VKeyFileName)
	for _, content := range []string{"", "forged+00000000+AAAA\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, c)
		if got, err := l.VerifierKey(); err != nil || got != want {
			t.Errorf("VerifierKey() after %q = %q, %v, want %q", content, got, err, want)
		}
		closeLog(t, l)
	}
}

func TestOpenTwiceIsLocked(t *testing.T) {
	c := config(t)
	l := open(t, c)
	if _, err := auditlog.Open(c); !errors.Is(err, auditlog.ErrLocked) {
		t.Errorf("Open() while open = %v, want %v", err, auditlog.ErrLocked)
	}
	closeLog(t, l)
	closeLog(t, open(t, c))
}

func TestOpenAfterAnInterruptedFirstStart(t *testing.T) {
	c := config(t)
	closeLog(t, open(t, c))
	file := filepath.Join(c.Dir, auditlog.EpochFile(1))
	if err := errors.Join(os.Remove(file), os.WriteFile(file+".new", []byte("half a file"), 0o600)); err != nil {
		t.Fatal(err)
	}
	l := open(t, c)
	fill(t, l, 0, 3)
	if r := verifiedEpoch(t, c.Dir, l); r.Events != 4 {
		t.Errorf("Verify().Events = %d, want 4", r.Events)
	}
}

func TestClosedLogTakesNothing(t *testing.T) {
	l := open(t, config(t))
	closeLog(t, l)
	closeLog(t, l)
	_, appended := l.Append(t.Context(), leaf(0))
	_, signed := l.Checkpoint()
	_, copied := l.Snapshot(&bytes.Buffer{})
	_, _, tree := l.Tree()
	for name, err := range map[string]error{
		"Append": appended, "Checkpoint": signed, "Snapshot": copied, "Tree": tree, "Healthy": l.Healthy(),
		"Each": l.Each(func(auditlog.Position, []byte) error { return nil }),
	} {
		if !errors.Is(err, auditlog.ErrClosed) {
			t.Errorf("%s() after Close = %v, want %v", name, err, auditlog.ErrClosed)
		}
	}
}

func TestCheckpointsComeByThemselves(t *testing.T) {
	c := config(t)
	c.CheckpointEvery = 20 * time.Millisecond
	l := open(t, c)
	fill(t, l, 0, 10)
	deadline := time.Now().Add(10 * time.Second)
	for {
		if r := verifiedCopy(t, c.Dir); r.Tail == 0 && r.Events == 11 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no checkpoint covers the events after 10 s")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestCheckpointsAreThinned(t *testing.T) {
	c := config(t)
	l := open(t, c)
	const n = 3 * auditlog.Thinning
	for i := 0; i < n; i += 16 {
		fill(t, l, i, 16)
		if _, err := l.Checkpoint(); err != nil {
			t.Fatalf("Checkpoint() = %v, want no error", err)
		}
	}
	closeLog(t, l)
	r := verified(t, c.Dir)
	if r.Checkpoints < 4 || r.Checkpoints > 8 || r.Tail != 0 {
		t.Errorf("Verify() = %d checkpoints, tail %d, want 4 to 8 and 0", r.Checkpoints, r.Tail)
	}
}
