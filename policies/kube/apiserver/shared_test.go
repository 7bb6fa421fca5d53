package apiserver_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

// gate holds back the answers of the API server until it is opened.
type gate struct {
	entered chan struct{}
	open    chan struct{}
}

func (f *fixture) gate() *gate {
	g := &gate{entered: make(chan struct{}, 1000), open: make(chan struct{})}
	f.api.answers(func(_ http.ResponseWriter, r *http.Request) bool {
		g.entered <- struct{}{}
		select {
		case <-g.open:
		case <-r.Context().Done():
		}
		return false
	})
	return g
}

func TestManyCallersShareOneRequest(t *testing.T) {
	f := newFixture(t)
	g := f.gate()
	var wg sync.WaitGroup
	var started sync.WaitGroup
	for range 200 {
		started.Add(1)
		wg.Go(func() {
			started.Done()
			class, err := f.Class(t.Context(), "payments", "db")
			if err != nil || class.Name != "db" {
				t.Errorf("Class() = %v, %v, want the class", class, err)
				return
			}
			class.Spec.Parameters["objects"] = "changed by its owner" // or the race detector says so
		})
	}
	started.Wait()
	<-g.entered
	close(g.open)
	wg.Wait()
	if n := f.api.count(classPath); n != 1 {
		t.Errorf("200 callers made %d requests, want 1", n)
	}
	class, err := f.Class(t.Context(), "payments", "db")
	if err != nil || class.Spec.Parameters["objects"] != "- objectName: a\n" {
		t.Errorf("Class() = %v, %v, want it unchanged", class, err)
	}
}

// An answer is shared for less than two seconds after its request began.
func TestAnswersAreSharedBriefly(t *testing.T) {
	f := newFixture(t)
	read := func() string {
		account, err := f.ServiceAccount(t.Context(), "payments", "api")
		if err != nil {
			t.Fatal(err)
		}
		account.Annotations["tier"] += " changed by its owner"
		return account.ResourceVersion
	}
	first := read()
	f.api.put(accountPath, account())
	for _, step := range []struct {
		pass time.Duration
		same bool
	}{{0, true}, {2*time.Second - 1, true}, {1, false}} {
		f.clock.pass(step.pass)
		if got := read(); (got == first) != step.same {
			t.Errorf("version after another %v = %s, want the first one (%s): %t", step.pass, got, first, step.same)
		}
	}
	f.clock.pass(-time.Hour) // somebody set the clock
	if n := f.api.count(accountPath); n != 2 {
		t.Fatalf("%d requests, want 2", n)
	}
	if read(); f.api.count(accountPath) != 3 {
		t.Error("an answer from the future is shared, want another request")
	}
	if got, err := f.ServiceAccount(t.Context(), "payments", "api"); err != nil || got.Annotations["tier"] != "1" {
		t.Errorf("ServiceAccount() = %v, %v, want the caller's own copy", got, err)
	}
}

// Granting stops with the API server, at most two seconds later.
func TestNothingIsGrantedFromMemory(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	for _, ask := range reads() {
		if err := ask(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	f.api.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	f.api.breakWatches()
	f.clock.pass(2 * time.Second)
	for object, ask := range reads() {
		err := ask(t.Context(), f)
		switch object {
		case "service account", "SecretProviderClass":
			checkUnavailable(t, err, object, apiserver.ServerError)
		default:
			if err != nil {
				t.Errorf("%s = %v, want the cache to keep what it has", object, err)
			}
		}
	}
	f.clock.pass(3 * time.Minute)
	for object, ask := range reads() {
		checkUnavailable(t, ask(t.Context(), f), object, apiserver.ServerError)
	}
}

// One caller's end is not the others'.
func TestCancellationIsTheCallersOwn(t *testing.T) {
	f := newFixture(t)
	g := f.gate()
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := f.Class(ctx, "payments", "db"); first <- err }()
	<-g.entered // the first caller's request is under way
	go func() { _, err := f.Class(t.Context(), "payments", "db"); second <- err }()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("Class() of the one who gave up = %v, want context.Canceled", err)
	}
	close(g.open)
	if err := <-second; err != nil {
		t.Errorf("Class() of the other = %v, want no error", err)
	}
	if n := f.api.count(classPath); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// Neither an absence nor an error is remembered.
func TestOnlyAnswersAreShared(t *testing.T) {
	f := newFixture(t)
	f.api.remove(classPath)
	for range 2 {
		if _, err := f.Class(t.Context(), "payments", "db"); !errors.Is(err, kube.ErrNotFound) {
			t.Fatalf("Class() = %v, want kube.ErrNotFound", err)
		}
	}
	f.api.put(classPath, class())
	if _, err := f.Class(t.Context(), "payments", "db"); err != nil {
		t.Errorf("Class() of one just created = %v, want no error", err)
	}
	f.clock.pass(2 * time.Second)
	f.api.says(http.StatusServiceUnavailable, "")
	_, err := f.Class(t.Context(), "payments", "db")
	checkUnavailable(t, err, "SecretProviderClass", apiserver.ServerError)
	f.api.answers(nil)
	if _, err := f.Class(t.Context(), "payments", "db"); err != nil {
		t.Errorf("Class() after an error = %v, want no error", err)
	}
}

// Who asks after a class was created must not get the answer to a question from
// before.
func TestCreatedWhileAnotherWaits(t *testing.T) {
	f := newFixture(t)
	f.api.remove(classPath)
	entered, open := make(chan struct{}), make(chan struct{})
	var asked atomic.Int64
	f.api.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		if asked.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		close(entered)
		<-open // the answer was found before the class was created
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(notFound("secrets-store.csi.x-k8s.io", "secretproviderclasses", "db")))
		return true
	})
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := f.Class(t.Context(), "payments", "db"); first <- err }()
	<-entered
	f.api.put(classPath, class())
	go func() { _, err := f.Class(t.Context(), "payments", "db"); second <- err }()
	time.Sleep(50 * time.Millisecond) // most likely it waits with the first by now; both orders must do
	close(open)
	if err := <-first; !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("Class() of the first = %v, want kube.ErrNotFound", err)
	}
	if err := <-second; err != nil {
		t.Errorf("Class() of one that was created before = %v, want no error", err)
	}
}

// A request that hangs does not stand for those that come much later.
func TestSlowRequestIsNotJoinedForLong(t *testing.T) {
	f := newFixture(t)
	g := f.gate()
	done := make(chan error, 2)
	ask := func() { _, err := f.Class(t.Context(), "payments", "db"); done <- err }
	go ask()
	<-g.entered
	f.clock.pass(2 * time.Second)
	go ask()
	<-g.entered // a second request
	close(g.open)
	for range 2 {
		if err := <-done; err != nil {
			t.Errorf("Class() = %v, want no error", err)
		}
	}
}

// Different objects are different requests, also of the same name.
func TestObjectsAreNotMixedUp(t *testing.T) {
	f := newFixture(t)
	other := class()
	other.Namespace, other.Spec.Provider = "shop", "acme"
	f.api.put("/apis/secrets-store.csi.x-k8s.io/v1/namespaces/shop/secretproviderclasses/db", other)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			namespace, provider := "payments", "local"
			if i%2 == 0 {
				namespace, provider = "shop", "acme"
			}
			got, err := f.Class(t.Context(), namespace, "db")
			if err != nil || got.Namespace != namespace || string(got.Spec.Provider) != provider {
				t.Errorf("Class(%s) = %v, %v, want that of %s", namespace, got, err, provider)
			}
		})
	}
	wg.Wait()
}

// A panic while reading is the end of one request, not of the process.
func TestPanicIsAnError(t *testing.T) {
	f := newFixture(t, func(c *apiserver.Config) {
		c.REST.CAData = nil
		c.REST.Transport = panicking{}
	})
	for range 2 {
		_, err := f.Class(t.Context(), "payments", "db")
		if e, ok := errors.AsType[*apiserver.UnavailableError](err); !ok || e.Reason != apiserver.InvalidAnswer {
			t.Errorf("Class() = %v, want *UnavailableError", err)
		}
	}
	if log := f.log.String(); log == "" {
		t.Error("the log is empty, want the panic")
	}
}

type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic(canary) }
