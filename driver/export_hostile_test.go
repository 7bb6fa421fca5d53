package driver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/portcullis-csi/portcullis/driver/identity"
)

// Dir is where volumes.db is.
func (r *Records) Dir() string { return r.dir.Name() }

// Flush writes volumes.db now.
func (r *Records) Flush() { r.flush() }

// CountForTest makes a metric with this label.
func (d *Driver) CountForTest(label string) { d.metrics.published(context.Background(), label, "") }

// Parsed is what parsePublish makes of a request.
type Parsed struct {
	PodUID, Volume, Class string
	Claim                 identity.Claim
	Group                 *int64
}

// ParsePublish does with a request what NodePublishVolume does before it looks
// at anything else. The error is the reply.
func ParsePublish(kubeletRoot string, req *csi.NodePublishVolumeRequest) (Parsed, error) {
	d := &Driver{c: Config{KubeletRoot: kubeletRoot}}
	t, err := d.parseTarget(req.GetTargetPath())
	if err != nil {
		return Parsed{}, statusOf(err)
	}
	m, err := parsePublish(req, t)
	defer m.wipe()
	if err != nil {
		return Parsed{}, statusOf(err)
	}
	return Parsed{PodUID: t.key.podUID, Volume: t.key.volume, Class: m.class, Claim: m.claim, Group: m.group}, nil
}
