package log_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// TestVerifyOfAnInterruptedRollOver: the next epoch waits for its name, and is
// held to what every epoch is held to.
func TestVerifyOfAnInterruptedRollOver(t *testing.T) {
	p, next := newPen(t, origin), newPen(t, origin)
	ended := begin(t, p, 1, nothing(t), 10).end(t)
	handed := begin(t, p, 1, nothing(t), 10).rotate(t, next)
	other := begin(t, p, 1, nothing(t), 9)
	other.add(t, string(leaf(1)))
	other.end(t)
	open := begin(t, p, 1, nothing(t), 10)
	after := func(d *draft, p pen, n int) *draft { return begin(t, p, 2, d.whole(t), n) }
	tests := []struct {
		name      string
		last, new *draft
		as        int64  // number in the name of what waits
		want      string // "" for no error
	}{
		{"before the epoch ended", open, after(ended, p, 0), 2, ""},
		{"after it ended", ended, after(ended, p, 0), 2, ""},
		{"with a new key", handed, after(handed, next, 0), 2, ""},
		{"with a new key that was not handed the log", ended, after(ended, next, 0), 2, "not signed by the node's key"},
		{"with the key that was given up", handed, after(handed, p, 0), 2, "was never handed over"},
		{"after another epoch", ended, after(other, p, 0), 2, "does not follow epoch 1"},
		{"another number", ended, after(ended, p, 0), 3, "it is missing: the one before it has ended"},
		{"an epoch without its first event", ended, &draft{number: 2, pen: p}, 2, "it has no event"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := written(t, tt.last)
			tt.new.write(t, epochPath(dir, tt.as)+".new")
			r, err := verify(t, dir, p.vkey)
			if tt.want == "" {
				if err != nil || len(r.Epochs) != 1 || r.Events != int64(len(tt.last.leaves)) {
					t.Errorf("Verify() = %+v, %v, want the one epoch", r, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Verify() = %v, want %q", err, tt.want)
			}
		})
	}
}

// TestP7BoundariesMustBeTrue: who can sign cannot begin or end an epoch with
// something else than what was.
func TestP7BoundariesMustBeTrue(t *testing.T) {
	p := newPen(t, origin)
	fresh := func() *draft { return begin(t, p, 1, nothing(t), 5) }
	lied := func(kind string, s tree) *draft {
		d := fresh()
		d.add(t, boundary(kind, s, ""))
		d.closed = kind == "log.closed"
		return d
	}
	right := fresh().whole(t)
	wrong := right
	wrong.root[0] ^= 1
	more := right
	more.size++
	elsewhere := right
	elsewhere.number = 2
	goesOn := fresh().end(t)
	goesOn.add(t, string(leaf(1)))
	headless := &draft{number: 1, pen: p}
	headless.add(t, string(leaf(1)))
	second := begin(t, p, 2, nothing(t), 3)
	future := begin(t, p, 1, elsewhere, 3)
	fromNothing := begin(t, p, 1, tree{0, 4, right.root}, 3)
	for _, tt := range []struct {
		name string
		d    *draft
		want string
	}{
		{"the end with another root", lied("log.closed", wrong), "event 6: says another root"},
		{"the end with another size", lied("log.closed", more), "event 6: says another size"},
		{"the end of another epoch", lied("log.closed", elsewhere), "event 6: says another size"},
		{"a start with another root", lied("log.opened", wrong), "event 6: says another root"},
		{"a start with more than was there", lied("log.opened", tree{1, 7, right.root}), "event 6: says another size"},
		{"a start in a later epoch", lied("log.opened", elsewhere), "event 6: says another size"},
		{"something after the end", goesOn, "event 7: comes after the end"},
		{"no beginning", headless, "event 0: is not the beginning"},
		{"a beginning after a later epoch", future, "event 0: says that epoch 2 was before"},
		{"a beginning after something", fromNothing, "event 0: says that something was before"},
	} {
		_, err := verify(t, written(t, tt.d), p.vkey)
		refused(t, err, "0001.db", tt.want)
	}
	first := fresh().end(t)
	_, err := verify(t, written(t, first, second), p.vkey)
	refused(t, err, "0002.db", "event 0: says that epoch 0 was before, and epoch 1 is")
	// A process that starts while an epoch ends may say so in the next one.
	late := begin(t, p, 2, first.whole(t), 3)
	late.add(t, boundary("log.opened", right, ""))
	if _, err := verify(t, written(t, first, late), p.vkey); err != nil {
		t.Errorf("Verify(a start that found the epoch before) = %v, want no error", err)
	}
}

func TestVerifyRefusesDirectories(t *testing.T) {
	p := newPen(t, origin)
	good := written(t, chained(t, p, 2, 3)...)
	link := func(t *testing.T, dir string) {
		t.Helper()
		if err := os.Symlink(epochPath(good, 2), epochPath(dir, 3)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		make func(t *testing.T, dir string)
		want string
	}{
		{"nothing in it", func(t *testing.T, dir string) { removed(1)(t, dir); removed(2)(t, dir) }, "holds no epoch"},
		{"a name that is none", func(t *testing.T, dir string) { replacedName(t, dir, "epoch-3.db") }, "is not the name of an epoch's file"},
		{"a name with a sign", func(t *testing.T, dir string) { replacedName(t, dir, "epoch-+000000003.db") }, "is not the name of an epoch's file"},
		{"a link", link, "is a link"},
		{"a directory in a file's place", func(t *testing.T, dir string) {
			if err := os.Mkdir(epochPath(dir, 3), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is not a regular file"},
	} {
		dir := clone(t, good)
		tt.make(t, dir)
		_, err := verify(t, dir, p.vkey)
		if _, ok := errors.AsType[*auditlog.DirectoryError](err); !ok || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Verify(%s) = %v, want a DirectoryError with %q", tt.name, err, tt.want)
		}
	}
	c := config(t)
	l := open(t, c)
	defer closeLog(t, l)
	if _, err := verify(t, c.Dir, vkey(t, c.Dir)); !errors.Is(err, auditlog.ErrLocked) {
		t.Errorf("Verify(the directory of a log that is open) = %v, want %v", err, auditlog.ErrLocked)
	}
}

func replacedName(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Rename(epochPath(dir, 2), filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyTellsProgressOverAllEpochs, and stops when told to.
func TestVerifyTellsProgressOverAllEpochs(t *testing.T) {
	p := newPen(t, origin)
	dir := written(t, chained(t, p, 3, 1500)...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var told []int64
	_, err := auditlog.Verify(ctx, auditlog.VerifyConfig{Path: dir, VKey: p.vkey, Progress: func(done, total int64) {
		if total != 2*1502+1501 {
			t.Errorf("Progress(%d, %d), want the total of all epochs", done, total)
		}
		if told = append(told, done); done > 3000 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || len(told) != 4 || told[3] != 3072 {
		t.Errorf("Verify() = %v after Progress at %v, want %v after 3072 events", err, told, context.Canceled)
	}
	want := errors.New("enough")
	_, err = auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: dir, VKey: p.vkey, Each: func(auditlog.Position, []byte) error { return want }})
	if !errors.Is(err, want) {
		t.Errorf("Verify() whose Each fails = %v, want %v", err, want)
	}
}

// TestP7VerifyTakesTheMemoryOfOneEpoch: what is held at the end of each does not
// grow, beyond its report.
func TestP7VerifyTakesTheMemoryOfOneEpoch(t *testing.T) {
	p := newPen(t, origin)
	const epochs, perReport = 16, 2 << 10
	dir := written(t, chained(t, p, epochs, 2000)...)
	var held []int64
	_, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: dir, VKey: p.vkey, Whole: func(auditlog.VerifiedEpoch) error {
		var m runtime.MemStats
		runtime.GC() // twice, since what a pool has outlives one
		runtime.GC()
		runtime.ReadMemStats(&m)
		held = append(held, int64(m.HeapAlloc))
		return nil
	}})
	if err != nil || len(held) != epochs {
		t.Fatalf("Verify() = %v after %d epochs, want no error after %d", err, len(held), epochs)
	}
	if grown := held[epochs-1] - held[2]; grown > epochs*perReport {
		t.Errorf("Verify() holds %d bytes more at the end of the last epoch than at that of the third, of %v", grown, held)
	}
}

// TestStoryIsBounded: deliveries that never end fill no memory.
func TestStoryIsBounded(t *testing.T) {
	p := newPen(t, origin)
	d := begin(t, p, 1, nothing(t), 0)
	const most, more = 10_000, 50
	for i := range most + more {
		d.add(t, string(event(fmt.Sprintf("i%d", i), "2026-01-15T12:00:00Z", `,"stage":"intent"`)))
	}
	r, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: written(t, d), VKey: p.vkey, Now: time.Date(2026, 1, 15, 12, 1, 0, 0, time.UTC)})
	if err != nil || len(r.OpenIntents) != most || r.Unlisted != more {
		t.Errorf("Verify() = %d open intents and %d more, %v, want %d and %d", len(r.OpenIntents), r.Unlisted, err, most, more)
	}
}

// TestIntentsAndPartsMayCrossEpochs: what begins in one may end in the next.
func TestIntentsAndPartsMayCrossEpochs(t *testing.T) {
	p := newPen(t, origin)
	at := "2026-01-15T12:00:00Z"
	first := begin(t, p, 1, nothing(t), 0)
	first.add(t, string(event("a", at, `,"stage":"intent"`)))
	first.add(t, string(event("b", at, `,"part":{"first":"b","number":1,"of":2}`)))
	first.end(t)
	second := begin(t, p, 2, first.whole(t), 0)
	second.add(t, string(event("c", at, `,"stage":"complete","parentId":"a"`)))
	second.add(t, string(event("d", at, `,"part":{"first":"b","number":2,"of":2}`)))
	dir := written(t, first, second)
	if r, err := verify(t, dir, p.vkey); err != nil || r.OpenIntents != nil || r.Incomplete != nil {
		t.Errorf("Verify() = %+v, %v, want nothing open", r, err)
	}
	if r, err := verify(t, epochPath(dir, 2), p.vkey); err != nil || r.Incomplete != nil {
		t.Errorf("Verify(the second alone) = %+v, %v, want nothing said of parts that the first has", r, err)
	}
	if r, err := verify(t, epochPath(dir, 1), p.vkey); err != nil || len(r.OpenIntents) != 1 || len(r.Incomplete) != 1 {
		t.Errorf("Verify(the first alone) = %+v, %v, want one delivery and one long event open", r, err)
	}
}
