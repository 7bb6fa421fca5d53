//go:build attack

package driver_test

import (
	"bytes"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// liveVolumes is how many volumes a full node has.
const liveVolumes = 110

// trace is what must not change of a volume: each file with its bytes and its
// inode, and the lines of the mount table.
type trace struct {
	Files  map[string]string
	Inodes map[string]uint64
	Mounts []string
}

func (n *node) trace(p pod) trace {
	n.t.Helper()
	tr := trace{Files: n.content(p), Inodes: map[string]uint64{}, Mounts: mountLines(n.t, n.target(p))}
	for name := range tr.Files {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(n.target(p), name), &st); err != nil {
			n.t.Fatal(err)
		}
		tr.Inodes[name] = st.Ino
	}
	return tr
}

func (n *node) traces(pods []pod) map[string]trace {
	n.t.Helper()
	all := map[string]trace{}
	for _, p := range pods {
		all[p.uid] = n.trace(p)
	}
	return all
}

// expiring is a bundle in a directory whose .manifest ends it at that time, as
// the policy source of a plugin loads it.
func (n *node) expiring(end time.Time) *policies.Engine {
	n.t.Helper()
	dir := n.t.TempDir()
	manifest := `{"revision":"test","roots":["portcullis"],"rego_version":1,"metadata":{"contract":"portcullis/v1","serial":1,"not_after":"` + end.UTC().Format(time.RFC3339) + `"}}`
	for name, file := range policiestest.Files(grants, policiestest.WithFile(".manifest", manifest)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			n.t.Fatal(err)
		}
		if err := os.WriteFile(path, file.Data, 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	source, err := bundle.NewSource(bundle.Config{
		Verifier: bundle.Path(dir), AllowUnsigned: true, Compile: policies.Options{Clock: n.clock.now, Budget: 30 * time.Second},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := source.Reload(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	return source.Active()
}

// hasty is a bundle that denies, on an engine that gives nobody the time to.
func (n *node) hasty() *policies.Engine {
	n.t.Helper()
	b, err := bundle.LoadFS(policiestest.Files(""))
	if err != nil {
		n.t.Fatal(err)
	}
	e, err := policies.Compile(n.t.Context(), b, policies.Options{Budget: time.Nanosecond})
	if err != nil {
		n.t.Fatal(err)
	}
	return e
}

func TestP9ErrorsNeverRevoke(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		fleet := n.mountMany(liveVolumes)
		before := n.traces(fleet)
		good := n.policy.engine.Load()
		expiring := n.expiring(n.clock.now().Add(time.Minute))
		errors := map[string]struct{ breakIt, mendIt func() }{
			"bundle expired":           {func() { n.policy.engine.Store(expiring) }, func() {}},
			"no bundle":                {func() { n.policy.engine.Store(nil) }, func() {}},
			"evaluation timed out":     {func() { n.policy.engine.Store(n.hasty()) }, func() {}},
			"facts missing":            {func() { n.write("objects.yaml", "") }, func() { n.write("objects.yaml", objects) }},
			"facts unreadable":         {func() { n.write("objects.yaml", "}{") }, func() { n.write("objects.yaml", objects) }},
			"log full while allowed":   {func() { n.log.broken.Store(true) }, func() { n.log.broken.Store(false) }},
			"provider down, log fails": {func() { n.log.broken.Store(true); n.provider.Stop() }, func() { n.log.broken.Store(false) }},
		}
		reasons := map[audit.Reason]bool{}
		for name, e := range errors {
			e.breakIt()
			for range 3 {
				if got := n.round(fleet, 6*time.Minute); got != 0 {
					t.Errorf("%s: revoked %d of %d volumes, want 0", name, got, liveVolumes)
				}
			}
			e.mendIt()
			n.policy.engine.Store(good)
			if diff := cmp.Diff(before, n.traces(fleet)); diff != "" {
				t.Fatalf("%s: volumes changed (-before +after):\n%.2000s", name, diff)
			}
		}
		for _, event := range n.recorded() {
			reasons[event.Reason] = true
			if event.Type == audit.TypeRevoke || event.Type == audit.TypeMassRevocation {
				t.Errorf("event %s", event.Type)
			}
		}
		// Each error really came about.
		for _, r := range []audit.Reason{audit.ReasonBundleExpired, audit.ReasonNoBundle, audit.ReasonEvaluationTimeout, audit.ReasonFactsUnavailable} {
			if !reasons[r] {
				t.Errorf("no event has the reason %s: %v", r, maps.Keys(reasons))
			}
		}
	})
}

func TestP9TheBrakeHoldsOnAFullNode(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		fleet := n.mountMany(liveVolumes)
		n.deny()
		n.round(fleet, 2*refreshInterval)
		for i, want := range []int{5, 0, 0} {
			if got := n.round(fleet, 75*time.Second); got != want {
				t.Errorf("revoked in round %d = %d, want %d", i, got, want)
			}
		}
		for range 8 { // more than half an hour
			n.round(fleet, 5*time.Minute)
		}
		if got := n.emptied(fleet); got != 5 {
			t.Errorf("empty volumes = %d, want 5", got)
		}
		n.expectAlarm(liveVolumes)
		n.allow()
		n.round(fleet, confirmAfter)
		if got := n.emptied(fleet); got != 0 {
			t.Errorf("empty volumes after the bundle was mended = %d, want 0", got)
		}
	})
}

func TestP8ADenialRevokesOnAFullDisk(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		disk := t.TempDir()
		if err := unix.Mount("small", disk, "tmpfs", 0, "size=8m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
		log, err := auditlog.Open(auditlog.Config{
			Dir: filepath.Join(disk, "audit"), Origin: "test/nodes/" + nodeName, Boundary: boundaryLeaf(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := log.Close(); err != nil {
				t.Errorf("close log: %v", err)
			}
		})
		n := newNode(t, protection, func(s *setup) { s.events = log })
		n.mustPublish(apiPod())
		other := numbered(1)
		n.add(other)
		free := fillDisk(t, disk)
		fillLog(t, log)
		expectStatus(t, n.publish(other), codes.Unavailable, "audit log")
		n.expectNothingMounted(other)
		n.deny()
		n.mustLater(apiPod(), 2*refreshInterval)
		expectStatus(t, n.later(apiPod(), confirmAfter), codes.Unavailable, "were revoked")
		n.expectContent(apiPod(), nil)
		before, _, err := log.Tree()
		if err != nil {
			t.Fatal(err)
		}
		free()
		n.awaitLeaves(log, before, "PC2002W", "PC2008I")
		n.mustUnpublish(apiPod())
	})
}

// fillLog uses up the room that the log has in its file.
func fillLog(t *testing.T, log *auditlog.Log) {
	t.Helper()
	var leaf []byte
	if err := log.Each(func(_ auditlog.Position, l []byte) error { leaf = bytes.Clone(l); return nil }); err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		if _, err := log.AppendReserved(t.Context(), leaf); err != nil {
			return
		}
	}
	t.Fatal("the log took ten thousand events on a full disk")
}

func (n *node) expectNothingMounted(p pod) {
	n.t.Helper()
	if lines := mountLines(n.t, n.target(p)); len(lines) > 0 {
		n.t.Errorf("mounted: %q", lines)
	}
}

// awaitLeaves waits until the log has events of these codes after so many
// others.
func (n *node) awaitLeaves(log *auditlog.Log, after int64, want ...audit.Code) {
	n.t.Helper()
	deadline := time.Now().Add(90 * time.Second) // owed events are tried every half minute
	for {
		have := map[audit.Code]bool{}
		err := log.Each(func(p auditlog.Position, leaf []byte) error {
			e, err := audit.Parse(leaf)
			if p.Index >= after {
				have[e.Code] = true
			}
			return err
		})
		if err != nil {
			n.t.Fatal(err)
		}
		missing := 0
		for _, code := range want {
			if !have[code] {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("events of the full disk = %v, want %v", have, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
