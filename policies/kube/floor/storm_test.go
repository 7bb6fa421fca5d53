package floor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/policies/kube/floor"
)

func (s *server) have(data map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.object = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "f", ResourceVersion: "1", Labels: map[string]string{"app": "portcullis"}}, Data: data}
}

func (s *server) now() corev1.ConfigMap {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.object.DeepCopy()
}

// TestFloorIsTheHighestOfAStorm: many replicas raise at once. Whoever is told that
// it was done finds a floor at least as high, it never goes down, and in the end it
// is the highest that was taken.
func TestFloorIsTheHighestOfAStorm(t *testing.T) {
	s := &server{}
	f := open(t, s)
	var highest, done atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 8 {
				m := mark(int64(1+n*16+i), fmt.Sprintf("%x", i))
				if f.Raise(t.Context(), m) != nil {
					continue // others wrote all the time
				}
				done.Add(1)
				for have := highest.Load(); have < m.Serial && !highest.CompareAndSwap(have, m.Serial); have = highest.Load() {
				}
				if got, err := f.Read(t.Context()); err != nil || got.Serial < m.Serial {
					t.Errorf("Read() after Raise(%d) = %v, %v, want at least that", m.Serial, got, err)
				}
			}
		})
	}
	wg.Wait()
	if got, err := f.Read(t.Context()); err != nil || got.Serial != highest.Load() || done.Load() == 0 {
		t.Errorf("Read() = %v, %v, want serial %d, the highest of %d that were taken", got, err, highest.Load(), done.Load())
	}
}

// TestConflictsAreCounted: what is written is decided anew after each, and the
// attempts end.
func TestConflictsAreCounted(t *testing.T) {
	for conflicts := range 7 {
		s := &server{}
		f := open(t, s)
		if err := f.Raise(t.Context(), mark(5, "a")); err != nil {
			t.Fatal(err)
		}
		s.conflicts = conflicts
		err := f.Raise(t.Context(), mark(6, "b"))
		got, rerr := f.Read(t.Context())
		if want := conflicts < 5; (err == nil) != want || rerr != nil || (got == mark(6, "b")) != want {
			t.Errorf("Raise() after %d conflicts = %v, floor %v, %v, want it done: %v", conflicts, err, got, rerr, want)
		}
	}
}

// TestAConflictWithAHigherFloorIsNone: somebody else has raised it further.
func TestAConflictWithAHigherFloorIsNone(t *testing.T) {
	s := &server{}
	var once sync.Once
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			once.Do(func() { s.have(map[string]string{"serial": "9", "digest": mark(9, "c").Digest}) })
			s.mu.Lock()
			s.object.ResourceVersion = "other"
			s.mu.Unlock()
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	f, err := floor.New(floor.Config{REST: &rest.Config{Host: web.URL}, Namespace: "ns", Name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	s.have(map[string]string{"serial": "5", "digest": mark(5, "a").Digest})
	if err := f.Raise(t.Context(), mark(7, "b")); err != nil {
		t.Errorf("Raise(7) while another raises to 9 = %v, want nil", err)
	}
	if got, err := f.Read(t.Context()); err != nil || got != mark(9, "c") {
		t.Errorf("Read() = %v, %v, want the higher floor left alone", got, err)
	}
}

// TestAFloorWithoutDataIsMissing, and is the chart's to make: what else the object
// has stays.
func TestAFloorWithoutDataIsMissing(t *testing.T) {
	for name, data := range map[string]map[string]string{"none": nil, "empty": {}} {
		s := &server{}
		f := open(t, s)
		s.have(data)
		if got, err := f.Read(t.Context()); !errors.Is(err, floor.ErrMissing) || got != (floor.Mark{}) {
			t.Errorf("Read() of data that is %s = %v, %v, want ErrMissing", name, got, err)
		}
		if err := f.Raise(t.Context(), mark(3, "a")); err != nil {
			t.Fatalf("Raise() over data that is %s = %v", name, err)
		}
		if got := s.now(); got.Labels["app"] != "portcullis" || got.Data["serial"] != "3" {
			t.Errorf("ConfigMap = %v, want serial 3 and the chart's labels", got)
		}
	}
	// Something without a serial is neither empty nor a floor.
	for _, data := range []map[string]string{{"digest": mark(3, "a").Digest}, {"other": "x"}, {"serial": ""}, {"Serial": "3"}, {"serial": "3", "digest": "sha256:x"}} {
		s := &server{}
		f := open(t, s)
		s.have(data)
		if got, err := f.Read(t.Context()); err == nil || errors.Is(err, floor.ErrMissing) {
			t.Errorf("Read() of %v = %v, %v, want an error that is not ErrMissing", data, got, err)
		}
		if err := f.Raise(t.Context(), mark(4, "a")); err == nil || s.now().Data["serial"] != data["serial"] {
			t.Errorf("Raise() over %v = %v, want it left alone", data, err)
		}
	}
}

// TestARepairedFloorNeedsNoDigest: a person writes the serial alone, and the webhook
// adds the digest of its bundle.
func TestARepairedFloorNeedsNoDigest(t *testing.T) {
	s := &server{}
	f := open(t, s)
	s.have(map[string]string{"serial": "5"})
	if got, err := f.Read(t.Context()); err != nil || got != (floor.Mark{Serial: 5}) {
		t.Errorf("Read() = %v, %v, want serial 5 without a digest", got, err)
	}
	if err := f.Raise(t.Context(), mark(4, "a")); err != nil || s.now().Data["digest"] != "" {
		t.Errorf("Raise(4) over 5 = %v, %v, want nothing written", err, s.now().Data)
	}
	if err := f.Raise(t.Context(), mark(5, "a")); err != nil {
		t.Errorf("Raise(5) over 5 without a digest = %v, want nil", err)
	}
	if got, err := f.Read(t.Context()); err != nil || got != mark(5, "a") {
		t.Errorf("Read() = %v, %v, want the digest added", got, err)
	}
}

// hostile answers everything in one way.
func hostile(t *testing.T, answer http.HandlerFunc) *floor.Floor {
	t.Helper()
	web := httptest.NewServer(answer)
	t.Cleanup(web.Close)
	f, err := floor.New(floor.Config{REST: &rest.Config{Host: web.URL, BearerToken: "SECRET"}, Namespace: "ns", Name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

// TestHostileAnswers: whatever else than the ConfigMap comes is an error: neither a
// floor, nor a floor that is missing, and nothing is written over it.
func TestHostileAnswers(t *testing.T) {
	digest := mark(1, "a").Digest
	object := func(namespace, name string) string {
		return fmt.Sprintf(`{"metadata":{"namespace":%q,"name":%q},"data":{"serial":"1","digest":%q}}`, namespace, name, digest)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"nothing":              says(""),
		"null":                 says("null"),
		"a list":               says("[]"),
		"a page":               says("<html>log in</html>"),
		"an empty object":      says("{}"),
		"another name":         says(object("ns", "g")),
		"another namespace":    says(object("other", "f")),
		"cut":                  says(object("ns", "f")[:60]),
		"more after it":        says(object("ns", "f") + object("ns", "f")),
		"a serial in a number": says(`{"metadata":{"namespace":"ns","name":"f"},"data":{"serial":1}}`),
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 4096)); err != nil {
					return
				}
			}
		},
		"less than promised": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		},
		"a long object": says(`{"metadata":{"namespace":"ns","name":"f"},"data":{"serial":"1","x":"` + strings.Repeat("x", 64<<10) + `"}}`),
		"unauthorized":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"throttled":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
		"no content":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"closed":        func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			var writes atomic.Int64
			f := hostile(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet {
					writes.Add(1)
				}
				answer(w, r)
			})
			got, err := f.Read(t.Context())
			if err == nil || errors.Is(err, floor.ErrMissing) || got != (floor.Mark{}) {
				t.Errorf("Read() = %v, %v, want an error that is not ErrMissing", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("error = %q, which repeats the token", err)
			}
			if err := f.Raise(t.Context(), mark(9, "b")); err == nil || writes.Load() != 0 {
				t.Errorf("Raise() = %v after %d writes, want an error and none", err, writes.Load())
			}
		})
	}
}

// TestNoRedirectGetsTheToken: an answer does not choose who is asked.
func TestNoRedirectGetsTheToken(t *testing.T) {
	var asked atomic.Int64
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(thief.Close)
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		f := hostile(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL, status) })
		if _, err := f.Read(t.Context()); err == nil || errors.Is(err, floor.ErrMissing) {
			t.Errorf("Read() answered %d = %v, want an error that is not ErrMissing", status, err)
		}
		if err := f.Raise(t.Context(), mark(9, "b")); err == nil {
			t.Errorf("Raise() answered %d = nil, want an error", status)
		}
	}
	if asked.Load() != 0 {
		t.Errorf("%d requests went where an answer pointed, want 0", asked.Load())
	}
}

// TestRefusedWritesAreErrors: a webhook that may not write must not believe that
// it has.
func TestRefusedWritesAreErrors(t *testing.T) {
	for _, missing := range []bool{false, true} {
		for _, status := range []int{http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusNotFound, http.StatusInternalServerError, http.StatusAccepted} {
			s := &server{}
			if !missing {
				s.have(map[string]string{"serial": "5", "digest": mark(5, "a").Digest})
			}
			f := hostile(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet {
					w.WriteHeader(status)
					return
				}
				s.ServeHTTP(w, r)
			})
			err := f.Raise(t.Context(), mark(6, "b"))
			if err == nil || !strings.Contains(err.Error(), "; hint: ") {
				t.Errorf("Raise() answered %d = %v, want an error with a hint", status, err)
			}
		}
	}
}

// TestASlowServerIsLeft: neither a caller's end nor the floor's own is waited out.
func TestASlowServerIsLeft(t *testing.T) {
	f := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := f.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read() = %v, want context.DeadlineExceeded", err)
	}
	if err := f.Raise(ctx, mark(6, "b")); err == nil {
		t.Error("Raise() = nil, want an error")
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("Read() and Raise() took %v, want about what their caller gave them", took)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string][2]string{"ns/f": {"ns", "f"}, "a-b/c.d-e": {"a-b", "c.d-e"}} {
		if namespace, name, err := floor.Parse(text); err != nil || namespace != want[0] || name != want[1] {
			t.Errorf("Parse(%q) = %q, %q, %v, want %v", text, namespace, name, err, want)
		}
	}
	for _, text := range []string{"", "f", "/f", "ns/", "ns/f/g", "ns/../f", "NS/f", "n.s/f", "ns/f?x", "ns/F", "ns/ f"} {
		if namespace, name, err := floor.Parse(text); err == nil || namespace != "" || name != "" {
			t.Errorf("Parse(%q) = %q, %q, %v, want an error and nothing", text, namespace, name, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]floor.Config{
		"nothing":      {},
		"no namespace": {REST: &rest.Config{Host: "http://127.0.0.1"}, Name: "f"},
		"no name":      {REST: &rest.Config{Host: "http://127.0.0.1"}, Namespace: "ns"},
		"no URL":       {REST: &rest.Config{Host: "http://[::1"}, Namespace: "ns", Name: "f"},
		"no CA":        {REST: &rest.Config{Host: "https://127.0.0.1", TLSClientConfig: rest.TLSClientConfig{CAFile: "/nowhere"}}, Namespace: "ns", Name: "f"},
	} {
		if f, err := floor.New(c); err == nil || f != nil {
			t.Errorf("New(%s) = %v, %v, want an error", name, f, err)
		}
	}
}
