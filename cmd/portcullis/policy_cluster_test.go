//go:build integration

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	portcullis "github.com/portcullis-csi/portcullis/cmd/portcullis"
	"github.com/portcullis-csi/portcullis/policies/diff"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

// The size of a cluster that people have: teams with a few services each.
const (
	teams       = 50
	services    = 8 // of each team, with an account and a class of its own
	replicas    = 5
	otherPods   = 300 // without a volume of the driver
	livePods    = teams * services * replicas
	liveVolumes = livePods
)

const classDefinition = `apiVersion: apiextensions.k8s.io/v1
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

// populate makes the cluster.
func populate(t *testing.T, c *clustertest.Cluster) {
	t.Helper()
	c.Apply(t, classDefinition)
	config := rest.CopyConfig(c.Admin())
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	create := func(p *corev1.Pod) {
		if _, err := client.CoreV1().Pods(p.Namespace).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, 8)
	for team := range teams {
		namespace := fmt.Sprintf("team-%02d", team)
		c.CreateNamespace(t, namespace, map[string]string{"team": namespace})
		for service := range services {
			name := fmt.Sprintf("svc-%d", service)
			c.CreateServiceAccount(t, namespace, name)
			c.Apply(t, fmt.Sprintf(`apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: %s, namespace: %s}
spec: {provider: local, parameters: {objects: "- objectName: %s/%s\n"}}
`, name, namespace, namespace, name))
			for replica := range replicas {
				slots <- struct{}{}
				running.Go(func() { create(replicaOf(namespace, name, replica)); <-slots })
			}
		}
	}
	for i := range otherPods {
		p := replicaOf("team-00", "svc-0", i)
		p.Name, p.Spec.Volumes, p.Spec.Containers[0].VolumeMounts = fmt.Sprint("plain-", i), nil, nil
		create(p)
	}
	running.Wait()
}

// replicaOf is a pod as the controllers of a Deployment make it.
func replicaOf(namespace, service string, n int) *corev1.Pod {
	hash := "5d8f9c7b6"
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-%s-%05d", service, hash, n), Namespace: namespace, Labels: map[string]string{"app": service, "pod-template-hash": hash},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: service + "-" + hash, UID: "0c7a6f0e-8a51-4a76-8b4f-51d6c1b7f001", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: service,
			Containers:         []corev1.Container{{Name: "main", Image: "registry.example/" + service + ":1", VolumeMounts: []corev1.VolumeMount{{Name: "secrets", MountPath: "/s", ReadOnly: true}}}},
			Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
				Driver: "secrets-store.csi.k8s.io", ReadOnly: new(true), VolumeAttributes: map[string]string{"secretProviderClass": service},
			}}}},
		},
	}
}

// grantsOf gives every team what is its own.
func grantsOf(without map[int]bool) string {
	var b strings.Builder
	for team := range teams {
		if !without[team] {
			fmt.Fprintf(&b, "- {id: G-%d, owner: owner-%02d, expiry: 2126-12-31, namespaces: [team-%02d], serviceAccounts: [\"*\"], provider: local, secrets: [\"local://node/team-%02d/*\"]}\n", team, team, team, team)
		}
	}
	return b.String()
}

// A security engineer asks what a bundle that lacks two teams' grants would do to a
// cluster of two thousand pods: the two teams, by service, and nobody else.
func TestPolicyDiffOverALiveCluster(t *testing.T) {
	c := clustertest.Start(t, clustertest.Options{})
	populate(t, c)
	before, after := bundleDir(t, grantsOf(nil)), bundleDir(t, grantsOf(map[int]bool{7: true, 31: true}))
	cmd := portcullis.Command()
	var out, progress bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&progress)
	cmd.SetArgs([]string{"policy", "diff", "--old", before, "--new", after, "--cluster", "--all-namespaces", "--kubeconfig", c.Kubeconfig(t, c.Admin()), "--output", "json"})
	begin := time.Now()
	err := cmd.ExecuteContext(t.Context())
	t.Logf("%d pods took %v", livePods, time.Since(begin))
	if !portcullis.AnswerIsNo(err) {
		t.Fatalf("policy diff = %v, want that something flips; %s", err, progress.String())
	}
	var r struct {
		diff.Report
		NotComparedN int64 `json:"notComparedCount"`
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	flips := int64(2 * services * replicas)
	if r.Cases != liveVolumes || r.Flips != flips || r.NotComparedN != 0 || r.Matrix["allow->deny"] != flips || r.Matrix["allow->allow"] != liveVolumes-flips {
		t.Errorf("%d cases, %d flips, %d not compared, %v; want %d, %d, 0", r.Cases, r.Flips, r.NotComparedN, r.Matrix, liveVolumes, flips)
	}
	if len(r.Flipped) != 2*services {
		t.Errorf("%d groups, want one for each Deployment of two teams: %d", len(r.Flipped), 2*services)
	}
	for _, f := range r.Flipped {
		team := strings.TrimPrefix(f.Workload.Namespace, "team-")
		if team != "07" && team != "31" || f.Workload.Kind != "Deployment" || f.Count != replicas || len(f.Owners) != 1 || f.Owners[0] != "owner-"+team || f.Example == "" {
			t.Errorf("a group is %+v, want a Deployment of team 07 or 31 with %d pods and its owner", f, replicas)
		}
	}
}
