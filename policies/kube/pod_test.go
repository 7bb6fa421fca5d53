package kube_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies"
)

// podOf returns the pod's facts after a change of its spec.
func podOf(t *testing.T, change func(*corev1.PodSpec)) policies.Pod {
	t.Helper()
	return build(t, spec(change)).Pod
}

func TestPodFacts(t *testing.T) {
	hostPath := func(path string) corev1.Volume {
		return corev1.Volume{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}}}
	}
	for _, test := range []struct {
		name   string
		change func(*corev1.PodSpec)
		get    func(policies.Pod) any
		want   any
	}{
		{"host users by default", func(*corev1.PodSpec) {}, func(p policies.Pod) any { return p.HostUsers }, true},
		{"host users off", func(s *corev1.PodSpec) { s.HostUsers = new(false) }, func(p policies.Pod) any { return p.HostUsers }, false},
		{"host users on", func(s *corev1.PodSpec) { s.HostUsers = new(true) }, func(p policies.Pod) any { return p.HostUsers }, true},
		{"host PID", func(s *corev1.PodSpec) { s.HostPID = true }, func(p policies.Pod) any { return p.HostPID }, true},
		{"host IPC", func(s *corev1.PodSpec) { s.HostIPC = true }, func(p policies.Pod) any { return p.HostIPC }, true},
		{"host network", func(s *corev1.PodSpec) { s.HostNetwork = true }, func(p policies.Pod) any { return p.HostNetwork }, true},
		{"own processes by default", func(*corev1.PodSpec) {}, func(p policies.Pod) any { return p.ShareProcessNamespace }, false},
		{"shared processes", func(s *corev1.PodSpec) { s.ShareProcessNamespace = new(true) }, func(p policies.Pod) any { return p.ShareProcessNamespace }, true},
		{"groups", func(s *corev1.PodSpec) { s.SecurityContext.SupplementalGroups = []int64{5, 3} },
			func(p policies.Pod) any { return p.SupplementalGroups }, []int64{5, 3}},
		{"host paths, sorted, each once", func(s *corev1.PodSpec) { s.Volumes = append(s.Volumes, hostPath("/z"), hostPath("/a"), hostPath("/z")) },
			func(p policies.Pod) any { return p.HostPaths }, []string{"/a", "/z"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.get(podOf(t, test.change))); diff != "" {
				t.Errorf("pod differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOwner(t *testing.T) {
	in := build(t)
	if diff := cmp.Diff(&policies.Owner{Kind: "StatefulSet", Name: "api"}, in.Pod.Owner); diff != "" {
		t.Errorf("owner differs (-want +got):\n%s", diff)
	}
	f := facts()
	f.Pod.OwnerReferences[1].Controller = nil
	if in := build(t, func(x *factsOf) { *x = f }); in.Pod.Owner != nil {
		t.Errorf("owner = %v, want none without a controller", in.Pod.Owner)
	}
}

func TestContainers(t *testing.T) {
	mounts := []corev1.VolumeMount{{Name: "other"}, {Name: "secrets"}}
	got := podOf(t, func(s *corev1.PodSpec) {
		s.InitContainers = []corev1.Container{{Name: "init", VolumeMounts: mounts}}
		s.Containers = []corev1.Container{{Name: "main"}}
		s.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: "debug", Image: "sh", VolumeMounts: mounts, SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
		}}}
	}).Containers
	want := []policies.Container{
		{Name: "init", Kind: policies.ContainerInit, AllowPrivilegeEscalation: true, MountsVolume: true},
		{Name: "main", Kind: policies.ContainerMain, AllowPrivilegeEscalation: true},
		{Name: "debug", Image: "sh", Kind: policies.ContainerEphemeral, Privileged: true, AllowPrivilegeEscalation: true, MountsVolume: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("containers differ (-want +got):\n%s", diff)
	}
}

// A field that the container does not set has the pod's value, and one that
// nobody sets has the one that Kubernetes acts on.
func TestSecurityContext(t *testing.T) {
	for _, test := range []struct {
		name      string
		pod       *corev1.PodSecurityContext
		container *corev1.SecurityContext
		want      policies.Container
	}{
		{"nothing", nil, nil, policies.Container{AllowPrivilegeEscalation: true}},
		{"of the pod", &corev1.PodSecurityContext{RunAsUser: new(int64(1)), RunAsNonRoot: new(true)}, nil,
			policies.Container{AllowPrivilegeEscalation: true, RunAsUser: new(int64(1)), RunAsNonRoot: new(true)}},
		{"container before pod", &corev1.PodSecurityContext{RunAsUser: new(int64(1)), RunAsNonRoot: new(true)},
			&corev1.SecurityContext{RunAsUser: new(int64(0)), RunAsNonRoot: new(false)},
			policies.Container{AllowPrivilegeEscalation: true, RunAsUser: new(int64(0)), RunAsNonRoot: new(false)}},
		{"container silent", &corev1.PodSecurityContext{RunAsUser: new(int64(1))}, &corev1.SecurityContext{},
			policies.Container{AllowPrivilegeEscalation: true, RunAsUser: new(int64(1))}},
		{"no escalation", nil, &corev1.SecurityContext{AllowPrivilegeEscalation: new(false)}, policies.Container{}},
		{"privileged", nil, &corev1.SecurityContext{Privileged: new(true)}, policies.Container{Privileged: true, AllowPrivilegeEscalation: true}},
		{"capabilities in one spelling", nil,
			&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"sys_admin", "CAP_SYS_ADMIN", "cap_net_raw", "ALL"}, Drop: []corev1.Capability{"CHOWN"}}},
			policies.Container{AllowPrivilegeEscalation: true, Capabilities: []string{"ALL", "NET_RAW", "SYS_ADMIN"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := build(t, func(f *factsOf) {
				f.Pod.Spec.SecurityContext = test.pod
				f.VolumeMountGroup = nil
				f.Pod.Spec.Containers = []corev1.Container{{SecurityContext: test.container}}
			})
			test.want.Kind = policies.ContainerMain
			if diff := cmp.Diff([]policies.Container{test.want}, in.Pod.Containers); diff != "" {
				t.Errorf("containers differ (-want +got):\n%s", diff)
			}
		})
	}
}
