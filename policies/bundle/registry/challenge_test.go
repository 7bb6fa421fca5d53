package registry_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
)

// greedy asks for another scope at each request, and is content with the token that it
// then gets. It notes the longest question for a token.
type greedy struct {
	server  *server
	asked   atomic.Int64
	longest atomic.Int64
	always  bool // it is never content
}

func (g *greedy) before(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			g.longest.Store(max(g.longest.Load(), int64(len(r.URL.RawQuery))))
			_, _ = fmt.Fprintf(w, `{"token":"t%d"}`, g.asked.Load())
			return
		}
		want := fmt.Sprintf("Bearer t%d", g.asked.Load())
		if r.Header.Get("Authorization") == want && !g.always && r.URL.Path != "/v2/" {
			g.asked.Add(1) // the next one needs another
			h.ServeHTTP(w, r)
			return
		}
		g.asked.Add(1)
		scope := fmt.Sprintf("repository:p%d%s:pull", g.asked.Load(), strings.Repeat("x", 8<<10))
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="s",scope=%q`, g.server.URL+"/token", scope))
		w.WriteHeader(http.StatusUnauthorized)
	})
}

// TestScopesDoNotPileUp: what a registry asks tokens for is kept with the session, and
// a look follows each half minute, for months.
func TestScopesDoNotPileUp(t *testing.T) {
	g := &greedy{}
	g.server = serve(t, true, g.before)
	c := client(t, registry.Config{CA: g.server.ca()})
	ref := g.server.reference(t, "p:1")
	if _, err := c.Push(t.Context(), ref, tarball(t, "one"), nil); err != nil {
		t.Fatal(err)
	}
	g.longest.Store(0)
	for range 60 {
		if _, err := c.Resolve(t.Context(), ref); err != nil {
			t.Fatalf("Resolve() = %v, want that a new token is got", err)
		}
	}
	if n := g.longest.Load(); n == 0 || n > 40*(9<<10) {
		t.Errorf("a token was asked for with %d bytes, want no more than a few scopes", n)
	}
}

// TestChallengesEnd: a registry that is never content does not keep a client busy.
func TestChallengesEnd(t *testing.T) {
	g := &greedy{always: true}
	g.server = serve(t, true, g.before)
	c := client(t, registry.Config{CA: g.server.ca(), Timeout: 10 * time.Second})
	for range 3 {
		_, err := c.Resolve(t.Context(), g.server.reference(t, "p:1"))
		failed(t, err, registry.ReasonUnauthorized)
	}
	if n := g.asked.Load(); n > 30 {
		t.Errorf("it was asked %d times in three looks", n)
	}
}
