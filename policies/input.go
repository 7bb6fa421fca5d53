package policies

import (
	"encoding/json"
	"slices"
)

// Contract is the version of the policy contract that this engine speaks. A
// bundle or an input of another contract is never evaluated.
const Contract = "portcullis/v1"

// Phase says which gate asks. The same facts give the same answer in every
// phase: a deny rule may not read it.
type Phase string

// The phases of the contract.
const (
	PhaseAdmission Phase = "admission" // the webhook, before the pod exists
	PhaseMount     Phase = "mount"     // the node, first publish
	PhaseRotate    Phase = "rotate"    // the node, republish
	PhaseSync      Phase = "sync"      // the node, copying to a Secret object
	PhaseCI        Phase = "ci"        // the command line
)

// Input is everything a decision may depend on, and nothing else: contract
// portcullis/v1, described for policy authors by input.schema.json. A field
// that a phase lacks is absent, never null.
type Input struct {
	Contract  string     `json:"contract"`
	Phase     Phase      `json:"phase"`
	NowNS     int64      `json:"now_ns"` // Unix time in nanoseconds
	Cluster   string     `json:"cluster"`
	Subject   Subject    `json:"subject"`
	Tokens    []Token    `json:"tokens,omitempty"`
	Requester *Requester `json:"requester,omitempty"`
	Pod       Pod        `json:"pod"`
	SPC       SPC        `json:"spc"`
	Volume    Volume     `json:"volume"`
	Requests  []Request  `json:"requests"`
}

// Subject is who asks for the secrets: the confirmed identity of the pod.
type Subject struct {
	Namespace                 string            `json:"namespace"`
	NamespaceLabels           map[string]string `json:"namespaceLabels,omitempty"`
	ServiceAccount            string            `json:"serviceAccount"`
	ServiceAccountAnnotations map[string]string `json:"serviceAccountAnnotations,omitempty"`
	PodName                   string            `json:"podName"`
	PodUID                    string            `json:"podUID"`
	Node                      string            `json:"node,omitempty"`
	// TokenVerified is present from mount on: true only if a bound
	// service account token confirmed this subject.
	TokenVerified *bool `json:"tokenVerified,omitempty"`
}

// Token is a service account token that kubelet handed over, without the token.
type Token struct {
	Audience string `json:"audience"`
	Verified bool   `json:"verified"`
}

// Requester is who sent the admission request: often a controller.
type Requester struct {
	Username string   `json:"username"`
	Groups   []string `json:"groups,omitempty"`
}

// Pod holds what the pod asks of the node. None of it identifies the pod:
// whoever writes pods chooses it.
type Pod struct {
	FSGroup               *int64            `json:"fsGroup,omitempty"`
	SupplementalGroups    []int64           `json:"supplementalGroups,omitempty"`
	HostPID               bool              `json:"hostPID"`
	HostIPC               bool              `json:"hostIPC"`
	HostNetwork           bool              `json:"hostNetwork"`
	HostUsers             bool              `json:"hostUsers"` // true when the pod does not say
	ShareProcessNamespace bool              `json:"shareProcessNamespace"`
	Labels                map[string]string `json:"labels,omitempty"`
	Owner                 *Owner            `json:"owner,omitempty"`
	HostPaths             []string          `json:"hostPaths,omitempty"`
	Containers            []Container       `json:"containers"`
}

// Owner is the controller that owns the pod.
type Owner struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// ContainerKind is init, main or ephemeral.
type ContainerKind string

// The kinds of container.
const (
	ContainerInit      ContainerKind = "init"
	ContainerMain      ContainerKind = "main"
	ContainerEphemeral ContainerKind = "ephemeral"
)

// Container is one container of the pod.
type Container struct {
	Name                     string        `json:"name"`
	Image                    string        `json:"image"`
	Kind                     ContainerKind `json:"kind"`
	Privileged               bool          `json:"privileged"`
	AllowPrivilegeEscalation bool          `json:"allowPrivilegeEscalation"` // true when the pod does not say
	Capabilities             []string      `json:"capabilities,omitempty"`   // added ones
	RunAsUser                *int64        `json:"runAsUser,omitempty"`
	RunAsNonRoot             *bool         `json:"runAsNonRoot,omitempty"`
	MountsVolume             bool          `json:"mountsVolume"` // the volume of this decision
	Signature                *Signature    `json:"signature,omitempty"`
}

// Signature is what image verification found, where it ran.
type Signature struct {
	Verified bool     `json:"verified"`
	By       []string `json:"by,omitempty"`
}

// SPC is the SecretProviderClass, with the effective parameters: the class's,
// merged with the volume's attributes.
type SPC struct {
	Name             string `json:"name"`
	UID              string `json:"uid,omitempty"`
	Generation       int64  `json:"generation,omitempty"`
	Provider         string `json:"provider"`
	ParametersSHA256 string `json:"parametersSha256"` // 64 hexadecimal digits
	// Parameters shows the value of names that are known to be harmless and
	// "(present)" for every other.
	Parameters map[string]string `json:"parameters,omitempty"`
	// Scoping holds the parameters that choose with which identity, and at
	// which backend, the provider asks. A grant must list each with its value.
	Scoping map[string]string `json:"scoping,omitempty"`
	// LiteralCredentials names parameters that hold a credential in plain
	// text. Their values reach nothing, not even a digest; any name here is
	// the denial PR-120.
	LiteralCredentials []string `json:"literalCredentials,omitempty"`
}

// Volume is the inline volume as kubelet asks for it.
type Volume struct {
	Name                 string   `json:"name"`
	ReadOnly             bool     `json:"readOnly"`
	Ephemeral            bool     `json:"ephemeral"`
	VolumeMountGroup     *int64   `json:"volumeMountGroup,omitempty"`
	Overrides            []string `json:"overrides,omitempty"` // parameters that volumeAttributes changed or added
	NodePublishSecretRef string   `json:"nodePublishSecretRef,omitempty"`
}

// Request is one secret that the provider would fetch, and the file it would
// become.
type Request struct {
	// Secret is the absolute id: <provider>://<backend>/<path>[#key][@version],
	// or unparsed:<parametersSha256> when the parameters cannot be read for certain.
	Secret string `json:"secret"`
	// File is the path below the volume. It is absent only on unparsed requests.
	File string `json:"file,omitempty"`
	// Mode is the file mode that the class asks for; absent means the default.
	Mode *uint32 `json:"mode,omitempty"`
	// UID is the owner that the class asks for; absent means root.
	UID        *int64 `json:"uid,omitempty"`
	Sync       []Sync `json:"sync,omitempty"`
	ParseError string `json:"parseError,omitempty"` // our words, never the parameters'
}

// Sync is a Secret object that the class wants a copy in.
type Sync struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Key  string `json:"key"`
}

// canonical returns the JSON that digests are made of: Go's encoding with its
// fixed field order and sorted maps, now_ns left at zero, and no null.
func (in Input) canonical() ([]byte, error) {
	in.NowNS = 0
	if in.Requests == nil {
		in.Requests = []Request{}
	}
	if in.Pod.Containers == nil {
		in.Pod.Containers = []Container{}
	}
	return json.Marshal(in)
}

// clone returns an input whose requests nobody else can change: what was
// decided on is what will be fetched.
func (in Input) clone() Input {
	requests := make([]Request, 0, len(in.Requests))
	for _, r := range in.Requests {
		if r.Mode != nil {
			r.Mode = new(*r.Mode)
		}
		if r.UID != nil {
			r.UID = new(*r.UID)
		}
		r.Sync = slices.Clone(r.Sync)
		requests = append(requests, r)
	}
	in.Requests = requests
	if g := in.Volume.VolumeMountGroup; g != nil {
		in.Volume.VolumeMountGroup = new(*g)
	}
	return in
}
