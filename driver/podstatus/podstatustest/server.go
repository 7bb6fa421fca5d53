package podstatustest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

const statuses = "secretproviderclasspodstatuses"

// Fault answers a request in the place of the API server; nil lets it through.
type Fault func(r *http.Request) *apierrors.StatusError

// Server is an API server in memory.
type Server struct {
	t     testing.TB
	http  *httptest.Server
	ended chan struct{}

	mu       sync.Mutex
	version  int
	objects  map[types.NamespacedName]*spcv1.SecretProviderClassPodStatus
	pods     map[types.NamespacedName]string // to UID
	events   []corev1.Event
	requests []string
	latency  time.Duration
	fault    Fault
	inFlight int
	most     int // requests at once
	unread   atomic.Int64
}

// Start returns a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, ended: make(chan struct{}), objects: map[types.NamespacedName]*spcv1.SecretProviderClassPodStatus{}, pods: map[types.NamespacedName]string{}}
	mux := http.NewServeMux()
	const all = "/apis/" + spcv1.GroupName + "/v1/"
	const path = all + "namespaces/{namespace}/" + statuses
	mux.HandleFunc("GET "+all+statuses, s.list)
	mux.HandleFunc("POST "+path, s.create)
	mux.HandleFunc("GET "+path+"/{name}", s.get)
	mux.HandleFunc("PUT "+path+"/{name}", s.update)
	mux.HandleFunc("DELETE "+path+"/{name}", s.remove)
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/pods/{name}", s.pod)
	mux.HandleFunc("POST /api/v1/namespaces/{namespace}/events", s.createEvent)
	mux.HandleFunc("PATCH /api/v1/namespaces/{namespace}/events/{name}", s.patchEvent)
	s.http = httptest.NewServer(s.around(mux))
	t.Cleanup(func() {
		close(s.ended) // what still waits for an answer
		s.http.Close()
	})
	return s
}

// REST returns how to reach the server.
func (s *Server) REST() *rest.Config { return &rest.Config{Host: s.http.URL} }

// SlowDown makes every answer take so long.
func (s *Server) SlowDown(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = d
}

// Break puts a fault in place, or takes it away with nil.
func (s *Server) Break(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Requests returns method and resource of every request so far, in order.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// MostAtOnce returns how many requests there were at the same time.
func (s *Server) MostAtOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// Unread returns how many answers the client did not take whole.
func (s *Server) Unread() int64 { return s.unread.Load() }

// AddPod puts a pod into the cluster, in the place of one of the same name.
func (s *Server) AddPod(namespace, name, uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods[types.NamespacedName{Namespace: namespace, Name: name}] = uid
}

// Put stores an object as somebody else would.
func (s *Server) Put(o *spcv1.SecretProviderClassPodStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(o.DeepCopy())
}

// Delete takes an object away as the garbage collector would.
func (s *Server) Delete(namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, types.NamespacedName{Namespace: namespace, Name: name})
}

// Object returns an object, nil if there is none.
func (s *Server) Object(namespace, name string) *spcv1.SecretProviderClassPodStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[types.NamespacedName{Namespace: namespace, Name: name}].DeepCopy()
}

// Objects returns how many objects there are.
func (s *Server) Objects() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.objects)
}

// Events returns all events.
func (s *Server) Events() []corev1.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Quiet waits until there are at least so many requests and done reports true,
// and then a little for requests too many.
func (s *Server) Quiet(least int, done func() bool) []string {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for len(s.Requests()) < least || !done() {
		if time.Now().After(deadline) {
			s.t.Fatalf("requests = %q, want %d and an end", s.Requests(), least)
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(30 * time.Millisecond)
	return s.Requests()
}

func (s *Server) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		resource := parts[len(parts)-1]
		if i := slices.Index(parts, "namespaces"); i >= 0 {
			resource = parts[i+2]
		}
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+resource)
		s.inFlight++
		s.most = max(s.most, s.inFlight)
		latency, fault := s.latency, s.fault
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			s.inFlight--
			s.mu.Unlock()
		}()
		// Only a server that has read the body notices that its client is gone.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if latency > 0 {
			select {
			case <-time.After(latency):
			case <-r.Context().Done():
				return
			case <-s.ended:
				return
			}
		}
		if fault != nil {
			if err := fault(r); err != nil {
				s.fail(w, err)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) fail(w http.ResponseWriter, err *apierrors.StatusError) {
	answer := err.Status()
	answer.APIVersion, answer.Kind = "v1", "Status"
	if d := answer.Details; d != nil && d.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(d.RetryAfterSeconds)))
	}
	s.reply(w, int(answer.Code), answer)
}

func (s *Server) reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.unread.Add(1)
	}
}

func (s *Server) read(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		s.fail(w, apierrors.NewBadRequest(err.Error()))
		return false
	}
	return true
}

func key(r *http.Request) types.NamespacedName {
	return types.NamespacedName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
}

func resource() schema.GroupResource {
	return schema.GroupResource{Group: spcv1.GroupName, Resource: statuses}
}

// store gives an object a new version, and a UID if it has none.
func (s *Server) store(o *spcv1.SecretProviderClassPodStatus) {
	s.version++
	o.ResourceVersion = strconv.Itoa(s.version)
	if o.UID == "" {
		o.UID = types.UID(fmt.Sprintf("object-%d", s.version))
	}
	o.APIVersion, o.Kind = spcv1.GroupName+"/v1", "SecretProviderClassPodStatus"
	s.objects[types.NamespacedName{Namespace: o.Namespace, Name: o.Name}] = o
}

// DropEvents deletes all events, as their time to live does.
func (s *Server) DropEvents() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = nil
}
