package policies

import (
	"bytes"
	"fmt"
	"strings"
)

// The bounds of an input. They keep an evaluation within its budget and an
// event within its size, whoever writes the objects.
const (
	MaxRequests       = 64
	MaxParameterBytes = 64 << 10
	MaxMapBytes       = 16 << 10
	MaxInputBytes     = 128 << 10
	MaxSyncPerRequest = 64  // copies of one secret in Secret objects
	MaxSync           = 256 // copies in all
	MaxOverrides      = 64  // parameters that volumeAttributes change
	maxSecretBytes    = 2048
	// Each slash is a prefix that a decision looks up.
	maxSecretSlashes = 64
	maxFileBytes     = 4096
	maxNameBytes     = 253
	maxParseErrorLen = 256
)

const unparsedPrefix = "unparsed:"

// InputError says which field of an Input is outside its bounds.
type InputError struct {
	Field  string
	Limit  string // what was exceeded or violated
	Remedy string
}

// Error names the field, the limit and the remedy, never the value.
func (e *InputError) Error() string {
	return fmt.Sprintf("input field %s: %s; hint: %s", e.Field, e.Limit, e.Remedy)
}

// Validate returns an *InputError if the input is outside the bounds of the
// contract. An input without requests is valid: it is denied by PR-003.
func (in Input) Validate() error {
	_, err := in.encode()
	return err
}

// encode returns what the digest of the input is made of, also where the input is
// invalid: refusals of different pods must not share a decision id.
func (in Input) encode() ([]byte, error) {
	text, err := in.canonical()
	if err != nil {
		return nil, &InputError{"(all)", "is not JSON", "use the fields of input.schema.json"}
	}
	for _, check := range []func(Input) *InputError{
		checkContract, checkSubject, checkPod, checkSPC, checkVolume, checkRequests,
	} {
		if err := check(in); err != nil {
			return text, err
		}
	}
	if err := checkEncoded(text); err != nil {
		return text, err
	}
	return text, nil
}

func checkContract(in Input) *InputError {
	switch {
	case in.Contract != Contract:
		return &InputError{"contract", "is not " + Contract, "use components of one release"}
	case in.NowNS <= 0:
		return &InputError{"now_ns", "is not a time", "set the Unix time in nanoseconds"}
	case !ValidClusterName(in.Cluster):
		return &InputError{"cluster", "is not a name", "start the component with --cluster-name"}
	}
	switch in.Phase {
	case PhaseAdmission, PhaseMount, PhaseRotate, PhaseSync, PhaseCI:
		return nil
	default:
		return &InputError{"phase", "is not known", "use admission, mount, rotate, sync or ci"}
	}
}

func checkSubject(in Input) *InputError {
	s := in.Subject
	switch {
	case !validLabel(s.Namespace):
		return &InputError{"subject.namespace", "is not a namespace name", "use the name of the pod's namespace"}
	case !validName(s.ServiceAccount):
		return &InputError{"subject.serviceAccount", "is not a service account name", "use the pod's service account, default where it names none"}
	case s.PodName != "" && !validName(s.PodName):
		return &InputError{"subject.podName", "is not a pod name", "use the pod's name"}
	case len(s.PodUID) > maxNameBytes || len(s.Node) > maxNameBytes:
		return &InputError{"subject", "podUID or node is too long", "use what the API server reports"}
	}
	if err := checkMap("subject.namespaceLabels", s.NamespaceLabels); err != nil {
		return err
	}
	return checkMap("subject.serviceAccountAnnotations", s.ServiceAccountAnnotations)
}

func checkPod(in Input) *InputError {
	for i, c := range in.Pod.Containers {
		switch c.Kind {
		case ContainerInit, ContainerMain, ContainerEphemeral:
		default:
			return &InputError{fmt.Sprintf("pod.containers[%d].kind", i), "is not known", "use init, main or ephemeral"}
		}
	}
	return checkMap("pod.labels", in.Pod.Labels)
}

func checkSPC(in Input) *InputError {
	s := in.SPC
	switch {
	case !providerPattern.MatchString(s.Provider):
		return &InputError{"spc.provider", "is not a provider name", "use 1 to 30 letters, digits, _ or -"}
	case !digestPattern.MatchString(s.ParametersSHA256):
		return &InputError{"spc.parametersSha256", "is not a digest", "use 64 hexadecimal digits"}
	case !validName(s.Name):
		return &InputError{"spc.name", "is not an object name", "use the name of the SecretProviderClass"}
	case mapBytes(s.Parameters)+mapBytes(s.Scoping) > MaxParameterBytes:
		return &InputError{"spc.parameters", "are larger than 64 KiB", "split the SecretProviderClass"}
	}
	return nil
}

func checkVolume(in Input) *InputError {
	v := in.Volume
	switch {
	case !validName(v.Name):
		return &InputError{"volume.name", "is not a volume name", "use the name of the pod's volume"}
	case v.VolumeMountGroup != nil && !validID(*v.VolumeMountGroup):
		return &InputError{"volume.volumeMountGroup", "is not a group id", "set fsGroup between 0 and 4294967294"}
	case len(v.Overrides) > MaxOverrides: // each is a finding of its own
		return &InputError{"volume.overrides", fmt.Sprintf("are more than %d", MaxOverrides), "move the volumeAttributes into the SecretProviderClass"}
	}
	return nil
}

func checkRequests(in Input) *InputError {
	if len(in.Requests) > MaxRequests {
		return &InputError{"requests", fmt.Sprintf("are more than %d", MaxRequests), "split the SecretProviderClass"}
	}
	for i, r := range in.Requests {
		if limit, remedy := r.fault(in.SPC); limit != "" {
			return &InputError{fmt.Sprintf("requests[%d]", i), limit, remedy}
		}
	}
	return checkSync(in.Requests)
}

// checkSync names the field of the class: its author has to mend it.
func checkSync(requests []Request) *InputError {
	const field, remedy = "spec.secretObjects", "split the SecretProviderClass"
	all := 0
	for _, r := range requests {
		if len(r.Sync) > MaxSyncPerRequest {
			return &InputError{field, fmt.Sprintf("copy one file more than %d times", MaxSyncPerRequest), remedy}
		}
		if all += len(r.Sync); all > MaxSync {
			return &InputError{field, fmt.Sprintf("make more than %d copies", MaxSync), remedy}
		}
	}
	return nil
}

// fault says what is wrong with a request of this class.
func (r Request) fault(s SPC) (limit, remedy string) {
	switch {
	case len(r.Secret) > maxSecretBytes || len(r.File) > maxFileBytes || len(r.ParseError) > maxParseErrorLen:
		return "secret, file or parseError is too long", "use shorter object names and paths"
	case r.UID != nil && !validID(*r.UID):
		return "uid is not a user id", "use a user id between 0 and 4294967294"
	case strings.HasPrefix(r.Secret, unparsedPrefix):
		// Another class's digest would let one grant in full serve both.
		if r.Secret != unparsedPrefix+s.ParametersSHA256 {
			return "unparsed id is not that of the parameters", "use the digest of the effective parameters"
		}
	case strings.Count(r.Secret, "/") > maxSecretSlashes:
		return "secret has too many path elements", "use a shorter path"
	case !validSecret(r.Secret):
		return "secret is not an absolute id", "use <provider>://<backend>/<path>[#key][@version] without . and .. elements"
	case !strings.HasPrefix(r.Secret, s.Provider+"://"):
		return "secret is another provider's", "use ids of the class's provider"
	case r.File == "":
		return "file is missing", "only unparsed requests have no file"
	}
	return "", ""
}

func checkEncoded(text []byte) *InputError {
	switch {
	case len(text) > MaxInputBytes:
		return &InputError{"(all)", "is larger than 128 KiB", "shorten labels, annotations or the SecretProviderClass"}
	case bytes.Contains(text, []byte(`\ufffd`)):
		// Encoding replaces what is not UTF-8 by this, so that two inputs
		// would share a digest and thus a decision id.
		return &InputError{"(all)", "is not UTF-8", "remove the invalid characters from the objects"}
	}
	return nil
}

func checkMap(field string, m map[string]string) *InputError {
	if mapBytes(m) > MaxMapBytes {
		return &InputError{field, "is larger than 16 KiB", "remove labels or annotations"}
	}
	return nil
}

func mapBytes(m map[string]string) int {
	n := 0
	for k, v := range m {
		n += len(k) + len(v)
	}
	return n
}
