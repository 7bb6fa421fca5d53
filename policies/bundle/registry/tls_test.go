package registry_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
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
	front := listenElsewhere(t, s.Config.Handler)
	ref := reference(t, "oci://"+front.host()+"/p:1")
	_, err := client(t, registry.Config{}).Resolve(t.Context(), ref)
	failed(t, err, registry.ReasonPlainHTTP)
	if seen := front.requests(); len(seen) != 0 {
		t.Errorf("%d requests were sent without TLS, want 0", len(seen))
	}
	if _, err := client(t, registry.Config{PlainHTTP: true}).Push(t.Context(), ref, tarball(t, "one"), nil); err != nil {
		t.Errorf("Push() with PlainHTTP = %v", err)
	}
}

// listenElsewhere serves on an address of this machine that is not loopback, and is
// one of those for which go-containerregistry falls back to http.
func listenElsewhere(t *testing.T, h http.Handler) *server {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		ip, ok := a.(*net.IPNet)
		if !ok || ip.IP.IsLoopback() || !ip.IP.IsPrivate() || ip.IP.To4() == nil {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(ip.IP.String(), "0"))
		if err != nil {
			continue
		}
		return start(t, h, func(h http.Handler) *httptest.Server {
			s := httptest.NewUnstartedServer(h)
			_ = s.Listener.Close()
			s.Listener = l
			s.Start()
			return s
		})
	}
	t.Skip("this machine has no private address")
	return nil
}

func TestTLS(t *testing.T) {
	s := serve(t, true, open)
	ref := s.reference(t, "p:1")
	_, err := client(t, registry.Config{}).Resolve(t.Context(), ref)
	e := failed(t, err, registry.ReasonTLS)
	if !strings.Contains(e.Error(), "CA file") {
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
