package workload_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/workload"
)

const driverName = "secrets-store.csi.k8s.io"

// podSpec is one of a pod or template that mounts class db, indented by two.
const podSpec = `
  serviceAccountName: api
  securityContext: {fsGroup: 2000}
  containers: [{name: main, image: "registry.example/api:1", volumeMounts: [{name: secrets, mountPath: /s}]}]
  volumes:
  - name: secrets
    csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: db}}
  - name: other
    csi: {driver: other.example, readOnly: true, volumeAttributes: {secretProviderClass: db}}
  - {name: scratch, emptyDir: {}}
`

const class = `apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: db}
spec: {provider: local, parameters: {objects: "- objectName: payments/db\n"}}
`

func podManifest(metadata string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: " + metadata + "\nspec:" + podSpec
}

// templated is a manifest of a kind whose spec has a template, deeper by indent.
func templated(version, kind, spec string, indent int) string {
	pad := strings.Repeat("  ", indent)
	text := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: api, namespace: payments}\nspec:\n%s", version, kind, spec)
	body := "template:\n  metadata: {labels: {app: api}}\n  spec:" + strings.ReplaceAll(podSpec, "\n", "\n  ")
	for line := range strings.Lines(body) {
		text += pad + line
	}
	return text
}

func parse(t *testing.T, documents ...string) *workload.Objects {
	t.Helper()
	o, err := workload.Parse([]workload.File{{Name: "test.yaml", Text: []byte(strings.Join(documents, "\n---\n"))}}, "payments")
	if err != nil {
		t.Fatalf("Parse() = %v, want no error", err)
	}
	return o
}

func circumstances(sources ...workload.Source) workload.Circumstances {
	return workload.Circumstances{Now: time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC), Cluster: "ci", DriverName: driverName, Sources: sources}
}

// one returns the one volume in documents.
func one(t *testing.T, documents ...string) workload.Volume {
	t.Helper()
	o := parse(t, documents...)
	var all []workload.Volume
	for _, w := range o.Workloads() {
		all = append(all, circumstances(o).Volumes(t.Context(), w)...)
	}
	if len(all) != 1 {
		t.Fatalf("Volumes() = %d, want 1", len(all))
	}
	return all[0]
}

// The pod of each kind has the name, the owner and the labels that its controller
// would give it, as far as they are known.
func TestPodsOfTemplates(t *testing.T) {
	type pod struct {
		Name   string
		Owner  *policies.Owner
		Labels map[string]string
	}
	app := map[string]string{"app": "api"}
	with := func(more ...string) map[string]string {
		m := map[string]string{"app": "api"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for kind, test := range map[string]struct {
		manifest string
		want     pod
	}{
		"Pod":           {podManifest("{name: api-0, labels: {app: api}}"), pod{"api-0", nil, app}},
		"generated Pod": {podManifest("{generateName: api-, labels: {app: api}}"), pod{"api-xxxxx", nil, app}},
		"Deployment": {templated("apps/v1", "Deployment", "  selector: {matchLabels: {app: api}}\n", 1),
			pod{"api-xxxxxxxxxx-xxxxx", &policies.Owner{Kind: "ReplicaSet", Name: "api-xxxxxxxxxx"}, with("pod-template-hash", "xxxxxxxxxx")}},
		"ReplicaSet":            {templated("apps/v1", "ReplicaSet", "", 1), pod{"api-xxxxx", &policies.Owner{Kind: "ReplicaSet", Name: "api"}, app}},
		"ReplicationController": {templated("v1", "ReplicationController", "", 1), pod{"api-xxxxx", &policies.Owner{Kind: "ReplicationController", Name: "api"}, app}},
		"DaemonSet":             {templated("apps/v1", "DaemonSet", "", 1), pod{"api-xxxxx", &policies.Owner{Kind: "DaemonSet", Name: "api"}, app}},
		"StatefulSet": {templated("apps/v1", "StatefulSet", "  ordinals: {start: 3}\n", 1),
			pod{"api-3", &policies.Owner{Kind: "StatefulSet", Name: "api"}, with("statefulset.kubernetes.io/pod-name", "api-3", "apps.kubernetes.io/pod-index", "3")}},
		"Job": {templated("batch/v1", "Job", "", 1),
			pod{"api-xxxxx", &policies.Owner{Kind: "Job", Name: "api"}, with("job-name", "api", "batch.kubernetes.io/job-name", "api")}},
		"CronJob": {templated("batch/v1", "CronJob", "  schedule: '* * * * *'\n  jobTemplate:\n    spec:\n", 3),
			pod{"api-00000000-xxxxx", &policies.Owner{Kind: "Job", Name: "api-00000000"}, with("job-name", "api-00000000", "batch.kubernetes.io/job-name", "api-00000000")}},
		"PodTemplate": {strings.Replace(templated("v1", "PodTemplate", "", 0), "\nspec:\n", "\n", 1), pod{"api-xxxxx", nil, app}},
	} {
		v := one(t, test.manifest, class)
		if v.Err != nil {
			t.Errorf("%s: Err = %v, want none", kind, v.Err)
			continue
		}
		got := pod{v.Input.Subject.PodName, v.Input.Pod.Owner, v.Input.Pod.Labels}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: the pod differs (-want +got):\n%s", kind, diff)
		}
		if s := v.Input.Subject; v.Input.Phase != policies.PhaseCI || s.Namespace != "payments" || s.ServiceAccount != "api" || v.Name != "secrets" || s.PodUID+s.Node != "" {
			t.Errorf("%s: subject = %+v, phase %s, volume %s, want payments/api, ci, secrets, and neither UID nor node", kind, s, v.Input.Phase, v.Name)
		}
		if isPod := strings.HasSuffix(kind, "Pod"); v.Workload.Derived == isPod {
			t.Errorf("%s: Derived = %t, want %t", kind, v.Workload.Derived, !isPod)
		}
	}
}

func TestLongGeneratedNamesAreCut(t *testing.T) {
	manifest := strings.Replace(templated("apps/v1", "DaemonSet", "", 1), "name: api,", "name: "+strings.Repeat("a", 80)+",", 1)
	if got := one(t, manifest, class).Input.Subject.PodName; len(got) != 63 || !strings.HasSuffix(got, "axxxxx") {
		t.Errorf("podName = %s (%d), want 63 characters as the API server makes them", got, len(got))
	}
}

func TestServiceAccountOfThePod(t *testing.T) {
	for text, want := range map[string]string{
		"serviceAccountName: api": "api", "serviceAccount: api": "api", "automountServiceAccountToken: false": "default",
	} {
		manifest := strings.Replace(podManifest("{name: api-0}"), "serviceAccountName: api", text, 1)
		if got := one(t, manifest, class).Input.Subject.ServiceAccount; got != want {
			t.Errorf("%s: service account = %s, want %s", text, got, want)
		}
	}
}

const (
	namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: payments, labels: {team: shop, kubernetes.io/metadata.name: forged}}\n"
	account   = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: api, namespace: payments, annotations: {tier: one}}\n"
)

func TestFactsComeFromTheManifestsOrAreAssumed(t *testing.T) {
	pod := podManifest("{name: api-0}")
	v := one(t, pod, class)
	if want := []string{"namespace payments has no labels but its name", "service account payments/api has no annotations"}; !cmp.Equal(want, v.Assumed) {
		t.Errorf("Assumed = %q, want %q", v.Assumed, want)
	}
	if diff := cmp.Diff(map[string]string{"kubernetes.io/metadata.name": "payments"}, v.Input.Subject.NamespaceLabels); diff != "" {
		t.Errorf("labels differ (-want +got):\n%s", diff)
	}
	v = one(t, pod, class, namespace, account)
	if len(v.Assumed) > 0 {
		t.Errorf("Assumed = %q, want nothing", v.Assumed)
	}
	if diff := cmp.Diff(map[string]string{"team": "shop", "kubernetes.io/metadata.name": "payments"}, v.Input.Subject.NamespaceLabels); diff != "" {
		t.Errorf("labels differ (-want +got), and the API server sets the name:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"tier": "one"}, v.Input.Subject.ServiceAccountAnnotations); diff != "" {
		t.Errorf("annotations differ (-want +got):\n%s", diff)
	}
}

// mute is a source that cannot say whether anything exists.
type mute struct{ asked *int }

var errMute = errors.New("no answer")

func (m mute) Namespace(context.Context, string) (*corev1.Namespace, error) {
	*m.asked++
	return nil, errMute
}

func (m mute) ServiceAccount(context.Context, string, string) (*corev1.ServiceAccount, error) {
	*m.asked++
	return nil, errMute
}

func (m mute) Class(context.Context, string, string) (*spcv1.SecretProviderClass, error) {
	*m.asked++
	return nil, errMute
}

// No answer is not the answer that there is none.
func TestNoAnswerIsNotAssumed(t *testing.T) {
	for name, documents := range map[string][]string{
		"class": nil, "namespace": {class}, "service account": {class, namespace},
	} {
		asked := 0
		o := parse(t, append(documents, podManifest("{name: api-0}"))...)
		v := circumstances(o, mute{&asked}).Volumes(t.Context(), o.Workloads()[0])[0]
		if !errors.Is(v.Err, errMute) || asked != 1 || len(v.Assumed) > 0 {
			t.Errorf("%s: Err = %v, Assumed = %q, asked %d times, want that there is no answer, once", name, v.Err, v.Assumed, asked)
		}
	}
	asked := 0
	o := parse(t, class, namespace, account, podManifest("{name: api-0}"))
	if v := circumstances(mute{&asked}, o).Volumes(t.Context(), o.Workloads()[0])[0]; !errors.Is(v.Err, errMute) {
		t.Errorf("Err = %v, want no later source in place of one that gives no answer", v.Err)
	}
	asked = 0
	if v := circumstances(o, mute{&asked}).Volumes(t.Context(), o.Workloads()[0])[0]; v.Err != nil || asked != 0 {
		t.Errorf("Err = %v, asked %d times, want the manifests to be enough", v.Err, asked)
	}
}

func TestVolumesThatCannotBeDecided(t *testing.T) {
	pod := podManifest("{name: api-0}")
	none, ok := errors.AsType[*workload.NoClassError](one(t, pod).Err)
	if !ok || none.Namespace != "payments" || none.Name != "db" || !errors.Is(none, kube.ErrNotFound) {
		t.Errorf("without a class: Err = %v, want *NoClassError for payments/db", none)
	}
	elsewhere := strings.Replace(class, "name: db", "name: db, namespace: other", 1)
	if err := one(t, pod, elsewhere).Err; !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("with a class of another namespace: Err = %v, want kube.ErrNotFound", err)
	}
	for name, test := range map[string]struct{ old, new, field string }{
		"no class named":   {"secretProviderClass: db", "objects: x", "csi.volumeAttributes[secretProviderClass]"},
		"a path for class": {"secretProviderClass: db", "secretProviderClass: ../db", "csi.volumeAttributes[secretProviderClass]"},
		"not read-only":    {"readOnly: true", "readOnly: false", "spec.volumes[\"secrets\"].csi.readOnly"},
		"kubelet's key":    {"secretProviderClass: db", "secretProviderClass: db, csi.storage.k8s.io/pod.name: x", "csi.volumeAttributes[\"csi.storage.k8s.io/pod.name\"]"},
	} {
		field, ok := errors.AsType[*kube.FieldError](one(t, strings.Replace(pod, test.old, test.new, 1), class).Err)
		if !ok || field.Field != test.field {
			t.Errorf("%s: Err = %v, want a *FieldError about %s", name, field, test.field)
		}
	}
}

func TestPodsThatRun(t *testing.T) {
	w := workload.FromPod(parse(t, podManifest("{name: api-0, uid: 11111111-1111-4111-8111-111111111111}")).Workloads()[0].Pod)
	if w.Kind != "Pod" || w.Namespace != "payments" || w.Name != "api-0" || w.Source != "" || w.Derived {
		t.Errorf("FromPod() = %+v, want the pod itself", w)
	}
	v := circumstances(parse(t, class)).Volumes(t.Context(), w)[0]
	if v.Err != nil || v.Input.Subject.PodUID != "11111111-1111-4111-8111-111111111111" {
		t.Errorf("Volumes() = %v, uid %s, want no error and its uid", v.Err, v.Input.Subject.PodUID)
	}
}
