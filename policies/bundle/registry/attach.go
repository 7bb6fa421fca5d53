package registry

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// attachAttempts is how often a classic signature is appended anew when somebody
// else has written the tag meanwhile: registries have no compare-and-swap.
const attachAttempts = 4

// Attach adds a signature to those of a manifest, in its format and where cosign
// looks for it: none that is there is replaced. A signature of a blob is refused,
// since it does not vouch for a manifest.
func (c *Client) Attach(ctx context.Context, ref Reference, digest string, s signature.Signature) error {
	ref = ref.WithDigest(digest)
	at := ref
	if c.signatures.host != "" {
		at = c.signatures
	}
	return c.operation(ctx, ref, "attach a signature", func(ctx context.Context) error {
		if err := attachable(digest, s); err != nil {
			return err
		}
		own, err := c.session(ctx, ref, scopeFor(ref, at))
		if err != nil {
			return err
		}
		subject, err := own.manifest(ctx, digest, signature.MaxManifestBytes)
		if err != nil {
			return err
		}
		w, err := c.writer(ctx, at)
		if err != nil {
			return fail(at, "attach a signature", err)
		}
		if s.Bundle != nil {
			return w.attachBundle(subject, s)
		}
		return w.attachClassic(ctx, digest, s)
	})
}

// scopeFor asks for no more than reading where the signature goes elsewhere:
// whoever signs need not be able to write bundles.
func scopeFor(ref, at Reference) string {
	if ref.host == at.host && ref.repository == at.repository {
		return transport.PushScope
	}
	return transport.PullScope
}

func attachable(digest string, s signature.Signature) error {
	const hint = "sign the manifest: portcullis policy sign oci://..."
	switch {
	case !digestForm.MatchString(digest):
		return problemf(ReasonNotBundle, "resolve the tag first", "%s is no digest", quote(digest))
	case s.Bundle == nil && (s.Base64 == "" || s.Payload == nil):
		return problemf(ReasonNotBundle, hint, "the signature is one of a file, which does not vouch for a manifest")
	case len(s.Bundle) > signature.MaxSignatureBytes || size(s) > signature.MaxSignatureBytes:
		return problemf(ReasonTooLarge, hint, "the signature is longer than %d bytes", signature.MaxSignatureBytes)
	}
	return nil
}

func size(s signature.Signature) int {
	return len(s.Base64) + len(s.Payload) + len(s.Certificate) + len(s.Chain) + len(s.RekorBundle) + len(s.Timestamp)
}

// attachBundle writes a referrer as cosign 3 does, and cosign 2 with
// --new-bundle-format.
func (w *writer) attachBundle(subject []byte, s signature.Signature) error {
	config := []byte("{}")
	to := blobOf(signature.ManifestMediaType, subject)
	text, err := json.Marshal(manifest{
		SchemaVersion: 2, MediaType: signature.ManifestMediaType, ArtifactType: bundleMediaType,
		Config:  blobOf(emptyMediaType, config),
		Layers:  []descriptor{blobOf(bundleMediaType, s.Bundle)},
		Subject: &to,
		// Without a time, unlike cosign's: attaching a signature twice is once.
		Annotations: map[string]string{contentKey: "dsse-envelope", predicateKey: signPredicate},
	})
	if err != nil {
		return err
	}
	for mediaType, content := range map[string][]byte{emptyMediaType: config, bundleMediaType: s.Bundle} {
		if err := w.blob(mediaType, content); err != nil {
			return err
		}
	}
	return w.manifest(digestOf(text), signature.ManifestMediaType, text)
}

// attachClassic appends to what is under the signature tag, and makes sure that it
// has stayed there.
func (w *writer) attachClassic(ctx context.Context, digest string, s signature.Signature) error {
	layer := classicLayer(s)
	if err := w.blob(classicMediaType, s.Payload); err != nil {
		return err
	}
	for range attachAttempts {
		m, err := w.classicManifest(ctx, digest)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(m.Layers, func(l descriptor) bool {
			return l.Digest == layer.Digest && l.Annotations[signatureKey] == s.Base64
		}) {
			return nil
		}
		m.Layers = append(m.Layers, layer)
		if len(m.Layers) > signature.MaxSignatures {
			return tooManySignatures()
		}
		if err := w.writeClassic(digest, m); err != nil {
			return err
		}
	}
	return problemf(ReasonUnavailable, "is somebody else signing the same bundle? Try again", "the signature is not there after %d attempts", attachAttempts)
}

func classicLayer(s signature.Signature) descriptor {
	layer := blobOf(classicMediaType, s.Payload)
	layer.Annotations = map[string]string{signatureKey: s.Base64}
	for key, value := range map[string][]byte{certificateKey: s.Certificate, chainKey: s.Chain, rekorKey: s.RekorBundle, timestampKey: s.Timestamp} {
		if value != nil {
			layer.Annotations[key] = string(value)
		}
	}
	return layer
}

func (w *writer) writeClassic(digest string, m manifest) error {
	ids := make([]string, len(m.Layers))
	for i, layer := range m.Layers {
		ids[i] = layer.Digest // payloads are not compressed
	}
	config, err := json.Marshal(imageConfig{RootFS: rootFS{"layers", ids}})
	if err != nil {
		return err
	}
	m.SchemaVersion, m.MediaType, m.Config = 2, signature.ManifestMediaType, blobOf(configMediaType, config)
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > maxSignatureManifest {
		return tooManySignatures()
	}
	if err := w.blob(configMediaType, config); err != nil {
		return err
	}
	return w.manifest(classicTag(digest), signature.ManifestMediaType, text)
}
