//go:build integration

package admissionpolicy_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

// reviewer answers reviews and notes what it was asked about.
type reviewer struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

func newReviewer(t *testing.T) *reviewer {
	t.Helper()
	r := &reviewer{}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(r.review))
	t.Cleanup(r.Close)
	return r
}

func (r *reviewer) review(w http.ResponseWriter, request *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(request.Body).Decode(&review); err != nil || review.Request == nil {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.asked = append(r.asked, request.URL.Path)
	r.mu.Unlock()
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review) // the API server would say that nothing came
}

func (r *reviewer) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = nil
	return asked
}

// hooked is a cluster whose API server calls the reviewer as the chart says.
type hooked struct {
	*world
	reviewer *reviewer
	dynamic  dynamic.Interface
}

// reach has the configuration of the chart call the reviewer: all but where it is
// remains as rendered.
func (h *hooked) reach(t *testing.T, sets ...string) {
	t.Helper()
	for _, o := range render(t, false, append(sets, "webhook.enabled=true")...) {
		if o.GetKind() != "ValidatingWebhookConfiguration" {
			continue
		}
		webhooks, _, err := unstructured.NestedSlice(o.Object, "webhooks")
		if err != nil || len(webhooks) != 3 {
			t.Fatalf("webhooks = %v, %v, want three", webhooks, err)
		}
		authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.reviewer.Certificate().Raw})
		for _, w := range webhooks {
			entry, _ := w.(map[string]any)
			path, _, err := unstructured.NestedString(entry, "clientConfig", "service", "path")
			if err != nil {
				t.Fatal(err)
			}
			entry["clientConfig"] = map[string]any{"url": h.reviewer.URL + path, "caBundle": authority}
		}
		text, err := json.Marshal(map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "metadata": map[string]any{"name": o.GetName()}, "webhooks": webhooks})
		if err != nil {
			t.Fatal(err)
		}
		h.Apply(t, string(text))
		return
	}
	t.Fatal("the chart has no ValidatingWebhookConfiguration")
}

func newHooked(t *testing.T, sets ...string) *hooked {
	t.Helper()
	h := &hooked{reviewer: newReviewer(t)}
	h.world = newWorld(t, clustertest.Options{}, "admissionPolicies.ephemeralContainers=off")
	h.ApplyFiles(t, filepath.Join(chart, "crds", "*.yaml"))
	config := h.Admin()
	config.QPS = -1
	var err error
	if h.dynamic, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	h.reach(t, sets...)
	for deadline := time.Now().Add(30 * time.Second); len(h.reviewer.take()) == 0; time.Sleep(50 * time.Millisecond) {
		if err := h.dry(t, pod("payments"))(); err != nil || time.Now().After(deadline) {
			t.Fatalf("a pod with a volume of ours was not asked about: %v", err)
		}
	}
	return h
}

// resources are where the kinds of the table are.
func (h *hooked) resource(kind string) dynamic.ResourceInterface {
	group, version, resource := "apps", "v1", strings.ToLower(kind)+"s"
	switch kind {
	case "Pod":
		group = ""
	case "Job", "CronJob":
		group = "batch"
	case "SecretProviderClass":
		group, resource = "secrets-store.csi.x-k8s.io", "secretproviderclasses"
	}
	return h.dynamic.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: resource}).Namespace("payments")
}

const (
	ours  = `"volumes":[{"name":"none","emptyDir":{}},{"name":"secrets","csi":{"driver":"` + driver + `","readOnly":true,"volumeAttributes":{"secretProviderClass":"db"}}}]`
	other = `"volumes":[{"name":"none","emptyDir":{}},{"name":"secrets","csi":{"driver":"other.csi.example"}}]`
	empty = `"automountServiceAccountToken":false`
)

// podSpec has an init container, and one more field.
func podSpec(more, restart string) string {
	return `{"restartPolicy":"` + restart + `","initContainers":[{"name":"init","image":"registry.example/init:1"}],"containers":[{"name":"main","image":"registry.example/api:1"}],` + more + `}`
}

// workload is the spec of a workload around that of a pod.
func workload(kind, more string) string {
	labels := `"metadata":{"labels":{"app":"x"}}`
	selector := `"selector":{"matchLabels":{"app":"x"}}`
	switch kind {
	case "Pod":
		return podSpec(more, "Always")
	case "Job":
		return `{"template":{"spec":` + podSpec(more, "Never") + `}}`
	case "CronJob":
		return `{"schedule":"0 0 * * *","jobTemplate":{"spec":{"template":{"spec":` + podSpec(more, "Never") + `}}}}`
	case "StatefulSet":
		selector += `,"serviceName":"x"`
	}
	return `{` + selector + `,"template":{` + labels + `,"spec":` + podSpec(more, "Always") + `}}`
}

func (h *hooked) create(t *testing.T, kind, name, spec string, meta map[string]any) error {
	t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"kind": kind, "apiVersion": map[string]string{
		"Pod": "v1", "Job": "batch/v1", "CronJob": "batch/v1", "SecretProviderClass": "secrets-store.csi.x-k8s.io/v1",
	}[kind]}}
	if o.GetAPIVersion() == "" {
		o.SetAPIVersion("apps/v1")
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(spec), &fields); err != nil {
		t.Fatal(err)
	}
	metadata := map[string]any{"name": name, "namespace": "payments"}
	maps.Copy(metadata, meta)
	o.Object["spec"], o.Object["metadata"] = fields, metadata
	_, err := h.resource(kind).Create(t.Context(), o, metav1.CreateOptions{})
	return err
}

func (h *hooked) patch(t *testing.T, kind, name, patch string, sub ...string) error {
	t.Helper()
	how := types.MergePatchType
	if kind != "SecretProviderClass" {
		how = types.StrategicMergePatchType
	}
	_, err := h.resource(kind).Patch(t.Context(), name, how, []byte(patch), metav1.PatchOptions{}, sub...)
	return err
}

// reviewed checks who was asked since the last time.
func (h *hooked) reviewed(t *testing.T, what string, err error, want ...string) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v, want that it goes through", what, err)
	}
	// An API server that wrote upon an object that it had only read from its cache
	// begins again, and asks again.
	if diff := cmp.Diff(want, slices.Compact(h.reviewer.take())); diff != "" {
		t.Errorf("%s: reviews (-want +got):\n%s", what, diff)
	}
}

const image = `{"spec":{"containers":[{"name":"main","image":"registry.example/api:2"}]}}`

// TestWebhookIsAskedAboutOurPods: and about no others; an update is a question only
// where it brings in an image or a list of secrets.
func TestWebhookIsAskedAboutOurPods(t *testing.T) {
	h := newHooked(t)
	const asked = "/pods"
	for name, more := range map[string]string{"other": other, "empty": empty} {
		h.reviewed(t, "create "+name, h.create(t, "Pod", name, workload("Pod", more), nil))
		h.reviewed(t, "image of "+name, h.patch(t, "Pod", name, image))
		h.reviewed(t, "debug "+name, h.patch(t, "Pod", name, `{"spec":{"ephemeralContainers":[{"name":"d","image":"x"}]}}`, "ephemeralcontainers"))
		h.reviewed(t, "annotation of "+name, h.patch(t, "Pod", name, `{"metadata":{"annotations":{"conjur.org/secrets":"- a"}}}`))
	}
	h.reviewed(t, "create", h.create(t, "Pod", "api", workload("Pod", ours), nil), asked)
	owner := map[string]any{"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "1", "controller": true}}}
	h.reviewed(t, "create as a controller does", h.create(t, "Pod", "owned", workload("Pod", ours), owner), asked)
	for _, tt := range []struct {
		what, patch, sub string
		asked            bool
	}{
		{"a label", `{"metadata":{"labels":{"a":"b"}}}`, "", false},
		{"an annotation of others", `{"metadata":{"annotations":{"example.org/a":"b"}}}`, "", false},
		{"the list of Conjur", `{"metadata":{"annotations":{"conjur.org/secrets":"- db"}}}`, "", true},
		{"the same list again", `{"metadata":{"annotations":{"conjur.org/secrets":"- db","example.org/a":"c"}}}`, "", false},
		{"no list any more", `{"metadata":{"annotations":{"conjur.org/secrets":null}}}`, "", true},
		{"no annotations at all", `{"metadata":{"annotations":null}}`, "", false},
		{"the image", image, "", true},
		{"the same image", image, "", false},
		{"the image of an init container", `{"spec":{"initContainers":[{"name":"init","image":"registry.example/init:2"}]}}`, "", true},
		{"a deadline", `{"spec":{"activeDeadlineSeconds":3600}}`, "", false},
		{"a toleration", `{"spec":{"tolerations":[{"key":"a","operator":"Exists"}]}}`, "", false},
		{"an ephemeral container", `{"spec":{"ephemeralContainers":[{"name":"debug","image":"registry.example/sh:1"}]}}`, "ephemeralcontainers", true},
		{"a label after that", `{"metadata":{"labels":{"a":"c"}}}`, "", false},
		{"its status", `{"status":{"phase":"Running"}}`, "status", false},
		{"a finalizer", `{"metadata":{"finalizers":["example.org/wait"]}}`, "", false},
		{"no finalizer", `{"metadata":{"finalizers":null}}`, "", false},
	} {
		want := []string(nil)
		if tt.asked {
			want = []string{asked}
		}
		var sub []string
		if tt.sub != "" {
			sub = []string{tt.sub}
		}
		h.reviewed(t, tt.what, h.patch(t, "Pod", "api", tt.patch, sub...), want...)
	}
	h.reviewed(t, "delete", h.resource("Pod").Delete(t.Context(), "api", metav1.DeleteOptions{}))
	h.reviewed(t, "dry run", h.dry(t, pod("agents"))(), asked)
	h.reviewed(t, "namespace of the release", h.dry(t, pod(release))(), asked)
}

// TestWebhookIsAskedAboutTemplatesAndClasses: when somebody writes one.
func TestWebhookIsAskedAboutTemplatesAndClasses(t *testing.T) {
	h := newHooked(t)
	owner := map[string]any{"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "1", "controller": true}}}
	follower := map[string]any{"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "1"}}}
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"} {
		h.reviewed(t, kind+" of others", h.create(t, kind, "other", workload(kind, other), nil))
		h.reviewed(t, kind+" without volumes", h.create(t, kind, "empty", workload(kind, empty), nil))
		h.reviewed(t, kind, h.create(t, kind, "ours", workload(kind, ours), nil), "/templates")
		h.reviewed(t, kind+" of a controller", h.create(t, kind, "owned", workload(kind, ours), owner))
		h.reviewed(t, kind+" that has an owner of another sort", h.create(t, kind, "follows", workload(kind, ours), follower), "/templates")
		h.reviewed(t, kind+", a label", h.patch(t, kind, "ours", `{"metadata":{"labels":{"a":"b"}}}`))
	}
	h.reviewed(t, "scale", h.patch(t, "Deployment", "ours", `{"spec":{"replicas":3}}`))
	h.reviewed(t, "image", h.patch(t, "Deployment", "ours", `{"spec":{"template":`+image+`}}`), "/templates")
	h.reviewed(t, "image of others", h.patch(t, "Deployment", "other", `{"spec":{"template":`+image+`}}`))
	h.reviewed(t, "schedule", h.patch(t, "CronJob", "ours", `{"spec":{"schedule":"1 0 * * *"}}`))
	h.reviewed(t, "image of a job", h.patch(t, "CronJob", "ours", `{"spec":{"jobTemplate":{"spec":{"template":`+image+`}}}}`), "/templates")

	const class = "SecretProviderClass"
	h.reviewed(t, "class", h.create(t, class, "db", `{"provider":"vault","parameters":{"objects":"[]"}}`, nil), "/classes")
	h.reviewed(t, "class, label", h.patch(t, class, "db", `{"metadata":{"labels":{"a":"b"}}}`))
	h.reviewed(t, "class, spec", h.patch(t, class, "db", `{"spec":{"parameters":{"objects":"[a]"}}}`), "/classes")
	h.reviewed(t, "class without a spec", h.create(t, class, "empty", `{}`, nil), "/classes")
	h.reviewed(t, "class, no change", h.patch(t, class, "empty", `{}`))
	old := h.dynamic.Resource(schema.GroupVersionResource{Group: "secrets-store.csi.x-k8s.io", Version: "v1alpha1", Resource: "secretproviderclasses"}).Namespace("payments")
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "secrets-store.csi.x-k8s.io/v1alpha1", "kind": class, "metadata": map[string]any{"name": "old"}, "spec": map[string]any{"provider": "vault"}}}
	_, err := old.Create(t.Context(), o, metav1.CreateOptions{})
	h.reviewed(t, "class of the old version", err, "/classes")
}

// TestWebhookIsDown: only what would have been asked about stops, and of that
// neither templates nor, by default, classes.
func TestWebhookIsDown(t *testing.T) {
	for value, refused := range map[string]bool{"Ignore": false, "Fail": true} {
		t.Run(value, func(t *testing.T) {
			h := newHooked(t, "webhook.failurePolicy.classes="+value)
			if err := h.create(t, "Pod", "runs", workload("Pod", ours), nil); err != nil {
				t.Fatal(err)
			}
			h.reviewer.Close()
			down := func(what string, err error, want bool) {
				t.Helper()
				failed := err != nil && strings.Contains(err.Error(), "failed calling webhook")
				if failed != want || err != nil && !failed {
					t.Errorf("%s: %v, want that it is refused: %t", what, err, want)
				}
			}
			down("a pod without our volumes", h.create(t, "Pod", "other", workload("Pod", other), nil), false)
			down("a pod with one", h.create(t, "Pod", "new", workload("Pod", ours), nil), true)
			down("a label of one that runs", h.patch(t, "Pod", "runs", `{"metadata":{"labels":{"a":"b"}}}`), false)
			down("the status of one that runs", h.patch(t, "Pod", "runs", `{"status":{"phase":"Running"}}`, "status"), false)
			down("the image of one that runs", h.patch(t, "Pod", "runs", image), true)
			down("a container in one that runs", h.patch(t, "Pod", "runs", `{"spec":{"ephemeralContainers":[{"name":"d","image":"x"}]}}`, "ephemeralcontainers"), true)
			down("delete", h.resource("Pod").Delete(t.Context(), "runs", metav1.DeleteOptions{}), false)
			down("a template", h.create(t, "Deployment", "api", workload("Deployment", ours), nil), false)
			down("a class", h.create(t, "SecretProviderClass", "db", `{"provider":"vault"}`, nil), refused)
		})
	}
}

// TestNoConditionErrs: what the API server lets a pod be has no form on which a
// condition fails, since a failure would refuse it.
func TestNoConditionErrs(t *testing.T) {
	h := newHooked(t)
	sources := []corev1.VolumeSource{
		{EmptyDir: &corev1.EmptyDirVolumeSource{}}, {HostPath: &corev1.HostPathVolumeSource{Path: "/opt"}}, {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "a"}}},
		{Secret: &corev1.SecretVolumeSource{SecretName: "a"}}, {DownwardAPI: &corev1.DownwardAPIVolumeSource{}}, {Projected: &corev1.ProjectedVolumeSource{}},
		{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "a"}}, {Image: &corev1.ImageVolumeSource{Reference: "registry.example/a:1"}},
		{CSI: &corev1.CSIVolumeSource{Driver: "other.csi.example"}}, {CSI: &corev1.CSIVolumeSource{Driver: driver, ReadOnly: new(true)}},
	}
	for i := range 1 << len(sources) {
		if i%7 != 0 && i != 1<<len(sources)-1 {
			continue
		}
		p := pod("payments", noVolume)
		for j, s := range sources {
			if i>>j&1 == 1 {
				p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: fmt.Sprint("v", j), VolumeSource: s})
			}
		}
		uses := slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.CSI != nil && v.CSI.Driver == driver })
		want := []string(nil)
		if uses {
			want = []string{"/pods"}
		}
		h.reviewed(t, fmt.Sprintf("volumes %b", i), h.dry(t, p)(), want...)
	}
}
