package admission

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies"
)

// fieldOf returns the field of the pod that a finding is most likely about. A
// finding has no field: what is known is its rule, and the names that it quotes.
func fieldOf(f policies.Finding, o volume) string {
	spec := &o.pod.Spec
	switch f.Check {
	case "required_fs_group", "fs_group":
		return "spec.securityContext.fsGroup"
	case "read_only":
		return o.field() + ".csi.readOnly"
	case "overrides":
		return o.field() + ".csi.volumeAttributes"
	case "service_account":
		return "spec.serviceAccountName"
	case "shared_processes":
		return "spec.shareProcessNamespace"
	case "host_namespaces":
		return hostNamespace(spec)
	case "host_path":
		return hostPath(spec, o.field())
	}
	if f.Secret == "" {
		if field, ok := quotedContainer(spec, f.Message); ok {
			return field
		}
	}
	// What the class asks for.
	return o.field() + ".csi.volumeAttributes[" + attrClass + "]"
}

func hostNamespace(spec *corev1.PodSpec) string {
	switch {
	case spec.HostPID:
		return "spec.hostPID"
	case spec.HostIPC:
		return "spec.hostIPC"
	case spec.HostNetwork:
		return "spec.hostNetwork"
	default:
		return "spec"
	}
}

func hostPath(spec *corev1.PodSpec, otherwise string) string {
	for i := range spec.Volumes {
		if spec.Volumes[i].HostPath != nil {
			return fmt.Sprintf("spec.volumes[%d].hostPath", i)
		}
	}
	return otherwise
}

// quotedContainer finds the first container whose name a message quotes.
func quotedContainer(spec *corev1.PodSpec, message string) (string, bool) {
	best, field := len(message), ""
	look := func(list string, i int, name string) {
		if at := strings.Index(message, strconv.Quote(name)); at >= 0 && at < best {
			best, field = at, fmt.Sprintf("spec.%s[%d]", list, i)
		}
	}
	for i := range spec.InitContainers {
		look("initContainers", i, spec.InitContainers[i].Name)
	}
	for i := range spec.Containers {
		look("containers", i, spec.Containers[i].Name)
	}
	for i := range spec.EphemeralContainers {
		look("ephemeralContainers", i, spec.EphemeralContainers[i].Name)
	}
	return field, field != ""
}
