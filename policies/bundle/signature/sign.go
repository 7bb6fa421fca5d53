package signature

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	cbundle "github.com/sigstore/cosign/v2/pkg/cosign/bundle"
	"github.com/sigstore/cosign/v2/pkg/types"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/sign"
	sigstore "github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"github.com/sigstore/sigstore/pkg/signature/payload"
)

// Format is how a signature is written.
type Format string

// The formats. FormatBundle is what cosign 3 writes; FormatClassic is read by each
// version.
const (
	FormatBundle  Format = "bundle"
	FormatClassic Format = "classic"
)

// Signer has a private key. The zero Signer signs nothing.
type Signer struct {
	signer sigstore.SignerVerifier
	public crypto.PublicKey
	key    Key
}

// Key returns the public key that a Trust needs.
func (s Signer) Key() Key { return s.key }

// LoadSigner reads a private key: what cosign generate-key-pair wrote, which the
// passphrase decrypts, or a PKCS #8 PEM without one. It signs as cosign signs with
// such a key where nothing is logged.
func LoadSigner(text, passphrase []byte) (Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return Signer{}, errors.New("read private key: not PEM; hint: give the file that cosign calls cosign.key")
	}
	// None: Ed25519 over the message itself, as verify and verify-blob expect it.
	var load []sigstore.LoadOption
	var s sigstore.SignerVerifier
	var err error
	switch block.Type {
	case cosign.SigstorePrivateKeyPemType, cosign.CosignPrivateKeyPemType:
		if s, err = cosign.LoadPrivateKey(text, passphrase, &load); err != nil {
			return Signer{}, fmt.Errorf("read private key: %w; hint: is the passphrase right?", err)
		}
	case cosign.PrivateKeyPemType:
		private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return Signer{}, fmt.Errorf("read private key: %w; hint: give a PKCS #8 key, as openssl genpkey writes it", err)
		}
		if s, err = sigstore.LoadDefaultSignerVerifier(private, load...); err != nil {
			return Signer{}, fmt.Errorf("read private key: %w; hint: use ECDSA on P-256, P-384 or P-521, Ed25519, or RSA with 2048, 3072 or 4096 bits", err)
		}
	default:
		return Signer{}, fmt.Errorf("read private key: PEM of type %q; hint: give a key of cosign or an unencrypted PKCS #8 key; cosign import-key-pair and openssl pkcs8 -topk8 make them", block.Type)
	}
	return newSigner(s)
}

func newSigner(s sigstore.SignerVerifier) (Signer, error) {
	public, err := s.PublicKey()
	if err == nil {
		err = checkKey(public)
	}
	if err != nil {
		return Signer{}, fmt.Errorf("read private key: %w; hint: use ECDSA on P-256, P-384 or P-521, Ed25519, or RSA with 2048 bits or more", err)
	}
	key, err := newKey(public)
	return Signer{signer: s, public: public, key: key}, err
}

// Sign signs an artifact: its manifest, or where it has none, the tarball. It asks
// no network and uploads to no log. What it returns is verified before.
func Sign(ctx context.Context, s Signer, a Artifact, f Format) (Signature, error) {
	if s.signer == nil {
		return Signature{}, errors.New("sign policy bundle: there is no private key; hint: make a Signer with LoadSigner")
	}
	c, refused := contentOf(a)
	if refused != nil {
		return Signature{}, fmt.Errorf("sign policy bundle: %w", refused)
	}
	var signed Signature
	var err error
	switch {
	case f == FormatClassic:
		signed, err = s.classic(ctx, c)
	case f != FormatBundle:
		return Signature{}, fmt.Errorf("sign policy bundle: format %q; hint: use %s, or %s for old verifiers", f, FormatBundle, FormatClassic)
	case c.blob:
		signed.Bundle, err = s.blob(c)
	default:
		signed.Bundle, err = s.statement(c)
	}
	if err != nil {
		return Signature{}, fmt.Errorf("sign policy bundle: %w", err)
	}
	t, err := NewTrust(Config{Keys: []Key{s.key}})
	if err == nil {
		_, err = t.Verify(ctx, Artifact{Tarball: a.Tarball, Manifest: a.Manifest, Signatures: []Signature{signed}})
	}
	if err != nil {
		return Signature{}, fmt.Errorf("check what was signed: %w", err)
	}
	return signed, nil
}

// classic signs a document that names the digest. The document says no repository:
// a signature is of what was signed, wherever it was copied.
func (s Signer) classic(ctx context.Context, c content) (Signature, error) {
	data, document := c.bytes, []byte(nil)
	if !c.blob {
		var err error
		document, err = json.Marshal(payload.SimpleContainerImage{Critical: payload.Critical{
			Image: payload.Image{DockerManifestDigest: c.digest}, Type: payload.CosignSignatureType,
		}})
		if err != nil {
			return Signature{}, err
		}
		data = document
	}
	raw, err := s.signer.SignMessage(bytes.NewReader(data), options.WithContext(ctx))
	return Signature{Base64: base64.StdEncoding.EncodeToString(raw), Payload: document}, err
}

// statement signs what cosign sign --new-bundle-format signs of an image.
func (s Signer) statement(c content) ([]byte, error) {
	statement := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q}`,
		c.digest[len("sha256:"):], types.CosignSignPredicateType)
	envelope, err := dsse.WrapSigner(s.signer, types.IntotoPayloadType).SignMessage(bytes.NewReader(statement))
	if err != nil {
		return nil, err
	}
	return cbundle.MakeNewBundle(s.public, nil, statement, envelope, s.key.PEM, nil)
}

// blob signs what cosign sign-blob --new-bundle-format signs of a file.
func (s Signer) blob(c content) ([]byte, error) {
	raw, err := s.signer.SignMessage(bytes.NewReader(c.bytes))
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(s.public)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(der)
	made, err := cbundle.MakeProtobufBundle(base64.StdEncoding.EncodeToString(id[:]), nil, nil, nil)
	if err != nil {
		return nil, err
	}
	h := hashOf(s.public)
	sum := h.New()
	sum.Write(c.bytes)
	data := &sign.PlainData{Data: c.bytes}
	switch h { // HashAlgorithm of Sigstore's protobuf: SHA2_256 is 1, SHA2_384 2, SHA2_512 3
	case crypto.SHA384:
		data.Bundle(made, raw, sum.Sum(nil), 2)
	case crypto.SHA512:
		data.Bundle(made, raw, sum.Sum(nil), 3)
	default:
		data.Bundle(made, raw, sum.Sum(nil), 1)
	}
	b, err := sgbundle.NewBundle(made)
	if err != nil {
		return nil, err
	}
	return b.MarshalJSON()
}
