//go:build integration

package cluster_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/cluster"
	"github.com/portcullis-csi/portcullis/policies/kube/workload"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

const (
	driverName = "secrets-store.csi.k8s.io"

	definition = `apiVersion: apiextensions.k8s.io/v1
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
	class = `apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: db, namespace: payments}
spec: {provider: local, parameters: {objects: "- objectName: payments/db\n"}}
`
)

// rules are all the rights that explaining running pods needs.
func rules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
		{APIGroups: []string{""}, Resources: []string{"namespaces", "serviceaccounts"}, Verbs: []string{"get"}},
		{APIGroups: []string{"secrets-store.csi.x-k8s.io"}, Resources: []string{"secretproviderclasses"}, Verbs: []string{"get"}},
	}
}

func grantRights(t *testing.T, c *clustertest.Cluster, account string) {
	t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "explain"}, Rules: rules()}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "explain"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "explain"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "payments", Name: account}},
	}
	_, err := c.Client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{})
	_, bound := c.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{})
	if err := errors.Join(err, bound); err != nil {
		t.Fatal(err)
	}
}

func pod(class string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "api-" + class, Namespace: "payments"},
		Spec: corev1.PodSpec{
			ServiceAccountName: "api",
			Containers:         []corev1.Container{{Name: "main", Image: "registry.example/api:1", VolumeMounts: []corev1.VolumeMount{{Name: "secrets", MountPath: "/s"}}}},
			Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
				Driver: driverName, ReadOnly: new(true), VolumeAttributes: map[string]string{"secretProviderClass": class},
			}}}},
		},
	}
}

// With the rights of a person who may not read Secrets, against a real API server.
func TestRealCluster(t *testing.T) {
	c := clustertest.Start(t, clustertest.Options{})
	c.Apply(t, definition)
	c.CreateNamespace(t, "payments", map[string]string{"team": "payments"})
	c.CreateServiceAccount(t, "payments", "api")
	c.CreateServiceAccount(t, "payments", "dev")
	c.Apply(t, class)
	running := c.CreatePod(t, pod("db"))
	c.CreatePod(t, pod("none"))

	forbidden, err := cluster.New(c.As(t, "payments", "dev"))
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"list pods": forbidden.Pods(t.Context(), "payments", func(*corev1.Pod) error { return nil }),
		"get secretproviderclasses.secrets-store.csi.x-k8s.io": second(forbidden.Class(t.Context(), "payments", "db")),
		"get serviceaccounts": second(forbidden.ServiceAccount(t.Context(), "payments", "api")),
	} {
		if err == nil || !strings.Contains(err.Error(), "right to "+what+" in namespace payments") {
			t.Errorf("without rights: error = %v, want that of %s", err, what)
		}
	}

	grantRights(t, c, "dev")
	r, err := cluster.New(c.As(t, "payments", "dev"))
	if err != nil {
		t.Fatal(err)
	}
	circumstances := workload.Circumstances{Now: time.Now(), Cluster: "ci", DriverName: driverName, Sources: []workload.Source{r}}
	found := map[string]workload.Volume{}
	err = r.Pods(t.Context(), "", func(p *corev1.Pod) error {
		for _, v := range circumstances.Volumes(t.Context(), workload.FromPod(p.DeepCopy())) {
			found[v.Class] = v
		}
		return nil
	})
	if err != nil || len(found) != 2 {
		t.Fatalf("Pods() = %d volumes, %v, want 2", len(found), err)
	}
	in := found["db"].Input
	if found["db"].Err != nil || in.Subject.PodUID != string(running.UID) || in.Subject.NamespaceLabels["team"] != "payments" || in.Phase != policies.PhaseCI || len(found["db"].Assumed) > 0 {
		t.Errorf("volume of class db = %v, %+v, assumed %q, want the facts of the cluster", found["db"].Err, in.Subject, found["db"].Assumed)
	}
	if !errors.Is(found["none"].Err, kube.ErrNotFound) {
		t.Errorf("volume of class none: Err = %v, want kube.ErrNotFound", found["none"].Err)
	}
}

func second[T any](_ T, err error) error { return err }
