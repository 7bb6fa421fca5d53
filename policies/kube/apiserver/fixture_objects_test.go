package apiserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked = append(a.asked, r)
	answer := a.answer
	a.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	if r.URL.Query().Get("watch") != "" {
		a.watch(w, r)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if o, ok := a.objects[r.URL.Path]; ok {
		writeJSON(w, shape(r, o))
		return
	}
	if list := map[string]string{"/api/v1/pods": "PodList", "/api/v1/namespaces": "NamespaceList", "/apis/storage.k8s.io/v1/csidrivers": "CSIDriverList",
		"/api/v1/serviceaccounts": "ServiceAccountList", "/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasses": "SecretProviderClassList"}[r.URL.Path]; list != "" {
		writeJSON(w, a.list(r, list))
		return
	}
	parts := strings.Split(r.URL.Path, "/")
	group := ""
	if parts[1] == "apis" {
		group = parts[2]
	}
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, notFound(group, parts[len(parts)-2], parts[len(parts)-1]))
}

func notFound(group, resource, name string) string {
	return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"%s","reason":"NotFound","details":{"name":%q,"group":%q,"kind":%q},"code":404}`,
		canary, name, group, resource)
}

func (a *api) list(r *http.Request, kind string) any {
	items := []any{}
	for path, o := range a.objects {
		if collection(path) == r.URL.Path {
			items = append(items, shape(r, o))
		}
	}
	version, typ := "v1", kind
	if strings.Contains(r.URL.Path, "storage") {
		version = "storage.k8s.io/v1"
	}
	if strings.Contains(r.URL.Path, "secrets-store") {
		version = "secrets-store.csi.x-k8s.io/v1"
	}
	if strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadata") {
		version, typ = "meta.k8s.io/v1", "PartialObjectMetadataList"
	}
	return map[string]any{"kind": typ, "apiVersion": version, "metadata": map[string]any{"resourceVersion": strconv.Itoa(a.version)}, "items": items}
}

// shape leaves only the metadata where that is asked for.
func shape(r *http.Request, o map[string]any) map[string]any {
	if !strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadata") {
		return o
	}
	return map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": o["metadata"]}
}

func (a *api) watch(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("sendInitialEvents") != "" { // as API servers before 1.32
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		return
	}
	events := make(chan map[string]any, 100)
	a.mu.Lock()
	since, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	for path, o := range a.objects { // what was missed since the list
		if collection(path) == r.URL.Path && versionOf(o) > since {
			events <- map[string]any{"type": "MODIFIED", "object": o}
		}
	}
	a.watchers[events] = r.URL.Path
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json;stream=watch")
	w.WriteHeader(http.StatusOK)
	flusher, _ := w.(http.Flusher)
	flusher.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			o, _ := e["object"].(map[string]any)
			writeJSON(w, map[string]any{"type": e["type"], "object": shape(r, o)})
			flusher.Flush()
		}
	}
}

func versionOf(o map[string]any) int {
	meta, _ := o["metadata"].(map[string]any)
	version, _ := meta["resourceVersion"].(string)
	n, _ := strconv.Atoi(version)
	return n
}

func writeJSON(w io.Writer, o any) { _ = json.NewEncoder(w).Encode(o) }

// fixture is a Reader of a fake API server.
type fixture struct {
	*apiserver.Reader
	api   *api
	clock *clock
	log   *output
}

func newFixture(t testing.TB, changes ...func(*apiserver.Config)) *fixture {
	t.Helper()
	f := &fixture{api: newAPI(t), clock: newClock(), log: &output{}}
	c := apiserver.Config{
		REST: f.api.config(), Node: "node-1", DriverName: driverName, Clock: f.clock.Now, ReadTimeout: 5 * time.Second,
		Logger: slog.New(slog.NewJSONHandler(f.log, nil)),
	}
	for _, change := range changes {
		change(&c)
	}
	var err error
	if f.Reader, err = apiserver.New(c); err != nil {
		t.Fatal(err)
	}
	return f
}

// run runs the caches until the test ends, and waits until they are filled.
func (f *fixture) run(t testing.TB) {
	t.Helper()
	f.start(t)
	eventually(t, "Synced()", func() bool { return f.Synced() == nil })
}

// watching waits until the three watches are there: a later one begins with the
// objects as they are then, and tells of no step before that.
func (f *fixture) watching(t testing.TB) {
	t.Helper()
	eventually(t, "three watches are there", func() bool {
		f.api.mu.Lock()
		defer f.api.mu.Unlock()
		return len(f.api.watchers) == 3
	})
}

func (f *fixture) start(t testing.TB) {
	done := make(chan error, 1)
	go func() { done <- f.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
}

// eventually waits for what other goroutines do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come true within 20 s", what)
		}
	}
}

func meta(namespace, name string, uid types.UID) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: namespace, UID: uid,
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl", FieldsV1: metav1.NewFieldsV1(`{"f:x":{}}`)}},
		Annotations:   map[string]string{"kubectl.kubernetes.io/last-applied-configuration": canary, "tier": "1"},
		Labels:        map[string]string{"team": "payments"},
	}
}

func pod() *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: meta("payments", "api-0", podUID),
		Spec: corev1.PodSpec{
			NodeName: "node-1", ServiceAccountName: "api",
			Containers: []corev1.Container{{
				Name: "main", Image: "registry.example/api:1", Args: []string{"--password=" + canary},
				Env:          []corev1.EnvVar{{Name: "PASSWORD", Value: canary}},
				VolumeMounts: []corev1.VolumeMount{{Name: "secrets", MountPath: "/s"}},
			}},
			Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
				Driver: driverName, ReadOnly: new(true), VolumeAttributes: map[string]string{"secretProviderClass": "db"},
			}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
}

func namespace() *corev1.Namespace {
	return &corev1.Namespace{TypeMeta: metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"}, ObjectMeta: meta("", "payments", "ns-uid")}
}

func account() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{Kind: "ServiceAccount", APIVersion: "v1"}, ObjectMeta: meta("payments", "api", "sa-uid")}
}

func class() *spcv1.SecretProviderClass {
	return &spcv1.SecretProviderClass{
		TypeMeta:   metav1.TypeMeta{Kind: "SecretProviderClass", APIVersion: "secrets-store.csi.x-k8s.io/v1"},
		ObjectMeta: meta("payments", "db", "class-uid"),
		Spec:       spcv1.SecretProviderClassSpec{Provider: "local", Parameters: map[string]string{"objects": "- objectName: a\n"}},
	}
}

func csiDriver() *storagev1.CSIDriver {
	return &storagev1.CSIDriver{
		TypeMeta:   metav1.TypeMeta{Kind: "CSIDriver", APIVersion: "storage.k8s.io/v1"},
		ObjectMeta: meta("", driverName, "driver-uid"),
		Spec:       storagev1.CSIDriverSpec{PodInfoOnMount: new(true)},
	}
}

// selfSigned is a certificate authority of nobody.
func selfSigned(t testing.TB) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}
