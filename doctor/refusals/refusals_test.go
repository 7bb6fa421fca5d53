package refusals_test

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/doctor/refusals"
)

const driver = "secrets-store.csi.k8s.io"

func settings() refusals.Settings {
	return refusals.Settings{
		Driver: driver, KubeletRoot: "/var/lib/kubelet", StateDir: "/var/lib/portcullis",
		SocketDirs: []string{"/var/run/secrets-store-csi-providers", "/run/other/"},
		Namespace:  "kube-system", ServiceAccounts: []string{"secrets-store-csi-driver"},
		ExemptNamespaces: []string{"agents"},
	}
}

// pod has one volume of the driver; each change makes it another.
func pod(namespace string, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "api-0"}, Spec: corev1.PodSpec{
		Volumes:    []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: driver, ReadOnly: new(true)}}}},
		Containers: []corev1.Container{{Name: "main"}},
	}}
	for _, change := range changes {
		change(p)
	}
	return p
}

func hostPath(p string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "node", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: p}}})
	}
}

func hostPID(p *corev1.Pod) { p.Spec.HostPID = true }

func noVolume(p *corev1.Pod) { p.Spec.Volumes = nil }

func privilegedEverywhere(p *corev1.Pod) {
	c := &corev1.SecurityContext{Privileged: new(true)}
	p.Spec.InitContainers = []corev1.Container{{Name: "early", SecurityContext: &corev1.SecurityContext{}}, {Name: "init", SecurityContext: c}}
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "second", SecurityContext: c})
	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", SecurityContext: c}}}
}

func TestOf(t *testing.T) {
	tests := map[string]struct {
		pod  *corev1.Pod
		want []string // policy and field
	}{
		"an ordinary pod": {pod("payments"), nil},
		"a volume that could be written": {
			pod("payments", func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.ReadOnly = nil }),
			[]string{refusals.VolumesReadOnly + " spec.volumes[0].csi.readOnly"},
		},
		"readOnly: false": {
			pod("agents", func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.ReadOnly = new(false) }),
			[]string{refusals.VolumesReadOnly + " spec.volumes[0].csi.readOnly"},
		},
		"another driver's volume":         {pod("payments", hostPID, func(p *corev1.Pod) { p.Spec.Volumes[0].CSI = &corev1.CSIVolumeSource{Driver: "other"} }), nil},
		"hostPID":                         {pod("payments", hostPID), []string{refusals.Privileged + " spec.hostPID"}},
		"hostPID in an exempt namespace":  {pod("agents", hostPID), nil},
		"hostPID without a volume of us":  {pod("payments", hostPID, noVolume), nil},
		"privileged without one":          {pod("payments", noVolume, privilegedEverywhere), nil},
		"hostPath without one":            {pod("payments", noVolume, hostPath("/proc")), []string{refusals.HostPaths + " spec.volumes[0].hostPath.path"}},
		"hostPath of an exempt namespace": {pod("agents", hostPath("/")), nil},
		"hostPath of the plugin": {
			pod("kube-system", hostPath("/var/lib/kubelet/pods"), func(p *corev1.Pod) { p.Spec.ServiceAccountName = "secrets-store-csi-driver" }), nil,
		},
		"hostPath of another account beside it": {
			pod("kube-system", hostPath("/var/lib/kubelet/pods")), []string{refusals.HostPaths + " spec.volumes[1].hostPath.path"},
		},
		"the plugin's account elsewhere": {
			pod("payments", hostPath("/var/lib"), func(p *corev1.Pod) { p.Spec.ServiceAccountName = "secrets-store-csi-driver" }),
			[]string{refusals.HostPaths + " spec.volumes[1].hostPath.path"},
		},
		"privileged containers of every kind": {pod("payments", privilegedEverywhere), []string{
			refusals.Privileged + " spec.initContainers[1].securityContext.privileged",
			refusals.Privileged + " spec.containers[1].securityContext.privileged",
			refusals.Privileged + " spec.ephemeralContainers[0].securityContext.privileged",
			refusals.EphemeralContainers + " spec.ephemeralContainers[0]",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, r := range refusals.Of(tt.pod, settings()) {
				got = append(got, r.Policy+" "+r.Field)
				if !strings.Contains(r.Message, "; hint: ") || strings.ContainsAny(r.Message, "\n\r") {
					t.Errorf("message = %q, want one line with the remedy", r.Message)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Of() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHostPaths(t *testing.T) {
	tests := map[string]bool{
		"/": true, "//": true, "/.": true, "": true, ".": true,
		"/proc": true, "/proc/": true, "/proc/1/root": true, "//proc": true, "/./proc": true, "/proc/.": true, "proc": true, "/proc2": false, "/pro": false,
		"/var": true, "/var/lib": true, "/var/lib/kubelet": true, "/var//lib/./kubelet/": true, "/var/lib/kubelet/pods": true,
		"/var/lib/kubelet/pods/1/volumes": true, "/var/lib/kubelet/pods2": false, "/var/lib/kubelet/device-plugins": false,
		"/var/lib/kubelet/plugins": true, "/var/lib/kubelet/plugins/other": false, "/var/lib/kubelet/plugins_registry/x.sock": true, "/var/lib/portcullis": true, "/var/lib/portcullis/audit": true,
		"/var/lib/portcullis-provider": false, "/var/lib/kube": false,
		"/run": true, "/run/secrets-store-csi-providers": true, "/var/run/secrets-store-csi-providers": true, "/var/run": true,
		"/run/other": true, "/var/run/other/vault.sock": true, "/run/otherwise": false, "/run/containerd": false,
		"/var/log": false, "/etc": false, "/usr/../proc": true, "/var/log/..": true, "/var/log/..data": false, "/...": false,
	}
	for p, want := range tests {
		t.Run(p, func(t *testing.T) {
			if got := len(refusals.Of(pod("payments", noVolume, hostPath(p)), settings())) > 0; got != want {
				t.Errorf("Of(hostPath %q) refuses = %t, want %t", p, got, want)
			}
		})
	}
}

// FuzzHostPath: what is written differently and means the same is judged the same,
// by the rule in other words: of the elements of two paths, one list begins with the other.
func FuzzHostPath(f *testing.F) {
	for _, p := range []string{"/", "/proc", "//var/./lib/", "/var/lib/kubelet/pods/x", "/a/../proc", "relative", "/run/x/"} {
		f.Add(p)
	}
	elements := func(p string) []string {
		return strings.FieldsFunc(path.Clean("/"+p), func(r rune) bool { return r == '/' })
	}
	protected := []string{
		"/var/lib/kubelet/pods", "/var/lib/portcullis", "/proc", "/var/lib/kubelet/plugins/csi-secrets-store", "/var/lib/kubelet/plugins_registry",
		"/run/secrets-store-csi-providers", "/var/run/secrets-store-csi-providers", "/run/other", "/var/run/other",
	}
	f.Fuzz(func(t *testing.T, p string) {
		want := strings.Contains("/"+p+"/", "/../")
		for _, d := range protected {
			a, b := elements(p), elements(d)
			n := min(len(a), len(b))
			want = want || cmp.Equal(append([]string{}, a[:n]...), append([]string{}, b[:n]...))
		}
		found := refusals.Of(pod("payments", noVolume, hostPath(p)), settings())
		if got := len(found) > 0; got != want {
			t.Errorf("Of(hostPath %q) refuses = %t, want %t", p, got, want)
		}
		for _, r := range found {
			if strings.ContainsAny(r.Message, "\n\x1b") {
				t.Errorf("message = %q, want one printable line", r.Message)
			}
		}
	})
}

// TestSettingsThatAreNotKnown: somebody who cannot see the chart's values learns less,
// and nothing wrong.
func TestSettingsThatAreNotKnown(t *testing.T) {
	s := refusals.Settings{Driver: driver, SocketDirs: []string{""}}
	for p, want := range map[string]bool{"/proc/1": true, "/": true, "/opt": false, "/pods": false, "/var/lib/kubelet": false} {
		if got := len(refusals.Of(pod("payments", hostPath(p)), s)) > 0; got != want {
			t.Errorf("Of(hostPath %q) refuses = %t, want %t", p, got, want)
		}
	}
}

func ExampleOf() {
	s := refusals.Settings{Driver: driver, KubeletRoot: "/var/lib/kubelet", StateDir: "/var/lib/portcullis"}
	for _, r := range refusals.Of(pod("payments", hostPath("/var/lib")), s) {
		fmt.Println(r.Policy, r.Field)
	}
	// Output: portcullis-host-paths spec.volumes[1].hostPath.path
}
