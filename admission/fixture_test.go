package admission_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/admission"
	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const (
	driverName = "secrets-store.csi.k8s.io"
	podUID     = "11111111-1111-4111-8111-111111111111"
	// canary stands for a secret: it may be in no answer, event or log.
	canary = "canary-7f3a"
)

// objects are what the cluster has; whatever error is set comes in their place.
type objects struct {
	mu        sync.Mutex
	namespace *corev1.Namespace
	account   *corev1.ServiceAccount
	class     map[string]*spcv1.SecretProviderClass
	err       error // of every read
	hang      bool  // until the context ends
	panics    bool
}

func (o *objects) wait(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.panics {
		panic(fmt.Sprintf("of %s, which nobody may see", canary))
	}
	if o.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return o.err
}

func (o *objects) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	if err := o.wait(ctx); err != nil {
		return nil, err
	}
	if o.namespace == nil || o.namespace.Name != name {
		return nil, kube.ErrNotFound
	}
	return o.namespace, nil
}

func (o *objects) ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	if err := o.wait(ctx); err != nil {
		return nil, err
	}
	if o.account == nil || o.account.Namespace != namespace || o.account.Name != name {
		return nil, kube.ErrNotFound
	}
	return o.account, nil
}

func (o *objects) Class(ctx context.Context, namespace, name string) (*spcv1.SecretProviderClass, error) {
	if err := o.wait(ctx); err != nil {
		return nil, err
	}
	if c := o.class[name]; c != nil && c.Namespace == namespace {
		return c, nil
	}
	return nil, kube.ErrNotFound
}

type active struct{ engine *policies.Engine }

func (a *active) Active() *policies.Engine { return a.engine }

// fixture is the webhook as it is served, with a cluster, a policy and a log.
type fixture struct {
	objects  *objects
	policy   *active
	log      *audittest.Log
	recorder *audit.Recorder
	output   *bytes.Buffer
	decided  []policies.Decision
	handlers admission.Handlers
	server   *httptest.Server
}

func newFixture(t testing.TB, changes ...func(*admission.Config)) *fixture {
	t.Helper()
	f := &fixture{
		objects: &objects{namespace: namespace(), account: account(), class: map[string]*spcv1.SecretProviderClass{"db": class("db")}},
		policy:  &active{policiestest.Engine(t, policiestest.Grants)},
		log:     &audittest.Log{}, output: &bytes.Buffer{},
	}
	clock := func() time.Time { return time.Unix(0, policiestest.Now) }
	logger := slog.New(slog.NewJSONHandler(f.output, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	f.recorder, err = audit.New(audit.Config{Log: f.log, Logger: logger, Clock: clock, Source: audit.Source{Component: "admission", Version: "v0.0.0-test", Cluster: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.log.Fail(nil) // or what is owed is tried for ever
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		_ = f.recorder.Close(ctx)
	})
	c := admission.Config{
		DriverName: driverName, Cluster: "test", Policy: f.policy, Facts: f.objects, Recorder: f.recorder, Meter: noop.Meter{}, Logger: logger,
		Clock: clock, KnownProviders: []string{"local", "vault"}, Decided: func(d policies.Decision) { f.decided = append(f.decided, d) },
	}
	for _, change := range changes {
		change(&c)
	}
	if f.handlers, err = admission.New(c); err != nil {
		t.Fatal(err)
	}
	f.server = httptest.NewTLSServer(serve(t, f.handlers))
	t.Cleanup(f.server.Close)
	return f
}

// serve is the handlers as controller-runtime serves them.
func serve(t testing.TB, h admission.Handlers) http.Handler {
	t.Helper()
	mux := http.NewServeMux()
	for path, handler := range map[string]webhook.Handler{"/pods": h.Pods, "/templates": h.Templates, "/classes": h.Classes} {
		served, err := webhook.StandaloneWebhook(&webhook.Webhook{Handler: handler}, webhook.StandaloneOptions{})
		if err != nil {
			t.Fatal(err)
		}
		mux.Handle(path, served)
	}
	return mux
}

// post sends a review as the API server does and returns the answer.
func (f *fixture) post(t testing.TB, path string, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	t.Helper()
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request,
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := f.server.Client().Post(f.server.URL+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(answer.Body).Decode(&review); err != nil {
		t.Fatal(err)
	}
	if review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview" || review.Response == nil || review.Response.UID != request.UID {
		t.Fatalf("answer = %+v, want an AdmissionReview v1 about request %s", review, request.UID)
	}
	return review.Response
}

// request is about an object, or about its update.
func request(t testing.TB, o, was runtime.Object, changes ...func(*admissionv1.AdmissionRequest)) *admissionv1.AdmissionRequest {
	t.Helper()
	gvk := o.GetObjectKind().GroupVersionKind()
	meta, ok := o.(metav1.Object)
	if !ok {
		t.Fatalf("%T has no metadata", o)
	}
	r := &admissionv1.AdmissionRequest{
		UID: types.UID("705ab4f5-6393-11e8-b7cc-42010a800002"), Operation: admissionv1.Create,
		Kind: metav1.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind}, Resource: resources()[gvk.Kind],
		Name: meta.GetName(), Namespace: meta.GetNamespace(), DryRun: new(false),
		Object:   runtime.RawExtension{Raw: encode(t, o)},
		UserInfo: authenticationv1.UserInfo{Username: "system:serviceaccount:kube-system:replicaset-controller", Groups: []string{"system:authenticated"}},
	}
	if was != nil {
		r.Operation, r.OldObject = admissionv1.Update, runtime.RawExtension{Raw: encode(t, was)}
	}
	for _, change := range changes {
		change(r)
	}
	return r
}

func encode(t testing.TB, o any) []byte {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func dryRun(r *admissionv1.AdmissionRequest) { r.DryRun = new(true) }

func resources() map[string]metav1.GroupVersionResource {
	return map[string]metav1.GroupVersionResource{
		"Pod":                   {Version: "v1", Resource: "pods"},
		"ReplicationController": {Version: "v1", Resource: "replicationcontrollers"},
		"Deployment":            {Group: "apps", Version: "v1", Resource: "deployments"},
		"StatefulSet":           {Group: "apps", Version: "v1", Resource: "statefulsets"},
		"DaemonSet":             {Group: "apps", Version: "v1", Resource: "daemonsets"},
		"ReplicaSet":            {Group: "apps", Version: "v1", Resource: "replicasets"},
		"Job":                   {Group: "batch", Version: "v1", Resource: "jobs"},
		"CronJob":               {Group: "batch", Version: "v1", Resource: "cronjobs"},
		"SecretProviderClass":   {Group: "secrets-store.csi.x-k8s.io", Version: "v1", Resource: "secretproviderclasses"},
	}
}

func namespace() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments", ResourceVersion: "11", Labels: map[string]string{"kubernetes.io/metadata.name": "payments"}}}
}

func account() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "api", Namespace: "payments", ResourceVersion: "12"}}
}

func class(name string, changes ...func(*spcv1.SecretProviderClass)) *spcv1.SecretProviderClass {
	c := &spcv1.SecretProviderClass{
		TypeMeta:   metav1.TypeMeta{APIVersion: "secrets-store.csi.x-k8s.io/v1", Kind: "SecretProviderClass"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "payments", UID: "0c7a6f0e-8a51-4a76-8b4f-51d6c1b7f001", Generation: 1, ResourceVersion: "13"},
	}
	c.Spec.Provider = "local"
	c.Spec.Parameters = map[string]string{"objects": "- objectName: payments/db-password\n"}
	for _, change := range changes {
		change(c)
	}
	return c
}

// pod mounts class db, changed.
func pod(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "api-0", Namespace: "payments", UID: podUID, Labels: map[string]string{"app": "api"}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "api",
			SecurityContext:    &corev1.PodSecurityContext{FSGroup: new(int64(2000))},
			Containers: []corev1.Container{{
				Name: "main", Image: "registry.example/api:1", Env: []corev1.EnvVar{{Name: "PASSWORD", Value: canary}},
				VolumeMounts: []corev1.VolumeMount{{Name: "secrets", MountPath: "/s"}},
			}},
			Volumes: []corev1.Volume{secretsVolume("secrets", "db")},
		},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

func secretsVolume(name, class string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
		Driver: driverName, ReadOnly: new(true), VolumeAttributes: map[string]string{"secretProviderClass": class},
	}}}
}
