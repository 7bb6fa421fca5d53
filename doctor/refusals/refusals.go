package refusals

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The policies that are about pods, by their names in the cluster.
const (
	VolumesReadOnly     = "portcullis-volumes-read-only"
	Privileged          = "portcullis-privileged"
	EphemeralContainers = "portcullis-ephemeral-containers"
	HostPaths           = "portcullis-host-paths"
)

// Settings are those of the chart that the policies depend on.
type Settings struct {
	Driver      string   // name of the CSI driver
	KubeletRoot string   // linux.kubeletRootDir
	StateDir    string   // stateDir
	SocketDirs  []string // linux.providersDir and linux.additionalProvidersDirs

	// What the policy on host paths passes over: pods of these service accounts
	// in this namespace, which are those of the chart itself.
	Namespace       string
	ServiceAccounts []string

	// ExemptNamespaces is admissionPolicies.exemptNamespaces: only read-only
	// volumes are demanded there.
	ExemptNamespaces []string
}

// Refusal is one thing that a policy would refuse.
type Refusal struct {
	Policy  string // name of the ValidatingAdmissionPolicy
	Field   string // of the pod: spec.volumes[2].hostPath.path
	Message string // what and why, and the remedy
}

// Of returns what the policies would refuse in a pod, in the order of its fields.
// A pod that exists already is never refused: it is what would happen to the next
// one like it.
func Of(pod *corev1.Pod, s Settings) []Refusal {
	var found []Refusal
	exempt := slices.Contains(s.ExemptNamespaces, pod.Namespace)
	if uses(pod, s.Driver) {
		found = writable(pod, s.Driver)
		if !exempt {
			found = slices.Concat(found, privileged(pod), ephemeral(pod))
		}
	}
	ours := pod.Namespace == s.Namespace && slices.Contains(s.ServiceAccounts, pod.Spec.ServiceAccountName)
	if exempt || ours {
		return found
	}
	return append(found, hostPaths(pod, s.directories())...)
}

func uses(pod *corev1.Pod, driver string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.CSI != nil && v.CSI.Driver == driver })
}

func writable(pod *corev1.Pod, driver string) []Refusal {
	var found []Refusal
	for i, v := range pod.Spec.Volumes {
		if v.CSI == nil || v.CSI.Driver != driver || v.CSI.ReadOnly != nil && *v.CSI.ReadOnly {
			continue
		}
		found = append(found, Refusal{
			VolumesReadOnly, fmt.Sprintf("spec.volumes[%d].csi.readOnly", i),
			fmt.Sprintf("volume %q lacks readOnly: true, without which nothing is mounted; hint: add readOnly: true below csi:", v.Name),
		})
	}
	return found
}

func privileged(pod *corev1.Pod) []Refusal {
	const remedy = "can read and change what is not its own; hint: remove it, or take the secrets to a pod of their own"
	var found []Refusal
	if pod.Spec.HostPID {
		found = append(found, Refusal{Privileged, "spec.hostPID", "a pod with hostPID: true " + remedy})
	}
	check := func(kind string, i int, name string, c *corev1.SecurityContext) {
		if c == nil || c.Privileged == nil || !*c.Privileged {
			return
		}
		field := fmt.Sprintf("spec.%s[%d].securityContext.privileged", kind, i)
		found = append(found, Refusal{Privileged, field, fmt.Sprintf("container %q is privileged: it %s", name, remedy)})
	}
	for i, c := range pod.Spec.InitContainers {
		check("initContainers", i, c.Name, c.SecurityContext)
	}
	for i, c := range pod.Spec.Containers {
		check("containers", i, c.Name, c.SecurityContext)
	}
	for i, c := range pod.Spec.EphemeralContainers {
		check("ephemeralContainers", i, c.Name, c.SecurityContext)
	}
	return found
}

func ephemeral(pod *corev1.Pod) []Refusal {
	var found []Refusal
	for i, c := range pod.Spec.EphemeralContainers {
		found = append(found, Refusal{
			EphemeralContainers, fmt.Sprintf("spec.ephemeralContainers[%d]", i),
			fmt.Sprintf("ephemeral container %q can read the secrets of its pod, whether it mounts them or not; hint: debug a copy of the pod that has no such volume", c.Name),
		})
	}
	return found
}

func hostPaths(pod *corev1.Pod, directories []string) []Refusal {
	var found []Refusal
	for i, v := range pod.Spec.Volumes {
		if v.HostPath == nil {
			continue
		}
		if reached, ok := reaches(v.HostPath.Path, directories); ok {
			found = append(found, Refusal{
				HostPaths, fmt.Sprintf("spec.volumes[%d].hostPath.path", i),
				fmt.Sprintf("volume %q is the path %q of the node, which reaches %s; hint: mount a directory that holds nothing but what the pod needs, "+
					"or exempt the namespace of a node agent", v.Name, v.HostPath.Path, reached),
			})
		}
	}
	return found
}

// directories are those that no pod may reach, clean. On most nodes /var/run leads
// to /run, so either stands for both.
func (s Settings) directories() []string {
	const run, varRun = "/run/", "/var/run/"
	given := append([]string{"/proc", s.StateDir}, s.SocketDirs...)
	if s.KubeletRoot != "" {
		given = append(given, s.KubeletRoot+"/pods", s.KubeletRoot+"/plugins/csi-secrets-store", s.KubeletRoot+"/plugins_registry")
	}
	var all []string
	for _, d := range given {
		if d == "" {
			continue // not known: every path would reach it
		}
		d = path.Clean("/" + d)
		all = append(all, d)
		switch {
		case strings.HasPrefix(d, run):
			all = append(all, varRun+strings.TrimPrefix(d, run))
		case strings.HasPrefix(d, varRun):
			all = append(all, run+strings.TrimPrefix(d, varRun))
		}
	}
	return all
}

// reaches returns the first directory that a path equals, contains or lies inside.
// Where a path goes after .. depends on the links of the node, so such a path is
// taken to reach all of them.
func reaches(p string, directories []string) (string, bool) {
	if slices.Contains(strings.Split(p, "/"), "..") {
		return "whatever .. leads to", true
	}
	p = withSlash(path.Clean("/" + p))
	for _, d := range directories {
		if d := withSlash(d); strings.HasPrefix(p, d) || strings.HasPrefix(d, p) {
			return d, true
		}
	}
	return "", false
}

// withSlash ends a clean path in a slash, so that whole elements are compared:
// /proc2 is not inside /proc.
func withSlash(clean string) string {
	if clean == "/" {
		return clean
	}
	return clean + "/"
}
