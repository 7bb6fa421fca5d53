package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	sigstore "github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// Key is a public key whose signatures are trusted.
type Key struct {
	// ID is "key:" and the first 16 hexadecimal digits of the SHA-256 of the key as
	// DER (SubjectPublicKeyInfo). It is the same for each spelling of the key.
	ID  string
	PEM []byte // PUBLIC KEY, as cosign.pub is
}

const (
	minRSABits  = 2048
	maxRSABits  = 8192
	maxKeyBytes = 16 << 10
)

// ParseKey reads one public key in PEM: ECDSA on P-256, P-384 or P-521, Ed25519,
// or RSA of at least 2048 bits.
func ParseKey(text []byte) (Key, error) {
	_, key, err := parseKey(text)
	return key, err
}

func parseKey(text []byte) (crypto.PublicKey, Key, error) {
	if len(text) > maxKeyBytes {
		return nil, Key{}, fmt.Errorf("read public key: more than %d bytes; hint: give the file that cosign calls cosign.pub", maxKeyBytes)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, Key{}, errors.New("read public key: not PEM; hint: give the file that cosign calls cosign.pub, or the output of openssl pkey -pubout")
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return nil, Key{}, errors.New("read public key: it is a private key; hint: remove it from here, and give its public key, the output of cosign public-key --key FILE")
	case block.Type != "PUBLIC KEY":
		return nil, Key{}, fmt.Errorf("read public key: PEM of type %q is not PUBLIC KEY; hint: convert it with openssl pkey -pubout", block.Type)
	}
	if more, _ := pem.Decode(rest); more != nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, Key{}, errors.New("read public key: something follows the first key; hint: give each key in a file of its own")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err == nil {
		err = checkKey(public)
	}
	if err != nil {
		return nil, Key{}, fmt.Errorf("read public key: %w; hint: use ECDSA on P-256, P-384 or P-521, Ed25519, or RSA with 2048 bits or more", err)
	}
	key, err := newKey(public)
	return public, key, err
}

// newKey writes the key anew, so that two spellings of one key are one key.
func newKey(public crypto.PublicKey) (Key, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Key{}, fmt.Errorf("write public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return Key{ID: "key:" + hex.EncodeToString(sum[:8]), PEM: cryptoutils.PEMEncode(cryptoutils.PublicKeyPEMType, der)}, nil
}

func checkKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return fmt.Errorf("curve %s is not trusted", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("RSA with %d bits is not trusted", bits)
		}
	default:
		return fmt.Errorf("key of type %T is not trusted", public)
	}
	return nil
}

// hashOf is the hash that cosign signs with by a key.
func hashOf(public crypto.PublicKey) crypto.Hash {
	if k, ok := public.(*ecdsa.PublicKey); ok {
		switch k.Curve {
		case elliptic.P384():
			return crypto.SHA384
		case elliptic.P521():
			return crypto.SHA512
		}
	}
	return crypto.SHA256
}

// verifiers are the ways in which versions of cosign sign with a key. Ed25519 is
// with the message hashed first where it is logged, and older versions take
// SHA-256 for each curve. A signature of one way is none of another.
func verifiers(public crypto.PublicKey) ([]sigstore.Verifier, error) {
	ways := [][]sigstore.LoadOption{{options.WithHash(hashOf(public))}}
	if _, ok := public.(ed25519.PublicKey); ok {
		ways = append(ways, []sigstore.LoadOption{options.WithED25519ph()})
	}
	if hashOf(public) != crypto.SHA256 {
		ways = append(ways, []sigstore.LoadOption{options.WithHash(crypto.SHA256)})
	}
	var list []sigstore.Verifier
	for _, way := range ways {
		v, err := sigstore.LoadVerifierWithOpts(public, way...)
		if err != nil {
			return nil, fmt.Errorf("use public key: %w", err)
		}
		list = append(list, v)
	}
	return list, nil
}
