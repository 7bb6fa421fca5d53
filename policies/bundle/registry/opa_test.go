package registry_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	opa "github.com/open-policy-agent/opa/v1/bundle"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
)

// TestStockOPAReadsIt takes the steps of OPA's own downloader (v1/download): it asks
// for the digest of the tag, for the manifest by that digest and in the media type
// that the registry named, and reads the first layer of the type of a compressed
// layer as a bundle.
func TestStockOPAReadsIt(t *testing.T) {
	b, err := bundle.WithManifest(policies.Bundle{Data: map[string]any{"portcullis": map[string]any{}}}, policies.Manifest{Contract: "portcullis/v1", Serial: 7, Revision: "seven"})
	if err != nil {
		t.Fatal(err)
	}
	var content bytes.Buffer
	if err := bundle.WriteTarball(&content, b); err != nil {
		t.Fatal(err)
	}
	s := start(t, ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))), httptest.NewServer)
	if _, err := client(t, registry.Config{}).Push(t.Context(), s.reference(t, "policy:7"), content.Bytes(), nil); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, s.URL+"/v2/policy/manifests/7", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); got != "application/vnd.oci.image.manifest.v1+json" {
		t.Fatalf("media type of the manifest = %q, want one that OPA fetches as a manifest", got)
	}
	var m struct {
		Layers []struct{ MediaType, Digest string }
	}
	if err := json.Unmarshal(get(t, s, "/v2/policy/manifests/"+res.Header.Get("Docker-Content-Digest")), &m); err != nil {
		t.Fatal(err)
	}
	for _, layer := range m.Layers {
		if layer.MediaType != "application/vnd.oci.image.layer.v1.tar+gzip" {
			continue
		}
		got, err := opa.NewReader(bytes.NewReader(get(t, s, "/v2/policy/blobs/"+layer.Digest))).Read()
		if err != nil || got.Manifest.Revision != "seven" {
			t.Errorf("OPA reads revision %q, %v, want seven", got.Manifest.Revision, err)
		}
		return
	}
	t.Errorf("layers = %+v, want one that OPA takes for a bundle", m.Layers)
}
