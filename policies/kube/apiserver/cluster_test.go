//go:build integration

package apiserver_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

// definition of the class, as loose as can be.
const definition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: secretproviderclasses.secrets-store.csi.x-k8s.io}
spec:
  group: secrets-store.csi.x-k8s.io
  scope: Namespaced
  names: {kind: SecretProviderClass, plural: secretproviderclasses, singular: secretproviderclass, listKind: SecretProviderClassList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

const classManifest = `apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: db, namespace: payments}
spec: {provider: local, parameters: {objects: "- objectName: a\n"}}
`

// rules are the rights that the plugin needs for its facts, and no more. Keys and
// issuer may be read by every service account (ClusterRoleBinding
// system:service-account-issuer-discovery, which every cluster has).
func rules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods", "namespaces"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, Verbs: []string{"get"}},
		{APIGroups: []string{"secrets-store.csi.x-k8s.io"}, Resources: []string{"secretproviderclasses"}, Verbs: []string{"get"}},
		{APIGroups: []string{"storage.k8s.io"}, Resources: []string{"csidrivers"}, ResourceNames: []string{driverName}, Verbs: []string{"get", "list", "watch"}},
	}
}

// grantRights gives the rights to a service account.
func grantRights(t *testing.T, c *clustertest.Cluster, namespace, account string) {
	t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "facts"}, Rules: rules()}
	if _, err := c.Client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "facts"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "facts"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: account}},
	}
	if _, err := c.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func realPod(node string) *corev1.Pod {
	p := pod()
	p.ObjectMeta = metav1.ObjectMeta{Name: "api-0", Namespace: "payments", Labels: map[string]string{"app": "api"}}
	p.Spec.NodeName, p.Status = node, corev1.PodStatus{}
	return p
}

// world is a cluster with our driver and one namespace.
func world(t *testing.T) *clustertest.Cluster {
	t.Helper()
	c := clustertest.Start(t, clustertest.Options{})
	c.CreateNamespace(t, "payments", map[string]string{"team": "payments"})
	c.CreateNamespace(t, "portcullis", nil)
	c.CreateServiceAccount(t, "payments", "api")
	c.CreateServiceAccount(t, "portcullis", "node")
	driver := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: driverName}, Spec: storagev1.CSIDriverSpec{PodInfoOnMount: new(true)}}
	if _, err := c.Client.StorageV1().CSIDrivers().Create(t.Context(), driver, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return c
}

func readerOf(t *testing.T, config *rest.Config) *fixture {
	t.Helper()
	f := &fixture{clock: newClock(), log: &output{}}
	var err error
	f.Reader, err = apiserver.New(apiserver.Config{
		REST: config, Node: "node-1", DriverName: driverName, Clock: f.clock.Now, Logger: slog.New(slog.NewJSONHandler(f.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Everything that is asked for works against a real API server with no more
// rights than are listed, live and from the caches.
func TestRealAPIServer(t *testing.T) {
	c := world(t)
	made := c.CreatePod(t, realPod("node-1"))
	elsewhere := realPod("node-2")
	elsewhere.Name = "api-1"
	elsewhere = c.CreatePod(t, elsewhere)
	f := readerOf(t, c.As(t, "portcullis", "node"))

	// No rights: everything is forbidden, nothing is missing.
	forbidden := asks()
	delete(forbidden, "token signing keys")
	delete(forbidden, "token issuer")
	for object, ask := range forbidden {
		checkUnavailable(t, ask(t.Context(), f), object, apiserver.Forbidden)
	}
	checkKeys(t, f)
	grantRights(t, c, "portcullis", "node")
	eventually(t, "the rights are in force", func() bool { return reads()["CSIDriver"](t.Context(), f) == nil })

	// A kind that is not served is not an absence of an object.
	_, err := f.Class(t.Context(), "payments", "db")
	checkUnavailable(t, err, "SecretProviderClass", apiserver.NotServed)
	c.Apply(t, definition)
	eventually(t, "the class is served and missing", func() bool {
		_, err := f.Class(t.Context(), "payments", "db")
		return errors.Is(err, kube.ErrNotFound)
	})
	c.Apply(t, classManifest)
	class, err := f.Class(t.Context(), "payments", "db")
	if err != nil || class.Spec.Provider != "local" || class.Generation != 1 || class.ResourceVersion == "" || class.ManagedFields != nil {
		t.Errorf("Class() of one just created = %+v, %v, want it", class, err)
	}

	for _, state := range []string{"live", "cached"} {
		pod, err := f.Pod(t.Context(), "payments", "api-0", string(made.UID))
		if err != nil || pod.UID != made.UID || pod.ResourceVersion != made.ResourceVersion || pod.Spec.NodeName != "node-1" || pod.Spec.Containers[0].Env != nil {
			t.Errorf("%s: Pod() = %+v, %v, want the pod", state, pod, err)
		}
		namespace, err := f.Namespace(t.Context(), "payments")
		if err != nil || namespace.Labels["team"] != "payments" || namespace.ResourceVersion == "" || namespace.ManagedFields != nil {
			t.Errorf("%s: Namespace() = %+v, %v, want the namespace", state, namespace, err)
		}
		account, err := f.ServiceAccount(t.Context(), "payments", "api")
		if err != nil || account.UID == "" {
			t.Errorf("%s: ServiceAccount() = %+v, %v, want the account", state, account, err)
		}
		driver, err := f.CSIDriver(t.Context())
		if err != nil || !*driver.Spec.PodInfoOnMount || driver.ResourceVersion == "" {
			t.Errorf("%s: CSIDriver() = %+v, %v, want the driver", state, driver, err)
		}
		for uid, want := range map[string]bool{string(made.UID): true, string(elsewhere.UID): false, otherUID: false} {
			if got, err := f.PodExists(t.Context(), uid); err != nil || got != want {
				t.Errorf("%s: PodExists(%q) = %t, %v, want %t", state, uid, got, err, want)
			}
		}
		for what, err := range map[string]error{
			"pod": second(f.Pod(t.Context(), "payments", "x", podUID)), "pod of no namespace": second(f.Pod(t.Context(), "x", "x", podUID)),
			"namespace": second(f.Namespace(t.Context(), "x")), "account": second(f.ServiceAccount(t.Context(), "payments", "x")),
			"class": second(f.Class(t.Context(), "payments", "x")),
		} {
			if !errors.Is(err, kube.ErrNotFound) {
				t.Errorf("%s: %s = %v, want kube.ErrNotFound", state, what, err)
			}
		}
		if state == "live" {
			f.run(t)
		}
	}
	checkKeys(t, f)
	if log := f.log.String(); strings.Contains(log, "gives no answer") {
		t.Errorf("log = %s, want no complaint", log)
	}
}

func checkKeys(t *testing.T, f *fixture) {
	t.Helper()
	keys, err := f.JWKS(t.Context())
	var set struct {
		Keys []struct{ Kty, Kid string }
	}
	if err != nil || json.Unmarshal(keys, &set) != nil || len(set.Keys) == 0 || set.Keys[0].Kid == "" {
		t.Errorf("JWKS() = %s, %v, want keys", keys, err)
	}
	if issuer, err := f.Issuer(t.Context()); err != nil || !strings.HasPrefix(issuer, "https://") {
		t.Errorf("Issuer() = %q, %v, want that of the cluster", issuer, err)
	}
}

// A pod that takes another's name, a change, and an API server that is down and
// comes back.
func TestRealChangesAndOutage(t *testing.T) {
	c := world(t)
	c.Apply(t, definition)
	c.Apply(t, classManifest)
	first := c.CreatePod(t, realPod("node-1"))
	f := readerOf(t, c.Admin())
	f.run(t)
	if got, err := f.Pod(t.Context(), "payments", "api-0", string(first.UID)); err != nil || got.UID != first.UID {
		t.Fatalf("Pod() = %v, %v, want the first", got, err)
	}
	c.DeletePod(t, first)
	next := c.CreatePod(t, realPod("node-1"))
	if got, err := f.Pod(t.Context(), "payments", "api-0", string(next.UID)); err != nil || got.UID != next.UID {
		t.Errorf("Pod() right after its creation = %v, %v, want the second", got, err)
	}
	if exists, err := f.PodExists(t.Context(), string(first.UID)); err != nil || exists {
		t.Errorf("PodExists(first) = %t, %v, want false", exists, err)
	}
	f.clock.pass(time.Minute) // so that no class is shared from before
	if _, err := f.Class(t.Context(), "payments", "db"); err != nil {
		t.Fatal(err)
	}

	c.StopAPIServer()
	f.clock.pass(2 * time.Second)
	for what, err := range map[string]error{
		"SecretProviderClass": second(f.Class(t.Context(), "payments", "db")), "service account": second(f.ServiceAccount(t.Context(), "payments", "api")),
		"pods of this node": second(f.PodExists(t.Context(), string(next.UID))), "token signing keys": second(f.JWKS(t.Context())),
	} {
		checkUnavailable(t, err, what, apiserver.Unreachable)
	}
	if got, err := f.Pod(t.Context(), "payments", "api-0", string(next.UID)); err != nil || got.UID != next.UID {
		t.Errorf("Pod() from the cache of a server that is down = %v, %v, want it", got, err)
	}
	if err := f.Synced(); err != nil {
		t.Errorf("Synced() while the server is down = %v, want nil", err)
	}

	c.Restart(t)
	if _, err := f.Class(t.Context(), "payments", "db"); err != nil {
		t.Errorf("Class() of a server that is back = %v, want no error", err)
	}
	namespaces := c.Client.CoreV1().Namespaces()
	ns, err := namespaces.Get(t.Context(), "payments", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ns.Labels["team"] = "shop"
	if _, err := namespaces.Update(t.Context(), ns, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the watch goes on", func() bool {
		got, err := f.Namespace(t.Context(), "payments")
		return err == nil && got.Labels["team"] == "shop"
	})
}

// Hundreds of pods are listed in pages.
func TestRealPages(t *testing.T) {
	c := world(t)
	var last *corev1.Pod
	for i := range 230 {
		p := realPod("node-1")
		p.Name = fmt.Sprintf("api-%x", sha256.Sum256([]byte{byte(i)}))[:20]
		last = c.CreatePod(t, p)
	}
	f := readerOf(t, c.Admin())
	if exists, err := f.PodExists(t.Context(), string(last.UID)); err != nil || !exists {
		t.Errorf("PodExists() of one of 230 = %t, %v, want true", exists, err)
	}
	if exists, err := f.PodExists(t.Context(), otherUID); err != nil || exists {
		t.Errorf("PodExists() of another = %t, %v, want false", exists, err)
	}
}

// BenchmarkRealReads measures what a publish waits for.
func BenchmarkRealReads(b *testing.B) {
	c := clustertest.Start(b, clustertest.Options{})
	c.CreateNamespace(b, "payments", nil)
	c.CreateServiceAccount(b, "payments", "api")
	r, err := apiserver.New(apiserver.Config{REST: c.Admin(), Node: "node-1", DriverName: driverName, Logger: slog.New(slog.DiscardHandler), Clock: passing()})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := r.ServiceAccount(context.WithoutCancel(b.Context()), "payments", "api"); err != nil {
			b.Fatal(err)
		}
	}
}

// passing is a clock by which every answer is too old to be shared.
func passing() func() time.Time {
	c := newClock()
	return func() time.Time { c.pass(time.Hour); return c.Now() }
}
