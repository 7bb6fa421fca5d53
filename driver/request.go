package driver

import (
	"fmt"
	"math"
	"strconv"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/hardening"
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
	fieldVolumeID   = "volume_id"
	fieldTarget     = "target_path"
	fieldVolumePath = "volume_path"
	fieldAccessMode = "volume_capability.access_mode"
	hintKubelet     = "kubelet sets it; call the driver through kubelet"
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

// require refuses a call that lacks a field which the CSI specification calls
// REQUIRED.
func require(field, value string) error {
	if value == "" {
		return &requestError{field, "is missing", hintKubelet}
	}
	return nil
}

// parseTarget takes pod UID and volume name out of a target path, which must
// have exactly kubelet's form (CVE-2020-8568).
func (d *Driver) parseTarget(volumeID, path string) (target, error) {
	if err := require(fieldVolumeID, volumeID); err != nil {
		return target{}, err
	}
	return d.parsePath(path)
}

func (d *Driver) parsePath(path string) (target, error) {
	if err := require(fieldTarget, path); err != nil {
		return target{}, err
	}
	uid, volume, err := hardening.ParseTargetPath(d.c.KubeletRoot, path)
	if err != nil {
		return target{}, &requestError{fieldTarget, "is not a volume of a pod below the kubelet root",
			"give --kubelet-root the directory that kubelet uses (its --root-dir)"}
	}
	return target{key: targetKey{uid, volume}, path: path}, nil
}

// mountRequest is a publish call, parsed and checked, with its secrets in
// types that cannot print.
type mountRequest struct {
	target
	claim   identity.Claim
	class   string
	group   *int64 // volume_mount_group
	tokens  provider.Tokens
	secrets provider.Secrets // of nodePublishSecretRef

	provider string // of the class, once that was read
}

// wipe overwrites what kubelet handed over.
func (m *mountRequest) wipe() {
	m.tokens.Wipe()
	m.secrets.Wipe()
}

// parsePublish checks every field of a publish call before anything happens.
func parsePublish(req *csi.NodePublishVolumeRequest, t target) (*mountRequest, error) {
	m := &mountRequest{target: t}
	attributes := req.GetVolumeContext()
	if err := require(fieldVolumeID, req.GetVolumeId()); err != nil {
		return m, err
	}
	if err := checkCapability(req); err != nil {
		return m, err
	}
	if len(attributes) == 0 {
		return m, &requestError{"volume_context", "is missing", "set podInfoOnMount: true in the CSIDriver object"}
	}
	group, err := parseGroup(req.GetVolumeCapability().GetMount().GetVolumeMountGroup())
	if err != nil {
		return m, err
	}
	m.group = group
	if m.class = attributes[attrClass]; m.class == "" {
		return m, &requestError{"volumeAttributes." + attrClass, "is missing", "name the SecretProviderClass in the pod's volume"}
	}
	if m.claim, err = parseClaim(attributes, t.key); err != nil {
		return m, err
	}
	if m.tokens, err = provider.ParseTokens(req.GetSecrets()); err != nil {
		return m, &requestError{"secrets", "do not hold service account tokens as kubelet writes them", "check tokenRequests in the CSIDriver object"}
	}
	m.secrets = provider.NewSecrets(req.GetSecrets())
	return m, nil
}

func checkCapability(req *csi.NodePublishVolumeRequest) error {
	vc := req.GetVolumeCapability()
	switch mount := vc.GetMount(); {
	case vc == nil:
		return &requestError{"volume_capability", "is missing", hintKubelet}
	case vc.GetAccessType() == nil:
		return &requestError{"volume_capability.mount", "is missing", hintKubelet}
	case mount == nil:
		return &requestError{"volume_capability", "asks for a block device", "mount secrets as files"}
	case vc.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_UNKNOWN:
		return &requestError{fieldAccessMode, "is missing", hintKubelet}
	case !singleNode(vc.GetAccessMode().GetMode()):
		return &requestError{fieldAccessMode, "is none of an inline volume", "use an inline csi volume in the pod; persistent volumes are not supported"}
	case mount.GetFsType() != "":
		return &requestError{"csi.fsType", "is set", "remove it: secrets are always on tmpfs"}
	case len(mount.GetMountFlags()) > 0:
		return &requestError{"volume_capability.mount.mount_flags", "are set", "remove the mount options: the driver alone sets them"}
	case !req.GetReadonly():
		return &requestError{"csi.readOnly", "is not true", "set readOnly: true in the pod's csi volume: without it containers get the volume writable"}
	}
	return nil
}

// singleNode reports the access modes that a volume in one node's memory can
// keep. The modes of SINGLE_NODE_MULTI_WRITER are only for plugins that
// advertise it.
func singleNode(mode csi.VolumeCapability_AccessMode_Mode) bool {
	return mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER || mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
}

// parseGroup reads the fsGroup that kubelet passes on: decimal, below 2^32-1,
// which chown(2) takes for "leave it".
func parseGroup(s string) (*int64, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // no group is an answer of its own
	}
	gid, err := strconv.ParseUint(s, 10, 32)
	if err != nil || gid >= math.MaxUint32 {
		return nil, &requestError{"volume_capability.mount.volume_mount_group", "is not a group id", "set securityContext.fsGroup to a number below 4294967295"}
	}
	g := int64(gid)
	return &g, nil
}

func parseClaim(attributes map[string]string, k targetKey) (identity.Claim, error) {
	c := identity.Claim{
		Namespace:      attributes[attrPodNamespace],
		Pod:            attributes[attrPodName],
		ServiceAccount: attributes[attrServiceAccount],
		PodUID:         k.podUID,
		Volume:         k.volume,
		ContextUID:     attributes[attrPodUID],
		Attributes:     attributes,
	}
	for _, key := range []string{attrPodNamespace, attrPodName, attrPodUID, attrServiceAccount} {
		if attributes[key] == "" {
			return c, &requestError{fmt.Sprintf("volume_context[%s]", key), "is missing", "set podInfoOnMount: true in the CSIDriver object"}
		}
	}
	if attributes[attrEphemeral] != "true" {
		return c, &requestError{"volume_context[" + attrEphemeral + "]", "is not true", "use an inline csi volume in the pod; persistent volumes are not supported"}
	}
	return c, nil
}
