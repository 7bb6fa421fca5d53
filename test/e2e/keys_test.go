//go:build e2e

package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
)

// keyPair is whose policy a cluster takes: files in PEM, outside of the node.
type keyPair struct{ private, public string }

func newKeyPair(dir string) (keyPair, error) {
	k := keyPair{private: filepath.Join(dir, "policy.key"), public: filepath.Join(dir, "policy.pub")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return k, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return k, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return k, err
	}
	return k, errors.Join(
		os.WriteFile(k.private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(k.public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600))
}
