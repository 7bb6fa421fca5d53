package driver_test

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

// volumeRefusal is a request of one of the two calls about a mounted volume
// that is not as it should be.
type volumeRefusal struct {
	name, covers, field, says, remedy string
	code                              codes.Code
	call                              func(n *node, target string) error
}

// volumeRefusals are the rows of NodeUnpublishVolume and NodeGetVolumeStats.
func volumeRefusals() []volumeRefusal {
	unpublish := func(id string, change func(string) string) func(*node, string) error {
		return func(n *node, target string) error {
			_, err := n.csi.NodeUnpublishVolume(n.t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: change(target)})
			return err
		}
	}
	stats := func(id, staged string, change func(string) string) func(*node, string) error {
		return func(n *node, target string) error {
			_, err := n.csi.NodeGetVolumeStats(n.t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: change(target), StagingTargetPath: staged})
			return err
		}
	}
	same := func(target string) string { return target }
	const u, s = "NodeUnpublishVolumeRequest.", "NodeGetVolumeStatsRequest."
	const invalid, nothingThere = codes.InvalidArgument, "no volume of this driver is mounted at volume_path"
	rows := []volumeRefusal{
		{"unpublish without id", u + "volume_id", "volume_id", "volume_id is missing", throughKubelet, invalid, unpublish("", same)},
		{"stats without id", s + "volume_id", "volume_id", "volume_id is missing", throughKubelet, invalid, stats("", "", same)},
		{"unpublish without path", u + "target_path", "target_path", "target_path is missing", throughKubelet, invalid, unpublish("v", func(string) string { return "" })},
		{"stats without path", s + "volume_path", "volume_path", "volume_path is missing", throughKubelet, invalid, stats("v", "", func(string) string { return "" })},
		{"stats of a staged volume", s + "staging_target_path", "staging_target_path", "staging_target_path is set", notStaged, invalid, stats("v", "/staged", same)},
		{"stats of nothing", s + "volume_path", "volume_path", nothingThere, "publish it first", codes.NotFound,
			stats("v", "", replacing("/secrets/", "/others/"))},
	}
	rows = append(rows, volumeRefusal{"unpublish of a static pod", u + "target_path", "target_path",
		"target_path is a volume of a static pod, which has no identity that the API server vouches for", "run it as a DaemonSet", invalid,
		unpublish("v", replacing(uidOfTarget, strings.Repeat("3", 32)))})
	for name, change := range map[string]func(string) string{
		"elsewhere": func(string) string { return "/etc" }, "slash at the end": func(t string) string { return t + "/" }, "dots": replacing("/pods/", "/pods/../pods/"),
		"NUL": func(t string) string { return t + "\x00" }, "above": func(t string) string { return strings.TrimSuffix(t, "/mount") },
		"UID that is too short": replacing(uidOfTarget, strings.Repeat("3", 31)),
	} {
		const says = " is not a volume of a pod below the kubelet root"
		rows = append(rows,
			volumeRefusal{"unpublish " + name, u + "target_path", "target_path", "target_path" + says, kubeletRoot, invalid, unpublish("v", change)},
			volumeRefusal{"stats " + name, s + "volume_path", "volume_path", nothingThere, "publish it first", codes.NotFound, stats("v", "", change)})
	}
	return rows
}

// TestP12EveryFieldOfTheCallsAboutAVolume: what is refused touches nothing.
func TestP12EveryFieldOfTheCallsAboutAVolume(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		n.mustPublish(apiPod())
		before := n.look(apiPod())
		for _, row := range volumeRefusals() {
			t.Run(row.name, func(t *testing.T) {
				err := row.call(n, n.target(apiPod()))
				expectStatus(t, err, row.code)
				if text := reply(err); text != row.says+"; hint: "+row.remedy {
					t.Errorf("reply = %q, want %q", text, row.says+"; hint: "+row.remedy)
				}
				n.expectSame(apiPod(), before)
			})
		}
		n.mustUnpublish(apiPod())
	})
}

// TestUnpublishOfWhatWasNeverThere: kubelet sends it after a first publish
// that failed, and for pods of which nothing is left.
func TestUnpublishOfWhatWasNeverThere(t *testing.T) {
	n := newNode(t)
	for _, target := range []string{n.target(apiPod()), n.target(numbered(1)), replacing("/secrets/", "/others/")(n.target(apiPod()))} {
		if _, err := n.csi.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: "v", TargetPath: target}); err != nil {
			t.Errorf("NodeUnpublishVolume(%s) = %v, want nil", target, err)
		}
	}
}
