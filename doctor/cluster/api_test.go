package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/doctor/cluster"
)

const (
	canary   = "Xcanary7"
	driver   = "secrets-store.csi.k8s.io"
	notFound = `{"kind":"Status","reason":"NotFound","message":"` + canary + `","details":{"name":"x"},"code":404}`
)

// api answers by path; what it does not know is an empty list.
type api struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []string
	answers map[string]func(http.ResponseWriter, *http.Request)
}

func says(code int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func newAPI(t *testing.T, answers map[string]func(http.ResponseWriter, *http.Request)) *api {
	t.Helper()
	a := &api{answers: answers}
	a.Server = httptest.NewUnstartedServer(a)
	a.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.Start()
	t.Cleanup(a.Close)
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked = append(a.asked, r.Method+" "+r.URL.Path)
	answer := a.answers[r.URL.Path]
	a.mu.Unlock()
	if answer == nil {
		answer = says(http.StatusOK, `{"items":[]}`)
	}
	answer(w, r)
}

func (a *api) config() cluster.Config {
	return cluster.Config{REST: &rest.Config{Host: a.URL}, Driver: driver, Namespace: "kube-system", Account: "secrets-store-csi-driver", Host: "test"}
}

func gather(t *testing.T, a *api) *doctor.Cluster {
	t.Helper()
	found, err := cluster.Gather(t.Context(), a.config())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Secrets are asked for nowhere, nor ConfigMaps but for the floor of policy, and what people write them into is dropped.
func TestNoSecretIsRead(t *testing.T) {
	const pod = `{"metadata":{"name":"api","namespace":"payments","annotations":{"a":"` + canary + `"}},"spec":{
		"containers":[{"name":"main","env":[{"name":"PASSWORD","value":"` + canary + `"}]}],"initContainers":[{"name":"init","env":[{"name":"P","value":"` + canary + `"}]}],
		"ephemeralContainers":[{"name":"debug","env":[{"name":"P","value":"` + canary + `"}]}]}}`
	const class = `{"metadata":{"name":"db","namespace":"payments"},"spec":{"provider":"vault","parameters":{"objects":"` + canary + `"},"secretObjects":[{"secretName":"` + canary + `"}]}}`
	a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
		"/api/v1/pods": says(http.StatusOK, `{"items":[`+pod+`]}`),
		"/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasses": says(http.StatusOK, `{"items":[`+class+`]}`),
	})
	found := gather(t, a)
	if len(found.Pods.Value) != 1 || len(found.Classes.Value) != 1 || found.Classes.Value[0] != (doctor.Class{Namespace: "payments", Name: "db", Provider: "vault", SecretObjects: 1}) {
		t.Fatalf("Pods, Classes = %v, %v, want one of each", found.Pods, found.Classes)
	}
	if text := fmt.Sprintf("%+v", found); strings.Contains(text, canary) {
		t.Errorf("the facts hold what was to be dropped: %s", text)
	}
	for _, asked := range a.asked {
		method, path, _ := strings.Cut(asked, " ")
		if strings.Contains(path, "secrets/") || strings.HasSuffix(path, "/secrets") || strings.Contains(path, "configmaps") && !strings.HasSuffix(path, "/configmaps/portcullis-policy-floor") || method != http.MethodGet && !strings.HasSuffix(path, "reviews") {
			t.Errorf("asked for %s", asked)
		}
	}
}

func TestPagesAreRead(t *testing.T) {
	a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
		"/api/v1/nodes": func(w http.ResponseWriter, r *http.Request) {
			body := `{"metadata":{"continue":"more"},"items":[{"metadata":{"name":"node1"}}]}`
			if r.URL.Query().Get("continue") == "more" {
				body = `{"items":[{"metadata":{"name":"node2"}}]}`
			}
			says(http.StatusOK, body)(w, r)
		},
		"/api/v1/persistentvolumes": says(http.StatusOK, `{"metadata":{"continue":"more"},"items":[]}`), // for ever
	})
	found := gather(t, a)
	if n := found.Nodes.Value; len(n) != 2 || n[1].Name != "node2" {
		t.Errorf("Nodes = %v, want two", n)
	}
	if found.Volumes.Err == nil {
		t.Error("a list without end has no error")
	}
}

// Every answer that is none is an error in its place, in our words.
func TestAnswersThatAreNone(t *testing.T) {
	a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
		"/api/v1/nodes": says(http.StatusForbidden, canary),
		"/apis/storage.k8s.io/v1/csidrivers/" + driver:                            says(http.StatusNotFound, notFound),
		"/api/v1/namespaces/kube-system/serviceaccounts/secrets-store-csi-driver": says(http.StatusNotFound, "404 page not found"),
		"/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasses":               says(http.StatusNotFound, "404 page not found"),
		"/api/v1/pods":             says(http.StatusOK, "\x1b[2J"+canary),
		"/api/v1/events":           says(http.StatusUnauthorized, canary),
		"/apis/apps/v1/daemonsets": says(http.StatusInternalServerError, canary),
		"/apis/storage.k8s.io/v1/csinodes": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/"+canary, http.StatusFound)
		},
	})
	found := gather(t, a)
	if found.DriverObject.Err != nil || found.DriverObject.Value != nil {
		t.Errorf("DriverObject = %+v, want none and no error", found.DriverObject)
	}
	for what, test := range map[string]struct{ err, want error }{
		"nodes": {found.Nodes.Err, doctor.ErrForbidden}, "account": {found.ServiceAccount.Err, doctor.ErrNotServed}, "classes": {found.Classes.Err, doctor.ErrNotServed},
		"pods": {found.Pods.Err, nil}, "events": {found.Events.Err, nil}, "daemonsets": {found.DaemonSets.Err, nil}, "csinodes": {found.CSINodes.Err, nil},
	} {
		if test.err == nil || test.want != nil && !errors.Is(test.err, test.want) || strings.Contains(test.err.Error(), canary) {
			t.Errorf("%s: error = %v, want %v, in our words", what, test.err, test.want)
		}
	}
}

// An API server that hangs costs the deadline and no more.
func TestDeadline(t *testing.T) {
	release := make(chan struct{})
	hang := func(http.ResponseWriter, *http.Request) { <-release }
	defer close(release)
	for _, path := range []string{"/version", "/api/v1/pods"} {
		a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){path: hang})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		began := time.Now()
		found, err := cluster.Gather(ctx, a.config())
		cancel()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s hangs: Gather() took %v", path, took)
		}
		if path == "/version" && (err == nil || !strings.Contains(err.Error(), "in time; hint: ")) {
			t.Errorf("%s hangs: Gather() = %v, want an error with a hint", path, err)
		}
		if path != "/version" && (err != nil || found.Pods.Err == nil || found.Nodes.Err != nil) {
			t.Errorf("%s hangs: Gather() = %v, want an error for pods alone", path, err)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	c := newAPI(t, nil).config()
	c.REST = &rest.Config{Host: "http://user:" + canary + "@127.0.0.1:1"}
	if _, err := cluster.Gather(t.Context(), c); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("Gather() = %v, want an error without the address", err)
	}
	c.Driver = ""
	if _, err := cluster.Gather(t.Context(), c); err == nil {
		t.Error("Gather() of a Config without a driver has no error")
	}
}

// Only drivers of this kind and name are kept, and no provider's DaemonSet.
func TestWhichDaemonSets(t *testing.T) {
	set := func(name, image, arg, volume string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"template":{"spec":{"containers":[{"image":%q,"args":[%q]}],"volumes":[{"name":"v","hostPath":{"path":%q}}]}}}}`, name, image, arg, volume)
	}
	a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){"/apis/apps/v1/daemonsets": says(http.StatusOK, `{"items":[`+strings.Join([]string{
		set("ours", "ghcr.io/portcullis-csi/portcullis-node:1", "--v=4", "/x"),
		set("upstream", "registry.k8s.io/csi-secrets-store/driver:v1", "--drivername="+driver, "/x"),
		set("vendor", "vendor.example/driver", "-v", "/var/lib/kubelet/plugins/csi-secrets-store/"),
		set("provider", "mcr.microsoft.com/oss/azure/secrets-store/provider-azure", "-v", "/var/run/secrets-store-csi-providers"),
		set("other", "registry.k8s.io/csi-secrets-store/driver:v1", "--drivername=other.example", "/x"),
	}, ",")+`]}`)})
	var names []string
	for _, d := range gather(t, a).DaemonSets.Value {
		names = append(names, d.Name)
	}
	if got := strings.Join(names, " "); got != "ours upstream vendor" {
		t.Errorf("DaemonSets = %s, want ours upstream vendor", got)
	}
}

// Where reviews are forbidden the roles are read, and say the same.
func TestRightsByRoles(t *testing.T) {
	const roles = `{"items":[{"metadata":{"name":"plugin"},"rules":[
		{"apiGroups":[""],"resources":["pods","namespaces"],"verbs":["get","list","watch"]},
		{"apiGroups":["storage.k8s.io"],"resources":["csidrivers"],"resourceNames":["` + driver + `"],"verbs":["get"]},
		{"apiGroups":["storage.k8s.io"],"resources":["csidrivers"],"resourceNames":["other"],"verbs":["*"]},
		{"nonResourceURLs":["/openid/*"],"verbs":["get"]}]},
		{"metadata":{"name":"everything"},"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}]}`
	bindings := func(subject string) string {
		return `{"items":[{"roleRef":{"name":"plugin"},"subjects":[` + subject + `]},{"roleRef":{"name":"everything"},"subjects":[{"kind":"User","name":"admin"}]}]}`
	}
	for name, subject := range map[string]string{
		"account": `{"kind":"ServiceAccount","namespace":"kube-system","name":"secrets-store-csi-driver"}`,
		"user":    `{"kind":"User","name":"system:serviceaccount:kube-system:secrets-store-csi-driver"}`,
		"group":   `{"kind":"Group","name":"system:serviceaccounts:kube-system"}`,
	} {
		a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
			"/apis/authorization.k8s.io/v1/subjectaccessreviews":     says(http.StatusForbidden, ""),
			"/apis/rbac.authorization.k8s.io/v1/clusterroles":        says(http.StatusOK, roles),
			"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings": says(http.StatusOK, bindings(subject)),
			"/apis/authentication.k8s.io/v1/selfsubjectreviews":      says(http.StatusCreated, `{"status":{"userInfo":{"username":"somebody"}}}`),
		})
		var has []string
		found := gather(t, a).Rights
		for _, r := range found.Value {
			if r.Allowed {
				has = append(has, r.String())
			}
		}
		const want = "get pods, list pods, watch pods, get namespaces, list namespaces, watch namespaces, get csidrivers.storage.k8s.io/" + driver + ", get /openid/v1/jwks"
		if got := strings.Join(has, ", "); found.Err != nil || got != want {
			t.Errorf("%s: rights = %s, %v, want %s", name, got, found.Err, want)
		}
	}
	a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
		"/apis/authorization.k8s.io/v1/subjectaccessreviews":     says(http.StatusForbidden, ""),
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings": says(http.StatusForbidden, ""),
	})
	if err := gather(t, a).Rights.Err; !errors.Is(err, doctor.ErrForbidden) {
		t.Errorf("rights without any right = %v, want ErrForbidden", err)
	}
}
