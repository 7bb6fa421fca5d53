package driver_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// refreshInterval is that of newNode.
const refreshInterval = time.Minute

func newContent() map[string]string {
	return map[string]string{"password": "second value", "user": "app"}
}

func TestRepublishThatIsNotDueCallsNobody(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	for range 5 {
		n.mustPublish(apiPod())
	}
	if calls := len(n.provider.Calls()); calls != 1 {
		t.Errorf("provider calls = %d, want 1", calls)
	}
	n.expectEvents("PC2001I intent", "PC2001I complete")
}

func TestP9RotationKeepsMountAndOpenFiles(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection, func(s *setup) {
			s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), providertest.Files(newContent()))
		})
		n.mustPublish(apiPod())
		before := mountLines(t, n.target(apiPod()))
		held, err := os.Open(filepath.Join(n.target(apiPod()), "password"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { n.closed(held.Close()) }()
		n.clock.advance(2 * refreshInterval)
		n.mustPublish(apiPod())
		if diff := cmp.Diff(newContent(), n.content(apiPod())); diff != "" {
			t.Errorf("content after rotation (-want +got):\n%s", diff)
		}
		// The size follows what is held open; all else stays.
		size := regexp.MustCompile(`size=\d+k`)
		after := mountLines(t, n.target(apiPod()))
		if diff := cmp.Diff(size.ReplaceAllString(before[0], ""), size.ReplaceAllString(after[0], "")); diff != "" || len(after) != 1 {
			t.Errorf("mount table changed (-before +after):\n%s", diff)
		}
		old := make([]byte, 100)
		if k, _ := held.Read(old); string(old[:k]) != canary {
			t.Errorf("a file that was open reads %q, want the old content", old[:k])
		}
		events := n.expectEvents("PC2001I intent", "PC2001I complete", "PC2002I", "PC2002I complete")
		if events[3].ParentID != events[2].ID || events[3].Rotation == nil || events[3].Rotation.LateByMS < 50_000 {
			t.Errorf("rotation event = %+v, want it late by a minute and to belong to its decision", events[3])
		}
	})
}

func TestRepublishSendsVersionsAndRecordsNothingWhenNothingChanged(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	for range 3 {
		n.clock.advance(2 * refreshInterval)
		n.mustPublish(apiPod())
	}
	calls := n.provider.Calls()
	if len(calls) != 4 {
		t.Fatalf("provider calls = %d, want 4", len(calls))
	}
	if got := len(calls[1].GetCurrentObjectVersion()); got != 2 {
		t.Errorf("current versions sent = %d, want 2", got)
	}
	for _, e := range n.recorded() {
		if e.Type == audit.TypeRotate && e.Stage == audit.StageComplete {
			t.Errorf("an event says that content changed: %+v", e)
		}
	}
}

// A plugin that dies between the switch and the event leaves new content, and a
// record that does not know it.
func TestRefreshRecordsTheRotationThatACrashCutOff(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	rec, _ := n.records.Get(apiUID, volume)
	rec.Restored, rec.Versions = true, nil
	for _, v := range []struct {
		name     string
		versions []string
		rotated  int
	}{{"none", nil, 0}, {"the same", []string{"v1", "v1"}, 0}, {"others", []string{"v0", "v0"}, 1}} {
		rec.Versions = nil
		for i, version := range v.versions {
			rec.Versions = append(rec.Versions, driver.ObjectVersion{ID: []string{"password", "user"}[i], Version: version})
		}
		n.records.Put(rec)
		for range 2 {
			n.clock.advance(2 * refreshInterval)
			n.mustPublish(apiPod())
		}
		rotated := 0
		for _, e := range n.recorded() {
			if e.Type == audit.TypeRotate && e.Stage == audit.StageComplete {
				rotated++
			}
		}
		if rotated != v.rotated {
			t.Errorf("record with the versions %s: %d events of a rotation, want %d", v.name, rotated, v.rotated)
		}
	}
}

// whatGoesWrong are the ways in which a due republish can fail.
func whatGoesWrong() map[string]func(*node) {
	return map[string]func(*node){
		"provider is down":      func(n *node) { n.provider.Stop() },
		"policy is gone":        func(n *node) { n.policy.engine.Store(nil) },
		"log is broken":         func(n *node) { n.log.broken.Store(true) },
		"class was deleted":     func(n *node) { n.write("objects.yaml", strings.Split(objects, "---\napiVersion: secrets-store")[0]) },
		"pod is gone":           func(n *node) { n.write("pod-"+apiUID+".yaml", "") },
		"manifests are garbage": func(n *node) { n.write("objects.yaml", "}{") },
	}
}

func TestP9NoErrorOnRepublishTakesContentAway(t *testing.T) {
	for name, breakIt := range whatGoesWrong() {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.mustPublish(apiPod())
			before := mountLines(t, n.target(apiPod()))
			breakIt(n)
			n.clock.advance(2 * refreshInterval)
			for range 3 {
				n.mustPublish(apiPod())
			}
			if diff := cmp.Diff(secretFiles(), n.content(apiPod())); diff != "" {
				t.Errorf("content (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, mountLines(t, n.target(apiPod()))); diff != "" {
				t.Errorf("mount table changed (-before +after):\n%s", diff)
			}
			if rec, _ := n.records.Get(apiUID, volume); rec.Failures != 1 || !rec.DueAt.After(n.clock.now()) {
				t.Errorf("record = %+v, want one failure and a later due time", rec)
			}
		})
	}
}

func TestRepublishBacksOffAndRecovers(t *testing.T) {
	n := newNode(t, func(s *setup) {
		down := providertest.Fail(codes.Internal, "down")
		s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), down, down, providertest.Files(newContent()))
	})
	n.mustPublish(apiPod())
	n.clock.advance(2 * refreshInterval)
	n.mustPublish(apiPod())
	n.mustPublish(apiPod()) // in backoff
	if calls := len(n.provider.Calls()); calls != 2 {
		t.Fatalf("provider calls = %d, want 2: the second republish is in backoff", calls)
	}
	n.clock.advance(20 * time.Second)
	n.mustPublish(apiPod())
	n.clock.advance(40 * time.Second)
	n.mustPublish(apiPod())
	if diff := cmp.Diff(newContent(), n.content(apiPod())); diff != "" {
		t.Errorf("content after recovery (-want +got):\n%s", diff)
	}
	if rec, _ := n.records.Get(apiUID, volume); rec.Failures != 0 {
		t.Errorf("failures after recovery = %d, want 0", rec.Failures)
	}
}

func TestRepublishWithRotationOffAsksPolicyOnly(t *testing.T) {
	n := newNode(t, func(s *setup) { s.rotation = driver.Rotation{} })
	n.mustPublish(apiPod())
	n.clock.advance(6 * time.Minute)
	n.mustPublish(apiPod())
	if calls := len(n.provider.Calls()); calls != 1 {
		t.Errorf("provider calls = %d, want 1", calls)
	}
	n.expectEvents("PC2001I intent", "PC2001I complete", "PC2002I")
}

func TestRefreshFollowsTheTimeToLive(t *testing.T) {
	n := newNode(t, func(s *setup) {
		s.rotation.Interval = time.Hour
		s.policy = []policiestest.Option{policiestest.WithConfig("obligations: {ttl_seconds: 100}")}
	})
	n.mustPublish(apiPod())
	n.clock.advance(79 * time.Second)
	n.mustPublish(apiPod())
	if calls := len(n.provider.Calls()); calls != 1 {
		t.Errorf("provider calls after 79 s = %d, want 1", calls)
	}
	n.clock.advance(2 * time.Second)
	n.mustPublish(apiPod())
	if calls := len(n.provider.Calls()); calls != 2 {
		t.Errorf("provider calls after 81 s = %d, want 2: due at 80 %% of the time to live", calls)
	}
}

// mountAt mounts a tmpfs that is not ours.
func mountAt(t testing.TB, target, source string) {
	t.Helper()
	if err := os.MkdirAll(target, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, target, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
}

func TestForeignMountIsLeftAloneAndUnmountedAtTheEnd(t *testing.T) {
	n := newNode(t)
	mountAt(t, n.target(apiPod()), "somebody")
	if err := os.WriteFile(filepath.Join(n.target(apiPod()), "theirs"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	expectStatus(t, n.publish(apiPod()), codes.Unavailable, "not ours", "; hint: ")
	if got := n.content(apiPod()); got["theirs"] != "x" {
		t.Errorf("foreign content = %q, want it untouched", got)
	}
	n.mustUnpublish(apiPod())
	n.expectNothing(apiPod())
	n.expectEvents("PC9003E  ForeignMountKept", "PC9003E  ForeignMountUnmounted")
}

func TestCoveredVolumeIsUncovered(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	mountAt(t, n.target(apiPod()), "cover")
	n.mustPublish(apiPod())
	if diff := cmp.Diff(secretFiles(), n.content(apiPod())); diff != "" {
		t.Errorf("content after uncovering (-want +got):\n%s", diff)
	}
	n.expectEvents("PC2001I intent", "PC2001I complete", "PC9001E  VolumeCovered")
}

func TestP11LegacyVolumeOfUpstreamIsKept(t *testing.T) {
	n := newNode(t)
	target := n.target(apiPod())
	mountAt(t, target, "tmpfs")
	for _, step := range []error{
		os.Mkdir(filepath.Join(target, "..2026_11_24"), 0o755),
		os.WriteFile(filepath.Join(target, "..2026_11_24", "password"), []byte("old"), 0o600),
		os.Symlink("..2026_11_24", filepath.Join(target, "..data")),
		os.Symlink("..data/password", filepath.Join(target, "password")),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	n.mustPublish(apiPod())
	n.mustPublish(apiPod())
	if got := n.content(apiPod()); got["password"] != "old" {
		t.Errorf("legacy content = %q, want it untouched", got)
	}
	if got := n.gauge("portcullis_legacy_volumes"); got != 1 {
		t.Errorf("portcullis_legacy_volumes = %d, want 1", got)
	}
	n.mustUnpublish(apiPod())
	if got := n.gauge("portcullis_legacy_volumes"); got != 0 {
		t.Errorf("portcullis_legacy_volumes after unpublish = %d, want 0", got)
	}
}

func TestRecoverRebuildsFromTheMountTable(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	used := n.gauge("portcullis_volume_budget_used_bytes")
	intents := []audit.Intent{
		{EventID: n.events(1)[0].ID, Claim: audit.Claim{Namespace: "payments", Pod: "api-0", PodUID: apiUID, Volume: volume}},
		{EventID: n.events(1)[0].ID, Claim: audit.Claim{Namespace: "payments", Pod: "api-9", PodUID: "99999999-9999-4999-8999-999999999999", Volume: volume}},
	}
	n.records.Remove(apiUID, volume)
	n.records.Put(driver.Record{PodUID: "44444444-4444-4444-8444-444444444444", Volume: volume})
	if err := n.driver.Recover(intents); err != nil {
		t.Fatal(err)
	}
	if rec, ok := n.records.Get(apiUID, volume); !ok || rec.DueAt.IsZero() {
		t.Errorf("record = %+v, %t, want it rebuilt", rec, ok)
	}
	if _, ok := n.records.Get("44444444-4444-4444-8444-444444444444", volume); ok {
		t.Error("the record of a volume that is not mounted stayed")
	}
	if got := n.gauge("portcullis_volume_budget_used_bytes"); got != used {
		t.Errorf("budget in use = %d, want %d as before", got, used)
	}
	n.mustPublish(apiPod())
	if diff := cmp.Diff(secretFiles(), n.content(apiPod())); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
	events := n.events(5)
	if got := summary(events[2:5]); got != "PC2003I, PC2001I complete Recovered, PC2001E complete Abandoned" {
		t.Errorf("events of the start = %s, want the unmount that nobody recorded, and the ends of the interrupted deliveries", got)
	}
	if got := events[2].Workload.PodUID; got != "44444444-4444-4444-8444-444444444444" {
		t.Errorf("unmount of pod %s, want that of the record without a mount", got)
	}
}

func TestP4NoPartialVolumeThroughTheWholePlugin(t *testing.T) {
	const files, rounds = 20, 60
	content := map[string]string{}
	var list strings.Builder
	for i := range files {
		name := "f" + string(rune('a'+i))
		content[name] = strings.Repeat(name, 512)
		list.WriteString("      - objectName: payments/" + name + "\n        objectAlias: " + name + "\n")
	}
	n := newNode(t, func(s *setup) {
		s.provider.Handler = func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
			return providertest.Files(content)(ctx, r)
		}
	})
	head, _, _ := strings.Cut(objects, "      - objectName")
	n.write("objects.yaml", head+list.String())
	target := n.target(apiPod())
	// An unpublish empties the volume of a pod that has ended: only what is seen
	// while a publish may run counts.
	var publishing atomic.Int64 // even while an unpublish runs
	stop, partial, whole := make(chan struct{}), make(chan int, 1), 0
	go func() {
		bad := 0
		for {
			select {
			case <-stop:
				partial <- bad
				return
			default:
			}
			before := publishing.Load()
			visible := visibleFiles(target)
			switch {
			case before%2 == 0 || publishing.Load() != before || visible == 0:
			case visible == files:
				whole++
			default:
				bad++
			}
		}
	}()
	for range rounds {
		publishing.Add(1)
		n.mustPublish(apiPod())
		publishing.Add(1)
		n.mustUnpublish(apiPod())
	}
	close(stop)
	if bad := <-partial; bad > 0 || whole == 0 {
		t.Errorf("reader saw %d partial and %d whole volumes, want 0 and some", bad, whole)
	}
}

func visibleFiles(dir string) (n int) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..") {
			n++
		}
	}
	return n
}
