package registry_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// server is a registry in this process, with what stands before it.
type server struct {
	*httptest.Server

	mu   sync.Mutex
	seen []*http.Request
}

// serve starts go-containerregistry's registry behind a handler, with TLS.
func serve(t *testing.T, referrers bool, before func(http.Handler) http.Handler) *server {
	t.Helper()
	return start(t, before(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(referrers))), httptest.NewTLSServer)
}

func start(t *testing.T, h http.Handler, with func(http.Handler) *httptest.Server) *server {
	t.Helper()
	s := &server{}
	s.Server = with(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Clone(r.Context()))
		s.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(s.Close)
	return s
}

func open(h http.Handler) http.Handler { return h }

func (s *server) host() string { return s.Listener.Addr().String() }

// requests returns what was asked since the last call.
func (s *server) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

func (s *server) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func (s *server) reference(t *testing.T, rest string) registry.Reference {
	t.Helper()
	return reference(t, "oci://"+s.host()+"/"+rest)
}

func reference(t *testing.T, text string) registry.Reference {
	t.Helper()
	r, err := registry.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func client(t *testing.T, c registry.Config) *registry.Client {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Second
	}
	made, err := registry.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(made.Close)
	return made
}

// tarball is a tar.gz with one file.
func tarball(t *testing.T, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	err := errors.Join(w.WriteHeader(&tar.Header{Name: ".manifest", Mode: 0o644, Size: int64(len(content))}))
	_, err2 := io.WriteString(w, content)
	if err := errors.Join(err, err2, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// classicSignature looks like one, which is all that a registry knows of it.
func classicSignature(digest, by string) signature.Signature {
	return signature.Signature{
		Base64:  base64.StdEncoding.EncodeToString([]byte("signature by " + by)),
		Payload: []byte(`{"critical":{"image":{"docker-manifest-digest":"` + digest + `"},"type":"cosign container image signature"}}`),
	}
}

func bundleSignature(by string) signature.Signature {
	return signature.Signature{Bundle: []byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","by":"` + by + `"}`)}
}

// failed checks the reason of an error, and that it says what helps.
func failed(t *testing.T, err error, want registry.Reason) *registry.Error {
	t.Helper()
	e, ok := errors.AsType[*registry.Error](err)
	if !ok {
		t.Fatalf("error = %v (%T), want a *registry.Error", err, err)
	}
	if e.Reason != want {
		t.Errorf("error = %v with reason %q, want %q", err, e.Reason, want)
	}
	if !strings.Contains(e.Error(), "; hint: ") || !strings.HasPrefix(e.Error(), "oci://") {
		t.Errorf("error = %q, want a reference first and a hint last", e)
	}
	for _, r := range e.Error() {
		if r < ' ' || r > '~' {
			t.Errorf("error = %q, want nothing that a terminal would act on", e)
		}
	}
	return e
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// credentialsFile writes a docker config.json.
func credentialsFile(t *testing.T, config any) string {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// auths is a config.json with one entry.
func auths(host, user, password string) map[string]any {
	return map[string]any{"auths": map[string]any{host: map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}}}
}
