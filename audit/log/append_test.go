package log_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

func TestAppendFromManyAtOnce(t *testing.T) {
	c := config(t)
	l := open(t, c)
	const producers, each = 32, 20
	var mu sync.Mutex
	byIndex := map[int64]string{}
	var group sync.WaitGroup
	for p := range producers {
		group.Go(func() {
			for i := range each {
				text := leaf(p*each + i)
				index, err := l.Append(t.Context(), text)
				if err != nil {
					t.Errorf("Append() = %v, want no error", err)
					return
				}
				mu.Lock()
				if byIndex[index] != "" {
					t.Errorf("Append() = %d twice", index)
				}
				byIndex[index] = string(text)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	for i, text := range leaves(t, l) {
		if byIndex[int64(i)+1] != text {
			t.Fatalf("leaf %d is not what was acknowledged", i)
		}
	}
	closeLog(t, l)
	if r := verified(t, c.Dir); r.Events != producers*each+1 {
		t.Errorf("Verify().Events = %d, want %d", r.Events, producers*each+1)
	}
}

func TestAppendOfAnEndedContext(t *testing.T) {
	l := open(t, config(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, leaf(0)); !errors.Is(err, context.Canceled) {
		t.Errorf("Append() = %v, want %v", err, context.Canceled)
	}
	if n := len(leaves(t, l)); n != 0 {
		t.Errorf("len(Each()) = %d, want 0", n)
	}
}

// TestAppendIsNeverInDoubt cancels appends at any moment: what was refused is
// not in the log, and what is in the log was acknowledged.
func TestAppendIsNeverInDoubt(t *testing.T) {
	l := open(t, config(t))
	var mu sync.Mutex
	var acknowledged []string
	refused := 0
	var group sync.WaitGroup
	for p := range 16 {
		group.Go(func() {
			for i := range 40 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration((i*7+p)%40)*50*time.Microsecond)
				text := leaf(p*100 + i)
				_, err := l.Append(ctx, text)
				cancel()
				mu.Lock()
				if err == nil {
					acknowledged = append(acknowledged, string(text))
				} else {
					refused++
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	stored := leaves(t, l)
	slices.Sort(stored)
	slices.Sort(acknowledged)
	if !slices.Equal(stored, acknowledged) {
		t.Errorf("%d leaves stored, %d acknowledged, %d refused", len(stored), len(acknowledged), refused)
	}
	if refused == 0 || len(acknowledged) == 0 {
		t.Errorf("refused %d, acknowledged %d: both must happen for this to prove anything", refused, len(acknowledged))
	}
}

// TestP7FullLogKeepsItsReserve: what a required sink lacks is not deleted, and
// at 80 % of the retention only what must never wait is taken.
func TestP7FullLogKeepsItsReserve(t *testing.T) {
	c := config(t)
	c.EpochBytes, c.RetentionBytes = 1<<20, 4<<20
	lacks := atomic.Int64{}
	lacks.Store(1)
	c.Needed = func() (int64, bool) { return lacks.Load(), true }
	l := open(t, c)
	if err := l.Healthy(); err != nil {
		t.Fatalf("Healthy() = %v, want no error", err)
	}
	appended := fillUp(t, l.Append, 0)
	if err := l.Healthy(); !errors.Is(err, auditlog.ErrFull) {
		t.Errorf("Healthy() of a log that refuses = %v, want %v", err, auditlog.ErrFull)
	}
	reserved := fillUp(t, l.AppendReserved, 1_000_000)
	if appended < 800 || reserved < 200 {
		t.Errorf("Append %d times and AppendReserved %d times, want at least 800 and 200", appended, reserved)
	}
	epochs, err := l.Epochs()
	if err != nil || epochs[0].Number != 1 || len(leaves(t, l)) != appended+reserved {
		t.Errorf("Epochs() = %+v, %v, want all from 1 on", epochs, err)
	}
	if got, most := diskUse(t, c.Dir), c.RetentionBytes+3*c.EpochBytes; got > most {
		t.Errorf("the log takes %d bytes, want at most %d", got, most)
	}
	lacks.Store(epochs[len(epochs)-1].Number) // the sink has caught up
	if err := l.Healthy(); err != nil {
		t.Errorf("Healthy() once the sink has the events = %v, want no error", err)
	}
	fill(t, l, 2_000_000, 500)
	if epochs, err = l.Epochs(); err != nil || epochs[0].Number == 1 {
		t.Errorf("Epochs() = %+v, %v, want the oldest deleted", epochs, err)
	}
}

// fillUp appends until the log is full, 16 at a time.
func fillUp(t *testing.T, add func(context.Context, []byte) (int64, error), from int) int {
	t.Helper()
	var taken atomic.Int64
	var group sync.WaitGroup
	for p := range 16 {
		group.Go(func() {
			for i := range 10_000 {
				_, err := add(t.Context(), leaf(from+i*16+p))
				if errors.Is(err, auditlog.ErrFull) {
					return
				}
				if err != nil {
					t.Errorf("Append() = %v, want no error or %v", err, auditlog.ErrFull)
					return
				}
				taken.Add(1)
			}
			t.Error("the log is never full")
		})
	}
	group.Wait()
	return int(taken.Load())
}

// diskUse is what the files of a directory take.
func diskUse(t *testing.T, dir string) (bytes int64) {
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
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			t.Fatalf("Stat(%s) = %T", e.Name(), info.Sys())
		}
		bytes += stat.Blocks * 512
	}
	return bytes
}

func TestAppendNoticesThatTheFileIsGone(t *testing.T) {
	tests := []struct {
		name string
		do   func(file string) error
	}{
		{"unlinked", os.Remove},
		{"renamed", func(file string) error { return os.Rename(file, file+".old") }},
		{"truncated", func(file string) error { return os.Truncate(file, 4096) }},
		{"emptied", func(file string) error { return os.Truncate(file, 0) }},
		{"replaced by a copy", func(file string) error {
			text, err := os.ReadFile(file)
			return errors.Join(err, os.Remove(file), os.WriteFile(file, text, 0o600))
		}},
		{"directory moved", func(file string) error {
			dir := filepath.Dir(file)
			return errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(t)
			l := open(t, c)
			fill(t, l, 0, 20)
			if err := tt.do(filepath.Join(c.Dir, auditlog.EpochFile(1))); err != nil {
				t.Fatal(err)
			}
			for name, call := range map[string]func() error{
				"Append":     func() error { _, err := l.Append(t.Context(), leaf(20)); return err },
				"Checkpoint": func() error { _, err := l.Checkpoint(); return err },
				"Healthy":    l.Healthy,
				"Tree":       func() error { _, _, err := l.Tree(); return err },
				"Close":      l.Close,
			} {
				if name == "Close" {
					continue
				}
				if err := call(); !errors.Is(err, auditlog.ErrReplaced) {
					t.Errorf("%s() = %v, want %v", name, err, auditlog.ErrReplaced)
				}
			}
			if err := l.Close(); !errors.Is(err, auditlog.ErrReplaced) {
				t.Errorf("Close() = %v, want %v", err, auditlog.ErrReplaced)
			}
		})
	}
}
