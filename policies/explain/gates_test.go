package explain_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/explain"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/workload"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const driverName = "secrets-store.csi.k8s.io"

// deployment has %s in its pod's spec, and %s in its class's parameters.
const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: payments}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      serviceAccountName: api
      %s
      containers: [{name: api, image: "registry.example/payments/api:1", volumeMounts: [{name: secrets, mountPath: /s}]}]
      volumes: [{name: secrets, csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: db}}}]
---
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: db, namespace: payments}
spec: {provider: local, parameters: {objects: "- objectName: %s\n"}}
---
apiVersion: v1
kind: Namespace
metadata: {name: payments, labels: {team: payments}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: api, namespace: payments}
`

// atTheNode are the facts of a pod that the cluster has made of the template.
func atTheNode(t *testing.T, o *workload.Objects, derived *corev1.Pod) policies.Input {
	t.Helper()
	pod := derived.DeepCopy()
	pod.Name, pod.UID = "api-5d9c7b9c4f-x2b7q", "11111111-1111-4111-8111-111111111111"
	pod.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "api-5d9c7b9c4f", Controller: new(true)}}
	pod.Labels["pod-template-hash"] = "5d9c7b9c4f"
	f := kube.Facts{
		Phase: policies.PhaseMount, Now: now(), Cluster: "ci", Node: "node-1", DriverName: driverName, Pod: pod, VolumeName: "secrets",
		Tokens: []policies.Token{{Audience: "vault", Verified: true}}, TokenVerified: new(true),
	}
	var class, namespace, account error
	f.Class, class = o.Class(t.Context(), "payments", "db")
	f.Namespace, namespace = o.Namespace(t.Context(), "payments")
	f.ServiceAccount, account = o.ServiceAccount(t.Context(), "payments", "api")
	if class != nil || namespace != nil || account != nil {
		t.Fatal(class, namespace, account)
	}
	if sc := pod.Spec.SecurityContext; sc != nil {
		f.VolumeMountGroup = sc.FSGroup
	}
	in, _, err := kube.BuildInput(f)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// What explain says of a manifest is what the node decides of the pod that the
// cluster makes of it: effect, rules, grants and obligations.
func TestP2TheCommandLineDecidesAsTheNode(t *testing.T) {
	narrowed := grant("id", "G-2", "secrets", `["local://node/payments/narrowed"]`, "pods", `{namePatterns: ["api-*"], ownerKinds: [ReplicaSet]}`)
	e := policiestest.Engine(t, policiestest.Grants+narrowed, policiestest.WithCheck("host", hostCheck))
	effects := map[explain.Effect]int{}
	for _, spec := range []string{"securityContext: {fsGroup: 2000}", "hostPID: true", "hostUsers: false"} {
		for _, secret := range []string{"payments/db", "payments/narrowed", "shop/db", "../x", ""} {
			text := fmt.Sprintf(deployment, spec, secret)
			o, err := workload.Parse([]workload.File{{Name: "test", Text: []byte(text)}}, "payments")
			if err != nil {
				t.Fatal(err)
			}
			c := workload.Circumstances{Now: now(), Cluster: "ci", DriverName: driverName, Sources: []workload.Source{o}}
			v := c.Volumes(t.Context(), o.Workloads()[0])[0]
			if v.Err != nil || len(v.Assumed) > 0 {
				t.Fatalf("Volumes() = %v, assumed %q, want complete facts", v.Err, v.Assumed)
			}
			early, late := e.Decide(t.Context(), v.Input), e.Decide(t.Context(), atTheNode(t, o, v.Workload.Pod))
			type outcome struct {
				Effect      explain.Effect
				Deny, Warn  []policies.Finding
				Grants      []string
				Obligations policies.Obligations
			}
			want := outcome{explain.EffectOf(late), late.Deny, late.Warn, late.Grants, late.Obligations}
			got := outcome{explain.EffectOf(early), early.Deny, early.Warn, early.Grants, early.Obligations}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %q: the command line differs (-node +ci):\n%s", spec, secret, diff)
			}
			effects[got.Effect]++
		}
	}
	if effects[explain.Allow] == 0 || effects[explain.Deny] == 0 {
		t.Errorf("effects = %v, want allowed and denied ones: the test is broken", effects)
	}
}

const hostCheck = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.host

deny contains finding if {
	input.pod.hostPID
	finding := {"id": "PR-300", "severity": "high", "message": "hostPID"}
}
`

// The starter policy, by the example of its own grant.
func TestTheStarterPolicyExplainsItself(t *testing.T) {
	b, err := bundle.LoadDirectory("../rego/starter")
	if err != nil {
		t.Fatal(err)
	}
	e, err := policies.Compile(t.Context(), b, policies.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x, err := explain.New(e, b, now())
	if err != nil {
		t.Fatal(err)
	}
	a := x.Volume(t.Context(), volume(func(in *policies.Input) {
		in.Pod.HostPID = true
		in.Requests[0].Secret = "local://node/shop/cart"
	}))
	var text strings.Builder
	for _, f := range a.Deny {
		fmt.Fprintln(&text, f.ID, f.Remediation)
	}
	if a.Effect != explain.Deny || !strings.Contains(text.String(), "hostPID") || !strings.Contains(text.String(), "PR-001") {
		t.Errorf("Volume() = %s:\n%swant a denial for want of a grant, and for hostPID with a remedy", a.Effect, text.String())
	}
}
