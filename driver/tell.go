package driver

import (
	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/hardening"
)

// PodStatuses tells the cluster what is mounted. No method waits: a mount that
// did would be as slow as the API server, and fail with it.
type PodStatuses interface {
	Set(s podstatus.Status)
	Forget(podUID, volume string)
	Pending() int64 // how many are still to be written
}

// PodEvents tells the people of a pod what kubelet does not. No method waits.
type PodEvents interface {
	Say(e podstatus.Event)
	Dropped() int64 // how many nobody will read
}

// tellStatus has the cluster told what a volume holds. A volume whose record
// was lost and not yet refreshed has no names: what was written of it stays.
func (d *Driver) tellStatus(rec record) {
	if d.c.Statuses == nil || rec.Pod == "" || rec.Class == "" {
		return
	}
	s := podstatus.Status{
		Namespace: rec.Namespace, Pod: rec.Pod, PodUID: rec.PodUID, Class: rec.Class, Volume: rec.Volume,
		TargetPath: hardening.TargetPath(d.c.KubeletRoot, rec.PodUID, rec.Volume),
	}
	for _, v := range rec.Versions {
		s.Objects = append(s.Objects, podstatus.Object(v))
	}
	d.c.Statuses.Set(s)
}

// tellStatusAgain is tellStatus after a restart, when a record without versions
// may only mean that they were lost with its predecessor.
func (d *Driver) tellStatusAgain(rec record) {
	if len(rec.Versions) > 0 || rec.Denial.Empty {
		d.tellStatus(rec)
	}
}

// tellPod puts an event on the pod of a volume. One that no record names has
// none: what kubelet says of it was not confirmed.
func (d *Driver) tellPod(kind podstatus.EventKind, rec record, reason audit.Reason) {
	if d.c.Events == nil || rec.Pod == "" {
		return
	}
	d.c.Events.Say(podstatus.Event{
		Kind: kind, Namespace: rec.Namespace, Pod: rec.Pod, PodUID: rec.PodUID, Volume: rec.Volume, Reason: string(reason),
	})
}

// tellLegacy is for a volume that never had a record: its pod is who kubelet
// says, and the text is the same for all.
func (d *Driver) tellLegacy(req *csi.NodePublishVolumeRequest, k targetKey) {
	if claim, err := parseClaim(req.GetVolumeContext(), k); err == nil {
		d.tellPod(podstatus.LegacyVolume, record{PodUID: k.podUID, Volume: k.volume, Namespace: claim.Namespace, Pod: claim.Pod}, "")
	}
}

func (d *Driver) statusesPending() int64 {
	if d.c.Statuses == nil {
		return 0
	}
	return d.c.Statuses.Pending()
}

func (d *Driver) eventsDropped() int64 {
	if d.c.Events == nil {
		return 0
	}
	return d.c.Events.Dropped()
}
