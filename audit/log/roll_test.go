package log_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// small is a config of small epochs.
func small(t testing.TB) auditlog.Config {
	c := config(t)
	c.EpochBytes, c.RetentionBytes = 1<<20, 8<<20
	return c
}

func epochs(t testing.TB, l *auditlog.Log) []auditlog.Epoch {
	t.Helper()
	list, err := l.Epochs()
	if err != nil {
		t.Fatalf("Epochs() = %v, want no error", err)
	}
	return list
}

// rolled appends two times n events and ends the epoch after each.
func rolled(t testing.TB, l *auditlog.Log, from, n int) {
	t.Helper()
	for i := range 2 {
		fill(t, l, from+i*n, n)
		if err := l.RollOver(); err != nil {
			t.Fatalf("RollOver() = %v, want no error", err)
		}
	}
}

// verifiedAll verifies a directory, and returns the leaves without the log's own.
func verifiedAll(t testing.TB, dir string) (events []string) {
	t.Helper()
	_, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: dir, VKey: vkey(t, dir), Each: func(_ auditlog.Position, leaf []byte) error {
		if !isBoundary(string(leaf)) {
			events = append(events, string(leaf))
		}
		return nil
	}})
	if err != nil {
		t.Fatalf("Verify(%s) = %v, want no error", dir, err)
	}
	return events
}

func TestEpochsEndBySize(t *testing.T) {
	c := small(t)
	l := open(t, c)
	const n = 4000
	for i := 0; i < n; i += 100 {
		fill(t, l, i, 100)
	}
	list := epochs(t, l)
	if len(list) < 4 {
		t.Fatalf("%d events are in %d epochs, want at least 4", n, len(list))
	}
	for i, e := range list {
		want := auditlog.Epoch{Number: int64(i) + 1, Origin: fmt.Sprintf("%s/%d", origin, i+1), Closed: i < len(list)-1, From: leafTime()}
		if want.Closed {
			want.To = leafTime()
		}
		want.Size, want.Root, want.Bytes = e.Size, e.Root, e.Bytes
		if diff := cmp.Diff(want, e); diff != "" || e.Bytes > c.EpochBytes+c.EpochBytes/4 || e.Size < 100 && e.Closed {
			t.Errorf("epoch %+v mismatch (-want +got):\n%s", e, diff)
		}
	}
	if got := leaves(t, l); len(got) != n {
		t.Errorf("len(Each()) = %d, want %d", len(got), n)
	}
	closeLog(t, l)
	if got := verifiedAll(t, c.Dir); len(got) != n {
		t.Errorf("the epochs hold %d events, want %d", len(got), n)
	}
	again := open(t, c)
	if diff := cmp.Diff(auditlog.Opening{}, again.Opening()); diff != "" {
		t.Errorf("Opening() mismatch (-want +got):\n%s", diff)
	}
	reopened := epochs(t, again)
	list[len(list)-1].Bytes = reopened[len(list)-1].Bytes
	if diff := cmp.Diff(list, reopened); diff != "" {
		t.Errorf("Epochs() after a restart mismatch (-want +got):\n%s", diff)
	}
}

// TestEpochsEndByAge without any traffic.
func TestEpochsEndByAge(t *testing.T) {
	var now atomic.Int64
	now.Store(leafTime().Unix())
	clock := func() time.Time { return time.Unix(now.Load(), 0) }
	c := config(t)
	c.Clock, c.Boundary, c.EpochAge, c.CheckpointEvery = clock, boundaries(clock), 24*time.Hour, time.Millisecond
	l := open(t, c)
	fill(t, l, 0, 3)
	followed := make(chan auditlog.Leaf, 16)
	go func() {
		_ = l.Follow(t.Context(), auditlog.Position{}, func(leaf auditlog.Leaf) error { followed <- leaf; return nil })
	}()
	for range 4 {
		<-followed
	}
	now.Add(24*3600 - 1)
	fill(t, l, 3, 1)
	if leaf := <-followed; isBoundary(string(leaf.Data)) {
		t.Fatalf("the epoch ended a second too early: %s", leaf.Data)
	}
	now.Add(1)
	ended, began := <-followed, <-followed
	if !strings.Contains(string(ended.Data), `"type":"log.closed"`) || began.Position != (auditlog.Position{Epoch: 2}) {
		t.Errorf("after a day come %s and %+v, want the end and the next epoch", ended.Data, began)
	}
	now.Add(-72 * 3600) // a clock that goes backwards ends nothing
	fill(t, l, 4, 1)
	if n := len(epochs(t, l)); n != 2 {
		t.Errorf("len(Epochs()) = %d, want 2", n)
	}
}

// TestARollOverThatFailedIsTriedAgainWhateverTheClock says: one that waits for
// a year to pass fills the disk.
func TestARollOverThatFailedIsTriedAgainWhateverTheClock(t *testing.T) {
	var now atomic.Int64
	now.Store(leafTime().Unix())
	clock := func() time.Time { return time.Unix(now.Load(), 0) }
	fail := atomic.Bool{}
	c := small(t)
	c.Clock = clock
	c.Boundary = func(kind string, state []byte) ([]byte, error) {
		if fail.Load() && kind == "log.closed" {
			return nil, errors.New("not now")
		}
		return boundaries(clock)(kind, state)
	}
	l := open(t, c)
	fail.Store(true)
	fill(t, l, 0, 1500)
	if n := len(epochs(t, l)); n != 1 {
		t.Fatalf("len(Epochs()) = %d, want 1: it cannot end", n)
	}
	fail.Store(false)
	now.Add(-365 * 24 * 3600)
	fill(t, l, 2000, 10)
	if n := len(epochs(t, l)); n != 2 {
		t.Errorf("len(Epochs()) = %d after the clock went back, want 2", n)
	}
}

// TestP7TheOldestEpochGoesWhenItIsTime: size alone never stops granting.
func TestP7TheOldestEpochGoesWhenItIsTime(t *testing.T) {
	c := small(t)
	c.RetentionBytes = 3 << 20
	l := open(t, c)
	const n = 9000
	for i := 0; i < n; i += 250 {
		fill(t, l, i, 250)
		var total int64
		for _, e := range epochs(t, l) {
			total += e.Bytes
		}
		if total > c.RetentionBytes+c.EpochBytes/4 {
			t.Fatalf("after %d events the epochs take %d bytes, want at most %d", i, total, c.RetentionBytes)
		}
	}
	list := epochs(t, l)
	if list[0].Number < 4 || len(list) < 2 {
		t.Errorf("Epochs() = %+v, want the oldest gone and two or three left", list)
	}
	got := leaves(t, l)
	if len(got) < 500 || got[len(got)-1][:20] < string(leaf(n - 250))[:20] {
		t.Errorf("%d events are left, the last %.20s, want the newest", len(got), got[len(got)-1])
	}
	closeLog(t, l)
	verifiedAll(t, c.Dir)
	if o := open(t, c).Opening(); len(o.Missing) > 0 || o.Lost {
		t.Errorf("Opening() = %+v, want nothing missing: retention is no loss", o)
	}
}

// copyDir copies what a crash would leave.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(to, 0o700), os.CopyFS(to, os.DirFS(from)), os.Chmod(to, 0o700)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(to)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(from, e.Name()))
		if err := errors.Join(err, os.Chmod(filepath.Join(to, e.Name()), info.Mode().Perm())); err != nil {
			t.Fatal(err)
		}
	}
}

// TestP7ACrashAtEveryStepOfARollOver kills the process between each two steps
// of a roll-over and of a rotation of the key, and starts again: nothing is
// lost, nothing is called lost, and the log goes on.
func TestP7ACrashAtEveryStepOfARollOver(t *testing.T) {
	for name, roll := range map[string]func(l *auditlog.Log) error{
		"roll-over": func(l *auditlog.Log) error { return l.RollOver() },
		"rotation":  func(l *auditlog.Log) error { return l.RotateKey(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			l := open(t, c)
			fill(t, l, 0, 40)
			before := vkey(t, c.Dir)
			crashes := map[string]string{}
			l.OnStep(func(step string) {
				crashes[step] = filepath.Join(t.TempDir(), "audit")
				copyDir(t, c.Dir, crashes[step])
			})
			if err := roll(l); err != nil {
				t.Fatalf("roll over = %v, want no error", err)
			}
			want := []string{"closed", "created", "renamed"}
			if name == "rotation" {
				want = append(want, "key", "vkey")
			}
			if got := slices.Sorted(func(yield func(string) bool) {
				for step := range crashes {
					if !yield(step) {
						return
					}
				}
			}); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Fatalf("steps = %q, want %q", got, want)
			}
			for step, dir := range crashes {
				t.Run(step, func(t *testing.T) { survivesRollOver(t, c, dir, name == "rotation" && step != "created", before) })
			}
		})
	}
}

func survivesRollOver(t *testing.T, c auditlog.Config, dir string, newKey bool, before string) {
	t.Helper()
	c.Dir = dir
	l := open(t, c)
	if o := l.Opening(); o.Lost || o.Created || len(o.Missing) > 0 {
		t.Errorf("Opening() = %+v, want nothing lost and nothing missing", o)
	}
	fill(t, l, 40, 5)
	if got := len(leaves(t, l)); got != 45 {
		t.Errorf("len(Each()) = %d, want 45", got)
	}
	if got := vkey(t, dir); (got != before) != newKey {
		t.Errorf("node.vkey = %q after %q, want a new one: %t", got, before, newKey)
	}
	if kept := aside(t, dir); len(kept) > 0 {
		t.Errorf("public keys set aside = %q, want none: the log names the old one", kept)
	}
	rolled(t, l, 100, 10)
	closeLog(t, l)
	if left, err := filepath.Glob(filepath.Join(dir, "*.new")); err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v, want nothing", left, err)
	}
	again := open(t, c)
	if o := again.Opening(); o.Lost || len(o.Missing) > 0 {
		t.Errorf("Opening() once more = %+v, want nothing lost", o)
	}
	closeLog(t, again)
	if newKey {
		return // an epoch of the old key is verified with the whole log
	}
	if got := len(verifiedAll(t, dir)); got != 65 {
		t.Errorf("the epochs hold %d events, want 65", got)
	}
}
