package driver_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// revoked denies a pod until its volume is empty.
func (n *node) revoked(p pod) {
	n.t.Helper()
	n.deny()
	n.mustLater(p, 2*refreshInterval)
	if err := n.later(p, confirmAfter); status.Code(err) != codes.Unavailable {
		n.t.Fatalf("NodePublishVolume of what is revoked = %v, want Unavailable", err)
	}
}

// within changes the volume of a pod as root can, behind a read-only mount too.
func (n *node) within(p pod, change func(dir string)) {
	n.t.Helper()
	dir := n.writable(p)
	change(dir)
	n.must(unix.Unmount(dir, unix.MNT_DETACH))
}

// Killed after the content came back and before volumes.db says so.
func TestRevokeDoesNotBelieveARecordThatSaysEmpty(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	n.revoked(apiPod())
	onDisk, _ := n.records.Get(apiUID, volume)
	n.allow()
	n.mustLater(apiPod(), 2*refreshInterval)
	n.expectContent(apiPod(), secretFiles())
	n.records.Put(onDisk)
	n.must(n.driver.Recover(nil))
	n.deny()
	for range 4 {
		_ = n.later(apiPod(), 2*confirmAfter)
	}
	n.expectContent(apiPod(), nil)
}

// Killed within a revocation, with rotation off, and then allowed again: what
// was emptied by half must come back whole.
func TestRevokeCutOffComesBackWithRotationOff(t *testing.T) {
	for name, cutOff := range map[string]func(dir, generation string) error{
		"first step":      func(dir, _ string) error { return os.Remove(filepath.Join(dir, "..data")) },
		"generation gone": func(dir, generation string) error { return os.RemoveAll(filepath.Join(dir, generation)) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, func(s *setup) { s.rotation = driver.Rotation{} })
			n.mustPublish(apiPod())
			n.deny()
			n.mustLater(apiPod(), 6*time.Minute)
			n.within(apiPod(), func(dir string) {
				generation, err := os.Readlink(filepath.Join(dir, "..data"))
				n.must(err)
				n.must(cutOff(dir, generation))
			})
			n.must(n.driver.Recover(nil))
			n.allow()
			for range 5 {
				_ = n.later(apiPod(), 6*time.Minute)
			}
			n.expectContent(apiPod(), secretFiles())
		})
	}
}

// A container whose user owns the file can take a lease, which no capability is
// needed for (fcntl(2)). The lease must not make a revocation a success while
// the open file can be read, and must not keep it for good.
func TestRevokeIsNoSuccessWhileALeaseKeepsContent(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	f, err := os.Open(filepath.Join(n.target(apiPod()), "password"))
	n.must(err)
	defer func() { _ = f.Close() }()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		t.Fatalf("take a lease: %v", err)
	}
	n.deny()
	n.mustLater(apiPod(), 2*refreshInterval)
	_ = n.later(apiPod(), confirmAfter)
	if readable(f) {
		n.expectCodes("PC2008E")
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
		t.Fatalf("give the lease back: %v", err)
	}
	expectStatus(t, n.later(apiPod(), confirmAfter), codes.Unavailable, "were revoked")
	if readable(f) {
		t.Error("a file that was open when its volume was revoked can be read still")
	}
	n.expectCodes("PC2008E", "PC2008I")
}

// eventually waits for what is told in the background.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for range 500 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s: not within five seconds", what)
}

func readable(f *os.File) bool {
	n, _ := f.ReadAt(make([]byte, 1), 0)
	return n > 0
}

// expectCodes compares the events of revocations.
func (n *node) expectCodes(want ...string) {
	n.t.Helper()
	var got []string
	eventually(n.t, "events of the revocation", func() bool {
		got = nil
		for _, e := range n.recorded() {
			if strings.HasPrefix(string(e.Code), "PC2008") {
				got = append(got, string(e.Code))
			}
		}
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		n.t.Errorf("events of the revocation = %q, want %q", got, want)
	}
}

// The decision that emptied the volume, not the last one that agreed with it.
func TestRevokeToldAgainNamesItsDecision(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	n.revoked(apiPod())
	first, _ := n.records.Get(apiUID, volume)
	n.policy.engine.Store(policiestest.Engine(t, strings.ReplaceAll(grants, "payments", "others")))
	n.mustLater(apiPod(), confirmAfter)
	rec, _ := n.records.Get(apiUID, volume)
	rec.Restored = true
	n.records.Put(rec)
	n.must(n.driver.Recover(nil))
	n.expectCodes("PC2008I", "PC2008I")
	for _, e := range n.recorded() {
		if e.Code == "PC2008I" && e.Policy.DecisionID != first.Denial.DecisionID {
			t.Errorf("decision of the revocation = %s, want %s", e.Policy.DecisionID, first.Denial.DecisionID)
		}
	}
}

// What is nested too deep for the scrub: the volume is gone all the same.
func TestSweepTellsWhatItDidNotScrub(t *testing.T) {
	n := newNode(t)
	n.orphan(apiPod())
	n.within(apiPod(), func(dir string) { n.must(os.MkdirAll(filepath.Join(dir, strings.Repeat("d/", 80)), 0o700)) })
	for range 4 {
		n.sweepAfter(orphanWait + time.Minute)
	}
	if _, ok := n.records.Get(apiUID, volume); ok {
		t.Error("the record of a removed volume stayed")
	}
	if got := n.gauge("portcullis_orphaned_volumes"); got != 0 {
		t.Errorf("portcullis_orphaned_volumes = %d, want 0", got)
	}
	eventually(t, "an event that names the incomplete scrub", func() bool {
		return slices.ContainsFunc(n.recorded(), func(e audit.Event) bool { return e.Reason == audit.ReasonScrubIncomplete })
	})
}

func TestSweepForgetsWhatSomebodyUnmounted(t *testing.T) {
	n := newNode(t)
	n.orphan(apiPod())
	n.sweepAfter(0)
	n.must(unix.Unmount(n.target(apiPod()), unix.MNT_DETACH))
	n.sweepAfter(time.Hour)
	if got := n.gauge("portcullis_orphaned_volumes"); got != 0 {
		t.Errorf("portcullis_orphaned_volumes = %d, want 0", got)
	}
}
