package identity_test

import (
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/driver/identity"
)

// FuzzToken gives any bytes as a token: nothing panics, and nothing verifies
// but what was signed, as it was signed. (An ECDSA signature has a twin over the
// same content, which is why header and payload are compared and not the whole.)
func FuzzToken(f *testing.F) {
	rsaKey, ecKey := newRSA(f, "rsa"), p256(f, "ec")
	v := verifier(f, clusterOf(pod(nil)), newKeys(f, newSource(rsaKey, ecKey)))
	signed := map[string]bool{}
	for _, s := range []signer{rsaKey, ecKey} {
		token := s.mint(apiClaims())
		signed[token[:strings.LastIndex(token, ".")]] = true
		f.Add(token)
		f.Add(token[:len(token)-1])
		f.Add("eyJhbGciOiJub25lIn0" + token[strings.Index(token, "."):])
		f.Add(s.sign(`{"alg":"RS256","kid":"rsa","jku":"x"}`, `{"sub":"a","sub":"b"}`))
	}
	f.Add("..")
	f.Add("e30.e30.e30")
	f.Fuzz(func(t *testing.T, token string) {
		got, err := v.Verify(t.Context(), with(tokens{"vault": token}))
		if err != nil {
			t.Fatalf("Verify(%q) = %v, want it judged", token, err)
		}
		if got.TokenVerified && !signed[token[:max(0, strings.LastIndex(token, "."))]] {
			t.Errorf("Verify(%q) verified what nobody signed", token)
		}
	})
}

// FuzzClaims signs any payload: whatever verifies says of itself, in
// these words, that it is this pod's.
func FuzzClaims(f *testing.F) {
	key := p256(f, "k1")
	v := verifier(f, clusterOf(pod(nil)), newKeys(f, newSource(key)))
	good := encode(apiClaims())
	f.Add(good)
	f.Add(`{"sub":"x",` + good[1:])
	f.Add(strings.Replace(good, "kubernetes.io", "Kubernetes.io", 1))
	f.Add(strings.Replace(good, `["vault"]`, `"vault"`, 1))
	f.Fuzz(func(t *testing.T, payload string) {
		got, err := v.Verify(t.Context(), with(tokens{"vault": key.sign(key.header(), payload)}))
		if err != nil || !got.TokenVerified {
			return
		}
		plain := strings.NewReplacer(" ", "", "\n", "", "\t", "", "\r", "").Replace(payload)
		for _, word := range []string{`"kubernetes.io":`, podUID, accountUID, `system:serviceaccount:payments:api`} {
			// An escape spells the same in another way.
			if !strings.Contains(plain, word) && !strings.Contains(plain, `\u`) {
				t.Errorf("Verify(%s) verified, want %q in it", payload, word)
			}
		}
	})
}

// FuzzKeySet gives any bytes as a key set: nothing panics, and a key that is
// not the signer's verifies nothing.
func FuzzKeySet(f *testing.F) {
	key, forger := p256(f, "k1"), p256(f, "k1")
	f.Add(keySet(key))
	f.Add(`{"keys":[{"kty":"EC","kid":"k1","crv":"P-256","x":"AA","y":"AA"}]}`)
	f.Add(`{"keys":[{"kty":"RSA","kid":"k1","n":"AA","e":"AQAB"}]}`)
	f.Add(`{"keys":[{"kty":"oct","kid":"k1","k":"AA"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		s := newSource()
		if s.text = text; text == "" {
			return
		}
		claimed := with(tokens{"vault": forger.mint(apiClaims())})
		got, err := verifier(t, clusterOf(pod(nil)), newKeys(t, s)).Verify(t.Context(), claimed)
		if err == nil && got.TokenVerified {
			t.Errorf("key set %q verified a forger's token", text)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	rsaKey, ecKey := newRSA(b, "rsa"), p256(b, "ec")
	k := newKeys(b, newSource(rsaKey, ecKey))
	for name, claimed := range map[string]identity.Tokens{
		"NoToken": nil, "RS256": tokens{"vault": rsaKey.mint(apiClaims())}, "ES256": tokens{"vault": ecKey.mint(apiClaims())},
		"UnknownKey":  tokens{"vault": signer{"ES256", "k9", ecKey.key}.mint(apiClaims())},
		"ThreeRS256s": tokens{"vault": rsaKey.mint(apiClaims()), "aws": rsaKey.mint(apiClaims(audience("aws"))), "": rsaKey.mint(apiClaims(audience(issuer)))},
	} {
		b.Run(name, func(b *testing.B) {
			v := verifier(b, clusterOf(pod(nil)), k)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), with(claimed)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
