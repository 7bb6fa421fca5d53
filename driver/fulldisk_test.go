package driver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// smallDisk mounts a file system of 32 MiB to keep the plugin's state on.
func smallDisk(t *testing.T, kind string) string {
	t.Helper()
	hardeningtest.NeedRoot(t)
	dir := t.TempDir()
	if kind == "tmpfs" {
		if err := unix.Mount("portcullis-test", dir, "tmpfs", 0, "size=32m,mode=0700"); err != nil {
			t.Fatal(err)
		}
	} else {
		image := filepath.Join(t.TempDir(), "disk")
		if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 32<<20)); err != nil {
			t.Fatal(err)
		}
		for _, command := range [][]string{{"mkfs." + kind, "-q", image}, {"mount", "-o", "loop", image, dir}} {
			if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
				hardeningtest.Missing(t, fmt.Sprintf("needs mkfs.%s and a loop device: %v: %s", kind, err, out))
			}
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", kind, err)
		}
	})
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

const ballast = "ballast"

// fillDisk takes what room there is, and returns what gives it back.
func fillDisk(t *testing.T, dir string) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, ballast)
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 64 << 10, 4 << 10, 1 << 10, 1} {
		for err = nil; err == nil; {
			if _, err = f.Write(make([]byte, size)); err == nil && size > 4<<10 {
				err = f.Sync() // or the disk would find out too late
			}
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("fill the disk = %v, want %v", err, syscall.ENOSPC)
		}
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// eventsOf returns what is in a log.
func eventsOf(t *testing.T, l *auditlog.Log) []audit.Event {
	t.Helper()
	var events []audit.Event
	err := l.Each(func(_ auditlog.Position, leaf []byte) error {
		e, err := audit.Parse(leaf)
		events = append(events, e)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// awaitEvents waits until the log's events are as they should be.
func awaitEvents(t *testing.T, l *auditlog.Log, what string, as func([]audit.Event) bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		events := eventsOf(t, l)
		if as(events) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s among the %d events of the log", what, len(events))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// ofPod counts the events of one kind about a pod.
func ofPod(events []audit.Event, p pod, code audit.Code, stage audit.Stage) (n int) {
	for _, e := range events {
		if e.Code == code && e.Stage == stage && e.Workload != nil && e.Workload.PodUID == p.uid {
			n++
		}
	}
	return n
}

// boundaryLeaf makes what a log writes about itself.
func boundaryLeaf() func(kind string, state []byte) ([]byte, error) {
	return audit.BoundaryLeaf(audit.Source{Component: "driver", Version: "test", Cluster: "test", Node: nodeName}, time.Now)
}

// logged is a node whose log is a real one, in dir.
func logged(t *testing.T, dir string, change ...func(*setup)) (*node, *auditlog.Log) {
	t.Helper()
	l, err := auditlog.Open(auditlog.Config{Dir: filepath.Join(dir, "audit"), Origin: "test/nodes/" + nodeName, Boundary: boundaryLeaf(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // closed in the test already, where it came that far
	n := newNode(t, append(change, func(s *setup) { s.events, s.stateDir = l, dir })...)
	t.Cleanup(func() { _ = os.Remove(filepath.Join(dir, ballast)) }) // a recorder that is closed waits for the log
	return n, l
}

// TestP8FullDiskUnderTheLog: granting stops, and nothing else. What happens
// meanwhile is in the log once there is room, or counted.
func TestP8FullDiskUnderTheLog(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				t.Parallel() // each has a node and a disk of its own
				testFullDisk(t, kind, protection)
			})
		})
	}
}

func testFullDisk(t *testing.T, kind string, protection func(*setup)) {
	disk := smallDisk(t, kind)
	n, l := logged(t, disk, fleetGranted, protection)
	ending, staying, coming := teamPod("team-a", 0), teamPod("team-b", 0), teamPod("team-c", 0)
	n.fleet(ending, staying, coming)
	n.mustPublish(ending)
	n.mustPublish(staying)
	empty := fillDisk(t, disk)
	granted := n.publishUntilRefused(t, coming)
	calls := len(n.provider.Calls())

	n.clock.advance(2 * refreshInterval)
	n.mustPublish(staying)
	if diff := cmp.Diff(secretFiles(), n.content(staying)); diff != "" {
		t.Errorf("content on a full disk (-want +got):\n%s", diff)
	}
	begin := time.Now()
	n.mustUnpublish(ending)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("unpublish took %v on a full disk, want it not to wait", took)
	}
	if lines := mountLines(t, n.target(ending)); len(lines) > 0 {
		t.Errorf("still mounted: %q", lines)
	}
	expectStatus(t, n.publish(ending), codes.Unavailable, "audit log", "the platform team sees the reason")
	if got := len(n.provider.Calls()); got != calls {
		t.Errorf("provider calls on a full disk = %d, want none", got-calls)
	}
	if err := n.recorder.Healthy(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Healthy() = %v, want %v", err, syscall.ENOSPC)
	}
	n.expectBudget(1)
	for deadline := time.Now().Add(time.Minute); !strings.Contains(n.stderr.String(), "volume records not written"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("volumes.db was written on a full disk")
		}
	}

	empty()
	awaitEvents(t, l, "unmount of what was unmounted", func(events []audit.Event) bool { return ofPod(events, ending, "PC2003I", "") == 1 })
	n.awaitRecords(disk, 1)
	n.mustPublish(coming)
	n.clock.advance(2 * refreshInterval)
	n.mustPublish(staying)
	n.mustUnpublish(coming)
	n.mustUnpublish(staying)
	events := n.closeLog(t, l, disk)
	for what, got := range map[string][2]int{
		"mounts of " + coming.name:   {ofPod(events, coming, "PC2001I", "complete"), granted + 1},
		"unmounts of " + coming.name: {ofPod(events, coming, "PC2003I", ""), granted + 1},
		"mounts of " + ending.name:   {ofPod(events, ending, "PC2001I", "complete"), 1},
		"unmounts of " + ending.name: {ofPod(events, ending, "PC2003I", ""), 1},
		"mounts of " + staying.name:  {ofPod(events, staying, "PC2001I", "complete"), 1},
	} {
		if got[0] != got[1] {
			t.Errorf("%s in the log = %d, want %d", what, got[0], got[1])
		}
	}
}

// publishUntilRefused mounts and unmounts until what is left of the log's own
// pages is used up, and returns how often that went.
func (n *node) publishUntilRefused(t *testing.T, p pod) (granted int) {
	t.Helper()
	for range 2000 {
		if err := n.publish(p); err != nil {
			expectStatus(t, err, codes.Unavailable, "the decision cannot be recorded in the audit log", "; hint: nothing is granted without a record; the platform team sees the reason")
			if lines := mountLines(n.t, n.target(p)); len(lines) > 0 {
				n.t.Errorf("mounted without a record: %q", lines)
			}
			return granted
		}
		granted++
		n.mustUnpublish(p)
	}
	n.t.Fatalf("%d mounts with a full disk, want a refusal", granted)
	return 0
}

// closeLog ends recorder and log as the plugin does, and returns what verifies.
func (n *node) closeLog(t *testing.T, l *auditlog.Log, dir string) []audit.Event {
	t.Helper()
	if err := n.recorder.Close(n.t.Context()); err != nil {
		n.t.Fatalf("Close() = %v, want nil: all that was owed has room", err)
	}
	events := eventsOf(t, l)
	key, err := l.VerifierKey()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		n.t.Fatalf("Close() of the log = %v, want nil", err)
	}
	report, err := auditlog.Verify(n.t.Context(), auditlog.VerifyConfig{Path: filepath.Join(dir, "audit", auditlog.EpochFile(1)), VKey: key})
	if err != nil || report.Events != int64(len(events)) {
		n.t.Errorf("Verify() = %d events, %v, want %d", report.Events, err, len(events))
	}
	return events
}

// TestP8FullDiskLosesNothingSilently: more is refused than a recorder can keep
// in memory. Every refusal is an event, or counted in one that says so.
func TestP8FullDiskLosesNothingSilently(t *testing.T) {
	const refusals, atOnce = owedAtMost + owedAtMost/8, 16
	disk := smallDisk(t, "tmpfs")
	n, l := logged(t, disk, func(s *setup) { s.owed = owedAtMost })
	empty := fillDisk(t, disk)
	n.publishUntilRefused(t, apiPod())
	errs := make(chan error, refusals)
	for worker := range atOnce {
		go func() {
			for i := worker; i < refusals; i += atOnce {
				r := n.request(apiPod())
				r.VolumeContext["csi.storage.k8s.io/pod.name"] = fmt.Sprint("nobody-", i)
				_, err := n.csi.NodePublishVolume(t.Context(), r)
				errs <- err
			}
		}()
	}
	for range refusals {
		expectStatus(t, <-errs, codes.NotFound)
	}
	empty()
	var written, counted int64
	for _, e := range n.closeLog(t, l, disk) {
		switch {
		case e.Type == audit.TypeAuditGap:
			counted += e.Count
		case e.Reason == audit.ReasonPodNotFound && e.Workload != nil && strings.HasPrefix(e.Workload.Pod, "nobody-"):
			written++
		}
	}
	if written+counted != refusals || written == 0 || counted == 0 {
		t.Errorf("%d refusals in the log and %d counted as missing, want some of both and %d together", written, counted, refusals)
	}
}

// TestP8StartOnAFullDisk: a log is opened while the disk is full, grants
// nothing, and goes on once there is room, without another start.
func TestP8StartOnAFullDisk(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t, kind)
			before, l := logged(t, disk)
			empty := fillDisk(t, disk)
			before.publishUntilRefused(t, apiPod())
			// A plugin that is stopped waits for what it owes, though not for ever.
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, _ = before.recorder.Close(ctx), l.Close()

			n, l := logged(t, disk)
			n.publishUntilRefused(t, apiPod())
			n.mustUnpublish(apiPod())
			empty()
			n.mustPublish(apiPod())
			n.mustUnpublish(apiPod())
			events := n.closeLog(t, l, disk)
			if got := ofPod(events, apiPod(), "PC2003I", ""); got < 1 {
				t.Errorf("unmounts in the log = %d, want some", got)
			}
		})
	}
}
