package workload_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube/workload"
)

// makers are manifests of everything that makes pods, of one template.
func makers() map[string]string {
	return map[string]string{
		"Deployment":            templated("apps/v1", "Deployment", "  selector: {matchLabels: {app: api}}\n", 1),
		"ReplicaSet":            templated("apps/v1", "ReplicaSet", "", 1),
		"ReplicationController": templated("v1", "ReplicationController", "", 1),
		"DaemonSet":             templated("apps/v1", "DaemonSet", "", 1),
		"StatefulSet":           templated("apps/v1", "StatefulSet", "", 1),
		"Job":                   templated("batch/v1", "Job", "", 1),
		"CronJob":               templated("batch/v1", "CronJob", "  schedule: '* * * * *'\n  jobTemplate:\n    spec:\n", 3),
		"PodTemplate":           strings.Replace(templated("v1", "PodTemplate", "", 0), "\nspec:\n", "\n", 1),
	}
}

// Whoever makes the pod, the facts that policy decides on are those of the
// template: nothing but names, owner and labels differs.
func TestEveryMakerGivesTheSamePod(t *testing.T) {
	want := one(t, podManifest("{name: api-0, labels: {app: api}}"), class).Input
	own := cmpopts.IgnoreFields(policies.Pod{}, "Owner", "Labels")
	for kind, manifest := range makers() {
		v := one(t, manifest, class)
		if v.Err != nil {
			t.Errorf("%s: Err = %v, want none", kind, v.Err)
			continue
		}
		if diff := cmp.Diff(want, v.Input, own, cmpopts.IgnoreFields(policies.Subject{}, "PodName")); diff != "" {
			t.Errorf("%s: the input differs from the pod's (-want +got):\n%s", kind, diff)
		}
		if v.Input.Pod.Labels["app"] != "api" {
			t.Errorf("%s: labels = %v, want the template's among them", kind, v.Input.Pod.Labels)
		}
	}
}

// Controllers take labels and annotations of a template. Whatever else stands
// there would be a fact that no node sees: a UID, another namespace, a name that
// a grant knows, an owner that a grant is for.
func TestMetadataOfTemplatesIsNoFact(t *testing.T) {
	const forged = "metadata: {labels: {app: api}, name: payroll-0, generateName: payroll-, namespace: payroll, uid: forged, annotations: {note: kept}, " +
		"ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: payroll, uid: x, controller: true}]}"
	for kind, manifest := range makers() {
		plain := one(t, manifest, class)
		v := one(t, strings.Replace(manifest, "metadata: {labels: {app: api}}", forged, 1), class)
		if diff := cmp.Diff(plain.Input, v.Input); v.Err != nil || diff != "" {
			t.Errorf("%s: Err = %v, and forged metadata changes the input (-plain +forged):\n%s", kind, v.Err, diff)
		}
		if got := v.Workload.Pod.Annotations["note"]; got != "kept" {
			t.Errorf("%s: annotation = %q, want the template's", kind, got)
		}
	}
}

// Jobs that number their pods put the number into name and labels.
func TestIndexedJobs(t *testing.T) {
	const indexed = "completionMode: Indexed\n"
	long := strings.Repeat("a", 63)
	for name, test := range map[string]struct{ manifest, pod, index string }{
		"a Job":           {templated("batch/v1", "Job", "  "+indexed, 1), "api-0-xxxxx", "0"},
		"one that is not": {templated("batch/v1", "Job", "  completionMode: NonIndexed\n", 1), "api-xxxxx", ""},
		"a CronJob":       {templated("batch/v1", "CronJob", "  schedule: '* * * * *'\n  jobTemplate:\n    spec:\n      "+indexed, 3), "api-00000000-0-xxxxx", "0"},
		"a long name":     {strings.Replace(templated("batch/v1", "Job", "  "+indexed, 1), "name: api,", "name: "+long+",", 1), strings.Repeat("a", 55) + "-0-xxxxx", "0"},
	} {
		v := one(t, test.manifest, class)
		got := v.Input.Pod.Labels["batch.kubernetes.io/job-completion-index"]
		if v.Err != nil || v.Input.Subject.PodName != test.pod || got != test.index {
			t.Errorf("%s: Err = %v, pod %s, index %q, want %s, %q", name, v.Err, v.Input.Subject.PodName, got, test.pod, test.index)
		}
		if ofPod := v.Workload.Pod.Annotations["batch.kubernetes.io/job-completion-index"]; ofPod != test.index {
			t.Errorf("%s: annotation = %q, want %q", name, ofPod, test.index)
		}
		if len(v.Input.Subject.PodName) > 63 {
			t.Errorf("%s: pod name of %d characters, want 63 at most", name, len(v.Input.Subject.PodName))
		}
	}
}

func TestFirstPodOfAStatefulSet(t *testing.T) {
	for spec, want := range map[string]string{
		"": "api-0", "  ordinals: {}\n": "api-0", "  ordinals: {start: 7}\n": "api-7", "  replicas: 0\n": "api-0", "  ordinals: {start: 2147483647}\n": "api-2147483647",
	} {
		if got := one(t, templated("apps/v1", "StatefulSet", spec, 1), class).Input.Subject.PodName; got != want {
			t.Errorf("%q: pod = %s, want %s", spec, got, want)
		}
	}
}

// A template without a spec makes no pod with our volumes, and no panic.
func TestEmptyTemplates(t *testing.T) {
	for _, text := range []string{
		"apiVersion: v1\nkind: ReplicationController\nmetadata: {name: a}\nspec: {}\n",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n",
		"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: a}\nspec: {jobTemplate: {}}\n",
		"apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: {template: null}\n",
		"apiVersion: v1\nkind: PodTemplate\nmetadata: {name: a}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {volumes: null}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {volumes: [{name: v}, {name: w, csi: null}]}\n",
	} {
		o := parse(t, text)
		for _, w := range o.Workloads() {
			if got := circumstances(o).Volumes(t.Context(), w); len(got) != 0 {
				t.Errorf("Volumes() of %q = %v, want none", text, got)
			}
			if w.Pod.Spec.ServiceAccountName != "default" {
				t.Errorf("service account of %q = %s, want default", text, w.Pod.Spec.ServiceAccountName)
			}
		}
	}
}

// Of two names of the account the newer counts, as at the API server.
func TestBothNamesOfTheServiceAccount(t *testing.T) {
	manifest := strings.Replace(podManifest("{name: api-0}"), "serviceAccountName: api", "serviceAccountName: api\n  serviceAccount: admin", 1)
	if got := one(t, manifest, class).Input.Subject.ServiceAccount; got != "api" {
		t.Errorf("service account = %s, want api", got)
	}
}

// Every container of a pod that could read the volume is a fact, of whatever kind.
func TestContainersOfAllKinds(t *testing.T) {
	manifest := strings.Replace(podManifest("{name: api-0}"), "  volumes:", `  initContainers:
  - {name: sidecar, image: "i/sidecar:1", restartPolicy: Always, volumeMounts: [{name: secrets, mountPath: /s}]}
  - {name: setup, image: "i/setup:1", securityContext: {privileged: true, capabilities: {add: [CAP_SYS_ADMIN, sys_ptrace]}}}
  ephemeralContainers:
  - {name: debug, image: "i/debug:1", volumeMounts: [{name: secrets, mountPath: /s}]}
  hostPID: true
  volumes:
  - {name: host, hostPath: {path: /var/lib/kubelet}}
  - name: claim
    ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {}}}}`, 1)
	v := one(t, manifest, class)
	if v.Err != nil {
		t.Fatal(v.Err)
	}
	var got []string
	for _, c := range v.Input.Pod.Containers {
		got = append(got, fmt.Sprintf("%s %s mounts=%t privileged=%t %v", c.Kind, c.Name, c.MountsVolume, c.Privileged, c.Capabilities))
	}
	want := []string{
		"init sidecar mounts=true privileged=false []", "init setup mounts=false privileged=true [SYS_ADMIN SYS_PTRACE]",
		"main main mounts=true privileged=false []", "ephemeral debug mounts=true privileged=false []",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("containers differ (-want +got):\n%s", diff)
	}
	if p := v.Input.Pod; !p.HostPID || !cmp.Equal([]string{"/var/lib/kubelet"}, p.HostPaths) {
		t.Errorf("pod = %+v, want hostPID and the host path", p)
	}
}

// Each volume of the driver is decided for itself, and the manifest stays as it is.
func TestSeveralVolumesOfAPod(t *testing.T) {
	manifest := strings.Replace(podManifest("{name: api-0}"), "  volumes:", `  volumes:
  - name: more
    csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: more}}
  - name: gone
    csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: gone}}`, 1)
	o := parse(t, manifest, class, strings.NewReplacer("name: db", "name: more", "payments/db", "payments/more").Replace(class))
	w := o.Workloads()[0]
	before := w.Pod.DeepCopy()
	var got []string
	for _, v := range circumstances(o).Volumes(t.Context(), w) {
		text := v.Name + " " + v.Class
		if v.Err == nil {
			text += " " + v.Input.Requests[0].Secret + fmt.Sprint(v.Input.Pod.Containers[0].MountsVolume)
		}
		got = append(got, text)
	}
	want := []string{"more more local://node/payments/morefalse", "gone gone", "secrets db local://node/payments/dbtrue"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Volumes() differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, w.Pod); diff != "" {
		t.Errorf("Volumes() changed the pod (-before +after):\n%s", diff)
	}
}

// The namespace of a kind that has none, and names that many kinds share.
func TestNamesAreOfTheirKind(t *testing.T) {
	o := parse(t, podManifest("{name: api}"), templated("batch/v1", "Job", "", 1), strings.Replace(account, "payments", "shop", 1), account, class)
	if got := len(o.Workloads()); got != 2 {
		t.Errorf("Workloads() = %d, want the Pod and the Job of one name", got)
	}
	if _, err := o.Namespace(t.Context(), "shop"); err == nil {
		t.Error("Namespace(shop) = nil, want that there is none")
	}
	if a, err := o.ServiceAccount(t.Context(), "shop", "api"); err != nil || a.Namespace != "shop" {
		t.Errorf("ServiceAccount(shop, api) = %v, %v, want it", a, err)
	}
	if _, err := o.Class(t.Context(), "shop", "db"); err == nil {
		t.Error("Class(shop, db) = nil, want that the class of another namespace is none")
	}
	list := o.Workloads()
	list[0] = nil
	if o.Workloads()[0] == nil {
		t.Error("Workloads() hands out its own list, want a copy")
	}
}

// A class that is there twice in two files is refused by the name of the first.
func TestTheSameObjectInTwoFiles(t *testing.T) {
	_, err := workload.Parse([]workload.File{{Name: "a.yaml", Text: []byte(class)}, {Name: "b.yaml", Text: []byte(class)}}, "payments")
	if err == nil || !strings.Contains(err.Error(), `read manifest "b.yaml", document 1: SecretProviderClass "db" is also in "a.yaml"`) {
		t.Errorf("Parse() = %v, want both files named", err)
	}
}
