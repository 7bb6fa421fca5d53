package log_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// smallDisk mounts a file system of this size.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	hardeningtest.NeedRoot(t)
	mnt := t.TempDir()
	if err := syscall.Mount("portcullis-test", mnt, "tmpfs", 0, "size="+size+",mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mnt, syscall.MNT_DETACH); err != nil {
			t.Errorf("Unmount(%q) = %v", mnt, err)
		}
	})
	return mnt
}

// fillDisk takes all that is left, and goes on taking it until it is told to
// give it back.
func fillDisk(t *testing.T, dir string) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// TestP7DiskFull fills a small tmpfs: no acknowledged event is lost, and the
// log goes on by itself once there is room.
func TestP7DiskFull(t *testing.T) {
	mnt := smallDisk(t, "4m")
	c := config(t)
	c.Dir = filepath.Join(mnt, "audit")
	ballast := filepath.Join(mnt, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 5<<19), 0o600); err != nil {
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
	if r := verified(t, c.Dir); r.Events != int64(acknowledged+51) {
		t.Errorf("Verify().Events = %d, want %d", r.Events, acknowledged+51)
	}
}

// TestP7AFullDiskLeavesTheReserve: grants end, and nobody else can take the room
// of what must never wait. It has room for hundreds.
func TestP7AFullDiskLeavesTheReserve(t *testing.T) {
	c := config(t)
	mnt := smallDisk(t, "8m")
	c.Dir = filepath.Join(mnt, "audit")
	l := open(t, c)
	fill(t, l, 0, 50)
	empty := fillDisk(t, mnt)
	granted := 50
	var refused error
	for i := 0; refused == nil && i < 5000; i++ {
		if _, refused = l.Append(t.Context(), leaf(100+i)); refused == nil {
			granted++
		}
	}
	if !errors.Is(refused, auditlog.ErrDiskFull) || !errors.Is(refused, syscall.ENOSPC) || !strings.Contains(refused.Error(), "; hint: ") {
		t.Fatalf("Append() on a full disk = %v, want %v", refused, auditlog.ErrDiskFull)
	}
	const ends = 400
	fillReserved(t, l, 10_000, ends)
	if err := l.Healthy(); !errors.Is(err, auditlog.ErrDiskFull) {
		t.Errorf("Healthy() = %v, want %v", err, auditlog.ErrDiskFull)
	}
	if _, err := l.Append(t.Context(), leaf(20_000)); !errors.Is(err, auditlog.ErrDiskFull) {
		t.Errorf("Append() = %v, want %v", err, auditlog.ErrDiskFull)
	}
	closeLog(t, l) // and what is written survives the end on a full disk
	empty()
	empty = fillDisk(t, mnt)
	l = open(t, c)
	if err := l.Healthy(); !errors.Is(err, auditlog.ErrDiskFull) {
		t.Errorf("Healthy() of a start on a full disk = %v, want %v", err, auditlog.ErrDiskFull)
	}
	empty()
	fill(t, l, 30_000, 1)
	if err := l.Healthy(); err != nil {
		t.Errorf("Healthy() with room again = %v, want no error", err)
	}
	if got := len(leaves(t, l)); got != granted+ends+1 {
		t.Errorf("len(Each()) = %d, want %d", got, granted+ends+1)
	}
}

func fillReserved(t *testing.T, l *auditlog.Log, from, n int) {
	t.Helper()
	for i := range n {
		if _, err := l.AppendReserved(t.Context(), leaf(from+i)); err != nil {
			t.Fatalf("AppendReserved() number %d on a full disk = %v, want no error", i, err)
		}
	}
}

// TestP7AFullDiskPutsTheRollOverOff: the next epoch does not fit, so the old one
// goes on, and ends once there is room.
func TestP7AFullDiskPutsTheRollOverOff(t *testing.T) {
	c := small(t)
	mnt := smallDisk(t, "8m")
	c.Dir = filepath.Join(mnt, "audit")
	l := open(t, c)
	fill(t, l, 0, 600)
	empty := fillDisk(t, mnt)
	if err := l.RollOver(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("RollOver() on a full disk = %v, want %v", err, syscall.ENOSPC)
	}
	if err := l.RotateKey(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("RotateKey() on a full disk = %v, want %v", err, syscall.ENOSPC)
	}
	fillReserved(t, l, 1000, 300)
	if n := len(epochs(t, l)); n != 1 {
		t.Errorf("len(Epochs()) = %d, want 1", n)
	}
	empty()
	fill(t, l, 2000, 400)
	if err := l.RollOver(); err != nil {
		t.Errorf("RollOver() with room again = %v, want no error", err)
	}
	closeLog(t, l)
	if got := len(verifiedAll(t, c.Dir)); got != 1300 {
		t.Errorf("the epochs hold %d events, want 1300", got)
	}
}
