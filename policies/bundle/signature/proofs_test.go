package signature_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

// To check a certificate or a timestamp takes time that grows with the square of
// its size, for each signer that is trusted.
func TestProofsAreBounded(t *testing.T) {
	a := signaturetest.NewAuthority(t)
	trust := trustIdentities(t, a, signaturetest.Holds{Log: true, Timestamps: true}, alice())
	huge, err := json.Marshal(make([]byte, 17<<10))
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range signaturetest.Forms() {
		if form.Format != signature.FormatBundle {
			continue
		}
		artifact := form.Artifact(tarball(t))
		bundle := a.Sign(t, signaturetest.Keyless{Identity: alice()}, form, artifact).Bundle
		certificate := "/verificationMaterial/certificate/rawBytes"
		if form.Blob {
			certificate = "/verificationMaterial/x509CertificateChain/certificates/0/rawBytes"
		}
		stamp := `{"signedTimestamp":"AAAA"}`
		for name, changed := range map[string]json.RawMessage{
			"certificate": replace(t, bundle, certificate, huge),
			"timestamp":   replace(t, bundle, "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp", huge),
			"five timestamps": replace(t, bundle, "/verificationMaterial/timestampVerificationData/rfc3161Timestamps", json.RawMessage(
				"["+strings.Repeat(stamp+",", 4)+stamp+"]")),
		} {
			t.Run(form.Name+"/"+name, func(t *testing.T) {
				artifact.Signatures = []signature.Signature{{Bundle: changed}}
				wantReason(t, trust, artifact, signature.TooLarge)
			})
		}
	}
}

// What a trusted key has signed is not a signature of that key once it comes with a
// certificate: a certificate says that its identity is what counts.
func TestACertificateIsNotAKey(t *testing.T) {
	a, s := signaturetest.NewAuthority(t), signaturetest.NewSigner(t)
	for _, form := range signaturetest.Forms() {
		if form.Format != signature.FormatClassic {
			continue
		}
		t.Run(form.Name, func(t *testing.T) {
			artifact := form.Signed(t, tarball(t), s)
			artifact.Signatures[0].Certificate = a.Sign(t, signaturetest.Keyless{Identity: alice()}, form, artifact).Certificate
			wantReason(t, signaturetest.Trust(t, 1, s), artifact, signature.Certificate)

			keyed := form.Signed(t, tarball(t), s)
			wantReason(t, trustIdentities(t, a, signaturetest.Holds{Log: true}, alice()), keyed, signature.WrongKey)
		})
	}
}
