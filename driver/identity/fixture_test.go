package identity_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

const (
	driverName = "secrets-store.csi.k8s.io"
	podUID     = "11111111-1111-4111-8111-111111111111"
	accountUID = "22222222-2222-4222-8222-222222222222"
	otherUID   = "33333333-3333-4333-8333-333333333333"
	issuer     = "https://kubernetes.default.svc.cluster.local"
)

var (
	errTimeout = errors.New("context deadline exceeded while reading from 10.0.0.1")
	errDown    = errors.New("connection refused")
)

// cluster answers from fields; broken makes one kind of object unreadable.
type cluster struct {
	pod       *corev1.Pod
	driver    *storagev1.CSIDriver // nil: not in the cluster
	broken    string
	mu        sync.Mutex
	calls     int
	askedUIDs []string
}

// clusterOf is a cluster with a pod and a CSIDriver object as the chart's.
func clusterOf(p *corev1.Pod) *cluster { return &cluster{pod: p, driver: driverObject(nil)} }

func (c *cluster) Pod(_ context.Context, _, name, uid string) (*corev1.Pod, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	c.askedUIDs = append(c.askedUIDs, uid)
	if c.broken == "pod" {
		return nil, errTimeout
	}
	if c.pod == nil {
		return nil, fmt.Errorf("pod %s: %w", name, kube.ErrNotFound)
	}
	return c.pod, nil
}

func (c *cluster) Namespace(_ context.Context, name string) (*corev1.Namespace, error) {
	if c.broken == "namespace" {
		return nil, errTimeout
	}
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, nil
}

func (c *cluster) ServiceAccount(_ context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	if c.broken == "service account" {
		return nil, kube.ErrNotFound
	}
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: accountUID}}, nil
}

func (c *cluster) CSIDriver(context.Context) (*storagev1.CSIDriver, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	switch {
	case c.broken == "CSIDriver object":
		return nil, errTimeout
	case c.driver == nil:
		return nil, fmt.Errorf("csidriver %s: %w", driverName, kube.ErrNotFound)
	}
	return c.driver, nil
}

// driverObject is the CSIDriver object as it should be.
func driverObject(change func(*storagev1.CSIDriverSpec)) *storagev1.CSIDriver {
	d := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: driverName}, Spec: storagev1.CSIDriverSpec{
		AttachRequired: new(false), PodInfoOnMount: new(true), RequiresRepublish: new(true), FSGroupPolicy: new(storagev1.NoneFSGroupPolicy),
		VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral},
		TokenRequests:        []storagev1.TokenRequest{{Audience: "vault"}}, ServiceAccountTokenInSecrets: new(true),
	}}
	if change != nil {
		change(&d.Spec)
	}
	return d
}

func pod(change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "api-0", UID: podUID},
		Spec: corev1.PodSpec{
			NodeName: "node-a", ServiceAccountName: "api",
			Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
				Driver: driverName, VolumeAttributes: map[string]string{"secretProviderClass": "db"},
			}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	if change != nil {
		change(p)
	}
	return p
}

func claim(change func(*identity.Claim)) identity.Claim {
	c := identity.Claim{
		Namespace: "payments", Pod: "api-0", ServiceAccount: "api", PodUID: podUID, ContextUID: podUID, Volume: "secrets",
		Attributes: map[string]string{"secretProviderClass": "db", "csi.storage.k8s.io/pod.name": "api-0", "csi.storage.k8s.io/ephemeral": "true"},
	}
	if change != nil {
		change(&c)
	}
	return c
}

func with(tokens identity.Tokens) identity.Claim {
	return claim(func(c *identity.Claim) { c.Tokens = tokens })
}

func verifier(t testing.TB, c *cluster, k *identity.Keys) *identity.Verifier {
	t.Helper()
	v, err := identity.New(identity.Config{Cluster: c, Node: "node-a", DriverName: driverName, Keys: k})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// tokens are tokens by audience.
type tokens map[string]string

func (t tokens) Audiences() []string { return slices.Collect(maps.Keys(t)) } // in any order

func (t tokens) Token(audience string) (*hardening.Plaintext, bool) {
	token, ok := t[audience]
	return hardening.NewPlaintext([]byte(token)), ok
}

// signer is a key of the cluster.
type signer struct {
	alg, kid string
	key      crypto.Signer
}

func newRSA(t testing.TB, kid string) signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return signer{"RS256", kid, key}
}

func newEC(t testing.TB, kid string, curve elliptic.Curve) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	alg := map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[curve.Params().BitSize]
	return signer{alg, kid, key}
}

func p256(t testing.TB, kid string) signer { return newEC(t, kid, elliptic.P256()) }

// jwk is the public key as a kube-apiserver publishes it.
func (s signer) jwk() map[string]any {
	switch k := s.key.Public().(type) {
	case *rsa.PublicKey:
		return map[string]any{"use": "sig", "kty": "RSA", "kid": s.kid, "alg": s.alg, "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PublicKey:
		size := (k.Curve.Params().BitSize + 7) / 8
		point, _ := k.Bytes()
		return map[string]any{"use": "sig", "kty": "EC", "kid": s.kid, "alg": s.alg, "crv": k.Curve.Params().Name, "x": b64(point[1 : 1+size]), "y": b64(point[1+size:])}
	default:
		return nil
	}
}

// sign makes a token of header and payload as they stand.
func (s signer) sign(header, payload string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	return signed + "." + b64(s.signature(signed))
}

func (s signer) signature(signed string) []byte {
	hash := map[string]crypto.Hash{"RS256": crypto.SHA256, "ES256": crypto.SHA256, "ES384": crypto.SHA384, "ES512": crypto.SHA512}[s.alg]
	h := hash.New()
	h.Write([]byte(signed))
	signature, err := s.key.Sign(rand.Reader, h.Sum(nil), hash)
	if err != nil {
		panic(err)
	}
	k, ok := s.key.(*ecdsa.PrivateKey)
	if !ok {
		return signature
	}
	var point struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(signature, &point); err != nil {
		panic(err)
	}
	size := (k.Curve.Params().BitSize + 7) / 8
	return append(point.R.FillBytes(make([]byte, size)), point.S.FillBytes(make([]byte, size))...)
}

func (s signer) header() string { return fmt.Sprintf(`{"alg":%q,"kid":%q}`, s.alg, s.kid) }

// mint signs claims as the API server would.
func (s signer) mint(c map[string]any) string { return s.sign(s.header(), encode(c)) }

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// apiClaims are those of a token for pod api-0 and audience vault.
func apiClaims(changes ...func(c, bound map[string]any)) map[string]any {
	now := time.Now().Unix()
	bound := map[string]any{
		"namespace": "payments", "node": map[string]any{"name": "node-a", "uid": otherUID},
		"pod": map[string]any{"name": "api-0", "uid": podUID}, "serviceaccount": map[string]any{"name": "api", "uid": accountUID},
	}
	c := map[string]any{
		"aud": []string{"vault"}, "exp": now + 600, "iat": now, "nbf": now, "iss": issuer, "jti": otherUID,
		"sub": "system:serviceaccount:payments:api", "kubernetes.io": bound,
	}
	for _, change := range changes {
		change(c, bound)
	}
	return c
}

func audience(a any) func(c, bound map[string]any) {
	return func(c, _ map[string]any) { c["aud"] = a }
}

// source publishes keys as an API server does.
type source struct {
	mu      sync.Mutex
	keys    []signer
	text    string // in place of keys
	issuer  string
	down    error
	takes   time.Duration
	panics  bool
	fetches int
}

func (s *source) Issuer(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return "", s.down
	}
	return s.issuer, nil
}

func (s *source) JWKS(ctx context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetches++
	if s.panics {
		panic("source")
	}
	if s.takes > 0 {
		select {
		case <-time.After(s.takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.text != "" || s.down != nil {
		return []byte(s.text), s.down
	}
	return []byte(keySet(s.keys...)), nil
}

// set changes what is published from now on.
func (s *source) set(change func(s *source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *source) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetches
}

func keySet(signers ...signer) string {
	keys := []any{}
	for _, k := range signers {
		keys = append(keys, k.jwk())
	}
	return encode(map[string]any{"keys": keys})
}

func newSource(keys ...signer) *source { return &source{keys: keys, issuer: issuer} }

func newKeys(t testing.TB, s identity.KeySource, apiAudiences ...string) *identity.Keys {
	t.Helper()
	k, err := identity.NewKeys(identity.KeysConfig{Source: s, APIAudiences: apiAudiences})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// problem is why the only token of a claim was not verified; "" if it was.
func problem(t testing.TB, v *identity.Verifier, tokens identity.Tokens) string {
	t.Helper()
	got, err := v.Verify(t.Context(), with(tokens))
	if err != nil {
		t.Fatalf("Verify() = %v, want the token judged", err)
	}
	if len(got.Tokens) != 1 || got.Tokens[0].Verified != got.TokenVerified || got.TokenVerified == (len(got.Unverified) == 1) {
		t.Fatalf("Verify() = %+v, %+v, %t, want one token and what it is", got.Tokens, got.Unverified, got.TokenVerified)
	}
	if got.TokenVerified {
		return ""
	}
	return got.Unverified[0].Problem
}
