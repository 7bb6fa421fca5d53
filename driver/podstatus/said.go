package podstatus

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// EventKind is what an event is about. The zero value is nothing, and is not
// said.
type EventKind int

// The kinds of event. What kubelet says by itself is none of them: a mount that
// was refused, and content that was revoked, are its FailedMount.
const (
	// Rotated: a volume has new content.
	Rotated EventKind = iota + 1
	// RotationFailed: a volume keeps its content, as a refresh failed. Kubelet
	// is answered OK, so nobody else says it.
	RotationFailed
	// TTLMissed: the content is older than policy wants it.
	TTLMissed
	// LegacyVolume: the upstream driver mounted it, and it is not protected.
	LegacyVolume
	// NotSynced: the class asks for Kubernetes Secrets, which are not written.
	NotSynced
	// UnmountFailed: a volume could not be taken away. Kubelet shows nobody.
	UnmountFailed
)

// Components of events: the first is upstream's, for what upstream said too.
const (
	componentRotation = "csi-secrets-store-rotation"
	componentNode     = "portcullis-node"
)

// saying is the text of an event.
type saying struct{ reason, severity, component, message string }

// said is everything that this package ever says of a pod.
func said(ev Event) (s saying, known bool) {
	because := "see the log of the node plugin on this node"
	if ev.Reason != "" {
		because = ev.Reason
	}
	switch ev.Kind {
	case Rotated:
		s = saying{"MountRotationComplete", corev1.EventTypeNormal, componentRotation, "the secrets of volume %q were fetched again and have changed"}
	case RotationFailed:
		s = saying{"MountRotationFailed", corev1.EventTypeWarning, componentRotation,
			"the secrets of volume %q could not be fetched again, it keeps what it has: " + because + "; hint: it is tried again by itself"}
	case TTLMissed:
		s = saying{"SecretTTLMissed", corev1.EventTypeWarning, componentRotation,
			"the secrets of volume %q are older than their time to live and could not be fetched again; hint: see the MountRotationFailed events before this one"}
	case LegacyVolume:
		s = saying{"RestartToProtect", corev1.EventTypeWarning, componentNode,
			"volume %q was mounted by another driver before this one, is neither protected nor rotated; hint: restart the pod"}
	case NotSynced:
		s = saying{"SecretObjectsNotSynced", corev1.EventTypeWarning, componentNode,
			"the SecretProviderClass of volume %q has secretObjects, which are not written as Kubernetes Secrets; hint: read the files of the volume"}
	case UnmountFailed:
		s = saying{"UnmountFailed", corev1.EventTypeWarning, componentNode,
			"volume %q could not be unmounted; hint: kubelet tries again by itself; the platform team sees why in the log of the node plugin on this node"}
	default:
		return saying{}, false
	}
	s.message = fmt.Sprintf(s.message, ev.Volume)
	return s, true
}
