package kube

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies"
)

// podFacts returns what the pod asks of the node. Absent fields get the value
// that Kubernetes would act on.
func podFacts(pod *corev1.Pod, volume string) policies.Pod {
	spec := &pod.Spec
	facts := policies.Pod{
		FSGroup:               fsGroup(pod),
		HostPID:               spec.HostPID,
		HostIPC:               spec.HostIPC,
		HostNetwork:           spec.HostNetwork,
		HostUsers:             spec.HostUsers == nil || *spec.HostUsers,
		ShareProcessNamespace: spec.ShareProcessNamespace != nil && *spec.ShareProcessNamespace,
		Labels:                maps.Clone(pod.Labels),
		Owner:                 ownerOf(pod),
		HostPaths:             hostPaths(spec.Volumes),
		Containers:            containers(spec, volume),
	}
	if spec.SecurityContext != nil {
		facts.SupplementalGroups = slices.Clone(spec.SecurityContext.SupplementalGroups)
	}
	return facts
}

func ownerOf(pod *corev1.Pod) *policies.Owner {
	for _, ref := range pod.OwnerReferences {
		if ref.Controller != nil && *ref.Controller {
			return &policies.Owner{Kind: ref.Kind, Name: ref.Name}
		}
	}
	return nil
}

func hostPaths(volumes []corev1.Volume) []string {
	var paths []string
	for _, v := range volumes {
		if v.HostPath != nil {
			paths = append(paths, v.HostPath.Path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// containers lists init, main and ephemeral containers, in this order.
func containers(spec *corev1.PodSpec, volume string) []policies.Container {
	list := make([]policies.Container, 0, len(spec.InitContainers)+len(spec.Containers)+len(spec.EphemeralContainers))
	for i := range spec.InitContainers {
		list = append(list, container(spec, &spec.InitContainers[i], policies.ContainerInit, volume))
	}
	for i := range spec.Containers {
		list = append(list, container(spec, &spec.Containers[i], policies.ContainerMain, volume))
	}
	for i := range spec.EphemeralContainers {
		c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		list = append(list, container(spec, &c, policies.ContainerEphemeral, volume))
	}
	return list
}

func container(spec *corev1.PodSpec, c *corev1.Container, kind policies.ContainerKind, volume string) policies.Container {
	facts := policies.Container{
		Name:                     c.Name,
		Image:                    c.Image,
		Kind:                     kind,
		AllowPrivilegeEscalation: true,
		MountsVolume:             slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume }),
	}
	if psc := spec.SecurityContext; psc != nil {
		facts.RunAsUser, facts.RunAsNonRoot = psc.RunAsUser, psc.RunAsNonRoot
	}
	sc := c.SecurityContext
	if sc == nil {
		return facts
	}
	facts.Privileged = sc.Privileged != nil && *sc.Privileged
	if sc.AllowPrivilegeEscalation != nil {
		facts.AllowPrivilegeEscalation = *sc.AllowPrivilegeEscalation
	}
	if sc.RunAsUser != nil {
		facts.RunAsUser = sc.RunAsUser
	}
	if sc.RunAsNonRoot != nil {
		facts.RunAsNonRoot = sc.RunAsNonRoot
	}
	if sc.Capabilities != nil {
		facts.Capabilities = capabilities(sc.Capabilities.Add)
	}
	return facts
}

// capabilities writes each as SYS_ADMIN: container runtimes accept CAP_SYS_ADMIN
// and sys_admin too, and a rule that compares one spelling must not miss those.
func capabilities(added []corev1.Capability) []string {
	var names []string
	for _, c := range added {
		names = append(names, strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_"))
	}
	slices.Sort(names)
	return slices.Compact(names)
}
