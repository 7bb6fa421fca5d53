package registry_test

import (
	"bytes"
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

// TestOneClientForMany: a daemon polls, and shadows another bundle, with one Client.
func TestOneClientForMany(t *testing.T) {
	s := serve(t, true, basic("robot", "password"))
	c := client(t, registry.Config{CA: s.ca(), CredentialsFile: credentialsFile(t, auths(s.host(), "robot", "password"))})
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		wg.Go(func() {
			content := tarball(t, name)
			ref, err := registry.Parse("oci://" + s.host() + "/" + name + ":1")
			if err != nil {
				t.Error(err)
				return
			}
			digest, err := c.Push(t.Context(), ref, content, nil)
			if err != nil {
				t.Error(err)
				return
			}
			for range 5 {
				got, err := c.Resolve(t.Context(), ref)
				if err != nil || got != digest {
					t.Errorf("Resolve(%s) = %q, %v, want %q", ref, got, err, digest)
				}
				a, err := c.Pull(t.Context(), ref, digest)
				if err != nil || !bytes.Equal(a.Tarball, content) {
					t.Errorf("Pull(%s) = %d bytes, %v, want those that were pushed", ref, len(a.Tarball), err)
				}
			}
		})
	}
	wg.Wait()
}

// TestAFailureIsForgotten: a registry that was away is asked anew, and a Client that
// was refused once is not refused for ever.
func TestAFailureIsForgotten(t *testing.T) {
	var mu sync.Mutex
	code := 0
	set := func(c int) {
		mu.Lock()
		defer mu.Unlock()
		code = c
	}
	s := serve(t, true, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			c := code
			mu.Unlock()
			if c != 0 {
				w.WriteHeader(c)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	c, ref := client(t, registry.Config{CA: s.ca()}), s.reference(t, "p:1")
	digest, err := c.Push(t.Context(), ref, tarball(t, "one"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[int]registry.Reason{
		http.StatusUnauthorized: registry.ReasonUnauthorized, http.StatusForbidden: registry.ReasonForbidden, http.StatusNotFound: registry.ReasonNotFound,
		http.StatusTooManyRequests: registry.ReasonThrottled, http.StatusBadGateway: registry.ReasonUnavailable,
	} {
		set(code)
		_, err := c.Resolve(t.Context(), ref)
		failed(t, err, want)
		_, err = c.Push(t.Context(), ref, tarball(t, "two"), nil)
		failed(t, err, want)
		failed(t, c.Attach(t.Context(), ref, digest, bundleSignature("a")), want)
		set(0)
		if got, err := c.Resolve(t.Context(), ref); err != nil || got != digest {
			t.Errorf("Resolve() after %d = %q, %v, want %q", code, got, err, digest)
		}
	}
}

// TestSlowUpload: pushing is bounded in time too.
func TestSlowUpload(t *testing.T) {
	h := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			<-r.Context().Done()
			return
		}
		h.ServeHTTP(w, r)
	}), httptest.NewTLSServer)
	c := client(t, registry.Config{CA: s.ca(), Timeout: time.Second})
	began := time.Now()
	_, err := c.Push(t.Context(), s.reference(t, "p:1"), tarball(t, "one"), nil)
	failed(t, err, registry.ReasonTimeout)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Push() took %v, want about its timeout", took)
	}
}

// FuzzManifest: whatever a registry has for a manifest, Pull ends in an error or
// with the bytes that the manifest names.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add(manifestOf(layer(signature.LayerMediaType, "good", 4)))
	f.Add(manifestOf(layer(signature.LayerMediaType, "good", 5)))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := start(t, answers{"/manifests/" + digestOf(text): body(signature.ManifestMediaType, text), "/blobs/": body("", []byte("good"))}, httptest.NewServer)
		a, err := client(t, registry.Config{Timeout: 2 * time.Second}).Pull(t.Context(), s.reference(t, "p:1"), digestOf(text))
		if err == nil && string(a.Tarball) != "good" {
			t.Errorf("Pull(%q) = %q, want the blob", text, a.Tarball)
		}
	})
}

// FuzzCredentials: no content of the file reaches an error.
func FuzzCredentials(f *testing.F) {
	f.Add(`{"auths":{"127.0.0.1:1":{"auth":"SECRETSECRET"}}}`)
	f.Add(`{"auths":{"127.0.0.1:1":"SECRETSECRET"}}`)
	f.Add(`SECRETSECRET`)
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := client(t, registry.Config{CredentialsFile: path, Timeout: time.Second}).Resolve(t.Context(), reference(t, "oci://127.0.0.1:1/p:1"))
		if err == nil {
			t.Fatal("Resolve() at a closed port = nil, want an error")
		}
		if strings.Contains(err.Error(), "SECRETSECRET") {
			t.Errorf("error = %q, which repeats the file", err)
		}
	})
}
