package apiserver_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

const (
	driverName = "secrets-store.csi.k8s.io"
	podUID     = "11111111-1111-4111-8111-111111111111"
	otherUID   = "22222222-2222-4222-8222-222222222222"
	canary     = "Xcanary7"

	podPath       = "/api/v1/namespaces/payments/pods/api-0"
	namespacePath = "/api/v1/namespaces/payments"
	accountPath   = "/api/v1/namespaces/payments/serviceaccounts/api"
	classPath     = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/payments/secretproviderclasses/db"
	driverPath    = "/apis/storage.k8s.io/v1/csidrivers/" + driverName
	podsPath      = "/api/v1/pods"
	keysPath      = "/openid/v1/jwks"
	discoveryPath = "/.well-known/openid-configuration"
)

// libraryLog holds what client-go logs in all tests of this package.
var libraryLog output

func TestMain(m *testing.M) {
	apiserver.LogTo(slog.New(slog.NewTextHandler(&libraryLog, nil)))
	os.Exit(m.Run())
}

// output is a log that may be written while it is read.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// clock moves when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// api answers as an API server does: objects by path, lists and watches of those
// below a collection, 404 with details for the rest.
type api struct {
	*httptest.Server
	t testing.TB

	mu       sync.Mutex
	version  int
	objects  map[string]map[string]any
	watchers map[chan map[string]any]string
	asked    []*http.Request
	answer   func(w http.ResponseWriter, r *http.Request) bool // in place of all this
}

func newAPI(t testing.TB) *api {
	a := &api{t: t, objects: map[string]map[string]any{}, watchers: map[chan map[string]any]string{}}
	a.Server = httptest.NewUnstartedServer(a)
	a.EnableHTTP2 = true
	a.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelError)
	a.StartTLS()
	t.Cleanup(func() {
		a.breakWatches()
		a.CloseClientConnections()
		a.Close()
	})
	a.put(podPath, pod())
	a.put(namespacePath, namespace())
	a.put(accountPath, account())
	a.put(classPath, class())
	a.put(driverPath, csiDriver())
	return a
}

// config reaches it.
func (a *api) config() *rest.Config {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
	return &rest.Config{Host: a.URL, BearerToken: canary + "-token", TLSClientConfig: rest.TLSClientConfig{CAData: ca}}
}

// collection is where an object is listed, across namespaces.
func collection(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	parts = parts[:len(parts)-1]
	if i := slices.Index(parts, "namespaces"); i >= 0 && i < len(parts)-1 {
		parts = slices.Delete(parts, i, i+2)
	}
	return "/" + strings.Join(parts, "/")
}

// put creates or replaces an object, as JSON has it.
func (a *api) put(path string, o any) {
	a.t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		a.t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		a.t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	meta, ok := fields["metadata"].(map[string]any)
	if !ok {
		a.t.Fatalf("%s has no metadata", path)
	}
	meta["resourceVersion"] = strconv.Itoa(a.version)
	event := "ADDED"
	if a.objects[path] != nil {
		event = "MODIFIED"
	}
	a.objects[path] = fields
	a.tell(path, event, fields)
}

func (a *api) remove(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	a.tell(path, "DELETED", a.objects[path])
	delete(a.objects, path)
}

func (a *api) tell(path, event string, o any) {
	for ch, of := range a.watchers {
		if of == collection(path) {
			ch <- map[string]any{"type": event, "object": o}
		}
	}
}

// breakWatches ends all watches that are under way.
func (a *api) breakWatches() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ch := range a.watchers {
		close(ch)
		delete(a.watchers, ch)
	}
}

// answers has every request answered by f, until it returns false.
func (a *api) answers(f func(w http.ResponseWriter, r *http.Request) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = f
}

// says has every request answered by this.
func (a *api) says(code int, body string) {
	a.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
		return true
	})
}

// count returns how often a path was read.
func (a *api) count(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, r := range a.asked {
		if r.URL.Path == path && r.URL.Query().Get("watch") == "" {
			n++
		}
	}
	return n
}
