package registry_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// bomb is a short gzip that unpacks to more than a bundle may.
func bomb(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for range 65 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// put writes a manifest past the Client.
func put(t *testing.T, s *server, repository, identifier string, text []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/v2/"+repository+"/manifests/"+identifier, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", signature.ManifestMediaType)
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("PUT %s = %d, want 201", identifier, res.StatusCode)
	}
}

// get reads past the Client.
func get(t *testing.T, s *server, path string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s = %d, %v, want 200", path, res.StatusCode, err)
	}
	return body
}

// copyTo writes the manifest of a signature tag, with its config, from one registry
// into the handler of another.
func copyTo(t *testing.T, from *server, to http.Handler, path string) {
	t.Helper()
	text := get(t, from, path)
	req := httptest.NewRequest(http.MethodPut, path, bytes.NewReader(text))
	req.Header.Set("Content-Type", signature.ManifestMediaType)
	w := httptest.NewRecorder()
	to.ServeHTTP(w, req)
	if w.Code != http.StatusCreated {
		t.Errorf("PUT %s = %d, want 201", path, w.Code)
	}
}

// pushAsAuthor pushes with a header that the registry wants of authors.
func pushAsAuthor(t *testing.T, s *server, ref registry.Reference, content []byte) string {
	t.Helper()
	front := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("X-Author", "yes")
		s.Config.Handler.ServeHTTP(w, r)
	}), httptest.NewTLSServer)
	at := front.reference(t, ref.String()[len("oci://"+s.host()+"/"):])
	digest, err := client(t, registry.Config{CA: front.ca()}).Push(t.Context(), at, content, nil)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// checkImage reads manifest and config as a tool for images does.
func checkImage(t *testing.T, s *server, c *registry.Client, repository, digest string) {
	t.Helper()
	a := pulled(t, c, s.reference(t, repository+":1"), digest)
	var m struct {
		MediaType string
		Config    struct{ MediaType, Digest string }
		Layers    []struct{ MediaType, Digest string }
	}
	if err := json.Unmarshal(a.Manifest, &m); err != nil {
		t.Fatal(err)
	}
	if m.MediaType != signature.ManifestMediaType || m.Config.MediaType != "application/vnd.oci.image.config.v1+json" ||
		len(m.Layers) != 1 || m.Layers[0].MediaType != signature.LayerMediaType || m.Layers[0].Digest != digestOf(a.Tarball) {
		t.Errorf("manifest = %s, want that of an image with the tarball as its layer", a.Manifest)
	}
	var config struct {
		RootFS struct {
			Type    string   `json:"type"`
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	text := get(t, s, "/v2/"+repository+"/blobs/"+m.Config.Digest)
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(a.Tarball))
	if err != nil {
		t.Fatal(err)
	}
	inside, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if len(config.RootFS.DiffIDs) != 1 || config.RootFS.DiffIDs[0] != digestOf(inside) || config.RootFS.Type != "layers" {
		t.Errorf("config = %s, want the digest of the unpacked layer, %s", text, digestOf(inside))
	}
}
