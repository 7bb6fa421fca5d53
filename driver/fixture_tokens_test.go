package driver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	tokensKey   = "csi.storage.k8s.io/serviceAccount.tokens"
	tokenIssues = "https://kubernetes.default.svc"
)

// driverObject is the manifest of the CSIDriver object.
func driverObject(spec string) string {
	return "\n---\napiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {name: " + driverName + "}\nspec: " + spec + "\n"
}

// The CSIDriver objects with which kubelet writes tokens into one place or the
// other.
const (
	tokensInSecrets = "{podInfoOnMount: true, tokenRequests: [{audience: vault}], serviceAccountTokenInSecrets: true}"
	tokensInContext = "{podInfoOnMount: true, tokenRequests: [{audience: vault}]}"
)

// tokenIssuer is what signs service account tokens in an API server, and
// publishes the key.
type tokenIssuer struct {
	key  *ecdsa.PrivateKey
	down atomic.Bool
}

func newTokenIssuer(t testing.TB) *tokenIssuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &tokenIssuer{key: key}
}

// Issuer implements identity.KeySource.
func (i *tokenIssuer) Issuer(context.Context) (string, error) { return tokenIssues, nil }

// JWKS implements identity.KeySource.
func (i *tokenIssuer) JWKS(context.Context) ([]byte, error) {
	if i.down.Load() {
		return nil, errors.New("dial tcp 10.0.0.1:443: connection refused")
	}
	point, err := i.key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"keys": []any{map[string]any{
		"use": "sig", "kty": "EC", "kid": "k1", "alg": "ES256", "crv": "P-256", "x": base64url(point[1:33]), "y": base64url(point[33:]),
	}}})
}

// token is one that kubelet gets for a pod; change alters its claims.
func (i *tokenIssuer) token(p pod, audience string, change func(bound map[string]any)) string {
	now := time.Now().Unix()
	bound := map[string]any{
		"namespace": p.namespace, "node": map[string]any{"name": nodeName, "uid": apiUID}, "pod": map[string]any{"name": p.name, "uid": p.uid},
		"serviceaccount": map[string]any{"name": p.serviceAccount, "uid": accountUID},
	}
	if change != nil {
		change(bound)
	}
	payload, _ := json.Marshal(map[string]any{
		"aud": []string{audience}, "exp": now + 600, "iat": now, "nbf": now, "iss": tokenIssues, "kubernetes.io": bound,
		"sub": "system:serviceaccount:" + p.namespace + ":" + p.serviceAccount,
	})
	signed := base64url([]byte(`{"alg":"ES256","kid":"k1"}`)) + "." + base64url(payload)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, digest[:])
	if err != nil {
		panic(err)
	}
	return signed + "." + base64url(append(fill(r), fill(s)...))
}

func fill(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// kubeletTokens is what kubelet writes of tokens into the secrets of a request.
func kubeletTokens(tokens map[string]string) map[string]string {
	if tokens == nil {
		return nil
	}
	return map[string]string{tokensKey: kubeletTokensText(tokens)}
}

func kubeletTokensText(tokens map[string]string) string {
	type entry struct {
		Token               string `json:"token"`
		ExpirationTimestamp string `json:"expirationTimestamp"`
	}
	wire := map[string]entry{}
	for audience, token := range tokens {
		wire[audience] = entry{token, "2030-01-01T00:00:00Z"}
	}
	text, _ := json.Marshal(wire)
	return string(text)
}

// of makes the tokens for some audiences of a pod.
func (i *tokenIssuer) of(p pod, audiences ...string) map[string]string {
	tokens := map[string]string{}
	for _, a := range audiences {
		tokens[a] = i.token(p, a, nil)
	}
	return tokens
}

// forged is a token whose signature is another's.
func forged(token string) string {
	i := strings.LastIndex(token, ".")
	return token[:i+1] + base64url(make([]byte, 64))
}
