package signature_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicPEM(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, word := range append(words, "; hint: ") {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error = %v, want it to say %q", err, word)
		}
	}
}

func TestEachKindOfKeySignsInEachForm(t *testing.T) {
	for name, key := range map[string]crypto.Signer{
		"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "P-521": ecKey(t, elliptic.P521()),
		"Ed25519": edKey(t), "RSA": rsaKey(t, 2048),
	} {
		s := signaturetest.SignerOf(t, key)
		for _, form := range signaturetest.Forms() {
			t.Run(name+"/"+form.Name, func(t *testing.T) {
				signed := form.Signed(t, tarball(t), s)
				v, err := signaturetest.Trust(t, 1, signaturetest.NewSigner(t), s).Verify(t.Context(), signed)
				if err != nil || !slices.Equal(v.Signers, []string{s.Key().ID}) {
					t.Errorf("Verify() = %v, %v, want %s", v, err, s.Key().ID)
				}
				other := form.Artifact(signaturetest.Tarball(t, signaturetest.File{Name: "a", Text: "b"}))
				other.Signatures = signed.Signatures
				wantReason(t, signaturetest.Trust(t, 1, s), other, signature.Transplanted, signature.WrongKey)
				wantReason(t, signaturetest.Trust(t, 1, signaturetest.NewSigner(t)), signed, signature.WrongKey)
			})
		}
	}
}

func TestWeakAndWrongKeysAreRefused(t *testing.T) {
	good := publicPEM(t, ecKey(t, elliptic.P256()).Public())
	der, err := x509.MarshalPKCS8PrivateKey(ecKey(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		text  []byte
		words string
	}{
		{"empty", nil, "not PEM"},
		{"text", []byte("hello"), "not PEM"},
		{"private key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "it is a private key"},
		{"encrypted private key", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: der}), "it is a private key"},
		{"certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "is not PUBLIC KEY"},
		{"garbage", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), "asn1"},
		{"two keys", append(slices.Clone(good), good...), "something follows the first key"},
		{"text behind", append(slices.Clone(good), "x"...), "something follows the first key"},
		{"too long", bytes.Repeat([]byte("x"), 20000), "more than 16384 bytes"},
		{"P-224", publicPEM(t, ecKey(t, elliptic.P224()).Public()), "curve P-224 is not trusted"},
		{"RSA of 1024 bits", publicPEM(t, rsaKey(t, 1024).Public()), "RSA with 1024 bits is not trusted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := signature.ParseKey(tt.text)
			wantError(t, err, "read public key: ", tt.words)
			_, err = signature.NewTrust(signature.Config{Keys: []signature.Key{{PEM: tt.text}}})
			wantError(t, err, "trust signers of policy: read public key: ", tt.words)
		})
	}
}

func TestAKeyIsOneKeyHoweverItIsWritten(t *testing.T) {
	s := signaturetest.NewSigner(t)
	block, _ := pem.Decode(s.Key().PEM)
	block.Headers = map[string]string{"Comment": "the same"}
	other, err := signature.ParseKey(append([]byte("our key\n"), pem.EncodeToMemory(block)...))
	if err != nil || other.ID != s.Key().ID || !bytes.Equal(other.PEM, s.Key().PEM) {
		t.Errorf("ParseKey() of another spelling = %v, %v, want %v", other, err, s.Key())
	}
	if len(other.ID) != len("key:")+16 {
		t.Errorf("ID = %q, want key: and 16 digits", other.ID)
	}
	_, err = signature.NewTrust(signature.Config{Threshold: 2, Keys: []signature.Key{s.Key(), {PEM: pem.EncodeToMemory(block)}}})
	wantError(t, err, "key "+s.Key().ID+" is given twice")
	_, err = signature.NewTrust(signature.Config{Keys: []signature.Key{{ID: "key:0000000000000000", PEM: s.Key().PEM}}})
	wantError(t, err, "is in truth "+s.Key().ID)
}

func TestTrustThatCannotMeanWhatItSaysIsRefused(t *testing.T) {
	a, key := signaturetest.NewAuthority(t), signaturetest.NewSigner(t).Key()
	trusted := a.TrustedRoot(t, signaturetest.Holds{Log: true})
	id, keys := []signature.Identity{alice()}, []signature.Key{key}
	var many []signature.Key
	for range 33 {
		many = append(many, key)
	}
	for _, tt := range []struct {
		name, words string
		c           signature.Config
	}{
		{"nobody", "neither a key nor an identity", signature.Config{}},
		{"too many", "more than 32", signature.Config{Keys: many}},
		{"more signatures than signers", "2 signatures are needed of 1 signers", signature.Config{Keys: keys, Threshold: 2}},
		{"a negative threshold", "-1 signatures are needed", signature.Config{Keys: keys, Threshold: -1}},
		{"identity without a root", "without a trusted root", signature.Config{Identities: id}},
		{"root without an identity", "without an identity", signature.Config{Keys: keys, TrustedRoot: trusted}},
		{"identity twice", "is given twice", signature.Config{Identities: append(slices.Clone(id), id...), TrustedRoot: trusted}},
		{"no issuer", "is not exact", signature.Config{Identities: []signature.Identity{{Subject: "x"}}, TrustedRoot: trusted}},
		{"no subject", "is not exact", signature.Config{Identities: []signature.Identity{{Issuer: "x"}}, TrustedRoot: trusted}},
		{"subject with a space", "is not exact", signature.Config{Identities: []signature.Identity{{Issuer: "x", Subject: "a b"}}, TrustedRoot: trusted}},
		{"root that is no JSON", "read trusted root", signature.Config{Identities: id, TrustedRoot: []byte("x")}},
		{"root that is too large", "more than 1048576 bytes", signature.Config{Identities: id, TrustedRoot: make([]byte, 2<<20)}},
		{"root that proves no time", "neither a transparency log nor a timestamp authority", signature.Config{Identities: id, TrustedRoot: a.TrustedRoot(t, signaturetest.Holds{})}},
		{"root without an authority", "no certificate authority", signature.Config{Identities: id, TrustedRoot: []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`)}},
		{"root with null in it", "read trusted root", signature.Config{Identities: id, TrustedRoot: []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","certificateAuthorities":[{}]}`)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			trust, err := signature.NewTrust(tt.c)
			wantError(t, err, "trust signers of policy: ", tt.words)
			if trust != nil {
				t.Errorf("NewTrust() = %v beside an error, want nil", trust)
			}
		})
	}
}

func TestReasonsAreClosedAndEachHasItsText(t *testing.T) {
	seen := map[string]bool{}
	for _, reason := range signature.Reasons() {
		text := (&signature.Error{Reason: reason}).Error()
		if seen[text] || seen[string(reason)] {
			t.Errorf("reason %s or its text is there twice: %s", reason, text)
		}
		seen[text], seen[string(reason)] = true, true
		wantError(t, &signature.Error{Reason: reason}, "verify signatures of policy bundle: ")
	}
	if len(signature.Reasons()) != 15 {
		t.Errorf("there are %d reasons, want 15", len(signature.Reasons()))
	}
}
