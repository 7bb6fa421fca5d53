package apiserver

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

// maxCachedPod bounds what a cache keeps of one pod, in bytes of its protobuf
// form; mostly it is two or three thousand. Authors of pods can write a megabyte
// of annotations and volume attributes into each, and a node has hundreds.
const maxCachedPod = 32 << 10

// strip is the transform of the caches. What it does not know, such as the note
// of a deletion that was missed, passes.
func strip(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.Pod:
		return cachedPod(stripPod(o)), nil
	case *metav1.PartialObjectMetadata:
		if o.Namespace != "" {
			return cachedAccount(&metav1.PartialObjectMetadata{ObjectMeta: stripMeta(&o.ObjectMeta)}), nil
		}
		return stripNamespace(o), nil
	case *spcv1.SecretProviderClass:
		return cachedClass(&spcv1.SecretProviderClass{ObjectMeta: stripMeta(&o.ObjectMeta), Spec: o.Spec}), nil
	case *storagev1.CSIDriver:
		return stripDriver(o), nil
	default:
		return object, nil
	}
}

// stripMeta drops what is large and says nothing about the object itself.
// Annotations stay: secret providers read some of a pod, policy those of a
// service account.
func stripMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	delete(m.Annotations, corev1.LastAppliedConfigAnnotation)
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
		Labels: m.Labels, Annotations: m.Annotations, OwnerReferences: m.OwnerReferences,
	}
}

func stripNamespace(o *metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
	kept := &metav1.PartialObjectMetadata{ObjectMeta: stripMeta(&o.ObjectMeta)}
	kept.Annotations = nil // no decision reads them
	return kept
}

func stripDriver(o *storagev1.CSIDriver) *storagev1.CSIDriver {
	return &storagev1.CSIDriver{ObjectMeta: stripMeta(&o.ObjectMeta), Spec: o.Spec}
}

// stripPod names what is kept, so that a field that Kubernetes adds is dropped.
func stripPod(p *corev1.Pod) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: stripMeta(&p.ObjectMeta),
		Spec: corev1.PodSpec{
			NodeName: p.Spec.NodeName, ServiceAccountName: p.Spec.ServiceAccountName,
			HostPID: p.Spec.HostPID, HostIPC: p.Spec.HostIPC, HostNetwork: p.Spec.HostNetwork, HostUsers: p.Spec.HostUsers,
			ShareProcessNamespace: p.Spec.ShareProcessNamespace, SecurityContext: p.Spec.SecurityContext,
			Volumes:             stripVolumes(p.Spec.Volumes),
			InitContainers:      stripContainers(p.Spec.InitContainers),
			Containers:          stripContainers(p.Spec.Containers),
			EphemeralContainers: stripEphemeral(p.Spec.EphemeralContainers),
		},
		Status: corev1.PodStatus{Phase: p.Status.Phase},
	}
}

// cachedPod leaves of a pod that is too large only the name, and a digest: without
// a UID it is nobody's, and who asks for it is given what is read live.
func cachedPod(p *corev1.Pod) *corev1.Pod {
	if p.Size() <= maxCachedPod {
		return p
	}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, ResourceVersion: p.ResourceVersion, Annotations: annotated(p)}}
}

// maxCachedObject bounds what a cluster-wide cache keeps of one service account or
// class, in bytes of its text. More than that no decision takes anyway.
const maxCachedObject = 96 << 10

func cachedAccount(o *metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
	if o.Size() <= maxCachedObject {
		return o
	}
	return &metav1.PartialObjectMetadata{ObjectMeta: onlyNamed(&o.ObjectMeta)}
}

func cachedClass(o *spcv1.SecretProviderClass) *spcv1.SecretProviderClass {
	text, err := json.Marshal(o)
	if err == nil && len(text) <= maxCachedObject {
		return o
	}
	return &spcv1.SecretProviderClass{ObjectMeta: onlyNamed(&o.ObjectMeta)}
}

// onlyNamed has no UID, so that whoever asks is given what is read live.
func onlyNamed(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, ResourceVersion: m.ResourceVersion}
}

// stripVolumes keeps every name: a volume that is not ours is not the same as
// one that is not there.
func stripVolumes(volumes []corev1.Volume) []corev1.Volume {
	var kept []corev1.Volume
	for _, v := range volumes {
		kept = append(kept, corev1.Volume{Name: v.Name, VolumeSource: corev1.VolumeSource{HostPath: v.HostPath, CSI: v.CSI}})
	}
	return kept
}

// stripContainers drops commands, arguments and environment variables, where
// people write passwords, along with all that is only large.
func stripContainers(containers []corev1.Container) []corev1.Container {
	var kept []corev1.Container
	for i := range containers {
		c := &containers[i]
		kept = append(kept, corev1.Container{
			Name: c.Name, Image: c.Image, SecurityContext: c.SecurityContext, VolumeMounts: stripMounts(c.VolumeMounts),
		})
	}
	return kept
}

func stripEphemeral(containers []corev1.EphemeralContainer) []corev1.EphemeralContainer {
	var kept []corev1.EphemeralContainer
	for i := range containers {
		c := &containers[i].EphemeralContainerCommon
		kept = append(kept, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: c.Name, Image: c.Image, SecurityContext: c.SecurityContext, VolumeMounts: stripMounts(c.VolumeMounts),
		}})
	}
	return kept
}

func stripMounts(mounts []corev1.VolumeMount) []corev1.VolumeMount {
	var kept []corev1.VolumeMount
	for _, m := range mounts {
		kept = append(kept, corev1.VolumeMount{Name: m.Name})
	}
	return kept
}
