package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies"
)

// check returns the volume if the facts are complete and about one pod.
func (f Facts) check() (*corev1.CSIVolumeSource, error) {
	if err := f.checkComplete(); err != nil {
		return nil, err
	}
	if f.Class.Namespace != f.Pod.Namespace {
		return nil, &FieldError{"metadata.namespace", "of the SecretProviderClass is not the pod's",
			"use a SecretProviderClass of the pod's own namespace"}
	}
	if err := CheckStatic(f.Pod); err != nil {
		return nil, err
	}
	if err := f.checkMaps(); err != nil {
		return nil, err
	}
	if err := f.checkGroup(); err != nil {
		return nil, err
	}
	return f.volume()
}

func (f Facts) checkComplete() error {
	switch {
	case f.Pod == nil:
		return &MissingFactError{"pod"}
	case f.Namespace == nil || f.Namespace.Name != f.Pod.Namespace:
		return &MissingFactError{"namespace"}
	case f.ServiceAccount == nil || f.ServiceAccount.Namespace != f.Pod.Namespace ||
		f.ServiceAccount.Name != serviceAccountOf(f.Pod):
		return &MissingFactError{"service account"}
	case f.Class == nil:
		return &MissingFactError{"SecretProviderClass"}
	case f.Now.IsZero():
		return &MissingFactError{"time"}
	case f.Cluster == "":
		return &MissingFactError{"cluster name"}
	}
	return nil
}

func (f Facts) checkMaps() error {
	if err := checkSize(f.Namespace.Labels, policies.MaxMapBytes, "metadata.labels of the namespace"); err != nil {
		return err
	}
	if err := checkSize(f.Pod.Labels, policies.MaxMapBytes, "metadata.labels of the pod"); err != nil {
		return err
	}
	return checkSize(annotations(f.ServiceAccount.Annotations), policies.MaxMapBytes, "metadata.annotations of the service account")
}

// checkGroup: admission has only the pod's fsGroup, so a request that says
// something else would be decided differently at the two gates (promise P2).
func (f Facts) checkGroup() error {
	if f.Phase != policies.PhaseMount && f.Phase != policies.PhaseRotate {
		return nil
	}
	want, got := fsGroup(f.Pod), f.VolumeMountGroup
	if want == nil && got == nil || want != nil && got != nil && *want == *got {
		return nil
	}
	return &FieldError{"volume_mount_group", "is not the pod's securityContext.fsGroup",
		"call the driver through a kubelet that knows the capability VOLUME_MOUNT_GROUP"}
}

// group returns the group that will own the files.
func (f Facts) group() *int64 {
	if f.VolumeMountGroup != nil {
		return f.VolumeMountGroup
	}
	return fsGroup(f.Pod)
}

func fsGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// volume finds the volume and refuses what a secret's volume cannot be.
func (f Facts) volume() (*corev1.CSIVolumeSource, error) {
	field := entry("spec.volumes", f.VolumeName)
	for i := range f.Pod.Spec.Volumes {
		v := &f.Pod.Spec.Volumes[i]
		if v.Name != f.VolumeName {
			continue
		}
		switch csi := v.CSI; {
		case csi == nil || f.DriverName != "" && csi.Driver != f.DriverName:
			return nil, &FieldError{field, "is not a volume of this driver", "use a csi volume with this driver's name"}
		case csi.ReadOnly == nil || !*csi.ReadOnly:
			// The container runtime mounts by this flag alone: without it the
			// container gets our read-only volume writable.
			return nil, &FieldError{field + ".csi.readOnly", "is not true", "set readOnly: true"}
		case csi.FSType != nil && *csi.FSType != "":
			return nil, &FieldError{field + ".csi.fsType", "is set", "remove it: secrets are always on tmpfs"}
		default:
			return csi, nil
		}
	}
	return nil, &FieldError{fmt.Sprintf("spec.volumes of pod %q", f.Pod.Name), "has no volume of this name", "name a volume of the pod"}
}

// CheckStatic refuses the mirror of a static pod: kubelet reads such a pod
// from a file, so no API server has admitted it, nobody was asked whether it
// may use its service account, and its UID is a digest of the file. Whoever
// creates a pod with that annotation through the API says the same of it, and
// kubelet deletes it. The error is a *FieldError.
func CheckStatic(pod *corev1.Pod) error {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return &FieldError{entry("metadata.annotations", corev1.MirrorPodAnnotationKey), "marks a static pod, which has no identity that the API server vouches for",
			"run it as a DaemonSet, or remove the annotation"}
	}
	return nil
}
