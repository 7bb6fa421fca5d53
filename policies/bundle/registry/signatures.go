package registry

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// Where and how cosign keeps signatures.
const (
	classicMediaType = "application/vnd.dev.cosign.simplesigning.v1+json"
	bundleMediaType  = "application/vnd.dev.sigstore.bundle.v0.3+json"
	bundleTypePrefix = "application/vnd.dev.sigstore.bundle"
	emptyMediaType   = "application/vnd.oci.empty.v1+json"
	configMediaType  = "application/vnd.oci.image.config.v1+json"

	signatureKey   = "dev.cosignproject.cosign/signature"
	certificateKey = "dev.sigstore.cosign/certificate"
	chainKey       = "dev.sigstore.cosign/chain"
	rekorKey       = "dev.sigstore.cosign/bundle"
	timestampKey   = "dev.sigstore.cosign/rfc3161timestamp"

	predicateKey  = "dev.sigstore.bundle.predicateType"
	contentKey    = "dev.sigstore.bundle.content"
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
)

// maxSignatureManifest bounds the manifest of a signature tag, which holds all
// certificates and proofs of classic signatures in annotations.
const maxSignatureManifest = maxBody

// classicTag is where classic signatures of a manifest are.
func classicTag(digest string) string { return fallbackTag(digest) + ".sig" }

// fallbackTag is where registries without referrers keep the list of them.
func fallbackTag(digest string) string { return strings.Replace(digest, ":", "-", 1) }

// classic reads the signatures under the signature tag.
func (s *session) classic(ctx context.Context, digest string) ([]signature.Signature, error) {
	m, err := s.classicManifest(ctx, digest)
	if err != nil {
		return nil, err
	}
	var all []signature.Signature
	for _, layer := range m.Layers {
		if layer.MediaType != classicMediaType {
			continue
		}
		payload, err := s.blob(ctx, layer.Digest, layer.Size, signature.MaxManifestBytes)
		if err != nil {
			return nil, err
		}
		all = append(all, signature.Signature{
			Base64: layer.Annotations[signatureKey], Payload: payload,
			Certificate: optional(layer.Annotations[certificateKey]), Chain: optional(layer.Annotations[chainKey]),
			RekorBundle: optional(layer.Annotations[rekorKey]), Timestamp: optional(layer.Annotations[timestampKey]),
		})
	}
	return all, nil
}

// classicManifest reads what is under the signature tag, an empty manifest if there
// is none.
func (s *session) classicManifest(ctx context.Context, digest string) (manifest, error) {
	text, err := s.manifest(ctx, classicTag(digest), maxSignatureManifest)
	if absent(err) {
		return manifest{}, nil
	}
	if err != nil {
		return manifest{}, err
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil || m.SchemaVersion != 2 || len(m.Layers) == 0 {
		return manifest{}, problemf(ReasonMalformed, "delete that tag, and sign again", "what is under the tag %s is no signature of cosign", classicTag(digest))
	}
	if len(m.Layers) > signature.MaxSignatures {
		return manifest{}, tooManySignatures()
	}
	return m, nil
}

func optional(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

// bundles reads the referrers of a manifest that are Sigstore bundles.
func (s *session) bundles(ctx context.Context, digest string) ([]signature.Signature, error) {
	list, err := s.referrers(ctx, digest)
	if err != nil {
		return nil, err
	}
	var all []signature.Signature
	for _, d := range list {
		if !maybeBundle(d) {
			continue
		}
		if len(all) == signature.MaxSignatures {
			return nil, tooManySignatures()
		}
		found, err := s.bundle(ctx, d, digest)
		if err != nil {
			return nil, err
		}
		if found != nil {
			all = append(all, signature.Signature{Bundle: found})
		}
	}
	return all, nil
}

// maybeBundle sorts out what says itself that it is something else: an SBOM, an
// attestation. Some registries name the media type of the config instead of the
// artifact, and some nothing at all.
func maybeBundle(d descriptor) bool {
	if p := d.Annotations[predicateKey]; p != "" && p != signPredicate {
		return false
	}
	return strings.HasPrefix(d.ArtifactType, bundleTypePrefix) || d.ArtifactType == emptyMediaType ||
		d.ArtifactType == "" || d.ArtifactType == configMediaType
}

// bundle reads one referrer, nil if it is no Sigstore bundle.
func (s *session) bundle(ctx context.Context, d descriptor, subject string) ([]byte, error) {
	if !digestForm.MatchString(d.Digest) {
		return nil, problemf(ReasonMalformed, "is it a registry?", "its list of referrers names digest %s", quote(d.Digest))
	}
	text, err := s.manifest(ctx, d.Digest, signature.MaxManifestBytes)
	if err != nil {
		return nil, err
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil || m.Subject == nil || m.Subject.Digest != subject ||
		len(m.Layers) != 1 || !strings.HasPrefix(m.Layers[0].MediaType, bundleTypePrefix) {
		return nil, nil //nolint:nilerr // other people may hang other things on the manifest
	}
	return s.blob(ctx, m.Layers[0].Digest, m.Layers[0].Size, signature.MaxSignatureBytes)
}
