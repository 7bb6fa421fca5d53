package log_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"

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
		if byIndex[int64(i)] != text {
			t.Fatalf("leaf %d is not what was acknowledged", i)
		}
	}
	closeLog(t, l)
	if r := verified(t, c.Dir); r.Events != producers*each {
		t.Errorf("Verify().Events = %d, want %d", r.Events, producers*each)
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

func TestP7FullLogKeepsItsReserve(t *testing.T) {
	c := config(t)
	c.MaxBytes = 1 << 20
	l := open(t, c)
	if err := l.Healthy(); err != nil {
		t.Fatalf("Healthy() = %v, want no error", err)
	}
	appended := 0
	for i := 0; ; i++ {
		_, err := l.Append(t.Context(), leaf(i))
		if errors.Is(err, auditlog.ErrFull) {
			break
		}
		if err != nil {
			t.Fatalf("Append() = %v, want no error or %v", err, auditlog.ErrFull)
		}
		appended++
	}
	if err := l.Healthy(); !errors.Is(err, auditlog.ErrFull) {
		t.Errorf("Healthy() of a log that refuses = %v, want %v", err, auditlog.ErrFull)
	}
	reserved := 0
	for i := 0; ; i++ {
		_, err := l.AppendReserved(t.Context(), leaf(1_000_000+i))
		if errors.Is(err, auditlog.ErrFull) {
			break
		}
		if err != nil {
			t.Fatalf("AppendReserved() = %v, want no error or %v", err, auditlog.ErrFull)
		}
		reserved++
	}
	if appended < 200 || reserved < 50 {
		t.Errorf("Append %d times and AppendReserved %d times, want at least 200 and 50", appended, reserved)
	}
	if err := l.Healthy(); !errors.Is(err, auditlog.ErrFull) {
		t.Errorf("Healthy() = %v, want %v", err, auditlog.ErrFull)
	}
	closeLog(t, l)
	if r := verified(t, c.Dir); r.Events != int64(appended+reserved) || r.Tail != 0 {
		t.Errorf("Verify() = %d events, tail %d, want %d and 0", r.Events, r.Tail, appended+reserved)
	}
	info, err := os.Stat(filepath.Join(c.Dir, auditlog.FileName))
	if err != nil || info.Size() > 2*c.MaxBytes {
		t.Errorf("file size = %d, %v, want at most %d", info.Size(), err, 2*c.MaxBytes)
	}
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
			if err := tt.do(filepath.Join(c.Dir, auditlog.FileName)); err != nil {
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

// TestP7DiskFull fills a small tmpfs: no acknowledged event is lost, and the
// log goes on by itself once there is room.
func TestP7DiskFull(t *testing.T) {
	hardeningtest.NeedRoot(t)
	mnt := t.TempDir()
	if err := syscall.Mount("portcullis-test", mnt, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mnt, syscall.MNT_DETACH); err != nil {
			t.Errorf("Unmount(%q) = %v", mnt, err)
		}
	})
	c := config(t)
	c.Dir = filepath.Join(mnt, "audit")
	ballast := filepath.Join(mnt, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, c)
	acknowledged := 0
	var full error
	for i := range 10_000 {
		if _, full = l.AppendReserved(t.Context(), leaf(i)); full != nil {
			break
		}
		acknowledged++
	}
	if !errors.Is(full, syscall.ENOSPC) {
		t.Fatalf("AppendReserved() after %d = %v, want %v", acknowledged, full, syscall.ENOSPC)
	}
	if err := l.Healthy(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Healthy() = %v, want %v", err, syscall.ENOSPC)
	}
	if n := len(leaves(t, l)); n != acknowledged {
		t.Errorf("len(Each()) = %d, want %d", n, acknowledged)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 20_000, 50)
	if err := l.Healthy(); err != nil {
		t.Errorf("Healthy() with room again = %v, want no error", err)
	}
	closeLog(t, l)
	if r := verified(t, c.Dir); r.Events != int64(acknowledged+50) {
		t.Errorf("Verify().Events = %d, want %d", r.Events, acknowledged+50)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, producers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(producers), func(b *testing.B) {
			c := config(b)
			c.MaxBytes, c.CheckpointEvery = 1<<34, time.Second
			l := open(b, c)
			text := []byte(`{"pad":"` + strings.Repeat("x", 1000) + `"}`)
			work := make(chan struct{}, b.N)
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			var group sync.WaitGroup
			b.ResetTimer()
			for range producers {
				group.Go(func() {
					for range work {
						if _, err := l.Append(b.Context(), text); err != nil {
							b.Error(err)
						}
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkVerify reads a log of 64 MiB, as a start does too.
func BenchmarkVerify(b *testing.B) {
	c := config(b)
	l := open(b, c)
	n := 0
	for ; l.Healthy() == nil; n += 256 {
		var group sync.WaitGroup
		for i := range 256 {
			// The last of them may meet a full log.
			group.Go(func() { _, _ = l.Append(b.Context(), leaf(n+i)) })
		}
		group.Wait()
	}
	closeLog(b, l)
	for b.Loop() {
		verified(b, c.Dir)
	}
	b.ReportMetric(float64(n), "events")
}
