package cluster_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/cluster"
)

const canary = "Xcanary7"

// api answers by path with a code and a body.
type api struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []string
	answers map[string]answer
}

type answer struct {
	code int
	body string
}

func newAPI(t testing.TB, answers map[string]answer) *api {
	a := &api{answers: answers}
	a.Server = httptest.NewUnstartedServer(a)
	a.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.StartTLS()
	t.Cleanup(a.Close)
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r.URL.RequestURI())
	found, ok := a.answers[r.URL.RequestURI()]
	if !ok {
		found = answer{http.StatusForbidden, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"` + canary + `","reason":"Forbidden","code":403}`}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", "https://127.0.0.1:1/"+canary)
	w.WriteHeader(found.code)
	_, _ = io.WriteString(w, found.body)
}

func (a *api) reader(t testing.TB) *cluster.Reader {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
	r, err := cluster.New(&rest.Config{Host: a.URL, BearerToken: canary, TLSClientConfig: rest.TLSClientConfig{CAData: ca}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	accountPath = "/api/v1/namespaces/payments/serviceaccounts/api"
	classPath   = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/payments/secretproviderclasses/db"
	podsPath    = "/api/v1/namespaces/payments/pods?limit=250"

	account = `{"kind":"ServiceAccount","apiVersion":"v1","metadata":{"name":"api","namespace":"payments","annotations":{"a":"b"}}}`
)

func notFound(kind, name string) answer {
	return answer{http.StatusNotFound, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","details":{"name":"` + name + `","kind":"` + kind + `"},"code":404}`}
}

func TestObjectsAreReadOnce(t *testing.T) {
	a := newAPI(t, map[string]answer{accountPath: {http.StatusOK, account}, "/api/v1/namespaces/payments": notFound("namespaces", "payments")})
	r := a.reader(t)
	for range 3 {
		got, err := r.ServiceAccount(t.Context(), "payments", "api")
		if err != nil || got.Annotations["a"] != "b" {
			t.Errorf("ServiceAccount() = %v, %v, want it", got, err)
		}
		if _, err := r.Namespace(t.Context(), "payments"); !errors.Is(err, kube.ErrNotFound) {
			t.Errorf("Namespace() = %v, want kube.ErrNotFound", err)
		}
		if _, err := r.Class(t.Context(), "payments", "db"); err == nil {
			t.Error("Class() = nil, want that it is forbidden")
		}
	}
	if len(a.asked) != 3 {
		t.Errorf("asked %q, want each path once", a.asked)
	}
	for _, path := range a.asked {
		if strings.Contains(path, "secrets/") || strings.HasSuffix(path, "/secrets") {
			t.Errorf("asked for %s, want no Secrets", path)
		}
	}
}

// A name with a slash would be another path.
func TestNamesThatNothingCanHaveAreNotAskedFor(t *testing.T) {
	a := newAPI(t, nil)
	r := a.reader(t)
	_, class := r.Class(t.Context(), "payments", "../../secrets/db")
	_, account := r.ServiceAccount(t.Context(), "pay/ments", "api")
	_, namespace := r.Namespace(t.Context(), "")
	for _, err := range []error{class, account, namespace} {
		if !errors.Is(err, kube.ErrNotFound) {
			t.Errorf("error = %v, want kube.ErrNotFound", err)
		}
	}
	if len(a.asked) > 0 {
		t.Errorf("asked %q, want nothing", a.asked)
	}
}

func TestWhatIsNoAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		answer answer
		code   int
		want   string
	}{
		"forbidden":       {answer{http.StatusForbidden, canary}, 403, "right to get secretproviderclasses.secrets-store.csi.x-k8s.io in namespace payments"},
		"unauthenticated": {answer{http.StatusUnauthorized, canary}, 401, "log in"},
		"not served":      {answer{http.StatusNotFound, "404 page not found"}, 404, "CustomResourceDefinitions"},
		"of another name": {notFound("secretproviderclasses", "else"), 404, "CustomResourceDefinitions"},
		"redirect":        {answer{http.StatusFound, canary}, 302, "readyz"},
		"broken":          {answer{http.StatusInternalServerError, canary}, 500, "readyz"},
		"no JSON":         {answer{http.StatusOK, canary}, 0, "no such object"},
		"another kind":    {answer{http.StatusOK, account}, 0, "no such object"},
		"too large":       {answer{http.StatusOK, account + strings.Repeat(" ", 4<<20)}, 0, "no such object"},
	} {
		r := newAPI(t, map[string]answer{classPath: test.answer}).reader(t)
		_, err := r.Class(t.Context(), "payments", "db")
		e, ok := errors.AsType[*cluster.RefusedError](err)
		if !ok || errors.Is(err, kube.ErrNotFound) || e.Code != test.code || e.Verb != "get" || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Class() = %v, want a *RefusedError of %d with %q", name, err, test.code, test.want)
		}
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error repeats the API server's text or a token: %v", name, err)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	a := newAPI(t, nil)
	r := a.reader(t)
	a.Close()
	_, err := r.Class(t.Context(), "payments", "db")
	if e, ok := errors.AsType[*cluster.RefusedError](err); !ok || e.Code != 0 || strings.Contains(err.Error(), "https://") {
		t.Errorf("Class() = %v, want a *RefusedError without an address", err)
	}
}

func page(next string, pods ...string) answer {
	type meta struct {
		Name    string       `json:"name"`
		Deleted *metav1.Time `json:"deletionTimestamp,omitempty"`
	}
	type pod struct {
		Metadata meta             `json:"metadata"`
		Status   corev1.PodStatus `json:"status"`
	}
	var items []pod
	for _, p := range pods {
		name, phase, _ := strings.Cut(p, ":")
		var deleted *metav1.Time
		if phase == "Terminating" { // as kubectl shows it: no phase of its own
			phase, deleted = string(corev1.PodRunning), new(metav1.Now())
		}
		items = append(items, pod{meta{name, deleted}, corev1.PodStatus{Phase: corev1.PodPhase(phase)}})
	}
	text, err := json.Marshal(map[string]any{"kind": "PodList", "apiVersion": "v1", "metadata": map[string]string{"continue": next}, "items": items})
	if err != nil {
		return answer{http.StatusInternalServerError, err.Error()}
	}
	return answer{http.StatusOK, string(text)}
}

func TestPodsComeInPagesWithoutThoseThatEnd(t *testing.T) {
	a := newAPI(t, map[string]answer{
		podsPath: page("more", "a:Running", "b:Succeeded"), strings.Replace(podsPath, "?", "?continue=more&", 1): page("", "c:Pending", "d:Failed", "e", "f:Terminating"),
		"/api/v1/pods?limit=250": page("", "x"),
	})
	r := a.reader(t)
	for namespace, want := range map[string]string{"payments": "a c e", "": "x"} {
		var got []string
		err := r.Pods(t.Context(), namespace, func(p *corev1.Pod) error {
			got = append(got, p.Name)
			return nil
		})
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("Pods(%q) = %q, %v, want %s", namespace, got, err, want)
		}
	}
	stop := errors.New("stop")
	if err := r.Pods(t.Context(), "payments", func(*corev1.Pod) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Pods() = %v, want the error of each", err)
	}
	err := r.Pods(t.Context(), "shop", func(*corev1.Pod) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "right to list pods in namespace shop") {
		t.Errorf("Pods(shop) = %v, want which right is missing", err)
	}
}

const kubeconfig = `apiVersion: v1
kind: Config
current-context: one
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: ` + canary + `}}]
contexts:
- {name: one, context: {cluster: c, user: u, namespace: payments}}
- {name: two, context: {cluster: c, user: u}}
`

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path, bad := filepath.Join(dir, "config"), filepath.Join(dir, "bad")
	if err := errors.Join(os.WriteFile(path, []byte(kubeconfig), 0o600), os.WriteFile(bad, []byte("users: "+canary), 0o600)); err != nil {
		t.Fatal(err)
	}
	for context, want := range map[string]string{"": "payments", "one": "payments", "two": "default"} {
		c, namespace, err := cluster.Load(path, context)
		if err != nil || namespace != want || c.Host != "https://127.0.0.1:1" || c.BearerToken != canary {
			t.Errorf("Load(%q) = %v, %q, %v, want namespace %s", context, c, namespace, err, want)
		}
	}
	for name, args := range map[string][2]string{"no file": {filepath.Join(dir, "none"), ""}, "no context": {path, "three"}, "no kubeconfig": {bad, ""}} {
		_, _, err := cluster.Load(args[0], args[1])
		if err == nil || !strings.Contains(err.Error(), "hint:") || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: Load() = %v, want an error with a hint and without what the file holds", name, err)
		}
	}
}
