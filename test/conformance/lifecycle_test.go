package conformance_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestLifeCycle takes a volume through figure 8 of the specification, calling
// everything at least twice, with both ways to keep it out of swap.
func TestLifeCycle(t *testing.T) {
	for _, protection := range []string{"noswap", "mlock"} {
		for name, group := range map[string]string{"group": "2000", "no group": ""} {
			t.Run(protection+" "+name, func(t *testing.T) {
				if protection == "noswap" {
					needKernel(t, 6, 4, "tmpfs with noswap")
				}
				w := newWorld(t, "--swap-protection="+protection)
				w.live(w.newPod(strings.Repeat("v", 63), group)) // the longest name of a volume
			})
		}
	}
}

func (w *world) live(p pod) {
	w.t.Helper()
	const leastPath = 128 // what a plugin must take
	if target := w.target(p); len(target) < leastPath {
		w.t.Fatalf("the target %q has %d bytes, want at least %d to try", target, len(target), leastPath)
	}
	w.expectAbsent(p)
	w.mustUnpublish(p) // what never was: never NOT_FOUND
	w.expectAbsent(p)

	w.mustPublish(p)
	w.expectContent(p)
	first := mounts(w.t, w.target(p))
	if len(first) != 1 {
		w.t.Fatalf("mounted at the target: %q, want one volume", first)
	}
	for range 3 {
		w.mustPublish(p)
		if diff := cmp.Diff(first, mounts(w.t, w.target(p))); diff != "" {
			w.t.Errorf("mounts after a republish (-before +after):\n%s", diff)
		}
	}
	w.expectContent(p)
	w.expectStats(p)

	w.mustUnpublish(p)
	w.expectAbsent(p)
	w.mustUnpublish(p)
	w.expectAbsent(p)

	w.mustPublish(p) // the same id and target, anew
	w.expectContent(p)
	if err := w.deletePod(p); err != nil {
		w.t.Fatal(err)
	}
	w.mustUnpublish(p) // of a pod that the cluster has forgotten
	w.expectAbsent(p)
}

func (w *world) mustUnpublish(p pod) {
	w.t.Helper()
	if err := w.unpublish(p); err != nil {
		w.t.Fatalf("NodeUnpublishVolume(%s) = %v, want nil", p.name, err)
	}
}

// expectAbsent checks that nothing is at the target, and that the plugin says so.
func (w *world) expectAbsent(p pod) {
	w.t.Helper()
	if got := mounts(w.t, w.target(p)); len(got) > 0 {
		w.t.Errorf("mounted at the target: %q, want nothing", got)
	}
	// "The SP MUST delete the file or directory it created at this path."
	if _, err := os.Lstat(w.target(p)); !errors.Is(err, os.ErrNotExist) {
		w.t.Errorf("Lstat(target) = %v, want that it does not exist", err)
	}
	_, err := w.stats(p)
	expectCode(w.t, "NodeGetVolumeStats where nothing is mounted", err, codes.NotFound)
}

// expectContent checks that the volume can be used as the capability says:
// mounted, read-only, and readable by the mount group.
func (w *world) expectContent(p pod) {
	w.t.Helper()
	got := map[string]string{}
	for name := range secrets() {
		b, err := os.ReadFile(filepath.Join(w.target(p), name))
		if err != nil {
			w.t.Fatal(err)
		}
		got[name] = string(b)
	}
	if diff := cmp.Diff(secrets(), got); diff != "" {
		w.t.Errorf("content (-want +got):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(w.target(p), "password"))
	if err != nil {
		w.t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	mode, gid := os.FileMode(0o444), "0"
	if p.group != "" {
		mode, gid = 0o440, p.group
	}
	if !ok || info.Mode() != mode || strconv.Itoa(int(owner.Gid)) != gid {
		w.t.Errorf("password has mode %v and owner %+v, want mode %v and group %s", info.Mode(), owner, mode, gid)
	}
	if err := os.WriteFile(filepath.Join(w.target(p), "evil"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		w.t.Errorf("WriteFile() in the volume = %v, want %v", err, syscall.EROFS)
	}
}

func (w *world) expectStats(p pod) {
	w.t.Helper()
	stats, err := w.stats(p)
	if err != nil {
		w.t.Fatal(err)
	}
	units := map[csi.VolumeUsage_Unit]int{}
	for _, u := range stats.GetUsage() {
		units[u.GetUnit()]++
		if u.GetTotal() <= 0 || u.GetUsed() <= 0 || u.GetAvailable() < 0 || u.GetUsed()+u.GetAvailable() > u.GetTotal() {
			w.t.Errorf("usage = %v, want figures that fit together", u)
		}
	}
	if diff := cmp.Diff(map[csi.VolumeUsage_Unit]int{csi.VolumeUsage_BYTES: 1, csi.VolumeUsage_INODES: 1}, units); diff != "" {
		w.t.Errorf("units of usage (-want +got):\n%s", diff)
	}
}

// TestRepublishWithOtherArguments is where the plugin does not follow the
// specification, which has ALREADY_EXISTS for these: kubelets before 1.37
// delete the mount of a running pod on such a code. So the volume stays as it
// is, and the answer is OK.
func TestRepublishWithOtherArguments(t *testing.T) {
	// Each republish is due, so that its arguments are looked at.
	w := newWorld(t, "--enable-secret-rotation", "--rotation-poll-interval=1ns")
	for name, c := range map[string]struct {
		change  func(*csi.NodePublishVolumeRequest)
		refused bool // would be, on a first publish: the log says so
	}{
		"the same":            {func(*csi.NodePublishVolumeRequest) {}, false}, // the control
		"another volume id":   {func(r *csi.NodePublishVolumeRequest) { r.VolumeId = "csi-other" }, false},
		"not readonly":        {func(r *csi.NodePublishVolumeRequest) { r.Readonly = false }, true},
		"another group":       {func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability = capability("3000") }, true},
		"no capability":       {func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability = nil }, true},
		"no context":          {func(r *csi.NodePublishVolumeRequest) { r.VolumeContext = nil }, true},
		"a block device":      {func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability.AccessType = &csi.VolumeCapability_Block{} }, true},
		"another access mode": {func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability.AccessMode.Mode = 5 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.in(t)
			p := w.newPod("secrets", "2000")
			w.mustPublish(p)
			before, failed := mounts(t, w.target(p)), w.failedRefreshes()
			r := w.publishRequest(p)
			c.change(r)
			if _, err := w.node.NodePublishVolume(t.Context(), r); err != nil {
				t.Errorf("NodePublishVolume() again = %v, want nil", err)
			}
			if refused := w.failedRefreshes() > failed; refused != c.refused {
				t.Errorf("the log tells of a failed refresh: %v, want %v", refused, c.refused)
			}
			if diff := cmp.Diff(before, mounts(t, w.target(p))); diff != "" {
				t.Errorf("mounts (-before +after):\n%s", diff)
			}
			w.expectContent(p)
			w.mustUnpublish(p)
		})
	}
}

// failedRefreshes counts what the plugin has logged: it writes before it answers.
func (w *world) failedRefreshes() int {
	w.t.Helper()
	log, err := os.ReadFile(w.path("portcullis-node.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Count(string(log), `msg="refresh failed, the mounted content stays"`)
}

// TestPathsWithoutAVolume asks about and unpublishes what kubelet never would.
func TestPathsWithoutAVolume(t *testing.T) {
	w := newWorld(t)
	p := w.newPod("secrets", "2000")
	w.mustPublish(p)
	target := w.target(p)
	for name, path := range map[string]string{
		"relative":           "some/path",
		"the node's":         "/etc",
		"the pod's":          filepath.Dir(target),
		"in the volume":      target + "/..data",
		"with a slash more":  target + "/",
		"by way of another":  filepath.Dir(target) + "/../secrets/mount",
		"longer than a path": target + strings.Repeat("x", 8192),
	} {
		_, err := w.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: p.volumeID(), VolumePath: path})
		expectCode(t, "NodeGetVolumeStats of a path "+name, err, codes.NotFound, "volume_path")
		_, err = w.node.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: p.volumeID(), TargetPath: path})
		expectCode(t, "NodeUnpublishVolume of a path "+name, err, codes.InvalidArgument, "target_path")
	}
	w.expectContent(p) // the control: it is still there for the right path
	w.expectStats(p)
	w.mustUnpublish(p)
}

// TestCallsAtOnce is what a CO should not do and may do after a crash: the
// answer is OK or ABORTED, and what is there in the end is one volume or none.
func TestCallsAtOnce(t *testing.T) {
	const (
		leastRounds, mostRounds = 5, 200
		leastAborted            = 3 // or nothing has collided
	)
	w := newWorld(t)
	p := w.newPod("secrets", "2000")
	aborted := 0
	for round := 0; round < leastRounds || aborted < leastAborted; round++ {
		if round == mostRounds {
			t.Fatalf("%d calls were aborted in %d rounds, want at least %d", aborted, round, leastAborted)
		}
		if ok, _ := w.atOnce(p, w.publish); ok == 0 {
			t.Error("none of many publishes succeeded, want one at least")
		}
		if got := mounts(t, w.target(p)); len(got) != 1 {
			t.Fatalf("mounted after many publishes: %q, want one volume", got)
		}
		w.expectContent(p)
		_, n := w.atOnce(p, w.publish, w.unpublish)
		aborted += n
		if got := mounts(t, w.target(p)); len(got) > 1 {
			t.Fatalf("mounted after publishes and unpublishes: %q, want one volume or none", got)
		}
		if ok, _ := w.atOnce(p, w.unpublish); ok == 0 {
			t.Error("none of many unpublishes succeeded, want one at least")
		}
		w.mustUnpublish(p)
		w.expectAbsent(p)
	}
}

// atOnce makes each call many times and counts the answers.
func (w *world) atOnce(p pod, calls ...func(pod) error) (ok, aborted int) {
	w.t.Helper()
	const callers = 8
	answers := make(chan error, callers*len(calls))
	for range callers {
		for _, call := range calls {
			go func() { answers <- call(p) }()
		}
	}
	for range cap(answers) {
		switch err := <-answers; status.Code(err) {
		case codes.OK:
			ok++
		case codes.Aborted:
			aborted++
		default:
			w.t.Errorf("a call among others = %v, want OK or Aborted", err)
		}
	}
	return ok, aborted
}
