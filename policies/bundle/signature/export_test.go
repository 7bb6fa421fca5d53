package signature

import (
	"crypto"
	"io"

	sigstore "github.com/sigstore/sigstore/pkg/signature"
)

// Guard is what the libraries run in.
func Guard(f func() error) error { return guard(f) }

// Hurt has each verification with a key of t end in f, deep within the libraries.
func Hurt(t *Trust, f func()) {
	for i := range t.signers {
		for j := range t.signers[i].ways {
			way := &t.signers[i].ways[j]
			way.SigVerifier = hurting{way.SigVerifier, f}
		}
	}
}

// hurting is a verifier that does not return.
type hurting struct {
	sigstore.Verifier

	f func()
}

// PublicKey is that of the verifier.
func (h hurting) PublicKey(o ...sigstore.PublicKeyOption) (crypto.PublicKey, error) {
	return h.Verifier.PublicKey(o...)
}

// VerifySignature runs f, and says yes if that returns.
func (h hurting) VerifySignature(_, _ io.Reader, _ ...sigstore.VerifyOption) error {
	h.f()
	return nil
}
