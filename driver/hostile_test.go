package driver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// writable is the view of a volume that a container with CAP_SYS_ADMIN makes
// itself.
func (n *node) writable(p pod) string {
	n.t.Helper()
	dir := n.t.TempDir()
	if err := unix.Mount(n.target(p), dir, "", unix.MS_BIND, ""); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
		n.t.Fatal(err)
	}
	return dir
}

func TestHostileSizesCountForOneVolumeAndNoMore(t *testing.T) {
	for _, size := range []string{"size=100g", "size=0", "size=4611686018427387904", "nr_inodes=0"} {
		t.Run(size, func(t *testing.T) {
			n := newNode(t, func(s *setup) {
				s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), providertest.Files(newContent()))
			})
			n.mustPublish(apiPod())
			if err := unix.Mount("", n.writable(apiPod()), "", unix.MS_REMOUNT, size); err != nil {
				t.Fatal(err)
			}
			n.clock.advance(2 * refreshInterval)
			n.mustPublish(apiPod())
			if size != "size=0" { // which the kernel does not take back
				if diff := cmp.Diff(newContent(), n.content(apiPod())); diff != "" {
					t.Errorf("content after rotation (-want +got):\n%s", diff)
				}
			}
			largest := hardening.Limits{Bytes: 1 << 20}.SizeBytes()
			if used := n.gauge("portcullis_volume_budget_used_bytes"); used <= 0 || used > largest {
				t.Errorf("budget in use = %d, want at most one volume's %d", used, largest)
			}
			other := apiPod()
			other.name, other.uid = "api-1", "22222222-2222-4222-8222-222222222222"
			n.add(other)
			n.mustPublish(other)
		})
	}
}

func TestP8AVolumeThatWasTamperedWithDoesNotKeepThePluginFromStarting(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		n.mustPublish(apiPod())
		evil := n.writable(apiPod())
		if err := os.Remove(filepath.Join(evil, "..data")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../etc", filepath.Join(evil, "..data")); err != nil {
			t.Fatal(err)
		}
		if err := n.driver.Recover(nil); err != nil {
			t.Errorf("Recover() = %v, want nil: somebody has to unmount", err)
		}
		// Only locked pages can be missing.
		if err := n.driver.Unlocked(); (err != nil) != (n.volumes.Protection() == hardening.ProtectionMlock) {
			t.Errorf("Unlocked() = %v with %s", err, n.volumes.Protection())
		}
		n.mustUnpublish(apiPod())
		n.expectNothing(apiPod())
	})
}

func TestP8ACoveredVolumeDoesNotKeepThePluginFromStarting(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		n.mustPublish(apiPod())
		mountAt(t, n.target(apiPod()), "cover")
		if err := n.driver.Recover(nil); err != nil {
			t.Errorf("Recover() = %v, want nil", err)
		}
		n.mustUnpublish(apiPod())
		n.expectNothing(apiPod())
	})
}

// holdUp makes every open in a volume wait until the returned function is called.
func holdUp(t *testing.T, dir string) (letGo func()) {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_OPEN_PERM|unix.FAN_ONDIR, unix.AT_FDCWD, dir); err != nil {
		t.Fatal(err)
	}
	return func() { _ = unix.Close(fd) }
}

func TestP8AVolumeThatAnswersNoOpenHoldsUpNobody(t *testing.T) {
	n := newNode(t, func(s *setup) {
		s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), providertest.Files(newContent()))
	})
	n.mustPublish(apiPod())
	letGo := holdUp(t, n.writable(apiPod()))
	defer letGo()
	n.clock.advance(2 * refreshInterval)
	republished := make(chan error, 1)
	go func() { republished <- n.publish(apiPod()) }()
	for len(n.provider.Calls()) < 2 {
		time.Sleep(time.Millisecond)
	}
	begin := time.Now()
	if err := n.unpublish(apiPod()); err != nil {
		t.Errorf("NodeUnpublishVolume() = %v, want nil", err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("unpublish took %v, want the two limits of five seconds", took)
	}
	if err := <-republished; err != nil {
		t.Errorf("the republish that was held up = %v, want nil", err)
	}
	if lines := mountLines(t, n.target(apiPod())); len(lines) > 0 {
		t.Errorf("still mounted: %q", lines)
	}
	letGo()
	for n.driver.Refreshing() > 0 {
		time.Sleep(time.Millisecond)
	}
	if used := n.gauge("portcullis_volume_budget_used_bytes"); used != 0 {
		t.Errorf("budget in use after the refresh ended = %d, want 0", used)
	}
	if rec, ok := n.records.Get(apiUID, volume); ok {
		t.Errorf("record of an unmounted volume: %+v", rec)
	}
}

func TestARotationThatLeavesSomethingBehindIsRecordedAsOne(t *testing.T) {
	n := newNode(t, func(s *setup) {
		s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), providertest.Files(newContent()))
	})
	n.mustPublish(apiPod())
	deep := n.writable(apiPod())
	for range 80 { // deeper than anything is removed
		deep = filepath.Join(deep, "d")
		if err := os.Mkdir(deep, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	n.clock.advance(2 * refreshInterval)
	n.mustPublish(apiPod())
	events := n.expectEvents("PC2001I intent", "PC2001I complete", "PC2002I", "PC2002I complete")
	if got := len(events[3].Files); got != 2 {
		t.Errorf("files in the rotation's event = %d, want 2", got)
	}
}

func TestOneHungProviderHoldsNobodysMemory(t *testing.T) {
	// Room for one volume in flight, were it held during the fetch.
	n := newNode(t, func(s *setup) {
		s.maxNode = 9 << 20
		s.provider.Handler = providertest.InTurn(providertest.Hang(), providertest.Hang(), providertest.Hang(), providertest.Hang(), providertest.Files(secretFiles()))
	})
	for _, uid := range []string{"a", "b", "c", "d"} {
		p := apiPod()
		p.name, p.uid = "hung-"+uid, "22222222-2222-4222-8222-22222222222"+uid
		n.add(p)
		go func() { _ = n.publish(p) }()
	}
	for len(n.provider.Calls()) < 4 {
		time.Sleep(time.Millisecond)
	}
	n.mustPublish(apiPod())
}

func TestClassTextBecomesNoMetricLabel(t *testing.T) {
	n := newNode(t)
	n.write("objects.yaml", strings.ReplaceAll(objects, "provider: local", "provider: "+strings.Repeat("x", 5000)))
	expectStatus(t, n.publish(apiPod()), codes.InvalidArgument, "spec.provider")
	for name := range n.collect() {
		if strings.Contains(name, "xxxx") {
			t.Errorf("metric %.100s has class text in a label", name)
		}
	}
}

func TestOccupiedTargetIsNoForeignMount(t *testing.T) {
	hardeningtest.NeedRoot(t)
	n := newNode(t)
	if err := os.MkdirAll(n.target(apiPod()), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.target(apiPod()), "stray"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	expectStatus(t, n.publish(apiPod()), codes.Unavailable, "holds files and nothing is mounted", "; hint: ")
	n.mustUnpublish(apiPod())
	n.expectNothing(apiPod())
}
