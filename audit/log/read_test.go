package log_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

func TestReadGoesOnOverEpochs(t *testing.T) {
	c := config(t)
	l := open(t, c)
	rolled(t, l, 0, 700)  // epochs of 702 leaves: more than are read at once
	fill(t, l, 1400, 100) // and one of 101
	var all []auditlog.Position
	if err := l.Each(func(p auditlog.Position, _ []byte) error { all = append(all, p); return nil }); err != nil {
		t.Fatalf("Each() = %v, want no error", err)
	}
	if want := 2*702 + 101; len(all) != want {
		t.Fatalf("len(Each()) = %d, want %d", len(all), want)
	}
	for _, from := range []int{0, 1, 600, 701, 702, 1403, 1404, 1504} {
		var got []auditlog.Position
		for at := all[from]; ; {
			leaves, err := l.Read(at, 1000)
			if err != nil {
				t.Fatalf("Read(%+v) = %v, want no error", at, err)
			}
			if len(leaves) == 0 {
				break
			}
			for _, leaf := range leaves {
				got = append(got, leaf.Position)
				at = auditlog.Position{Epoch: leaf.Epoch, Index: leaf.Index + 1}
			}
		}
		if diff := cmp.Diff(all[from:], got); diff != "" {
			t.Errorf("Read() from %+v on mismatch (-want +got):\n%s", all[from], diff)
		}
	}
	if leaves, err := l.Read(auditlog.Position{Epoch: 2, Index: 5}, 3); err != nil || len(leaves) != 3 || leaves[0].Position != (auditlog.Position{Epoch: 2, Index: 5}) {
		t.Errorf("Read(3) = %+v, %v, want three leaves from 2:5 on", leaves, err)
	}
	for _, p := range []auditlog.Position{{Epoch: 4}, {Epoch: -1}, {Epoch: 99, Index: 5}} {
		if leaves, err := l.Read(p, 1); !errors.Is(err, auditlog.ErrGone) {
			t.Errorf("Read(%+v) = %+v, %v, want %v", p, leaves, err, auditlog.ErrGone)
		}
	}
	if leaves, err := l.Read(auditlog.Position{Epoch: 3, Index: 101}, 1); err != nil || len(leaves) > 0 {
		t.Errorf("Read(the end) = %+v, %v, want nothing yet", leaves, err)
	}
}

// TestReadOfADamagedEpoch: what is read of a closed epoch comes through no
// library that believes its pages.
func TestReadOfADamagedEpoch(t *testing.T) {
	c := config(t)
	l := open(t, c)
	rolled(t, l, 0, 300)
	f, err := os.OpenFile(epochFile(c, 1), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page := os.Getpagesize()
	for at := 2 * page; at < len(content(t, epochFile(c, 1))); at += page {
		if _, err := f.WriteAt([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Read(auditlog.Position{}, 1); !isTampered(err) {
		t.Errorf("Read() = %v, want a TamperedError", err)
	}
	if err := os.Remove(epochFile(c, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(auditlog.Position{}, 1); !errors.Is(err, auditlog.ErrReplaced) {
		t.Errorf("Read() of a file that is gone = %v, want %v", err, auditlog.ErrReplaced)
	}
	fill(t, l, 1000, 3) // nobody who appends is the worse for it
}

func isTampered(err error) bool {
	_, ok := errors.AsType[*auditlog.TamperedError](err)
	return ok
}

// TestFollowGivesEveryLeafOnce from the oldest on, over roll-overs, with what
// comes while it reads.
func TestFollowGivesEveryLeafOnce(t *testing.T) {
	l := open(t, config(t))
	rolled(t, l, 0, 40)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	var got []auditlog.Position
	seen := make(chan int)
	go func() {
		done <- l.Follow(ctx, auditlog.Position{}, func(leaf auditlog.Leaf) error {
			got = append(got, leaf.Position)
			seen <- len(got)
			return nil
		})
	}()
	await := func(n int) {
		for have := range seen {
			if have == n {
				return
			}
		}
	}
	await(85) // 2 epochs of 42 leaves and the first of the third
	go func() {
		fill(t, l, 1000, 40)
		if err := l.RollOver(); err != nil {
			t.Errorf("RollOver() = %v, want no error", err)
		}
		fill(t, l, 1040, 5)
	}()
	await(85 + 41 + 1 + 5)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow() = %v, want %v", err, context.Canceled)
	}
	var want []auditlog.Position
	if err := l.Each(func(p auditlog.Position, _ []byte) error { want = append(want, p); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Follow() mismatch (-want +got):\n%s", diff)
	}
}

// TestFollowThatIsTooSlow is told so, and keeps nobody waiting.
func TestFollowThatIsTooSlow(t *testing.T) {
	c := small(t)
	c.RetentionBytes = 2 << 20
	l := open(t, c)
	fill(t, l, 0, 600)
	reading, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- l.Follow(t.Context(), auditlog.Position{}, func(leaf auditlog.Leaf) error {
			if leaf.Index == 0 && leaf.Epoch == 1 {
				close(reading)
				<-goOn
			}
			return nil
		})
	}()
	<-reading
	for i := 0; i < 8000; i += 500 {
		fill(t, l, 1000+i, 500)
	}
	if first := epochs(t, l)[0].Number; first < 3 {
		t.Fatalf("the oldest epoch is %d, want the first two deleted", first)
	}
	close(goOn)
	if err := <-done; !errors.Is(err, auditlog.ErrGone) {
		t.Errorf("Follow() = %v, want %v", err, auditlog.ErrGone)
	}
}

// TestFollowMissesNothingAtTheEndOfADeletedEpoch: an epoch that was read to its
// end may go.
func TestFollowMissesNothingAtTheEndOfADeletedEpoch(t *testing.T) {
	c := small(t)
	c.RetentionBytes = 2 << 20
	l := open(t, c)
	fill(t, l, 0, 400)
	if err := l.RollOver(); err != nil {
		t.Fatal(err)
	}
	end := auditlog.Position{Epoch: 1, Index: 402}
	for i := 0; epochs(t, l)[0].Number < 2; i += 50 {
		fill(t, l, 1000+i, 50)
	}
	leaves, err := l.Read(end, 1)
	if want := (auditlog.Position{Epoch: 2}); err != nil || len(leaves) != 1 || leaves[0].Position != want {
		t.Errorf("Read(%+v) = %+v, %v, want the leaf at %+v", end, leaves, err, want)
	}
	if _, err := l.Read(auditlog.Position{Epoch: 1, Index: 401}, 1); !errors.Is(err, auditlog.ErrGone) {
		t.Errorf("Read() before the end = %v, want %v", err, auditlog.ErrGone)
	}
}

func TestFollowEndsWithTheLog(t *testing.T) {
	l := open(t, config(t))
	first := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- l.Follow(t.Context(), auditlog.Position{}, func(auditlog.Leaf) error { close(first); return nil })
	}()
	<-first
	closeLog(t, l)
	if err := <-done; !errors.Is(err, auditlog.ErrClosed) {
		t.Errorf("Follow() = %v, want %v", err, auditlog.ErrClosed)
	}
	own := errors.New("of the reader")
	l = open(t, config(t))
	if err := l.Follow(t.Context(), auditlog.Position{}, func(auditlog.Leaf) error { return own }); !errors.Is(err, own) {
		t.Errorf("Follow() = %v, want %v", err, own)
	}
}

// TestRecentIsTheEndOfTheLog: two epochs, and more where they are young.
func TestRecentIsTheEndOfTheLog(t *testing.T) {
	now := leafTime()
	clock := func() time.Time { return now }
	c := config(t)
	c.Clock, c.Boundary = clock, boundaries(clock)
	l := open(t, c)
	for i, step := range []time.Duration{time.Hour, time.Minute, time.Minute, 3 * time.Hour} {
		fill(t, l, i*10, 5)
		if err := l.RollOver(); err != nil {
			t.Fatal(err)
		}
		now = now.Add(step)
	}
	// Epochs 1 to 4 end at 0:00, 1:00, 1:01, 1:02; the fifth begins at 1:02.
	for _, tt := range []struct {
		span time.Duration
		want int
	}{{time.Second, 2}, {90 * time.Second, 3}, {30 * time.Minute, 4}, {2 * time.Hour, 5}} {
		begins := 0
		if err := l.Recent(tt.span).Each(func(i int64, _ []byte) error {
			if i == 0 {
				begins++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if begins != tt.want {
			t.Errorf("Recent(%v) has %d epochs, want %d", tt.span, begins, tt.want)
		}
	}
}
