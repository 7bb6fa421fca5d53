package driver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
)

// Keys of the volume context. All but the first are kubelet's.
const (
	attrClass          = "secretProviderClass"
	attrPodName        = "csi.storage.k8s.io/pod.name"
	attrPodNamespace   = "csi.storage.k8s.io/pod.namespace"
	attrPodUID         = "csi.storage.k8s.io/pod.uid"
	attrServiceAccount = "csi.storage.k8s.io/serviceAccount.name"
	attrEphemeral      = "csi.storage.k8s.io/ephemeral"
)

const (
	fieldTarget     = "target_path"
	fieldVolumePath = "volume_path"
)

// Remedies that several fields share.
const (
	remedyKubelet  = "kubelet sets it; call the driver through kubelet"
	remedyInline   = "use an inline csi volume in the pod; persistent volumes are not supported"
	remedyStaged   = "call the driver through kubelet: volumes of this driver are not staged"
	remedyPodInfo  = "set podInfoOnMount: true in the CSIDriver object"
	remedyAudience = "check tokenRequests in the CSIDriver object"
	textTokens     = "service account tokens as kubelet writes them"
)

// requestError is a request that the driver refuses to act on.
type requestError struct {
	field   string // as the CSI specification, the pod or the class names it
	problem string
	remedy  string
}

// Error names the field and what is wrong with it.
func (e *requestError) Error() string { return e.field + " " + e.problem }

// target is where a call points to.
type target struct {
	key  targetKey
	path string
}

// checkVolumeID: the id is not used, since the target path says more, but the
// CSI specification requires it.
func checkVolumeID(id string) error {
	if id == "" {
		return &requestError{"volume_id", "is missing", remedyKubelet}
	}
	return nil
}

func checkPath(field, path string) error {
	if path == "" {
		return &requestError{field, "is missing", remedyKubelet}
	}
	return nil
}

// parseTarget takes pod UID and volume name out of a target path, which must
// have exactly kubelet's form (CVE-2020-8568).
func (d *Driver) parseTarget(field, path string) (target, error) {
	if err := checkPath(field, path); err != nil {
		return target{}, err
	}
	uid, volume, err := hardening.ParseTargetPath(d.c.KubeletRoot, path)
	if e, ok := errors.AsType[*hardening.TargetError](err); ok && isStatic(e) {
		return target{}, &requestError{field, "is a volume of a static pod, which has no identity that the API server vouches for", "run it as a DaemonSet"}
	}
	if err != nil {
		return target{}, &requestError{field, "is not a volume of a pod below the kubelet root",
			"give --kubelet-root the directory that kubelet uses (its --root-dir)"}
	}
	return target{key: targetKey{uid, volume}, path: path}, nil
}

// isStatic knows the UID of a static pod: kubelet makes it of the manifest's
// digest, 32 hexadecimal digits and no dashes.
func isStatic(e *hardening.TargetError) bool {
	digest, err := hex.DecodeString(e.Value)
	return e.Field == "pod uid" && err == nil && len(digest) == 16
}

// mountRequest is a publish call, parsed and checked, with its secrets in
// types that cannot print.
type mountRequest struct {
	target
	claim   identity.Claim
	class   string
	group   *int64           // volume_mount_group
	tokens  provider.Tokens  // what the provider may get
	secrets provider.Secrets // of nodePublishSecretRef
	// contextTokens came in the volume context, and take the place of tokens
	// only once the identity says that kubelet wrote them.
	contextTokens provider.Tokens
	// contextProblem is what is wrong with them, if they turn out to be
	// kubelet's: an author's are refused for being there at all.
	contextProblem error

	provider    string // of the class, once that was read
	wasVerified bool   // a token of the mounted volume was verified before
	again       *again // nil in a call of kubelet's
}

// wipe overwrites what kubelet handed over.
func (m *mountRequest) wipe() {
	m.tokens.Wipe()
	m.contextTokens.Wipe()
	m.secrets.Wipe()
}

// parsePublish checks every field of a publish call before anything happens.
func parsePublish(req *csi.NodePublishVolumeRequest, t target) (*mountRequest, error) {
	m := &mountRequest{target: t}
	attributes := req.GetVolumeContext()
	// First, so that log and event of every refusal say whose request it was.
	claim, claimErr := parseClaim(attributes, t.key)
	m.claim = claim
	if err := checkPublish(req); err != nil {
		return m, err
	}
	group, err := parseGroup(req.GetVolumeCapability().GetMount().GetVolumeMountGroup())
	if err != nil {
		return m, err
	}
	m.group = group
	if m.class, err = parseClass(attributes); err != nil {
		return m, err
	}
	if claimErr != nil {
		return m, claimErr
	}
	m.secrets = provider.NewSecrets(req.GetSecrets())
	return m, m.parseTokens(req)
}

// parseTokens reads the tokens from both places where kubelet may put them.
// Which one is kubelet's is for the CSIDriver object to say.
func (m *mountRequest) parseTokens(req *csi.NodePublishVolumeRequest) error {
	var err error
	if m.tokens, err = provider.ParseTokens(req.GetSecrets()); err != nil {
		return &requestError{"secrets", "do not hold " + textTokens, remedyAudience}
	}
	m.claim.Tokens = m.tokens
	if _, there := req.GetVolumeContext()[provider.TokensKey]; !there {
		return nil
	}
	if m.contextTokens, err = provider.ParseTokens(req.GetVolumeContext()); err != nil {
		m.contextProblem = &requestError{"volume_context[" + provider.TokensKey + "]", "does not hold " + textTokens, remedyAudience}
	}
	m.claim.ContextTokens = m.contextTokens
	return nil
}

// takeContextTokens has the provider get the tokens of the volume context,
// which the identity has found to be kubelet's.
func (m *mountRequest) takeContextTokens() error {
	m.tokens = m.contextTokens
	return m.contextProblem
}

// asks is the claim, as it is to be confirmed in a phase.
func (m *mountRequest) asks(phase policies.Phase) identity.Claim {
	c := m.claim
	c.Mounted = phase == policies.PhaseRotate
	c.WasVerified = c.Mounted && m.wasVerified
	return c
}

// checkPublish refuses what no kubelet sends for an inline volume of this
// driver, which has no controller and stages nothing.
func checkPublish(req *csi.NodePublishVolumeRequest) error {
	if err := checkVolumeID(req.GetVolumeId()); err != nil {
		return err
	}
	if err := checkCapability(req.GetVolumeCapability()); err != nil {
		return err
	}
	switch {
	case !req.GetReadonly():
		return &requestError{"csi.readOnly", "is not true", "set readOnly: true in the pod's csi volume: without it containers get the volume writable"}
	case len(req.GetPublishContext()) > 0:
		return &requestError{"publish_context", "is set", "call the driver through kubelet: there is no controller that could have made one"}
	case req.GetStagingTargetPath() != "":
		return &requestError{"staging_target_path", "is set", remedyStaged}
	case len(req.GetVolumeContext()) == 0:
		return &requestError{"volume_context", "is missing", remedyPodInfo}
	}
	return nil
}

func checkCapability(vc *csi.VolumeCapability) error {
	switch mount := vc.GetMount(); {
	case vc == nil:
		return &requestError{"volume_capability", "is missing", remedyKubelet}
	case mount == nil:
		return &requestError{"volume_capability.mount", "is not set", "mount secrets as files, not as a block device"}
	case mount.GetFsType() != "":
		return &requestError{"csi.fsType", "is set", "remove it: secrets are always on tmpfs"}
	case len(mount.GetMountFlags()) > 0:
		return &requestError{"volume_capability.mount.mount_flags", "are set", "remove the mount options: the driver alone sets them"}
	}
	switch vc.GetAccessMode().GetMode() {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, // what kubelet sends
		csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
		return nil
	default:
		return &requestError{"volume_capability.access_mode", "is missing, or not for a single node", remedyInline}
	}
}

// parseGroup reads the fsGroup that kubelet passes on, in decimal and as far
// as Kubernetes lets groups go.
func parseGroup(s string) (*int64, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // no group is an answer of its own
	}
	gid, err := strconv.ParseInt(s, 10, 64)
	if err != nil || gid < 0 || gid > math.MaxInt32 || strconv.FormatInt(gid, 10) != s {
		return nil, &requestError{"volume_capability.mount.volume_mount_group", "is not a group id", "set securityContext.fsGroup to a number from 0 to 2147483647"}
	}
	return &gid, nil
}

// parseClass reads the name of the class, which replies repeat.
func parseClass(attributes map[string]string) (string, error) {
	const field, remedy = "volumeAttributes." + attrClass, "name the SecretProviderClass in the pod's volume"
	name := attributes[attrClass]
	switch {
	case name == "":
		return "", &requestError{field, "is missing", remedy}
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		return "", &requestError{field, "is not a name that an object can have", remedy}
	}
	return name, nil
}

// parseClaim reads what kubelet says about the pod. Names that no object can
// have are in no claim.
func parseClaim(attributes map[string]string, k targetKey) (identity.Claim, error) {
	for _, key := range []string{attrPodNamespace, attrPodName, attrPodUID, attrServiceAccount} {
		if problem := claimProblem(key, attributes[key]); problem != "" {
			return identity.Claim{}, &requestError{fmt.Sprintf("volume_context[%s]", key), problem, remedyPodInfo}
		}
	}
	c := identity.Claim{
		Namespace:      attributes[attrPodNamespace],
		Pod:            attributes[attrPodName],
		ServiceAccount: attributes[attrServiceAccount],
		PodUID:         k.podUID,
		Volume:         k.volume,
		ContextUID:     attributes[attrPodUID],
		Attributes:     withoutTokens(attributes),
	}
	if attributes[attrEphemeral] != "true" {
		return c, &requestError{"volume_context[" + attrEphemeral + "]", "is not true", remedyInline}
	}
	return c, nil
}

// withoutTokens keeps tokens out of what goes on as strings.
func withoutTokens(attributes map[string]string) map[string]string {
	if _, there := attributes[provider.TokensKey]; !there {
		return attributes
	}
	rest := maps.Clone(attributes)
	delete(rest, provider.TokensKey)
	return rest
}

// claimProblem says what is wrong with one of kubelet's attributes. Without
// podInfoOnMount they are whatever the pod's author wrote, of any length, and
// they go on to the log and the API server.
func claimProblem(key, value string) string {
	var rules []string
	switch {
	case value == "":
		return "is missing"
	case key == attrPodNamespace:
		rules = validation.IsDNS1123Label(value)
	case key == attrPodUID: // compared, and not repeated anywhere
	default:
		rules = validation.IsDNS1123Subdomain(value)
	}
	if len(rules) > 0 {
		return "is not a name that an object can have"
	}
	return ""
}
