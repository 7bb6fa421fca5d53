package signature

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	cbundle "github.com/sigstore/cosign/v2/pkg/cosign/bundle"
	"github.com/sigstore/cosign/v2/pkg/oci/static"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/payload"
)

// parseClassic reads a signature of cosign's first format: of a manifest, over a
// document that names its digest; of a blob, over the blob.
func parseClassic(c content, s Signature) (*parsed, error) {
	if c.blob != (s.Payload == nil) {
		return nil, refuse(OtherForm, "")
	}
	if len(s.Base64) > maxBase64Bytes {
		return nil, refuse(TooLarge, fmt.Sprintf("%d bytes of Base64", len(s.Base64)))
	}
	var err error
	p := &parsed{certified: len(s.Certificate) > 0}
	if p.raw, err = base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
		return nil, err
	}
	signed := c.bytes
	if !c.blob {
		signed = s.Payload
		if p.kind, err = readPayload(s.Payload); err != nil {
			return nil, fmt.Errorf("payload: %w", err)
		}
	}
	var opts []static.Option
	if p.certified {
		if opts, err = p.readProofs(s); err != nil {
			return nil, err
		}
	}
	p.oci, err = static.NewSignature(signed, s.Base64, opts...)
	return p, err
}

// readPayload reads a simple signing document and returns its type. That it names
// the right digest is claim's to find, once the signature is verified.
func readPayload(document []byte) (string, error) {
	if err := checkJSON(document); err != nil {
		return "", err
	}
	members, err := object(document, "critical", "optional")
	if err != nil {
		return "", err
	}
	critical, err := object(members["critical"], "identity", "image", "type")
	if err != nil {
		return "", fmt.Errorf("critical: %w", err)
	}
	image, err := object(critical["image"], "docker-manifest-digest")
	if err != nil {
		return "", fmt.Errorf("image: %w", err)
	}
	digest, err := text(image, "docker-manifest-digest")
	if err != nil {
		return "", err
	}
	if _, err := sumOf(digest); err != nil {
		return "", err
	}
	return text(critical, "type")
}

// readProofs reads the certificate and what proves when it was used. The chain is
// not read: intermediates too come from the trusted root.
func (p *parsed) readProofs(s Signature) ([]static.Option, error) {
	if len(s.Certificate) > maxCertificateBytes || len(s.Timestamp) > maxTimestampBytes {
		return nil, refuse(TooLarge, "certificate or timestamp")
	}
	certificates, err := cryptoutils.LoadCertificatesFromPEM(bytes.NewReader(s.Certificate))
	if err != nil || len(certificates) != 1 {
		return nil, errors.New("not one certificate in PEM")
	}
	opts := []static.Option{static.WithCertChain(s.Certificate, nil)}
	if len(s.RekorBundle) > 0 {
		entry, err := readEntry(s.RekorBundle)
		if err != nil {
			return nil, fmt.Errorf("log entry: %w", err)
		}
		p.entries = 1
		opts = append(opts, static.WithBundle(entry))
	}
	if len(s.Timestamp) > 0 {
		var timestamp cbundle.RFC3161Timestamp
		if err := checkJSON(s.Timestamp); err != nil {
			return nil, fmt.Errorf("timestamp: %w", err)
		}
		if err := json.Unmarshal(s.Timestamp, &timestamp); err != nil || len(timestamp.SignedRFC3161Timestamp) == 0 {
			return nil, errors.New("timestamp: not one of cosign's")
		}
		p.timestamps, p.timestamp = 1, timestamp.SignedRFC3161Timestamp
		opts = append(opts, static.WithRFC3161Timestamp(&timestamp))
	}
	return opts, nil
}

// readEntry reads an entry of the transparency log. Only the kind that cosign
// writes for signatures is taken: for others, cosign compares less of the entry
// with the signature (GHSA-whqx-f9j3-ch6m).
func readEntry(document []byte) (*cbundle.RekorBundle, error) {
	if err := checkJSON(document); err != nil {
		return nil, err
	}
	var entry cbundle.RekorBundle
	if err := json.Unmarshal(document, &entry); err != nil {
		return nil, err
	}
	encoded, ok := entry.Payload.Body.(string)
	if !ok {
		return nil, errors.New("its body is not Base64")
	}
	body, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, err
	}
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	members, err := object(body, "apiVersion", "kind", "spec")
	if err != nil {
		return nil, err
	}
	if kind, err := text(members, "kind"); err != nil || kind != "hashedrekord" {
		return nil, fmt.Errorf("its kind %q is not hashedrekord", kind)
	}
	return &entry, nil
}

func (p *parsed) verifyClassic(ctx context.Context, c content, way *cosign.CheckOpts) error {
	if err := p.checkTimestamp(way); err != nil {
		return err
	}
	if c.blob {
		// There is no claim in a blob's signature: it is over these very bytes.
		blob := *way
		blob.ClaimVerifier = nil
		_, err := cosign.VerifyBlobSignature(ctx, p.oci, &blob)
		return err
	}
	digest, err := v1.NewHash(c.digest)
	if err != nil {
		return err
	}
	if _, err := cosign.VerifyImageSignature(ctx, p.oci, digest, way); err != nil {
		return err
	}
	if p.kind != payload.CosignSignatureType {
		return fmt.Errorf("%w: its type is %q", errNotSignature, p.kind)
	}
	return nil
}

// checkTimestamp looks for the authority of a timestamp. cosign does so too, and
// then takes the first of those that fit, also where none does.
func (p *parsed) checkTimestamp(way *cosign.CheckOpts) error {
	if !way.UseSignedTimestamps {
		return nil
	}
	for _, authority := range way.TrustedMaterial.TimestampingAuthorities() {
		if _, err := authority.Verify(p.timestamp, p.raw); err == nil {
			return nil
		}
	}
	return errTimestamp
}
