package audit_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// TestResumeReadsOnBehindADamagedEpoch: a page of an epoch that has ended is
// gone. What is open in the one after it gets its end, and its refusals count.
func TestResumeReadsOnBehindADamagedEpoch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := auditlog.Open(auditlog.Config{
		Dir: dir, Origin: "test/nodes/node-1", Logger: silent(), EpochBytes: epochBytes,
		Boundary: audit.BoundaryLeaf(audittest.Source(), time.Now),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := audit.New(audit.Config{Log: l, Source: audittest.Source(), Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	allow := policiestest.Allow(t)
	record(t, r, audit.Decided(allow)) // whose end may be on the page that is gone
	for len(kept(t, l)) == 1 {
		pad := `{"schema":"` + audit.SchemaID + `","pad":"` + strings.Repeat("x", 30<<10) + `"}`
		if _, err := l.Append(t.Context(), []byte(pad)); err != nil {
			t.Fatal(err)
		}
	}
	lost := record(t, r, audit.Decided(allow))
	flood := denialsOf(t, "loud")
	for range 500 {
		record(t, r, flood.next())
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	damage(t, filepath.Join(dir, auditlog.EpochFile(1)))

	found, err := audit.Resume(l.Recent(time.Hour))
	if _, ok := errors.AsType[*auditlog.TamperedError](err); !ok {
		t.Errorf("Resume() = %v, want a TamperedError", err)
	}
	if len(found.Intents) != 1 || found.Intents[0].EventID != lost.ID {
		t.Errorf("Resume() finds %d intents, want that of %s", len(found.Intents), lost.ID)
	}
	next, err := audit.New(audit.Config{Log: l, Source: audittest.Source(), Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	next.Resume(found)
	before := kept(t, l)[1].Size
	for range 20 {
		record(t, next, flood.next())
	}
	after := kept(t, l)[1].Size
	if err := next.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after != before {
		t.Errorf("%d refusals are listed after the start, want them counted", after-before)
	}
}

func kept(t *testing.T, l *auditlog.Log) []auditlog.Epoch {
	t.Helper()
	list, err := l.Epochs()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// damage zeroes some of the middle of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(make([]byte, 100<<10), info.Size()*2/5)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
