package registry_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// TestWhatIsPushedIsPulled goes the whole way, at registries with and without the
// API for referrers.
func TestWhatIsPushedIsPulled(t *testing.T) {
	for name, referrers := range map[string]bool{"referrers": true, "fallback tag": false} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, referrers, open)
			c := client(t, registry.Config{CA: s.ca()})
			ref, content := s.reference(t, "security/policy:stable"), tarball(t, "one")
			digest, err := c.Push(t.Context(), ref, content, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.Resolve(t.Context(), ref); err != nil || got != digest {
				t.Fatalf("Resolve(%s) = %q, %v, want %q", ref, got, err, digest)
			}
			want := signature.Artifact{Tarball: content, Manifest: pulled(t, c, ref, digest).Manifest}
			if got := digestOf(want.Manifest); got != digest {
				t.Fatalf("digest of the manifest = %q, want %q", got, digest)
			}
			want.Signatures = []signature.Signature{classicSignature(digest, "a"), classicSignature(digest, "b"), bundleSignature("c"), bundleSignature("d")}
			want.Signatures[1].Certificate, want.Signatures[1].Chain = []byte("certificate"), []byte("chain")
			want.Signatures[1].RekorBundle, want.Signatures[1].Timestamp = []byte(`{"log":1}`), []byte(`{"time":1}`)
			for _, s := range want.Signatures {
				for range 2 { // the second time it is there
					if err := c.Attach(t.Context(), ref, digest, s); err != nil {
						t.Fatal(err)
					}
				}
			}
			got := pulled(t, c, ref, digest)
			slices.SortFunc(got.Signatures, func(a, b signature.Signature) int {
				return strings.Compare(a.Base64+string(a.Bundle), b.Base64+string(b.Bundle))
			})
			slices.SortFunc(want.Signatures, func(a, b signature.Signature) int {
				return strings.Compare(a.Base64+string(a.Bundle), b.Base64+string(b.Bundle))
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Pull(%s), -want +got:\n%s", digest, diff)
			}
		})
	}
}

func pulled(t *testing.T, c *registry.Client, ref registry.Reference, digest string) signature.Artifact {
	t.Helper()
	a, err := c.Pull(t.Context(), ref, digest)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestEqualBundlesHaveEqualDigests: the digest says what is in there, and nothing
// of when or by whom it was pushed.
func TestEqualBundlesHaveEqualDigests(t *testing.T) {
	one, two := serve(t, true, open), serve(t, false, open)
	content, notes := tarball(t, "one"), map[string]string{"b": "2", "a": "1"}
	first, err := client(t, registry.Config{CA: one.ca()}).Push(t.Context(), one.reference(t, "a/b:c"), content, notes)
	if err != nil {
		t.Fatal(err)
	}
	second, err := client(t, registry.Config{CA: two.ca()}).Push(t.Context(), two.reference(t, "d:e"), bytes.Clone(content), map[string]string{"a": "1", "b": "2"})
	if err != nil || first != second {
		t.Errorf("Push() = %q and %q, %v, want equal digests", first, second, err)
	}
	if text, digest, err := registry.Manifest(content, notes); err != nil || digest != first || digestOf(text) != first {
		t.Errorf("Manifest() = %q, %v, want %q as Push()", digest, err, first)
	}
	if _, digest, _ := registry.Manifest(tarball(t, "two"), notes); digest == first {
		t.Error("Manifest() of another bundle has the same digest")
	}
	if _, digest, _ := registry.Manifest(content, nil); digest == first {
		t.Error("Manifest() with other annotations has the same digest")
	}
}

// TestManifestIsAnImage: what tools for images need is there, and the digest of
// the unpacked layer is right.
func TestManifestIsAnImage(t *testing.T) {
	s := serve(t, true, open)
	c := client(t, registry.Config{CA: s.ca()})
	digest, err := c.Push(t.Context(), s.reference(t, "p:1"), tarball(t, "one"), map[string]string{"org.opencontainers.image.revision": "0a1b"})
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, s, c, "p", digest)
}

// TestPushToADigest writes no tag, and refuses another digest than the bundle's.
func TestPushToADigest(t *testing.T) {
	s := serve(t, true, open)
	c := client(t, registry.Config{CA: s.ca()})
	content := tarball(t, "one")
	_, digest, err := registry.Manifest(content, nil)
	if err != nil {
		t.Fatal(err)
	}
	tagged := s.reference(t, "p:1")
	if got, err := c.Push(t.Context(), tagged.WithDigest(digest), content, nil); err != nil || got != digest {
		t.Fatalf("Push() = %q, %v, want %q", got, err, digest)
	}
	if _, err := c.Resolve(t.Context(), tagged); err == nil {
		t.Error("Resolve() found a tag, want none written")
	}
	if got := pulled(t, c, tagged, digest); !bytes.Equal(got.Tarball, content) {
		t.Error("Pull() returned other bytes than were pushed")
	}
	_, err = c.Push(t.Context(), tagged.WithDigest(digestOf([]byte("another"))), content, nil)
	failed(t, err, registry.ReasonWrongDigest)
}

// TestPushRefusesWhatIsNoBundle before it sends a byte.
func TestPushRefusesWhatIsNoBundle(t *testing.T) {
	s := serve(t, true, open)
	c := client(t, registry.Config{CA: s.ca()})
	ref := s.reference(t, "p:1")
	for name, k := range map[string]struct {
		content []byte
		notes   map[string]string
	}{
		"no gzip":     {[]byte("no gzip"), nil},
		"too long":    {make([]byte, registry.MaxBundleBytes+1), nil},
		"a bomb":      {bomb(t), nil},
		"many notes":  {tarball(t, "one"), map[string]string{"a": strings.Repeat("a", 20<<10)}},
		"gzip is cut": {tarball(t, "one")[:40], nil},
	} {
		if digest, err := c.Push(t.Context(), ref, k.content, k.notes); err == nil {
			t.Errorf("Push(%s) = %q, want an error", name, digest)
		}
	}
	if seen := s.requests(); len(seen) != 0 {
		t.Errorf("the registry was asked %d times, want 0", len(seen))
	}
}

// TestALookAtATagCostsOneRequest once the registry is known.
func TestALookAtATagCostsOneRequest(t *testing.T) {
	s := serve(t, true, open)
	c := client(t, registry.Config{CA: s.ca(), UserAgent: "portcullis/test"})
	ref := s.reference(t, "p:1")
	if _, err := c.Push(t.Context(), ref, tarball(t, "one"), nil); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := c.Resolve(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	s.requests()
	if _, err := c.Resolve(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	seen := s.requests()
	if len(seen) != 1 || seen[0].Method != http.MethodHead || !strings.Contains(seen[0].UserAgent(), "portcullis/test") {
		t.Errorf("Resolve() sent %d requests, want one HEAD of portcullis/test", len(seen))
	}
	pinned := reference(t, ref.String()+"@"+digestOf([]byte("x")))
	if got, err := c.Resolve(t.Context(), pinned); err != nil || got != pinned.Digest() || len(s.requests()) != 0 {
		t.Errorf("Resolve(%s) = %q, %v, want its own digest without a request", pinned, got, err)
	}
}

// TestResolveWithoutTheHeader: the specification does not oblige registries to it.
func TestResolveWithoutTheHeader(t *testing.T) {
	s := serve(t, true, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(&dropHeader{ResponseWriter: w}, r)
		})
	})
	c := client(t, registry.Config{CA: s.ca()})
	ref := s.reference(t, "p:1")
	want, err := c.Push(t.Context(), ref, tarball(t, "one"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Resolve(t.Context(), ref); err != nil || got != want {
		t.Errorf("Resolve() = %q, %v, want %q", got, err, want)
	}
}

type dropHeader struct{ http.ResponseWriter }

func (d *dropHeader) WriteHeader(code int) {
	d.Header().Del("Docker-Content-Digest")
	d.ResponseWriter.WriteHeader(code)
}

// TestSignaturesElsewhere: whoever signs need not be able to write bundles.
func TestSignaturesElsewhere(t *testing.T) {
	s := serve(t, true, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Author") == "" && strings.Contains(r.URL.Path, "/bundles/") && r.Method != http.MethodGet && r.Method != http.MethodHead {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	ref, content := s.reference(t, "bundles/policy:1"), tarball(t, "one")
	digest := pushAsAuthor(t, s, ref, content)
	signer := client(t, registry.Config{CA: s.ca(), SignatureRepository: s.host() + "/signatures/policy"})
	for _, sig := range []signature.Signature{classicSignature(digest, "a"), bundleSignature("b")} {
		if err := signer.Attach(t.Context(), ref, digest, sig); err != nil {
			t.Fatal(err)
		}
	}
	if got := pulled(t, signer, ref, digest).Signatures; len(got) != 2 {
		t.Errorf("Pull() found %d signatures in the other repository, want 2", len(got))
	}
	plain := client(t, registry.Config{CA: s.ca()})
	if got := pulled(t, plain, ref, digest).Signatures; len(got) != 0 {
		t.Errorf("Pull() found %d signatures beside the bundle, want 0", len(got))
	}
	err := plain.Attach(t.Context(), ref, digest, bundleSignature("c"))
	failed(t, err, registry.ReasonForbidden)
}

// TestAttachAtTheSameTime: registries have no compare-and-swap, so Attach looks
// whether its signature has stayed.
func TestAttachAtTheSameTime(t *testing.T) {
	var first sync.Once
	var s *server
	var ref registry.Reference
	var digest string
	s = serve(t, true, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, ".sig") {
				first.Do(func() { // somebody who had read before overwrites
					other := serve(t, true, open)
					c := client(t, registry.Config{CA: other.ca()})
					at := other.reference(t, "p:1")
					if _, err := c.Push(t.Context(), at, tarball(t, "one"), nil); err != nil {
						t.Error(err)
					}
					if err := c.Attach(t.Context(), at, digest, classicSignature(digest, "overwriter")); err != nil {
						t.Error(err)
					}
					copyTo(t, other, h, r.URL.Path)
				})
			}
		})
	})
	ref = s.reference(t, "p:1")
	c := client(t, registry.Config{CA: s.ca()})
	var err error
	if digest, err = c.Push(t.Context(), ref, tarball(t, "one"), nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Attach(t.Context(), ref, digest, classicSignature(digest, "overwritten")); err != nil {
		t.Fatal(err)
	}
	got := pulled(t, c, ref, digest).Signatures
	if len(got) != 2 {
		t.Errorf("Pull() found %d signatures, want both", len(got))
	}
}

// TestAttachRefuses what vouches for something else, and what is not there.
func TestAttachRefuses(t *testing.T) {
	s := serve(t, true, open)
	c := client(t, registry.Config{CA: s.ca()})
	ref := s.reference(t, "p:1")
	digest, err := c.Push(t.Context(), ref, tarball(t, "one"), nil)
	if err != nil {
		t.Fatal(err)
	}
	blob := signature.Signature{Base64: "c2ln"}
	failed(t, c.Attach(t.Context(), ref, digest, blob), registry.ReasonNotBundle)
	failed(t, c.Attach(t.Context(), ref, "stable", bundleSignature("a")), registry.ReasonNotBundle)
	failed(t, c.Attach(t.Context(), ref, digestOf([]byte("x")), bundleSignature("a")), registry.ReasonNotFound)
	long := signature.Signature{Bundle: bytes.Repeat([]byte("a"), signature.MaxSignatureBytes+1)}
	failed(t, c.Attach(t.Context(), ref, digest, long), registry.ReasonTooLarge)
	for i := range signature.MaxSignatures {
		if err := c.Attach(t.Context(), ref, digest, classicSignature(digest, strings.Repeat("a", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	failed(t, c.Attach(t.Context(), ref, digest, classicSignature(digest, "one more")), registry.ReasonTooLarge)
	if got := pulled(t, c, ref, digest).Signatures; len(got) != signature.MaxSignatures {
		t.Errorf("Pull() found %d signatures, want %d", len(got), signature.MaxSignatures)
	}
}

// TestOtherReferrersAreLeftAlone: an SBOM or an attestation on the manifest is no
// signature, and does not keep a bundle from being pulled.
func TestOtherReferrersAreLeftAlone(t *testing.T) {
	s := serve(t, true, open)
	c := client(t, registry.Config{CA: s.ca()})
	ref := s.reference(t, "p:1")
	digest, err := c.Push(t.Context(), ref, tarball(t, "one"), nil)
	if err != nil {
		t.Fatal(err)
	}
	manifest := pulled(t, c, ref, digest).Manifest
	for _, m := range []map[string]any{
		{"artifactType": "application/spdx+json", "config": map[string]any{"mediaType": "application/spdx+json"}},
		{"annotations": map[string]string{"dev.sigstore.bundle.predicateType": "https://slsa.dev/provenance/v1"}, "config": map[string]any{"mediaType": "application/vnd.oci.empty.v1+json"}},
		{"config": map[string]any{"mediaType": "application/vnd.oci.empty.v1+json"}, "layers": []any{}},
	} {
		m["schemaVersion"], m["mediaType"] = 2, signature.ManifestMediaType
		m["subject"] = map[string]any{"mediaType": signature.ManifestMediaType, "digest": digest, "size": len(manifest)}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, "p", digestOf(text), text)
	}
	if err := c.Attach(t.Context(), ref, digest, bundleSignature("a")); err != nil {
		t.Fatal(err)
	}
	if got := pulled(t, c, ref, digest).Signatures; len(got) != 1 {
		t.Errorf("Pull() found %d signatures, want 1", len(got))
	}
}
