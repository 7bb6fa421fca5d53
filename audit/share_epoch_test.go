package audit_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// TestTheShareIsOfAnEpoch: it begins anew with the next, and not with a restart.
func TestTheShareIsOfAnEpoch(t *testing.T) {
	flood := denialsOf(t, "loud")
	r, l := audittest.New(t)
	l.Begin(1, epochBytes)
	for range 3000 {
		record(t, r, flood.next())
	}
	first := accountFor(t, l, "loud")
	if first.listed == flood.made {
		t.Fatal("the share is not exhausted")
	}

	// The same log as a crash leaves it.
	next, err := audit.New(audit.Config{Log: l, Source: audittest.Source(), Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = next.Close(context.WithoutCancel(t.Context())) })
	found, err := audit.Resume(l)
	if err != nil {
		t.Fatal(err)
	}
	next.Resume(found)
	for range 100 {
		record(t, next, flood.next())
	}
	if again := accountFor(t, l, "loud"); again.listed != first.listed {
		t.Errorf("%d denials are listed after a restart, want %d", again.listed, first.listed)
	}

	l.Begin(2, epochBytes)
	for range 100 {
		record(t, next, flood.next())
	}
	if again := accountFor(t, l, "loud"); again.listed != first.listed+100 {
		t.Errorf("%d denials are listed in two epochs, want %d", again.listed, first.listed+100)
	}
}

// TestResumeLooksAtTheLastEpoch: leaves of earlier epochs take nobody's share.
func TestResumeLooksAtTheLastEpoch(t *testing.T) {
	r, l := audittest.New(t)
	flood := denialsOf(t, "loud")
	for range 3000 {
		record(t, r, flood.next())
	}
	found, err := audit.Resume(epochs{l, opened(t)})
	if err != nil {
		t.Fatal(err)
	}
	next, log := audittest.New(t)
	log.Begin(2, epochBytes)
	next.Resume(found)
	record(t, next, flood.next())
	if got := accountFor(t, log, "loud"); got.listed != 1 {
		t.Errorf("%d denials are listed, want 1", got.listed)
	}
}

// TestWhatFailsIsNotCharged: a disk that fails takes nobody's share.
func TestWhatFailsIsNotCharged(t *testing.T) {
	r, l := audittest.New(t)
	l.Begin(1, epochBytes)
	flood := denialsOf(t, "loud")
	l.Fail(errDisk)
	for range 3000 {
		if err := r.Record(t.Context(), flood.next()); err == nil {
			t.Fatal("Record() = nil, want an error")
		}
	}
	l.Fail(nil)
	for range 100 {
		record(t, r, flood.next())
	}
	if got := accountFor(t, l, "loud"); got.listed != 100 {
		t.Errorf("%d denials are listed, want 100", got.listed)
	}
}

// opened is an epoch that has just begun.
func opened(t *testing.T) *audittest.Log {
	t.Helper()
	r, l := audittest.New(t)
	record(t, r, audit.LogFound(audit.Opening{}))
	return l
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// epochs gives the leaves of several logs in turn, as a log of epochs does.
type epochs []*audittest.Log

func (l epochs) Each(f func(index int64, leaf []byte) error) error {
	for _, one := range l {
		if err := one.Each(f); err != nil {
			return err
		}
	}
	return nil
}

func openLog(t *testing.T, c auditlog.Config) *auditlog.Log {
	t.Helper()
	c.Dir, c.Origin, c.Logger = filepath.Join(t.TempDir(), "audit"), "test/nodes/node-1", silent()
	c.Boundary = audit.BoundaryLeaf(audittest.Source(), time.Now)
	l, err := auditlog.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestTheShareIsOfTheFile: a quarter of what an epoch takes on the disk, not of
// what its events have as text.
func TestTheShareIsOfTheFile(t *testing.T) {
	l := openLog(t, auditlog.Config{EpochBytes: epochBytes})
	r, err := audit.New(audit.Config{Log: l, Source: audittest.Source(), Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		all, err := l.Epochs()
		if err != nil || len(all) != 1 {
			t.Fatalf("Epochs() = %v, %v, want one", all, err)
		}
		return all[0].Bytes
	}
	before := size()
	flood := denialsOf(t, "loud")
	for range 15 {
		var group sync.WaitGroup
		for range 200 {
			e := flood.next()
			group.Go(func() { _ = r.Record(t.Context(), e) }) // together: fewer writes to the disk
		}
		group.Wait()
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if grown := size() - before; grown > epochBytes/4 || grown < epochBytes/8 {
		t.Errorf("the file grew by %d bytes, want nearly a quarter of %d and no more", grown, epochBytes)
	}
	found, err := audit.Resume(l.Recent(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	next, err := audit.New(audit.Config{Log: l, Source: audittest.Source(), Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	next.Resume(found)
	full := size()
	for range 50 {
		record(t, next, flood.next())
	}
	if err := next.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if grown := size() - full; grown > 16<<10 {
		t.Errorf("after a restart the file grew by %d bytes more, want a count", grown)
	}
}

// TestRepeatsTakeTheShareAfterARestartToo: events that tell of second times are
// refusals as well.
func TestRepeatsTakeTheShareAfterARestartToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		l.Begin(1, epochBytes)
		flood := denialsOf(t, "loud")
		for range 2 {
			flood.made = 0
			for range 280 {
				e := flood.next()
				e.ID = audit.DriverStarted().ID
				record(t, r, e)
			}
		}
		time.Sleep(time.Hour)
		audittest.Closed(t, r, l)
		if n := len(l.Leaves()); n < 400 {
			t.Fatalf("%d events are listed, want denials and as many events that tell of the second ones", n)
		}
		found, err := audit.Resume(l)
		if err != nil {
			t.Fatal(err)
		}
		next, err := audit.New(audit.Config{Log: l, Source: audittest.Source(), Logger: silent()})
		if err != nil {
			t.Fatal(err)
		}
		next.Resume(found)
		for range 1000 {
			record(t, next, flood.next())
		}
		audittest.Closed(t, next, l)
		if got := accountFor(t, l, "loud").bytes; got > epochBytes/4 {
			t.Errorf("refusals and their repeats take %d bytes of an epoch of %d", got, epochBytes)
		}
	})
}

// TestTakingTurnsGivesNoShareAnew: whoever is pushed out of the accounts comes
// back with the charges of the one whose place he takes.
func TestTakingTurnsGivesNoShareAnew(t *testing.T) {
	r, l := audittest.New(t)
	l.Begin(1, epochBytes)
	pods := 0
	refuse := func(namespace string) {
		pods++
		record(t, r, audit.Rejected(audit.Claim{Namespace: namespace, Pod: fmt.Sprint("p", pods)}, audit.ReasonInvalidRequest))
	}
	for i := range 1024 {
		for range 2 {
			refuse(fmt.Sprint("made-up-", i))
		}
	}
	for range 1500 {
		refuse("one")
		refuse("other")
	}
	if got := accountFor(t, l, "one"); got.bytes > epochBytes/4 || got.listed == 1500 {
		t.Errorf("%d refusals in %d bytes are listed, want at most a quarter of %d", got.listed, got.bytes, epochBytes)
	}
}

// TestACountOfRepeatsIsToldOnceBeyondTheShare: by the count, and by nobody else.
func TestACountOfRepeatsIsToldOnceBeyondTheShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		l.Begin(1, epochBytes)
		flood := denialsOf(t, "loud")
		same := func() {
			e := flood.template
			e.ID = audit.DriverStarted().ID
			record(t, r, e)
		}
		for range 5 {
			same()
		}
		for range 1000 {
			record(t, r, flood.next())
		}
		time.Sleep(audit.RepeatWindow + time.Second)
		same()
		audittest.Closed(t, r, l)
		if got := accountFor(t, l, "loud"); got.listed+got.counted != 1006 {
			t.Errorf("%d refusals are listed and %d counted, want 1006 together", got.listed, got.counted)
		}
	})
}
