package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// manifestOf is one of a bundle with a layer that may lie.
func manifestOf(layers ...map[string]any) []byte {
	text, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": signature.ManifestMediaType, "layers": layers,
		"config": layer("application/vnd.oci.image.config.v1+json", "{}", 2),
	})
	if err != nil {
		panic(err)
	}
	return text
}

func layer(mediaType, content string, size int64) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": digestOf([]byte(content)), "size": size}
}

// answers is a registry that answers with given bodies, by the end of the path.
type answers map[string]func(w http.ResponseWriter, r *http.Request)

func (a answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	longest := ""
	for suffix := range a {
		if strings.Contains(r.URL.Path, suffix) && len(suffix) > len(longest) {
			longest = suffix
		}
	}
	switch {
	case longest != "":
		a[longest](w, r)
	case r.URL.Path == "/v2/":
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func body(contentType string, text []byte) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(text)
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	chunk := bytes.Repeat([]byte(" "), 64<<10)
	for r.Context().Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func slow(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "1000")
	for r.Context().Err() == nil {
		if _, err := w.Write([]byte(" ")); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		time.Sleep(20 * time.Millisecond)
	}
}

func stalled(w http.ResponseWriter, r *http.Request) {
	_, _ = w.Write([]byte("g"))
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func status(code int, text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(text))
	}
}

// TestHostileRegistry: whatever a registry answers, Pull ends soon, within bounds,
// with an error that says why.
func TestHostileRegistry(t *testing.T) {
	const evil = "\x1b[2Jnothing is wrong\n"
	good := manifestOf(layer(signature.LayerMediaType, "good", 4))
	goodDigest, oci := digestOf(good), signature.ManifestMediaType
	index := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	docker := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","layers":[]}`)
	two := manifestOf(layer(signature.LayerMediaType, "good", 4), layer(signature.LayerMediaType, "good", 4))
	plainTar := manifestOf(layer("application/vnd.oci.image.layer.v1.tar", "good", 4))
	huge := manifestOf(layer(signature.LayerMediaType, "good", 1<<40))
	negative := manifestOf(layer(signature.LayerMediaType, "good", -1))
	path := manifestOf(map[string]any{"mediaType": signature.LayerMediaType, "digest": "../../../secret", "size": 4})
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, `{"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json","digest":%q,"size":1},`, digestOf([]byte{byte(i)}))
	}
	list := []byte(`{"schemaVersion":2,"manifests":[` + strings.TrimSuffix(many.String(), ",") + `]}`)
	const ociIndex = "application/vnd.oci.image.index.v1+json"
	base := answers{"/manifests/" + goodDigest: body(oci, good), "/blobs/": body("", []byte("good"))}
	with := func(more answers) answers {
		all := answers{}
		for _, m := range []answers{base, more} {
			for k, v := range m {
				all[k] = v
			}
		}
		return all
	}
	for name, k := range map[string]struct {
		registry answers
		digest   string
		want     registry.Reason
	}{
		"another manifest":              {with(answers{"/manifests/": body(oci, two)}), digestOf(index), registry.ReasonWrongDigest},
		"an endless manifest":           {answers{"/manifests/": endless}, goodDigest, registry.ReasonTooLarge},
		"a slow manifest":               {answers{"/manifests/": slow}, goodDigest, registry.ReasonTimeout},
		"an index":                      {answers{"/manifests/": body(ociIndex, index)}, digestOf(index), registry.ReasonNotBundle},
		"docker's manifest":             {answers{"/manifests/": body("", docker)}, digestOf(docker), registry.ReasonNotBundle},
		"no manifest":                   {answers{"/manifests/": body(oci, []byte(evil))}, digestOf([]byte(evil)), registry.ReasonNotBundle},
		"two layers":                    {answers{"/manifests/": body(oci, two)}, digestOf(two), registry.ReasonNotBundle},
		"a layer without gzip":          {answers{"/manifests/": body(oci, plainTar)}, digestOf(plainTar), registry.ReasonNotBundle},
		"a layer of a terabyte":         {answers{"/manifests/": body(oci, huge)}, digestOf(huge), registry.ReasonTooLarge},
		"a layer of less than nothing":  {answers{"/manifests/": body(oci, negative)}, digestOf(negative), registry.ReasonNotBundle},
		"a digest that is a path":       {answers{"/manifests/": body(oci, path)}, digestOf(path), registry.ReasonNotBundle},
		"another layer":                 {with(answers{"/blobs/": body("", []byte("evil"))}), goodDigest, registry.ReasonWrongDigest},
		"a short layer":                 {with(answers{"/blobs/": body("", []byte("goo"))}), goodDigest, registry.ReasonWrongDigest},
		"a longer layer":                {with(answers{"/blobs/": body("", []byte("good and more"))}), goodDigest, registry.ReasonTooLarge},
		"an endless layer":              {with(answers{"/blobs/": endless}), goodDigest, registry.ReasonTooLarge},
		"a slow layer":                  {with(answers{"/blobs/": stalled}), goodDigest, registry.ReasonTimeout},
		"endless referrers":             {with(answers{"/referrers/": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Type", ociIndex); endless(w, r) }}), goodDigest, registry.ReasonTooLarge},
		"referrers that are no list":    {with(answers{"/referrers/": body(ociIndex, []byte(evil))}), goodDigest, registry.ReasonMalformed},
		"many referrers, none is there": {with(answers{"/referrers/": body(ociIndex, list)}), goodDigest, registry.ReasonNotFound},
		"a signature tag without any":   {with(answers{"sig": body(oci, []byte(`{"schemaVersion":2,"layers":[]}`))}), goodDigest, registry.ReasonMalformed},
		"an endless signature tag":      {with(answers{"sig": endless}), goodDigest, registry.ReasonTooLarge},
		"redirected for ever":           {answers{"/manifests/": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }}, goodDigest, registry.ReasonMalformed},
		"not found":                     {answers{"/manifests/": status(404, evil)}, goodDigest, registry.ReasonNotFound},
		"unauthorized":                  {answers{"/manifests/": status(401, evil)}, goodDigest, registry.ReasonUnauthorized},
		"forbidden":                     {answers{"/manifests/": status(403, evil)}, goodDigest, registry.ReasonForbidden},
		"throttled":                     {answers{"/manifests/": status(429, evil)}, goodDigest, registry.ReasonThrottled},
		"broken":                        {answers{"/manifests/": status(503, evil)}, goodDigest, registry.ReasonUnavailable},
		"a teapot":                      {answers{"/v2/": status(418, `{"errors":[{"code":"`+evil+`"}]}`)}, goodDigest, registry.ReasonMalformed},
		"an endless greeting":           {answers{"/v2/": endless}, goodDigest, registry.ReasonNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, k.registry, httptest.NewTLSServer)
			c := client(t, registry.Config{CA: s.ca(), Timeout: 3 * time.Second})
			began := time.Now()
			a, err := c.Pull(t.Context(), s.reference(t, "p:1"), k.digest)
			if a.Tarball != nil || a.Manifest != nil {
				t.Error("Pull() returned an artifact beside its error")
			}
			if name == "an endless greeting" {
				if err == nil {
					t.Error("Pull() = nil, want an error")
				}
			} else if e := failed(t, err, k.want); strings.Contains(e.Error(), "nothing is wrong\n") {
				t.Errorf("error = %q, want none of the registry's text as it is", e)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("Pull() took %v, want at most its timeout", took)
			}
		})
	}
}

// TestHostileDigestOfATag: what a registry says that a tag is has to be a digest.
func TestHostileDigestOfATag(t *testing.T) {
	s := start(t, answers{"/manifests/": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Docker-Content-Digest", "../../other/manifests/evil")
	}}, httptest.NewTLSServer)
	_, err := client(t, registry.Config{CA: s.ca()}).Resolve(t.Context(), s.reference(t, "p:1"))
	failed(t, err, registry.ReasonMalformed)
}

// TestTooManySignatures are refused before each is fetched.
func TestTooManySignatures(t *testing.T) {
	s := serve(t, true, open)
	c := client(t, registry.Config{CA: s.ca()})
	ref := s.reference(t, "p:1")
	digest, err := c.Push(t.Context(), ref, tarball(t, "one"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range signature.MaxSignatures + 1 {
		if err := c.Attach(t.Context(), ref, digest, bundleSignature(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	_, err = c.Pull(t.Context(), ref, digest)
	failed(t, err, registry.ReasonTooLarge)
}
