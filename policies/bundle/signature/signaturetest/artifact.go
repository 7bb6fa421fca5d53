package signaturetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"testing"

	cbundle "github.com/sigstore/cosign/v2/pkg/cosign/bundle"
	sigstore "github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// Signer is a key pair with its private key.
type Signer struct {
	signature.Signer

	Private crypto.Signer
	PEM     []byte // of the private key, PKCS #8
}

// NewSigner makes a key on P-256, as cosign does.
func NewSigner(t testing.TB) Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return SignerOf(t, key)
}

// SignerOf makes a signer of a private key.
func SignerOf(t testing.TB, key crypto.Signer) Signer {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	s, err := signature.LoadSigner(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Signer{Signer: s, Private: key, PEM: text}
}

// Trust trusts the keys of signers.
func Trust(t testing.TB, threshold int, signers ...Signer) *signature.Trust {
	t.Helper()
	c := signature.Config{Threshold: threshold}
	for _, s := range signers {
		c.Keys = append(c.Keys, s.Key())
	}
	trust, err := signature.NewTrust(c)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// Form is one of the ways in which a bundle is signed.
type Form struct {
	Name   string
	Blob   bool // the tarball is signed, and there is no manifest
	Format signature.Format
}

// Forms returns all of them.
func Forms() []Form {
	return []Form{
		{"manifest in a bundle", false, signature.FormatBundle},
		{"manifest in the classic format", false, signature.FormatClassic},
		{"file in a bundle", true, signature.FormatBundle},
		{"file in the classic format", true, signature.FormatClassic},
	}
}

// Artifact is a tarball in this form, not signed.
func (f Form) Artifact(tarball []byte) signature.Artifact {
	a := signature.Artifact{Tarball: tarball}
	if !f.Blob {
		a.Manifest = Manifest(tarball)
	}
	return a
}

// Signed is a tarball in this form, signed by each signer.
func (f Form) Signed(t testing.TB, tarball []byte, signers ...Signer) signature.Artifact {
	t.Helper()
	a := f.Artifact(tarball)
	for _, s := range signers {
		a.Signatures = append(a.Signatures, Sign(t, s, a, f.Format))
	}
	return a
}

// Sign signs an artifact.
func Sign(t testing.TB, s Signer, a signature.Artifact, f signature.Format) signature.Signature {
	t.Helper()
	signed, err := signature.Sign(t.Context(), s.Signer, a, f)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// Manifest is the manifest of a tarball in a registry.
func Manifest(tarball []byte) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2,"data":"e30="},`+
		`"layers":[{"mediaType":%q,"digest":%q,"size":%d}],"annotations":{"org.opencontainers.image.title":"policy"}}`,
		signature.ManifestMediaType, Digest([]byte("{}")), signature.LayerMediaType, Digest(tarball), len(tarball))
}

// Digest is the SHA-256 of data as registries write it.
func Digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// Statement is an in-toto statement about an artifact's manifest.
func Statement(predicateType string, digests ...string) []byte {
	var subjects []map[string]any
	for _, digest := range digests {
		subjects = append(subjects, map[string]any{"digest": map[string]string{"sha256": digest[len("sha256:"):]}})
	}
	text, err := json.Marshal(map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "subject": subjects, "predicateType": predicateType, "predicate": map[string]any{"passed": false},
	})
	if err != nil {
		panic(err)
	}
	return text
}

// Predicate types: of what cosign sign writes, and of what cosign attest does.
const (
	SignPredicate        = "https://sigstore.dev/cosign/sign/v1"
	AttestationPredicate = "https://cosign.sigstore.dev/attestation/v1"
)

// Attest signs a statement, whatever it states.
func Attest(t testing.TB, s Signer, statement []byte) signature.Signature {
	t.Helper()
	signer, err := sigstore.LoadSignerVerifier(s.Private, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := dsse.WrapSigner(signer, "application/vnd.in-toto+json").SignMessage(bytes.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	made, err := cbundle.MakeNewBundle(s.Private.Public(), nil, statement, envelope, s.Key().PEM, nil)
	if err != nil {
		t.Fatal(err)
	}
	return signature.Signature{Bundle: made}
}

// Classic signs a document in the classic format, whatever it says.
func Classic(t testing.TB, s Signer, document []byte) signature.Signature {
	t.Helper()
	sum := sha256.Sum256(document)
	raw, err := s.Private.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return signature.Signature{Base64: base64.StdEncoding.EncodeToString(raw), Payload: document}
}

// Payload is a simple signing document.
func Payload(kind, digest string) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":%q},"type":%q},"optional":null}`, digest, kind)
}

// File is a file of a tarball.
type File struct{ Name, Text string }

// Tarball packs files as a bundle is packed.
func Tarball(t testing.TB, files ...File) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.Name, Mode: 0o644, Size: int64(len(f.Text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.Text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
