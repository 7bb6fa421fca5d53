package registry_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
)

// TestPlainHTTP: unasked only to a loopback address. A name that resolves to one
// is none, and go-containerregistry's list of private addresses and *.local is not
// followed.
func TestPlainHTTP(t *testing.T) {
	s := start(t, ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))), httptest.NewServer)
	if _, err := client(t, registry.Config{}).Push(t.Context(), s.reference(t, "p:1"), tarball(t, "one"), nil); err != nil {
		t.Errorf("Push() to a loopback address without TLS = %v", err)
	}
	for _, host := range []string{"10.9.8.7:5000", "192.168.1.2", "registry.local:80", "registry.example"} {
		front := elsewhere(t, s.Config.Handler)
		proxy := func(*http.Request) (*url.URL, error) { return url.Parse(front.URL) }
		ref := reference(t, "oci://"+host+"/p:1")
		_, err := client(t, registry.Config{Proxy: proxy}).Resolve(t.Context(), ref)
		failed(t, err, registry.ReasonPlainHTTP)
		for _, r := range front.requests() {
			if r.Method != http.MethodConnect {
				t.Errorf("%s %s was sent without TLS, want nothing", r.Method, r.URL)
			}
		}
		if _, err := client(t, registry.Config{Proxy: proxy, PlainHTTP: true}).Push(t.Context(), ref, tarball(t, "one"), nil); err != nil {
			t.Errorf("Push() to %s with PlainHTTP = %v", host, err)
		}
	}
}

// elsewhere is a proxy to hosts that are not this one, none of which speaks TLS.
func elsewhere(t *testing.T, h http.Handler) *server {
	t.Helper()
	return start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			h.ServeHTTP(w, r)
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		_, _ = c.Read(make([]byte, 1<<10)) // the client's greeting
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		_ = c.Close()
	}), httptest.NewServer)
}

func TestTLS(t *testing.T) {
	s := serve(t, true, open)
	ref := s.reference(t, "p:1")
	_, err := client(t, registry.Config{}).Resolve(t.Context(), ref)
	e := failed(t, err, registry.ReasonTLS)
	if !strings.Contains(e, "CA file") {
		t.Errorf("error = %q, want it to name the CA file", e)
	}
	_, port, _ := net.SplitHostPort(s.host())
	_, err = client(t, registry.Config{CA: s.ca()}).Resolve(t.Context(), reference(t, "oci://localhost:"+port+"/p:1"))
	failed(t, err, registry.ReasonTLS)
	if _, err := registry.New(registry.Config{CA: []byte("no certificate")}); err == nil {
		t.Error("New() with a CA that holds no certificate = nil, want an error")
	}
	if _, err := registry.New(registry.Config{SignatureRepository: "ghcr.io/p:tag"}); err == nil {
		t.Error("New() with a signature repository that has a tag = nil, want an error")
	}
}

func TestUnreachable(t *testing.T) {
	s := serve(t, true, open)
	ref := s.reference(t, "p:1")
	s.Close()
	_, err := client(t, registry.Config{CA: s.ca()}).Resolve(t.Context(), ref)
	failed(t, err, registry.ReasonUnavailable)
}

// TestCanceled: a daemon that stops does not wait for a registry.
func TestCanceled(t *testing.T) {
	s := start(t, answers{"/v2/": slow}, httptest.NewTLSServer)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := client(t, registry.Config{CA: s.ca()}).Resolve(ctx, s.reference(t, "p:1"))
	failed(t, err, registry.ReasonTimeout)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled in it", err)
	}
}
