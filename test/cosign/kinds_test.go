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
}

func kinds() []kind {
	curve := func(c elliptic.Curve) func() (crypto.Signer, error) {
		return func() (crypto.Signer, error) { return ecdsa.GenerateKey(c, rand.Reader) }
	}
	return []kind{
		{"P-256", nil}, {"P-384", curve(elliptic.P384())}, {"P-521", curve(elliptic.P521())},
		{"Ed25519", func() (crypto.Signer, error) {
			_, private, err := ed25519.GenerateKey(rand.Reader)
			return private, err
		}},
		{"RSA", func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }},
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
