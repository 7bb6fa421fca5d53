package apiserver_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

// A pod's token is in a file that kubelet replaces once an hour: reads, lists
// and watches all take it from there, and a client that takes the place of
// another takes what the file holds by then.
func TestTokenComesFromItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	f := newFixture(t, func(c *apiserver.Config) {
		c.REST.BearerToken, c.REST.BearerTokenFile, c.ReadTimeout = "expired", path, time.Second
	})
	f.run(t)
	for _, ask := range asks() {
		_ = ask(t.Context(), f)
	}
	watches := func() (n int) {
		f.api.mu.Lock()
		defer f.api.mu.Unlock()
		for _, r := range f.api.asked {
			if r.URL.Query().Get("watch") != "" {
				n++
			}
			if got := r.Header.Get("Authorization"); got != "Bearer first" {
				t.Errorf("%s was asked with %q, want the token of the file", r.URL, got)
			}
		}
		return n
	}
	eventually(t, "three watches", func() bool { return watches() >= 3 })

	write("second")
	f.api.answers(func(_ http.ResponseWriter, r *http.Request) bool { // swallows it
		<-r.Context().Done()
		return true
	})
	_, err := f.Class(t.Context(), "payments", "db2")
	checkUnavailable(t, err, "SecretProviderClass", apiserver.Timeout)
	got := make(chan string, 1)
	f.api.answers(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == classPath {
			select {
			case got <- r.Header.Get("Authorization"):
			default:
			}
		}
		return false
	})
	f.clock.pass(10 * time.Second)
	if _, err := f.Class(t.Context(), "payments", "db"); err != nil {
		t.Fatal(err)
	}
	if token := <-got; token != "Bearer second" {
		t.Errorf("a new client asked with %q, want the token that the file holds by now", token)
	}
}
