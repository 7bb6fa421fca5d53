package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

const ociIndex = "application/vnd.oci.image.index.v1+json"

// paged cuts lists of referrers into pages, and names the next one as link says.
func paged(perPage int, link func(r *http.Request, next int) []string) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/referrers/") {
				h.ServeHTTP(w, r)
				return
			}
			whole := httptest.NewRecorder()
			h.ServeHTTP(whole, r)
			var index struct {
				SchemaVersion int               `json:"schemaVersion"`
				MediaType     string            `json:"mediaType"`
				Manifests     []json.RawMessage `json:"manifests"`
			}
			if json.Unmarshal(whole.Body.Bytes(), &index) != nil {
				w.WriteHeader(whole.Code)
				return
			}
			slices.SortFunc(index.Manifests, func(a, b json.RawMessage) int { return bytes.Compare(a, b) }) // it has no order
			from, _ := strconv.Atoi(r.URL.Query().Get("from"))
			to := min(from+perPage, len(index.Manifests))
			if to < len(index.Manifests) {
				for _, l := range link(r, to) {
					w.Header().Add("Link", l)
				}
			}
			index.Manifests = index.Manifests[from:to]
			w.Header().Set("Content-Type", ociIndex)
			_ = json.NewEncoder(w).Encode(index)
		})
	}
}

// signedBy pushes a bundle with that many signatures.
func signedBy(t *testing.T, s *server, n int) (*registry.Client, registry.Reference, string) {
	t.Helper()
	c, ref := client(t, registry.Config{CA: s.ca()}), s.reference(t, "team/policy:1")
	digest, err := c.Push(t.Context(), ref, tarball(t, "one"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := c.Attach(t.Context(), ref, digest, bundleSignature(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	return c, ref, digest
}

// TestEveryPageOfReferrersIsRead, in each form in which registries name the next.
func TestEveryPageOfReferrersIsRead(t *testing.T) {
	for name, link := range map[string]func(r *http.Request, next int) []string{
		"a path": func(r *http.Request, next int) []string {
			return []string{fmt.Sprintf(`<%s?from=%d>; rel="next"`, r.URL.Path, next)}
		},
		"a query": func(_ *http.Request, next int) []string {
			return []string{fmt.Sprintf(`<?n=3&from=%d>; rel="next"`, next)}
		},
		"a URL": func(r *http.Request, next int) []string {
			return []string{fmt.Sprintf(`<https://%s%s?from=%d>;rel=next`, r.Host, r.URL.Path, next)}
		},
		"without TLS, which stays on": func(r *http.Request, next int) []string {
			return []string{fmt.Sprintf(`<http://%s%s?from=%d>; rel="next"`, r.Host, r.URL.Path, next)}
		},
		"among others": func(r *http.Request, next int) []string {
			return []string{fmt.Sprintf(`<?from=0>; rel="prev", <?from=%d>; title="more"; rel="last next", </>; rel="index"`, next)}
		},
		"in a header of many": func(r *http.Request, next int) []string {
			return []string{`<?from=0>; rel="first"`, fmt.Sprintf(`<?from=%d>; REL = "next"`, next)}
		},
		"with spaces": func(_ *http.Request, next int) []string {
			return []string{fmt.Sprintf(`<?from=%d> ; rel=next ; title="x"`, next)}
		},
		"an escaped query": func(_ *http.Request, next int) []string {
			return []string{fmt.Sprintf(`<?last=sha256%%3Aab%%26x&from=%d>; rel="next"`, next)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, true, paged(3, link))
			c, ref, digest := signedBy(t, s, 8)
			seen := map[string]bool{}
			for _, sig := range pulled(t, c, ref, digest).Signatures {
				seen[string(sig.Bundle)] = true
			}
			for i := range 8 {
				if !seen[string(bundleSignature(strconv.Itoa(i)).Bundle)] {
					t.Errorf("Pull() lacks signature %d of 8 on three pages", i)
				}
			}
		})
	}
}

// TestTheLastPageIsTheLast: another relation leads nowhere.
func TestTheLastPageIsTheLast(t *testing.T) {
	for _, link := range []string{`<?from=2>; rel="prev"`, `<?from=2>; rel="nextish"`, `<?from=2>; title="next"`, `<?from=2>`, `rel="next"`, ``} {
		s := serve(t, true, paged(2, func(*http.Request, int) []string { return []string{link} }))
		c, ref, digest := signedBy(t, s, 3)
		s.requests()
		if got := pulled(t, c, ref, digest).Signatures; len(got) != 2 {
			t.Errorf("Pull() after Link %q found %d signatures, want the 2 of the first page", link, len(got))
		}
		lists := 0
		for _, r := range s.requests() {
			if strings.Contains(r.URL.Path, "/referrers/") {
				lists++
			}
		}
		if lists != 1 {
			t.Errorf("%d lists were asked for after Link %q, want 1", lists, link)
		}
	}
}

// TestPagesLeadNowhereElse: the registry does not choose whom the client asks, and
// what.
func TestPagesLeadNowhereElse(t *testing.T) {
	thief := start(t, http.NotFoundHandler(), httptest.NewTLSServer)
	for name, link := range map[string]string{
		"another host":       `<https://` + thief.host() + `/v2/team/policy/referrers/x?from=2>; rel="next"`,
		"the host, unnamed":  `<//` + thief.host() + `/v2/team/policy/referrers/x?from=2>; rel="next"`,
		"a file":             `<file:///etc/passwd?x>; rel="next"`,
		"another path":       `</v2/other/secret/manifests/latest?x=1>; rel="next"`,
		"another repository": `</v2/other/referrers/%[3]s?from=2>; rel="next"`,
		"above":              `<../../../other?from=2>; rel="next"`,
		"a user":             `<https://a:b@%[1]s%[2]s?from=2>; rel="next"`,
		"nothing new":        `<%[2]s>; rel="next"`,
		"no URL":             `<%%zz?from=2>; rel="next"`,
		"a fragment":         `<#from=2>; rel="next"`,
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, true, paged(2, func(r *http.Request, _ int) []string {
				digest := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
				return []string{strings.NewReplacer("%[1]s", r.Host, "%[2]s", r.URL.Path, "%[3]s", digest, "%%", "%").Replace(link)}
			}))
			c, ref, digest := signedBy(t, s, 3)
			_, err := c.Pull(t.Context(), ref, digest)
			failed(t, err, registry.ReasonMalformed)
			if seen := thief.requests(); len(seen) != 0 {
				t.Errorf("%d requests went to another host, want 0", len(seen))
			}
			for _, r := range s.requests() {
				if strings.Contains(r.URL.Path, "other") {
					t.Errorf("%s was asked for, want nothing but the bundle's repository", r.URL.Path)
				}
			}
		})
	}
}

// TestPagesWithoutEnd are bounded, and no list that is cut there looks complete.
func TestPagesWithoutEnd(t *testing.T) {
	good := manifestOf(layer(signature.LayerMediaType, "good", 4))
	empty := []byte(`{"schemaVersion":2,"manifests":[]}`)
	n := 0
	endlessPages := func(w http.ResponseWriter, r *http.Request) {
		n++
		w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, n))
		body(ociIndex, empty)(w, r)
	}
	base := func(more http.HandlerFunc) answers {
		return answers{"/manifests/" + digestOf(good): body(signature.ManifestMediaType, good), "/blobs/": body("", []byte("good")), "/referrers/": more}
	}
	for name, k := range map[string]struct {
		pages http.HandlerFunc
		want  registry.Reason
	}{
		"always another": {endlessPages, registry.ReasonTooLarge},
		"itself": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `<?page=1>; rel="next"`)
			body(ociIndex, empty)(w, r)
		}, registry.ReasonTooLarge},
		"a second page that is not there": {secondPage(status(http.StatusNotFound, "")), registry.ReasonNotFound},
		"a second page that is broken":    {secondPage(status(http.StatusBadGateway, "")), registry.ReasonUnavailable},
		"a second page that is no list":   {secondPage(body(ociIndex, []byte("<html>"))), registry.ReasonMalformed},
		"an endless second page":          {secondPage(endless), registry.ReasonTooLarge},
		"a stalled second page":           {secondPage(stalled), registry.ReasonTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, base(k.pages), httptest.NewTLSServer)
			c := client(t, registry.Config{CA: s.ca(), Timeout: 2 * time.Second})
			a, err := c.Pull(t.Context(), s.reference(t, "p:1"), digestOf(good))
			failed(t, err, k.want)
			if a.Tarball != nil || a.Signatures != nil {
				t.Error("Pull() returned an artifact beside its error")
			}
			if asked := len(s.requests()); asked > 25 {
				t.Errorf("%d requests were sent, want at most those of sixteen pages", asked)
			}
		})
	}
}

// secondPage is a list of two pages, of which the second is something else.
func secondPage(second http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			second(w, r)
			return
		}
		w.Header().Set("Link", `<?page=2>; rel="next"`)
		body(ociIndex, []byte(`{"schemaVersion":2,"manifests":[]}`))(w, r)
	}
}

// TestTooManySignaturesOverPages: the bound is on all of them.
func TestTooManySignaturesOverPages(t *testing.T) {
	s := serve(t, true, paged(7, func(_ *http.Request, next int) []string { return []string{fmt.Sprintf(`<?from=%d>; rel="next"`, next)} }))
	c, ref, digest := signedBy(t, s, signature.MaxSignatures)
	if got := pulled(t, c, ref, digest).Signatures; len(got) != signature.MaxSignatures {
		t.Errorf("Pull() = %d signatures, want all %d", len(got), signature.MaxSignatures)
	}
	if err := c.Attach(t.Context(), ref, digest, bundleSignature("one more")); err != nil {
		t.Fatal(err)
	}
	_, err := c.Pull(t.Context(), ref, digest)
	failed(t, err, registry.ReasonTooLarge)
}

// TestSignaturesOnAnotherHost: signatures have a registry, a CA and credentials of
// their own, none of which the bundle's registry gets, and the other way round.
func TestSignaturesOnAnotherHost(t *testing.T) {
	bundles := serve(t, true, basic("reader", "one"))
	for name, referrers := range map[string]bool{"referrers": true, "fallback tag": false} {
		t.Run(name, func(t *testing.T) {
			signatures := serve(t, referrers, basic("signer", "two"))
			config := auths(bundles.host(), "reader", "one")
			entries, ok := config["auths"].(map[string]any)
			others, also := auths(signatures.host(), "signer", "two")["auths"].(map[string]any)
			if !ok || !also {
				t.Fatalf("credentials are %T", config["auths"])
			}
			maps.Copy(entries, others)
			ca := append(bundles.ca(), signatures.ca()...)
			c := client(t, registry.Config{CA: ca, CredentialsFile: credentialsFile(t, config), SignatureRepository: signatures.host() + "/trust/policy"})
			ref := bundles.reference(t, "team/policy:"+strings.ReplaceAll(name, " ", "-"))
			digest, err := c.Push(t.Context(), ref, tarball(t, name), nil)
			if err != nil {
				t.Fatal(err)
			}
			bundles.requests()
			for _, sig := range []signature.Signature{classicSignature(digest, "a"), bundleSignature("b")} {
				if err := c.Attach(t.Context(), ref, digest, sig); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range bundles.requests() {
				if r.Method != http.MethodGet && r.Method != http.MethodHead {
					t.Errorf("%s %s: a signature for elsewhere wrote to the bundle's registry", r.Method, r.URL.Path)
				}
			}
			if got := pulled(t, c, ref, digest).Signatures; len(got) != 2 {
				t.Errorf("Pull() = %d signatures, want the 2 on the other host", len(got))
			}
			credentialsStay(t, bundles, "reader")
			credentialsStay(t, signatures, "signer")

			// A host that is away is no host without signatures.
			signatures.Close()
			a, err := c.Pull(t.Context(), ref, digest)
			text := failed(t, err, registry.ReasonUnavailable)
			if a.Tarball != nil || !strings.Contains(text, signatures.host()) {
				t.Errorf("Pull() = %d bytes, %q, want nothing but an error that names the host of the signatures", len(a.Tarball), text)
			}
		})
	}
}

func credentialsStay(t *testing.T, s *server, user string) {
	t.Helper()
	for _, r := range s.requests() {
		if got, _, ok := r.BasicAuth(); ok && got != user {
			t.Errorf("%s got the credentials of %s, want those of %s only", r.URL, got, user)
		}
	}
}

// TestSignaturesOfBothPlaces add up: moving signatures elsewhere loses none.
func TestSignaturesOfBothPlaces(t *testing.T) {
	s, other := serve(t, true, open), serve(t, true, open)
	_, ref, digest := signedBy(t, s, 1)
	c := client(t, registry.Config{CA: append(s.ca(), other.ca()...), SignatureRepository: other.host() + "/trust"})
	if err := c.Attach(t.Context(), ref, digest, bundleSignature("elsewhere")); err != nil {
		t.Fatal(err)
	}
	got := pulled(t, c, ref, digest).Signatures
	if len(got) != 2 || bytes.Equal(got[0].Bundle, got[1].Bundle) {
		t.Errorf("Pull() = %d signatures, want the one beside the bundle and the one elsewhere", len(got))
	}
}
