package driver

import (
	"cmp"
	"context"
	"errors"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/hardening"
)

// NodeGetInfo returns the node's name; kubelet calls it on registration.
func (d *Driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	d.registered.Store(true)
	return &csi.NodeGetInfoResponse{NodeId: d.c.Node}, nil
}

// NodeGetCapabilities returns VOLUME_MOUNT_GROUP, so that kubelet leaves
// owners and modes to the driver, and GET_VOLUME_STATS. Kubelet calls it
// before every publish: it depends on nothing.
func (d *Driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	resp := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
	} {
		resp.Capabilities = append(resp.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return resp, nil
}

// NodePublishVolume mounts the granted secrets, or keeps a mounted volume fresh.
func (d *Driver) NodePublishVolume(ctx context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	t, err := d.parseTarget(fieldTarget, req.GetTargetPath())
	if err != nil {
		return nil, d.refuse(ctx, &mountRequest{}, err)
	}
	ctx, release, err := d.locks.acquire(ctx, t.key)
	if err != nil {
		return nil, status.Error(codes.Aborted, "another call for this volume is still running; hint: kubelet retries by itself")
	}
	defer release()
	dir, state, err := d.look(t)
	if err != nil {
		return nil, d.refuse(ctx, &mountRequest{target: t}, err)
	}
	defer dir.Close()
	hardening.FaultPoint("publish/looked")
	if err := d.publishOver(ctx, req, place{t, dir, state}); err != nil {
		return nil, err
	}
	hardening.FaultPoint("publish/reply")
	return &csi.NodePublishVolumeResponse{}, nil
}

// place is a target, opened, and what the mount table shows there.
type place struct {
	target
	dir   *hardening.Target
	state hardening.State
}

// publishOver chooses by what is at the target already.
func (d *Driver) publishOver(ctx context.Context, req *csi.NodePublishVolumeRequest, p place) error {
	t, dir := p.target, p.dir
	switch p.state {
	case hardening.StateAbsent, hardening.StateEmpty:
		return d.publishNew(ctx, req, t, dir)
	case hardening.StateCovered:
		if !d.uncover(t, dir) {
			return d.foreign(ctx, t)
		}
		return d.republish(ctx, req, t)
	case hardening.StateOurs:
		return d.republish(ctx, req, t)
	case hardening.StateLegacy:
		// Where this driver has mounted a volume upstream's did not come later.
		if _, known := d.c.Records.get(t.key); known {
			return d.foreign(ctx, t)
		}
		d.keepLegacy(ctx, req, t.key)
		return nil
	case hardening.StateOccupied:
		return d.refuse(ctx, &mountRequest{target: t}, errOccupied)
	default:
		return d.foreign(ctx, t)
	}
}

// foreign leaves alone what is mounted at the target, and says so.
func (d *Driver) foreign(ctx context.Context, t target) error {
	d.c.Recorder.Owe(audit.ForeignMount(d.subject(t.key), audit.ForeignKept))
	return d.refuse(ctx, &mountRequest{target: t}, errForeignMount)
}

func (d *Driver) publishNew(ctx context.Context, req *csi.NodePublishVolumeRequest, t target, dir *hardening.Target) error {
	m, err := parsePublish(req, t)
	defer m.wipe()
	if err != nil {
		d.c.Recorder.Owe(audit.Rejected(auditClaim(m), reasonOf(err)))
		return d.refuse(ctx, m, err)
	}
	if err := d.publish(ctx, m, dir); err != nil {
		return d.refuse(ctx, m, err)
	}
	rec, _ := d.c.Records.get(t.key)
	d.metrics.published(ctx, rec.Provider, "")
	return nil
}

// NodeUnpublishVolume removes the volume, whatever else fails: it waits for
// no log, API server or provider (promise P8).
func (d *Driver) NodeUnpublishVolume(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	t, err := d.parseTarget(fieldTarget, req.GetTargetPath())
	if err = errors.Join(checkVolumeID(req.GetVolumeId()), err); err != nil {
		d.metrics.unpublished(ctx, err)
		return nil, statusOf(err)
	}
	release, err := d.locks.preempt(ctx, t.key)
	if err != nil {
		d.metrics.unpublished(ctx, err)
		return nil, status.Error(codes.Aborted, "another call for this volume is still running; hint: kubelet retries by itself")
	}
	defer release()
	hardening.FaultPoint("unpublish/locked")
	err = d.unpublish(ctx, t)
	d.metrics.unpublished(ctx, err)
	if err != nil {
		return nil, statusOf(err)
	}
	hardening.FaultPoint("unpublish/reply")
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// NodeGetVolumeStats returns bytes and inodes of a mounted volume; kubelet
// asks once a minute and shows them in /stats/summary.
func (d *Driver) NodeGetVolumeStats(_ context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	t, err := d.parseTarget(fieldVolumePath, req.GetVolumePath())
	missing := cmp.Or(checkVolumeID(req.GetVolumeId()), checkPath(fieldVolumePath, req.GetVolumePath()))
	switch {
	case missing != nil:
		return nil, statusOf(missing)
	case req.GetStagingTargetPath() != "":
		return nil, statusOf(&requestError{"staging_target_path", "is set", remedyStaged})
	case err != nil:
		return nil, errNoVolume() // a path of another form is one without a volume, too
	}
	stats, err := d.stats(t)
	if err != nil {
		return nil, errNoVolume()
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: stats.BytesTotal, Used: stats.BytesUsed, Available: stats.BytesAvailable},
		{Unit: csi.VolumeUsage_INODES, Total: stats.InodesTotal, Used: stats.InodesUsed, Available: stats.InodesAvailable},
	}}, nil
}

// errNoVolume is the specification's answer where a path has no volume.
func errNoVolume() error {
	return status.Error(codes.NotFound, "no volume of this driver is mounted at volume_path; hint: publish it first")
}

func (d *Driver) stats(t target) (hardening.Stats, error) {
	dir, err := d.c.Volumes.Target(t.key.podUID, t.key.volume)
	if err != nil {
		return hardening.Stats{}, err
	}
	defer dir.Close()
	vol, err := dir.OpenVolume()
	if err != nil {
		return hardening.Stats{}, err
	}
	defer vol.Close()
	return vol.Stats()
}
