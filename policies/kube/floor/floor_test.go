package floor_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/policies/kube/floor"
)

// server keeps one ConfigMap as an API server does, with its resource version.
type server struct {
	mu        sync.Mutex
	object    *corev1.ConfigMap
	version   int
	conflicts int // that are still to come
	status    int // that everything is answered with, 0 for what is right
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const path = "/api/v1/namespaces/ns/configmaps/"
	var sent corev1.ConfigMap
	if r.Method != http.MethodGet && json.NewDecoder(r.Body).Decode(&sent) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch {
	case s.status != 0:
		w.WriteHeader(s.status)
		return
	case r.Method == http.MethodPost && r.URL.Path+"/" == path || r.Method == http.MethodPost && r.URL.Path == path:
		if s.object != nil {
			w.WriteHeader(http.StatusConflict)
			return
		}
	case r.URL.Path != path+"f" || s.object == nil:
		w.WriteHeader(http.StatusNotFound)
		return
	case r.Method == http.MethodPut && (s.conflicts > 0 || sent.ResourceVersion != s.object.ResourceVersion):
		s.conflicts--
		s.version++
		s.object.ResourceVersion = strconv.Itoa(s.version)
		w.WriteHeader(http.StatusConflict)
		return
	}
	if r.Method != http.MethodGet {
		s.version++
		sent.ResourceVersion = strconv.Itoa(s.version)
		s.object = &sent
	}
	_ = json.NewEncoder(w).Encode(s.object)
}

func open(t *testing.T, s *server) *floor.Floor {
	t.Helper()
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	f, err := floor.New(floor.Config{REST: &rest.Config{Host: web.URL}, Namespace: "ns", Name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mark(serial int64, digit string) floor.Mark {
	return floor.Mark{Serial: serial, Digest: "sha256:" + strings.Repeat(digit, 64)}
}

func TestRaiseOnlyRaises(t *testing.T) {
	s := &server{}
	f := open(t, s)
	if _, err := f.Read(t.Context()); !errors.Is(err, floor.ErrMissing) {
		t.Errorf("Read() of none = %v, want ErrMissing", err)
	}
	for _, tt := range []struct {
		raise, want floor.Mark
		ok          bool
	}{
		{mark(5, "a"), mark(5, "a"), true},
		{mark(5, "a"), mark(5, "a"), true},
		{mark(4, "b"), mark(5, "a"), true},
		{mark(5, "b"), mark(5, "a"), false},
		{mark(7, "b"), mark(7, "b"), true},
		{floor.Mark{Serial: 9, Digest: "x"}, mark(7, "b"), false},
		{mark(0, "b"), mark(7, "b"), false},
	} {
		if err := f.Raise(t.Context(), tt.raise); (err == nil) != tt.ok {
			t.Errorf("Raise(%v) = %v, want no error: %v", tt.raise, err, tt.ok)
		}
		if got, err := f.Read(t.Context()); err != nil || got != tt.want {
			t.Errorf("Read() after Raise(%v) = %v, %v, want %v", tt.raise, got, err, tt.want)
		}
	}
	s.conflicts = 2
	if err := f.Raise(t.Context(), mark(8, "c")); err != nil {
		t.Errorf("Raise() with others writing = %v, want nil", err)
	}
	s.conflicts = 100
	if err := f.Raise(t.Context(), mark(9, "c")); err == nil {
		t.Error("Raise() with others writing all the time = nil, want an error")
	}
}

func TestDamagedFloorIsRefused(t *testing.T) {
	for _, serial := range []string{"", "0", "-1", "07", "+7", " 7", "7x", "9223372036854775808"} {
		s := &server{}
		f := open(t, s)
		if err := f.Raise(t.Context(), mark(5, "a")); err != nil {
			t.Fatal(err)
		}
		s.object.Data["serial"] = serial
		if m, err := f.Read(t.Context()); err == nil {
			t.Errorf("Read() of serial %q = %v, want an error", serial, m)
		}
		if err := f.Raise(t.Context(), mark(6, "a")); err == nil || s.object.Data["serial"] != serial {
			t.Errorf("Raise() over serial %q = %v, want it refused", serial, err)
		}
	}
}

func TestAnAnswerThatIsNone(t *testing.T) {
	for _, status := range []int{http.StatusForbidden, http.StatusInternalServerError, http.StatusFound} {
		f := open(t, &server{status: status})
		if _, err := f.Read(t.Context()); err == nil || errors.Is(err, floor.ErrMissing) {
			t.Errorf("Read() answered %d = %v, want an error that is not ErrMissing", status, err)
		}
	}
}
