package signature

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/cosign/v2/pkg/types"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// parseBundle reads a bundle of Sigstore: of a manifest, with a statement about its
// digest in an envelope; of a blob, with a signature over the blob.
func parseBundle(c content, s Signature) (*parsed, error) {
	if err := checkJSON(s.Bundle); err != nil {
		return nil, err
	}
	b := new(sgbundle.Bundle)
	if err := b.UnmarshalJSON(s.Bundle); err != nil {
		return nil, err
	}
	if err := checkMaterial(b); err != nil {
		return nil, err
	}
	verification, err := b.VerificationContent()
	if err != nil {
		return nil, err
	}
	signed, err := b.SignatureContent()
	if err != nil {
		return nil, err
	}
	p := &parsed{bundle: b, certified: verification.Certificate() != nil}
	material := b.GetVerificationMaterial()
	p.entries = len(material.GetTlogEntries())
	p.timestamps = len(material.GetTimestampVerificationData().GetRfc3161Timestamps())

	envelope := signed.EnvelopeContent()
	if c.blob != (envelope == nil) {
		return nil, refuse(OtherForm, "")
	}
	if c.blob {
		p.sum = signed.MessageSignatureContent().Digest()
		return p, nil
	}
	statement, err := envelope.Statement()
	if err != nil {
		return nil, err
	}
	for _, subject := range statement.GetSubject() {
		if p.sum, err = hex.DecodeString(subject.GetDigest()["sha256"]); err == nil && len(p.sum) > 0 {
			return p, nil
		}
	}
	return nil, errors.New("its statement is about nothing with a SHA-256")
}

// checkMaterial bounds what the libraries parse and verify for each attempt.
func checkMaterial(b *sgbundle.Bundle) error {
	material := b.GetVerificationMaterial()
	timestamps := material.GetTimestampVerificationData().GetRfc3161Timestamps()
	chain := material.GetX509CertificateChain().GetCertificates()
	if len(material.GetTlogEntries()) > maxProofs || len(timestamps) > maxProofs || len(chain) > maxProofs {
		return refuse(TooLarge, "log entries, timestamps or certificates")
	}
	sizes := []int{len(material.GetCertificate().GetRawBytes())}
	for _, certificate := range chain {
		sizes = append(sizes, len(certificate.GetRawBytes()))
	}
	for _, timestamp := range timestamps {
		sizes = append(sizes, len(timestamp.GetSignedTimestamp()))
	}
	for _, size := range sizes {
		if size > min(maxCertificateBytes, maxTimestampBytes) {
			return refuse(TooLarge, fmt.Sprintf("a certificate or timestamp of %d bytes", size))
		}
	}
	return nil
}

func (p *parsed) verifyBundle(ctx context.Context, c content, way *cosign.CheckOpts) error {
	if c.blob {
		return p.verifyBlob(ctx, c, way)
	}
	// Verified for what it says it is of, and compared after that: so that a right
	// signature of something else is told from a wrong one.
	r, err := cosign.VerifyNewBundle(ctx, way, verify.WithArtifactDigest("sha256", p.sum), p.bundle)
	if err != nil {
		return err
	}
	if err := p.checkResult(r, way); err != nil {
		return err
	}
	// With the same key an attestation is signed, by the same command and into the
	// same bundle; what it states may be that the bundle is bad.
	if kind := r.Statement.GetPredicateType(); kind != types.CosignSignPredicateType {
		return fmt.Errorf("%w: its predicate type is %q", errNotSignature, kind)
	}
	subjects := r.Statement.GetSubject()
	if len(subjects) != 1 || len(subjects[0].GetDigest()) != 1 {
		return fmt.Errorf("%w: it is about %d subjects", errNotSignature, len(subjects))
	}
	if "sha256:"+subjects[0].GetDigest()["sha256"] != c.digest {
		return errTransplanted
	}
	return nil
}

func (p *parsed) verifyBlob(ctx context.Context, c content, way *cosign.CheckOpts) error {
	r, err := cosign.VerifyNewBundle(ctx, way, verify.WithArtifact(bytes.NewReader(c.bytes)), p.bundle)
	if err != nil {
		if bytes.Equal(p.sum, c.sum) {
			return err
		}
		if _, other := cosign.VerifyNewBundle(ctx, way, verify.WithArtifactDigest("sha256", p.sum), p.bundle); other == nil {
			return errTransplanted
		}
		return err
	}
	return p.checkResult(r, way)
}

// checkResult asks again, of the result, who has signed.
func (p *parsed) checkResult(r *verify.VerificationResult, way *cosign.CheckOpts) error {
	switch {
	case r.Signature == nil:
		return errors.New("nobody has signed")
	case way.SigVerifier != nil && r.Signature.Certificate != nil, way.SigVerifier == nil && r.VerifiedIdentity == nil:
		return errors.New("signed by somebody else than was asked for")
	}
	return nil
}
