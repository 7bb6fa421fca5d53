package provider

import (
	"maps"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/portcullis-csi/portcullis/policies"
)

// Field numbers of MountRequest and ObjectVersion in provider/v1alpha1.
const (
	requestAttributes protowire.Number = 1
	requestSecrets    protowire.Number = 2
	requestTarget     protowire.Number = 3
	requestPermission protowire.Number = 4
	requestVersions   protowire.Number = 5
	versionID         protowire.Number = 1
	versionVersion    protowire.Number = 2
)

// nowhere begins every target_path: a provider that writes by itself, as AWS's
// does by default, would fsync plaintext to the node's disk.
const nowhere = "/nonexistent/portcullis/"

// request is an encoded MountRequest. It is encoded here, since the generated
// type holds tokens as strings, which nobody can overwrite.
type request struct {
	scratch
	taken bool // grpc owns the buffer and wipes it
}

// wipe overwrites the request unless grpc owns it by now.
func (r *request) wipe() {
	if !r.taken {
		r.scratch.wipe()
	}
}

// newRequest encodes a call.
func newRequest(c Call) (*request, error) {
	var attributes, secrets scratch
	defer func() { attributes.wipe(); secrets.wipe() }()
	if err := appendAttributes(&attributes, c); err != nil {
		return nil, err
	}
	if err := c.Secrets.appendJSON(&secrets); err != nil {
		return nil, err
	}
	subject := c.Grant.Subject()
	r := &request{}
	r.field(requestAttributes, attributes.b)
	r.field(requestSecrets, secrets.b)
	r.field(requestTarget, []byte(nowhere+subject.PodUID+"/"+c.Grant.VolumeName()))
	// The number of a Go file mode, in decimal, is what upstream sends.
	r.field(requestPermission, strconv.AppendUint(nil, uint64(c.Grant.Ceiling().Perm()), 10))
	for _, v := range currentVersions(c) {
		var version scratch
		version.field(versionID, []byte(v.ID))
		version.field(versionVersion, []byte(v.Version))
		r.field(requestVersions, version.b)
	}
	return r, nil
}

// currentVersions are those to tell the provider. AWS's reads a secret whose
// version it is told, and which is still current, back from target_path, where
// no provider of ours finds anything: every refresh of an unchanged secret would
// fail (provider/secrets_manager_provider.go, reloadSecret).
func currentVersions(c Call) []ObjectVersion {
	if c.Grant.Provider() == "aws" {
		return nil
	}
	return c.CurrentVersions
}

// appendAttributes writes the effective parameters, kubelet's own keys rebuilt
// from what the cluster confirmed, and the tokens that the grant allows.
func appendAttributes(s *scratch, c Call) error {
	attributes := c.Effective.Attributes(kubeletKeys(c.Grant.Subject()))
	delete(attributes, TokensKey)
	separator := "{"
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		s.text(separator)
		s.quote([]byte(name))
		s.text(":")
		s.quote([]byte(attributes[name]))
		separator = ","
	}
	tokens := c.Tokens.only(c.Grant.Obligations().Audiences)
	if len(tokens.byAudience) > 0 {
		var inner scratch
		defer func() { inner.wipe() }()
		if err := tokens.appendJSON(&inner); err != nil {
			return err
		}
		s.text(separator)
		s.quote([]byte(TokensKey))
		s.text(":")
		s.quote(inner.b)
	}
	s.text("}")
	return nil
}

// kubeletKeys are the attributes that kubelet adds to every inline volume.
func kubeletKeys(s policies.Subject) map[string]string {
	return map[string]string{
		"csi.storage.k8s.io/pod.name":            s.PodName,
		"csi.storage.k8s.io/pod.namespace":       s.Namespace,
		"csi.storage.k8s.io/pod.uid":             s.PodUID,
		"csi.storage.k8s.io/serviceAccount.name": s.ServiceAccount,
		"csi.storage.k8s.io/ephemeral":           "true",
	}
}
