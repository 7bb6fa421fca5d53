package cosign_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
)

// kind is a kind of key.
type kind struct {
	name string
	// make makes one; nil: the command does, with generate-key-pair.
	make func() (crypto.Signer, error)
	// digest is what cosign verify has to be told, of its own signatures as of ours: it
	// signs with it and does not look for it. cosign verify-blob cannot be told. "" for
	// the default.
	digest string
	// noBlobs is set where cosign sign-blob crashes (crypto: requested hash function #0
	// is unavailable).
	noBlobs bool
}

// verify are further arguments of cosign verify.
func (k kind) verify() []string {
	if k.digest == "" {
		return nil
	}
	return []string{"--signature-digest-algorithm", k.digest}
}

func kinds() []kind {
	curve := func(c elliptic.Curve) func() (crypto.Signer, error) {
		return func() (crypto.Signer, error) { return ecdsa.GenerateKey(c, rand.Reader) }
	}
	return []kind{
		{name: "P-256"},
		{name: "P-384", make: curve(elliptic.P384()), digest: "sha384"},
		{name: "P-521", make: curve(elliptic.P521()), digest: "sha512"},
		{name: "Ed25519", noBlobs: true, make: func() (crypto.Signer, error) {
			_, private, err := ed25519.GenerateKey(rand.Reader)
			return private, err
		}},
		{name: "RSA", make: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }},
	}
}

// pair writes cosign.key and cosign.pub, which the command has made or imported.
func (k kind) pair(w *world) {
	w.Helper()
	if k.make == nil {
		w.cosign("generate-key-pair")
		return
	}
	key, err := k.make()
	if err != nil {
		w.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.Fatal(err)
	}
	w.write("private.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	w.cosign("import-key-pair", "--key", "private.pem", "--output-key-prefix", "cosign")
}
