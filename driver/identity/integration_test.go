//go:build integration

package identity_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

// apiServer reads everything from a real API server.
type apiServer struct {
	kubernetes.Interface
	keys rest.Interface // of an account that has no rights of its own
}

func found[T any](o T, err error) (T, error) {
	if apierrors.IsNotFound(err) {
		err = fmt.Errorf("%w: %w", kube.ErrNotFound, err)
	}
	return o, err
}

func (a apiServer) Pod(ctx context.Context, namespace, name, _ string) (*corev1.Pod, error) {
	return found(a.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{}))
}

func (a apiServer) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	return found(a.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}))
}

func (a apiServer) ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return found(a.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{}))
}

func (a apiServer) CSIDriver(ctx context.Context) (*storagev1.CSIDriver, error) {
	return found(a.StorageV1().CSIDrivers().Get(ctx, driverName, metav1.GetOptions{}))
}

func (a apiServer) JWKS(ctx context.Context) ([]byte, error) {
	return a.keys.Get().AbsPath("/openid/v1/jwks").DoRaw(ctx)
}

func (a apiServer) Issuer(ctx context.Context) (string, error) {
	text, err := a.keys.Get().AbsPath("/.well-known/openid-configuration").DoRaw(ctx)
	if err != nil {
		return "", err
	}
	var configuration struct {
		Issuer string `json:"issuer"`
	}
	err = json.Unmarshal(text, &configuration)
	return configuration.Issuer, err
}

// realWorld is a cluster with a node, an account and a CSIDriver object.
type realWorld struct {
	*clustertest.Cluster
	keys     *identity.Keys
	verifier *identity.Verifier
}

func newRealWorld(t *testing.T) realWorld {
	t.Helper()
	c := clustertest.Start(t, clustertest.Options{})
	c.CreateNamespace(t, "payments", nil)
	c.CreateServiceAccount(t, "payments", "api")
	c.CreateServiceAccount(t, "payments", "portcullis")
	if _, err := c.Client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Client.StorageV1().CSIDrivers().Create(t.Context(), driverObject(nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w := realWorld{Cluster: c}
	// Any service account may read the keys: system:service-account-issuer-discovery.
	reader, err := kubernetes.NewForConfig(c.As(t, "payments", "portcullis"))
	if err != nil {
		t.Fatal(err)
	}
	api := apiServer{c.Client, reader.CoreV1().RESTClient()}
	w.keys = newKeys(t, api)
	if w.verifier, err = identity.New(identity.Config{Cluster: api, Node: "node-a", DriverName: driverName, Keys: w.keys}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w realWorld) create(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	return w.CreatePod(t, pod(func(p *corev1.Pod) {
		p.Name, p.UID, p.Status = name, "", corev1.PodStatus{}
		p.Spec.Containers = []corev1.Container{{Name: "main", Image: "registry.example/api:1"}}
		p.Spec.Volumes[0].CSI.ReadOnly = new(true)
	}))
}

func (w realWorld) token(t *testing.T, spec authv1.TokenRequestSpec) string {
	t.Helper()
	answer, err := w.Client.CoreV1().ServiceAccounts("payments").CreateToken(t.Context(), "api", &authv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Token
}

func of(p *corev1.Pod, t tokens) identity.Claim {
	return claim(func(c *identity.Claim) {
		c.Pod, c.PodUID, c.ContextUID, c.Tokens = p.Name, string(p.UID), string(p.UID), t
	})
}

func (w realWorld) expect(t *testing.T, what string, c identity.Claim, problem string) {
	t.Helper()
	got, err := w.verifier.Verify(t.Context(), c)
	switch {
	case err != nil:
		t.Errorf("%s: Verify() = %v, want nil", what, err)
	case problem == "" && (!got.TokenVerified || len(got.Unverified) > 0):
		t.Errorf("%s: not verified: %v", what, got.Unverified)
	case problem != "" && (got.TokenVerified || len(got.Unverified) != 1 || got.Unverified[0].Problem != problem):
		t.Errorf("%s: verified %t, %v, want %q", what, got.TokenVerified, got.Unverified, problem)
	}
}

func (w realWorld) refuse(t *testing.T, what string, c identity.Claim, field string) {
	t.Helper()
	_, err := w.verifier.Verify(t.Context(), c)
	if e, ok := errors.AsType[*identity.UnconfirmedError](err); !ok || e.Field != field {
		t.Errorf("%s: Verify() = %v, want *UnconfirmedError of field %q", what, err, field)
	}
}

// TestRealTokens: what a real kube-apiserver signs, publishes and serves.
func TestRealTokens(t *testing.T) {
	w := newRealWorld(t)
	api0, api1 := w.create(t, "api-0"), w.create(t, "api-1")
	// What kubelet asks for where tokenRequests has the audience "".
	own := w.token(t, authv1.TokenRequestSpec{BoundObjectRef: &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: api0.Name, UID: api0.UID}})
	vault, aws := w.BoundToken(t, api0, "vault"), w.BoundToken(t, api0, "sts.amazonaws.com")

	w.expect(t, "three audiences", of(api0, tokens{"vault": vault, "sts.amazonaws.com": aws, "": own}), "")
	w.expect(t, "no audience of the token's", of(api0, tokens{"gcp": vault}), wrongAudience)
	w.expect(t, "another one in place of the API server's", of(api0, tokens{"": vault}), wrongAudience)
	w.expect(t, "bound to no pod", of(api0, tokens{"vault": w.token(t, authv1.TokenRequestSpec{Audiences: []string{"vault"}})}), notBound)
	w.refuse(t, "another pod's token", of(api1, tokens{"vault": vault}), "pod")

	w.DeletePod(t, api0)
	if _, err := w.verifier.Verify(t.Context(), of(api0, tokens{"vault": vault})); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("Verify(deleted pod) = %v, want kube.ErrNotFound", err)
	}
	again := w.create(t, "api-0")
	w.refuse(t, "claim of the deleted pod", of(api0, tokens{"vault": vault}), "pod UID")
	w.refuse(t, "token of the deleted pod", of(again, tokens{"vault": vault}), "pod UID")

	old := tokens{"vault": w.BoundToken(t, again, "vault")}
	w.expect(t, "new pod", of(again, old), "")
	if err := w.Client.CoreV1().ServiceAccounts("payments").Delete(t.Context(), "api", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.CreateServiceAccount(t, "payments", "api")
	w.refuse(t, "token of the deleted service account", of(again, old), "service account UID")
	w.expect(t, "token of the new one", of(again, tokens{"vault": w.BoundToken(t, again, "vault")}), "")
}

// TestRealKeyRotation: an API server that comes back with another key, RSA this
// time, after one that was away.
func TestRealKeyRotation(t *testing.T) {
	w := newRealWorld(t)
	p := w.create(t, "api-0")
	first := tokens{"vault": w.BoundToken(t, p, "vault")}
	w.expect(t, "first key", of(p, first), "")

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"rsa.key": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}, "rsa.pub": {Type: "PUBLIC KEY", Bytes: public},
	} {
		if err := os.WriteFile(w.Path(name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.StopAPIServer()
	if _, err := w.verifier.Verify(t.Context(), of(p, first)); err == nil || errors.Is(err, kube.ErrNotFound) {
		t.Errorf("Verify() without an API server = %v, want an error that is not kube.ErrNotFound", err)
	}
	w.Restart(t, "--service-account-key-file="+w.Path("sa.pub"), "--service-account-key-file="+w.Path("rsa.pub"), "--service-account-signing-key-file="+w.Path("rsa.key"))
	second := tokens{"vault": w.BoundToken(t, p, "vault")}
	time.Sleep(5 * time.Second) // the keys that were just read are the last word for so long
	w.expect(t, "second key, RS256", of(p, second), "")
	w.expect(t, "first key beside it", of(p, first), "")
}
