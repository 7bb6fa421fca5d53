package identity

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies/kube"
)

// kubeletPrefix begins the volume attributes that kubelet adds; an author's
// own keys of that form pass through beside them, so they are no evidence.
const kubeletPrefix = "csi.storage.k8s.io/"

func (v *Verifier) checkPod(pod *corev1.Pod, c Claim) error {
	switch {
	case pod.Namespace != c.Namespace || pod.Name != c.Pod:
		return &UnconfirmedError{Field: "pod", Problem: "has another name in the cluster"}
	case c.PodUID == "" || string(pod.UID) != c.PodUID:
		return &UnconfirmedError{Field: "pod UID", Problem: "is not that of the pod of this name in the cluster"}
	case pod.Spec.NodeName != v.c.Node:
		return &UnconfirmedError{Field: "node", Problem: "of the pod is not this node"}
	case serviceAccountOf(pod) != c.ServiceAccount:
		return &UnconfirmedError{Field: "service account", Problem: "is not the pod's in the cluster"}
	}
	if err := kube.CheckStatic(pod); err != nil {
		return err
	}
	if err := checkAlive(pod, c); err != nil {
		return err
	}
	return v.checkVolume(pod, c)
}

// checkAlive: a pod that ended needs no secret. One that is being deleted keeps
// running until its grace period is over, which may be hours, and kubelet
// republishes until then: its secrets are rotated and revoked like any other's.
// Nothing new is mounted for it, since kubelet starts no container in it any
// more, and a caller who asks for that replays an old request.
func checkAlive(pod *corev1.Pod, c Claim) error {
	switch {
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return &UnconfirmedError{Field: "pod", Problem: "has already ended"}
	case pod.DeletionTimestamp != nil && !c.Mounted:
		return &UnconfirmedError{Field: "pod", Problem: "is being deleted, and gets no new volume", Remedy: "none is needed: the pod is on its way out"}
	}
	return nil
}

func (v *Verifier) checkVolume(pod *corev1.Pod, c Claim) error {
	for _, vol := range pod.Spec.Volumes {
		if vol.Name != c.Volume {
			continue
		}
		if vol.CSI == nil || vol.CSI.Driver != v.c.DriverName {
			return &UnconfirmedError{Field: "volume", Problem: "of this name in the pod does not belong to this driver"}
		}
		if !maps.Equal(authored(vol.CSI.VolumeAttributes), authored(c.Attributes)) {
			return &UnconfirmedError{Field: "volume attributes", Problem: "differ from the pod's in the cluster"}
		}
		return nil
	}
	return &UnconfirmedError{Field: "volume", Problem: "of this name is not in the pod"}
}

// authored returns the attributes that only the pod's author can have written.
func authored(attributes map[string]string) map[string]string {
	own := make(map[string]string, len(attributes))
	for k, v := range attributes {
		if !strings.HasPrefix(k, kubeletPrefix) {
			own[k] = v
		}
	}
	return own
}

// serviceAccountOf applies the API server's default, for manifests that were
// never admitted.
func serviceAccountOf(pod *corev1.Pod) string {
	if pod.Spec.ServiceAccountName == "" {
		return "default"
	}
	return pod.Spec.ServiceAccountName
}
