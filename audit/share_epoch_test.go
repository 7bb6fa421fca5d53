package audit_test

import (
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
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
	defer next.Close(t.Context())
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
