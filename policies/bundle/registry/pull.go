package registry

import (
	"context"
	"encoding/json"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// MaxBundleBytes bounds the tarball, as package bundle does.
const MaxBundleBytes = 32 << 20

// The formats of what a manifest says of blobs. Sizes are promises that are held
// against what comes.
type (
	descriptor struct {
		MediaType    string            `json:"mediaType"`
		Digest       string            `json:"digest"`
		Size         int64             `json:"size"`
		ArtifactType string            `json:"artifactType,omitempty"`
		Annotations  map[string]string `json:"annotations,omitempty"`
	}
	manifest struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		ArtifactType  string            `json:"artifactType,omitempty"`
		Config        descriptor        `json:"config"`
		Layers        []descriptor      `json:"layers"`
		Subject       *descriptor       `json:"subject,omitempty"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}
)

const notBundleHint = "portcullis policy push writes what can be pulled"

// bundleLayer finds the tarball in a manifest that holds a bundle and nothing else.
func bundleLayer(text []byte) (descriptor, error) {
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return descriptor{}, problemf(ReasonNotBundle, notBundleHint, "what is there is no manifest")
	}
	switch {
	case m.MediaType == indexMediaType || m.MediaType == dockerListMediaType:
		return descriptor{}, problemf(ReasonNotBundle, "a bundle is the same on every platform: push it as one", "it is an index of manifests")
	case m.MediaType != signature.ManifestMediaType && m.MediaType != "" || m.SchemaVersion != 2:
		return descriptor{}, problemf(ReasonNotBundle, notBundleHint, "it is a manifest of media type %s", quote(m.MediaType))
	case len(m.Layers) != 1:
		return descriptor{}, problemf(ReasonNotBundle, notBundleHint, "it has %d layers, and a bundle has one", len(m.Layers))
	case m.Layers[0].MediaType != signature.LayerMediaType:
		return descriptor{}, problemf(ReasonNotBundle, notBundleHint, "its layer has media type %s", quote(m.Layers[0].MediaType))
	}
	return m.Layers[0], nil
}

// Pull reads the bundle of one manifest, with all signatures that the registry has
// for it. Nothing of it is verified but digests.
func (c *Client) Pull(ctx context.Context, ref Reference, digest string) (signature.Artifact, error) {
	ref = ref.WithDigest(digest)
	var a signature.Artifact
	err := c.operation(ctx, ref, "pull", func(ctx context.Context) error {
		if !digestForm.MatchString(digest) {
			return problemf(ReasonNotBundle, "resolve the tag first", "%s is no digest", quote(digest))
		}
		s, err := c.session(ctx, ref, transport.PullScope)
		if err != nil {
			return err
		}
		if a.Manifest, err = s.manifest(ctx, digest, signature.MaxManifestBytes); err != nil {
			return err
		}
		layer, err := bundleLayer(a.Manifest)
		if err != nil {
			return err
		}
		if a.Tarball, err = s.blob(ctx, layer.Digest, layer.Size, MaxBundleBytes); err != nil {
			return err
		}
		a.Signatures, err = c.signaturesOf(ctx, s, ref)
		return err
	})
	if err != nil {
		return signature.Artifact{}, err
	}
	return a, nil
}

// signaturesOf collects signatures beside the bundle, and in the repository for
// signatures if there is one.
func (c *Client) signaturesOf(ctx context.Context, own *session, ref Reference) ([]signature.Signature, error) {
	places := []*session{own}
	if at := c.signatures; at.host != "" && (at.host != ref.host || at.repository != ref.repository) {
		s, err := c.session(ctx, at, transport.PullScope)
		if err != nil {
			return nil, fail(at, "look for signatures", err)
		}
		places = append(places, s)
	}
	var all []signature.Signature
	for _, s := range places {
		for _, read := range []func(context.Context, string) ([]signature.Signature, error){s.classic, s.bundles} {
			some, err := read(ctx, ref.digest)
			if err != nil {
				return nil, fail(ref, "read its signatures", err)
			}
			all = append(all, some...)
		}
	}
	if len(all) > signature.MaxSignatures {
		return nil, tooManySignatures()
	}
	return all, nil
}

func tooManySignatures() error {
	return problemf(ReasonTooLarge, "delete signatures of keys that are out of use", "it has more than %d signatures", signature.MaxSignatures)
}
