package cluster_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/policies/kube/cluster"
)

// slowAPI has every service account, and answers when it is let.
type slowAPI struct {
	*httptest.Server
	let           chan struct{} // closed: at once
	mu            sync.Mutex
	asked         map[string]int // by path
	running, most atomic.Int64
}

func newSlowAPI(t *testing.T) *slowAPI {
	t.Helper()
	a := &slowAPI{let: make(chan struct{}), asked: map[string]int{}}
	a.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.asked[r.URL.Path]++
		a.mu.Unlock()
		for now := a.running.Add(1); ; {
			most := a.most.Load()
			if now <= most || a.most.CompareAndSwap(most, now) {
				break
			}
		}
		defer a.running.Add(-1)
		select {
		case <-a.let:
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, fmt.Sprintf(`{"kind":"ServiceAccount","apiVersion":"v1","metadata":{"name":%q,"namespace":"payments"}}`, path.Base(r.URL.Path)))
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *slowAPI) count(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[path]
}

func (a *slowAPI) reader(t *testing.T) *cluster.Reader {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
	r, err := cluster.New(&rest.Config{Host: a.URL, TLSClientConfig: rest.TLSClientConfig{CAData: ca}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Many who want the same things ask once for each, and eight at a time.
func TestManyReadersAskOnceAndAFewAtATime(t *testing.T) {
	a := newSlowAPI(t)
	r := a.reader(t)
	const accounts, wanted = 40, 200
	var reading sync.WaitGroup
	for i := range wanted {
		reading.Go(func() {
			name := fmt.Sprint("account-", i%accounts)
			if got, err := r.ServiceAccount(t.Context(), "payments", name); err != nil || got.Name != name {
				t.Errorf("ServiceAccount(%s) = %v, %v, want it", name, got, err)
			}
		})
	}
	for end := time.Now().Add(10 * time.Second); a.running.Load() < 8 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	close(a.let)
	reading.Wait()
	asked := 0
	for path, n := range a.asked {
		asked++
		if n != 1 {
			t.Errorf("%s was asked for %d times, want once", path, n)
		}
	}
	if asked != accounts || a.most.Load() != 8 {
		t.Errorf("%d objects were asked for, %d at a time, want %d and 8", asked, a.most.Load(), accounts)
	}
}

// Who waits for the answer to somebody else's question may give up, and the answer
// is still there for the next.
func TestWhoWaitsForAnAnswerMayGiveUp(t *testing.T) {
	a := newSlowAPI(t)
	r := a.reader(t)
	var asking sync.WaitGroup
	asking.Go(func() {
		if _, err := r.ServiceAccount(t.Context(), "payments", "api"); err != nil {
			t.Errorf("ServiceAccount() = %v, want it", err)
		}
	})
	for end := time.Now().Add(10 * time.Second); a.running.Load() == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.ServiceAccount(ctx, "payments", "api"); !errors.Is(err, context.Canceled) {
		t.Errorf("ServiceAccount() = %v, want context.Canceled", err)
	}
	close(a.let)
	asking.Wait()
	if got, err := r.ServiceAccount(t.Context(), "payments", "api"); err != nil || got.Name != "api" {
		t.Errorf("ServiceAccount() = %v, %v, want the answer of before", got, err)
	}
	if n := a.count("/api/v1/namespaces/payments/serviceaccounts/api"); n != 1 {
		t.Errorf("it was asked for %d times, want once", n)
	}
}
