package kube

import "github.com/portcullis-csi/portcullis/policies"

// Origin is where the value of a field comes from, in the words of
// docs/POLICIES.md. The zero Origin is a field that a phase lacks.
type Origin string

// The origins of the contract's fields.
const (
	OriginConstant       Origin = "constant"
	OriginClock          Origin = "clock"
	OriginClusterName    Origin = "`--cluster-name`"
	OriginNodeID         Origin = "`--nodeid`"
	OriginAPIRequest     Origin = "API request"
	OriginKubelet        Origin = "kubelet's request"
	OriginToken          Origin = "service account token"
	OriginPod            Origin = "Pod" // at admission the one in the API request
	OriginNamespace      Origin = "Namespace"
	OriginServiceAccount Origin = "ServiceAccount"
	OriginClass          Origin = "SecretProviderClass"
	// OriginParameters is the class merged with the volume's attributes, and
	// what a provider reads in the pod in their place.
	OriginParameters Origin = "effective parameters"
)

// FieldOrigin is one field of the input, by its path in input.schema.json
// ("pod.containers[].name"), and its one origin per phase.
type FieldOrigin struct {
	Field     string
	Admission Origin
	Node      Origin // mount, rotate and sync: all within one request of kubelet
	CI        Origin
}

// In returns the origin in a phase, the zero Origin where the phase lacks the
// field or is not known.
func (f FieldOrigin) In(p policies.Phase) Origin {
	switch p {
	case policies.PhaseAdmission:
		return f.Admission
	case policies.PhaseMount, policies.PhaseRotate, policies.PhaseSync:
		return f.Node
	case policies.PhaseCI:
		return f.CI
	default:
		return ""
	}
}

// Origins returns every field that holds a value. Fields that only group others
// are left out.
func Origins() []FieldOrigin {
	var all []FieldOrigin
	add := func(admission, node, ci Origin, fields ...string) {
		for _, f := range fields {
			all = append(all, FieldOrigin{Field: f, Admission: admission, Node: node, CI: ci})
		}
	}
	always := func(o Origin, fields ...string) { add(o, o, o, fields...) }
	always(OriginConstant, "contract", "phase", "volume.readOnly", "volume.ephemeral")
	always(OriginClock, "now_ns")
	always(OriginClusterName, "cluster")
	always(OriginPod, podFields()...)
	always(OriginNamespace, "subject.namespaceLabels")
	always(OriginServiceAccount, "subject.serviceAccountAnnotations")
	always(OriginClass, "spc.name", "spc.uid", "spc.generation", "spc.provider",
		"requests[].sync[].name", "requests[].sync[].type", "requests[].sync[].key")
	always(OriginParameters, "spc.parametersSha256", "spc.parameters", "spc.scoping", "spc.literalCredentials", "volume.overrides",
		"requests[].secret", "requests[].file", "requests[].mode", "requests[].uid", "requests[].parseError")
	add("", OriginNodeID, "", "subject.node")
	add("", OriginToken, "", "subject.tokenVerified", "tokens[].audience", "tokens[].verified")
	add(OriginAPIRequest, "", "", "requester.username", "requester.groups")
	add(OriginPod, OriginKubelet, OriginPod, "volume.name", "volume.volumeMountGroup")
	// Images are verified by nobody yet.
	always("", "pod.containers[].signature.verified", "pod.containers[].signature.by")
	return all
}

// podFields are those of the pod in every phase.
func podFields() []string {
	return []string{
		"subject.namespace", "subject.serviceAccount", "subject.podName", "subject.podUID",
		"pod.fsGroup", "pod.supplementalGroups", "pod.hostPID", "pod.hostIPC", "pod.hostNetwork", "pod.hostUsers",
		"pod.shareProcessNamespace", "pod.labels", "pod.owner.kind", "pod.owner.name", "pod.hostPaths",
		"pod.containers[].name", "pod.containers[].image", "pod.containers[].kind", "pod.containers[].privileged",
		"pod.containers[].allowPrivilegeEscalation", "pod.containers[].capabilities", "pod.containers[].runAsUser",
		"pod.containers[].runAsNonRoot", "pod.containers[].mountsVolume", "volume.nodePublishSecretRef",
	}
}
