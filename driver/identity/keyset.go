package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws/jwsbb"
)

// Bounds of a key set. A cluster has one key, and two or three while it rotates.
const (
	maxKeySetBytes = 256 << 10
	maxKeys        = 64
	maxKeyID       = 256
	minRSABits     = 2048
	maxRSABits     = 8192
)

// algorithm is one of the closed list: those with which a kube-apiserver, or an
// external signer in its place, signs service account tokens.
type algorithm string

const (
	rs256 algorithm = "RS256"
	es256 algorithm = "ES256"
	es384 algorithm = "ES384"
	es512 algorithm = "ES512"
)

// publicKey verifies with one algorithm, its own: a token only gets to agree.
type publicKey struct {
	algorithm algorithm
	rsa       *rsa.PublicKey
	ecdsa     *ecdsa.PublicKey
}

// verify checks a signature over the first two parts of a token.
func (k publicKey) verify(signed, signature []byte) bool {
	switch k.algorithm {
	case rs256:
		return k.rsa != nil && jwsbb.VerifyRSA(k.rsa, signed, signature, crypto.SHA256, false) == nil
	case es256:
		return k.verifyECDSA(signed, signature, crypto.SHA256)
	case es384:
		return k.verifyECDSA(signed, signature, crypto.SHA384)
	case es512:
		return k.verifyECDSA(signed, signature, crypto.SHA512)
	default:
		return false
	}
}

func (k publicKey) verifyECDSA(signed, signature []byte, h crypto.Hash) bool {
	return k.ecdsa != nil && jwsbb.VerifyECDSA(k.ecdsa, signed, signature, h) == nil
}

// errKeySet and what wraps it say that a key set is none that a cluster
// publishes. Nothing is taken from such a set.
var errKeySet = errors.New("parse key set")

// parseKeySet reads a JWK set (RFC 7517 section 5) into public keys by key id.
// Keys of other types or for other purposes are left out, and so are keys
// without an id, since no token could name them. A private or symmetric key is
// refused with the whole set: whatever published it is not the cluster's.
func parseKeySet(text []byte) (map[string]publicKey, error) {
	if len(text) > maxKeySetBytes {
		return nil, fmt.Errorf("%w: larger than %d KiB", errKeySet, maxKeySetBytes>>10)
	}
	checked, err := decodeObject(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeySet, err)
	}
	list, ok := checked["keys"].([]any)
	var outer map[string]json.RawMessage
	var raw []json.RawMessage
	if !ok || json.Unmarshal(text, &outer) != nil || json.Unmarshal(outer["keys"], &raw) != nil || len(raw) != len(list) {
		return nil, fmt.Errorf("%w: no list of keys", errKeySet)
	}
	if len(list) > maxKeys {
		return nil, fmt.Errorf("%w: more than %d keys", errKeySet, maxKeys)
	}
	keys := make(map[string]publicKey, len(list))
	for i, entry := range list {
		if err := addKey(keys, entry, raw[i]); err != nil {
			return nil, fmt.Errorf("%w: key %d %w", errKeySet, i, err)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: no key that signs service account tokens", errKeySet)
	}
	return keys, nil
}

func addKey(keys map[string]publicKey, entry any, raw []byte) error {
	members, ok := entry.(map[string]any)
	if !ok {
		return errors.New("is not an object")
	}
	for _, secret := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, published := members[secret]; published {
			return errors.New("is not a public one")
		}
	}
	id, named := members["kid"].(string)
	if use, set := members["use"]; !named || id == "" || len(id) > maxKeyID || set && use != "sig" {
		return nil
	}
	if members["kty"] != "RSA" && members["kty"] != "EC" {
		return nil
	}
	key, err := parseKey(raw)
	if err != nil {
		return err
	}
	if alg, set := members["alg"]; key.algorithm == "" || set && alg != string(key.algorithm) {
		return nil
	}
	if other, twice := keys[id]; twice && !other.equal(key) {
		return errors.New("has the key id of another one")
	}
	keys[id] = key
	return nil
}

func (k publicKey) equal(other publicKey) bool {
	if k.rsa != nil {
		return other.rsa != nil && k.rsa.Equal(other.rsa)
	}
	return other.ecdsa != nil && k.ecdsa.Equal(other.ecdsa)
}

// parseKey returns a key without an algorithm where its size or curve is none
// that we verify with.
func parseKey(raw []byte) (publicKey, error) {
	parsed, err := jwk.ParseKey(raw)
	if err != nil {
		return publicKey{}, errors.New("cannot be read")
	}
	var exported any
	if err := jwk.Export(parsed, &exported); err != nil {
		return publicKey{}, errors.New("cannot be read")
	}
	switch key := exported.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits || key.E < 3 || key.E%2 == 0 {
			return publicKey{}, nil
		}
		return publicKey{algorithm: rs256, rsa: key}, nil
	case *ecdsa.PublicKey:
		if _, err := key.ECDH(); err != nil { // not on its curve, or of a curve that nobody signs with
			return publicKey{}, nil //nolint:nilerr // such a key is left out, not the whole set
		}
		return publicKey{algorithm: algorithmOf(key.Curve), ecdsa: key}, nil
	default:
		return publicKey{}, errors.New("is not a public one")
	}
}

func algorithmOf(curve elliptic.Curve) algorithm {
	curves := []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}
	i := slices.Index(curves, curve)
	if i < 0 {
		return ""
	}
	return []algorithm{es256, es384, es512}[i]
}
