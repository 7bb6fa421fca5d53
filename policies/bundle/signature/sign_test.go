package signature_test

import (
	"context"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"testing"

	"github.com/sigstore/cosign/v2/pkg/cosign"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

func TestKeysOfCosignSign(t *testing.T) {
	pair, err := cosign.GenerateKeyPair(func(bool) ([]byte, error) { return []byte("secret"), nil })
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.LoadSigner(pair.PrivateBytes, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := signature.ParseKey(pair.PublicBytes)
	if err != nil || key.ID != s.Key().ID {
		t.Errorf("ParseKey() of cosign's public key = %v, %v, want %v", key, err, s.Key())
	}
	trust, err := signature.NewTrust(signature.Config{Keys: []signature.Key{key}})
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range signaturetest.Forms() {
		a := form.Artifact(tarball(t))
		signed, err := signature.Sign(t.Context(), s, a, form.Format)
		if err != nil {
			t.Fatal(err)
		}
		a.Signatures = []signature.Signature{signed}
		if v, err := trust.Verify(t.Context(), a); err != nil || !slices.Equal(v.Signers, []string{key.ID}) {
			t.Errorf("Verify() of a %s = %v, %v, want %s", form.Name, v, err, key.ID)
		}
	}
	_, err = signature.LoadSigner(pair.PrivateBytes, []byte("wrong"))
	wantError(t, err, "read private key: decrypt", "is the passphrase right?")
}

func TestKeysThatCannotSignAreRefused(t *testing.T) {
	private := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	for _, tt := range []struct {
		name  string
		text  []byte
		words string
	}{
		{"text", []byte("x"), "not PEM"},
		{"public key", signaturetest.NewSigner(t).Key().PEM, `PEM of type "PUBLIC KEY"`},
		{"garbage", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "asn1"},
		{"encrypted PKCS #8", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}), "unencrypted PKCS #8"},
		{"P-224", private(ecKey(t, elliptic.P224())), "use ECDSA on P-256"},
		{"RSA of 1024 bits", private(rsaKey(t, 1024)), "use ECDSA on P-256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := signature.LoadSigner(tt.text, nil)
			wantError(t, err, "read private key: ", tt.words)
		})
	}
}

func TestWhatCannotBeVouchedForIsNotSigned(t *testing.T) {
	s, form := signaturetest.NewSigner(t), signaturetest.Forms()[0]
	good := form.Artifact(tarball(t))
	_, err := signature.Sign(t.Context(), signature.Signer{}, good, form.Format)
	wantError(t, err, "there is no private key")
	_, err = signature.Sign(t.Context(), s.Signer, good, "jwt")
	wantError(t, err, `format "jwt"`)
	other := good
	other.Tarball = []byte("other")
	_, err = signature.Sign(t.Context(), s.Signer, other, form.Format)
	refused, ok := errors.AsType[*signature.Error](err)
	if !ok || refused.Reason != signature.Altered {
		t.Errorf("Sign() of a manifest of something else = %v, want %s", err, signature.Altered)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = signature.Sign(ended, s.Signer, good, form.Format); err == nil {
		t.Error("Sign() after the end = nil, want an error")
	}
}

func TestFilesBesideABundleAreRead(t *testing.T) {
	s, forms := signaturetest.NewSigner(t), signaturetest.Forms()
	a, blob, classic := forms[2].Artifact(tarball(t)), forms[2], forms[3]
	bundle, bare := signaturetest.Sign(t, s, a, blob.Format), signaturetest.Sign(t, s, a, classic.Format)
	older, err := json.Marshal(map[string]any{"base64Signature": bare.Base64, "cert": "", "rekorBundle": nil})
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{
		"bundle": append(slices.Clone(bundle.Bundle), '\n'), "older bundle": older, "bare signature": []byte(bare.Base64 + "\n"),
	} {
		read, err := signature.ParseFile(file)
		if err != nil {
			t.Errorf("ParseFile() of a %s = %v, want no error", name, err)
			continue
		}
		a.Signatures = []signature.Signature{read}
		if v, err := signaturetest.Trust(t, 1, s).Verify(t.Context(), a); err != nil {
			t.Errorf("Verify() of a %s = %v, %v, want no error", name, v, err)
		}
	}

	authority := signaturetest.NewAuthority(t)
	keyless := authority.Sign(t, signaturetest.Keyless{Identity: alice(), NoTimestamp: true}, classic, a)
	older, err = json.Marshal(map[string]any{
		"base64Signature": keyless.Base64, "cert": base64.StdEncoding.EncodeToString(keyless.Certificate), "rekorBundle": json.RawMessage(keyless.RekorBundle),
	})
	if err != nil {
		t.Fatal(err)
	}
	read, err := signature.ParseFile(older)
	if err != nil {
		t.Fatal(err)
	}
	a.Signatures = []signature.Signature{read}
	if v, err := trustIdentities(t, authority, signaturetest.Holds{Log: true}, alice()).Verify(t.Context(), a); err != nil {
		t.Errorf("Verify() of an older bundle with a certificate = %v, %v, want no error", v, err)
	}
	for _, text := range []string{"", "{", "x!", "{}{}", `{"base64Signature":""}`, `{"base64Signature":1}`, `{"base64Signature":"AAAA","cert":"!"}`, `{"base64Signature":"AAAA","more":1}`, `{"a":1,"a":2}`} {
		if got, err := signature.ParseFile([]byte(text)); err == nil {
			t.Errorf("ParseFile(%q) = %v, want an error", text, got)
		}
	}
	if _, err := signature.ParseFile(make([]byte, signature.MaxSignatureBytes+1)); err == nil {
		t.Error("ParseFile() of too much = nil, want an error")
	}
}
