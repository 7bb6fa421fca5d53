//go:build integration

package cluster_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/doctor/cluster"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

const files = "../../deploy/chart/files"

// look gathers and judges as an account, and returns the results of each check.
func look(t *testing.T, config *rest.Config, host string) map[string][]doctor.Result {
	t.Helper()
	found, err := cluster.Gather(t.Context(), cluster.Config{REST: config, Driver: driver, Namespace: "kube-system", Account: "secrets-store-csi-driver", Host: host})
	if err != nil {
		t.Fatal(err)
	}
	results := map[string][]doctor.Result{}
	for _, r := range doctor.Run(&doctor.Facts{Now: time.Now(), Driver: driver, Cluster: found}).Results {
		results[r.Check] = append(results[r.Check], r)
	}
	return results
}

func want(t *testing.T, results map[string][]doctor.Result, check string, status doctor.Status, text string) {
	t.Helper()
	for _, r := range results[check] {
		if r.Status == status && strings.Contains(r.Finding, text) {
			return
		}
	}
	t.Errorf("%s = %+v, want %s with %q", check, results[check], status, text)
}

// A real API server: the files of the chart are as they should be, and what is
// taken away or added is found.
func TestRealCluster(t *testing.T) {
	c := clustertest.Start(t, clustertest.Options{})
	admin := c.Admin()
	empty := look(t, admin, "test")
	want(t, empty, "csidriver.fields", doctor.Fail, "not in the cluster")
	want(t, empty, "crds", doctor.Fail, "secretproviderclasses.secrets-store.csi.x-k8s.io is not installed")
	want(t, empty, "rbac.needed", doctor.Fail, "get pods")
	want(t, empty, "serviceaccount", doctor.Fail, "kube-system/secrets-store-csi-driver")
	want(t, empty, "classes.secret-objects", doctor.NA, "does not serve")
	want(t, empty, "daemonset.ready", doctor.Fail, "portcullis-node")

	c.ApplyFiles(t, files+"/../crds/*.yaml")
	c.ApplyFiles(t, files+"/rbac/*.yaml")
	c.ApplyFiles(t, files+"/csidriver.yaml")
	c.CreateNamespace(t, "payments", nil)
	c.CreateServiceAccount(t, "payments", "api")
	c.Apply(t, `{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {name: db, namespace: payments}, spec: {provider: local, parameters: {objects: x}, secretObjects: [{secretName: s, type: Opaque, data: [{objectName: x, key: k}]}]}}
---
{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClassPodStatus, metadata: {name: gone-payments-db, namespace: payments}, status: {podName: gone}}
`)
	installed := look(t, admin, "test")
	want(t, installed, "csidriver.fields", doctor.OK, "all fields")
	want(t, installed, "csidriver.audiences", doctor.OK, "portcullis")
	want(t, installed, "crds", doctor.OK, "secretproviderclasspodstatuses")
	want(t, installed, "rbac.needed", doctor.OK, "it has all")
	want(t, installed, "rbac.excess", doctor.OK, "none of")
	want(t, installed, "serviceaccount", doctor.OK, "is there")
	want(t, installed, "classes.secret-objects", doctor.Warn, "payments/db")
	want(t, installed, "statuses.orphaned", doctor.Warn, "payments/gone-payments-db")
	want(t, installed, "admission.policies", doctor.NA, "not installed")
	want(t, installed, "webhook.certificate", doctor.NA, "no ValidatingWebhookConfiguration")
	want(t, installed, "policy.drift", doctor.NA, "no plugin or webhook runs")
	want(t, installed, "policy.floor", doctor.NA, "no floor of policy")
	c.Apply(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: portcullis-policy-floor, namespace: kube-system}, data: {serial: "7"}}`+"\n")
	want(t, look(t, admin, "test"), "policy.floor", doctor.Warn, "no plugin is told")

	terminating(t, c)
	c.Apply(t, `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: too-much}, rules: [{apiGroups: [""], resources: [secrets], verbs: [get]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: too-much}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: too-much}, subjects: [{kind: Group, name: "system:serviceaccounts:kube-system", apiGroup: rbac.authorization.k8s.io}]}
`)
	drained := look(t, admin, "test")
	want(t, drained, "rbac.excess", doctor.Warn, "get secrets")
	want(t, drained, "pods.terminating", doctor.Fail, "payments/api is Terminating on node node1")

	// As the plugin's own account, which may read little and knows its own rights.
	own := look(t, c.As(t, "kube-system", "secrets-store-csi-driver"), doctor.InCluster)
	want(t, own, "rbac.needed", doctor.OK, "it has all")
	want(t, own, "kubelet.version", doctor.NA, "of this pod may not")
	want(t, own, "csidriver.fields", doctor.OK, "all fields")
	want(t, own, "policy.floor", doctor.NA, "of this pod may not")
	somebody := look(t, c.As(t, "payments", "api"), "test")
	want(t, somebody, "rbac.needed", doctor.Warn, "could not be looked at")
}

// terminating makes a pod that waits for an unmount on a node without a plugin.
func terminating(t *testing.T, c *clustertest.Cluster) {
	t.Helper()
	p := c.CreatePod(t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "api"},
		Spec: corev1.PodSpec{
			NodeName: "node1", ServiceAccountName: "api", Containers: []corev1.Container{{Name: "main", Image: "registry.example/api:1"}},
			Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: driver, ReadOnly: new(true), VolumeAttributes: map[string]string{"secretProviderClass": "db"}}}}},
		},
	})
	if err := c.Client.CoreV1().Pods(p.Namespace).Delete(t.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}
