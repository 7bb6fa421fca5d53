package apiserver_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

// bodies are answers that say 200 and do not hold what was asked for.
func bodies() map[string]string {
	deep := `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"api-0","namespace":"payments","uid":"1","resourceVersion":"1"},"x":`
	return map[string]string{
		"nothing":            "",
		"null":               "null",
		"a list":             "[]",
		"empty object":       "{}",
		"text":               canary,
		"a page":             "<html>" + canary + "</html>",
		"cut off":            `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"api-0"`,
		"two objects":        `{"kind":"Pod","apiVersion":"v1"}{"kind":"Pod","apiVersion":"v1"}`,
		"a Status":           `{"kind":"Status","apiVersion":"v1","status":"Success","message":"` + canary + `"}`,
		"a Secret":           `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"api-0","namespace":"payments","uid":"1","resourceVersion":"1"},"data":{"x":"` + canary + `"}}`,
		"wrong type":         `{"kind":"Pod","apiVersion":"v1","metadata":{"name":7}}`,
		"deep":               deep + strings.Repeat("[", 100_000),
		"too large":          `{"kind":"Pod","x":"` + strings.Repeat("x", 3<<20) + `"}`,
		"NUL":                "\x00",
		"not UTF-8":          "\xff\xfe",
		"empty list of keys": `{"keys":[]}`,
		"empty issuer":       `{"issuer":""}`,
		"another list":       `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}`,
		"list of no version": `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":[]}`,
		"pod without UID":    `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"x"}}]}`,
	}
}

func TestBodiesThatAreNoAnswer(t *testing.T) {
	for name, body := range bodies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.api.says(http.StatusOK, body)
			for object, ask := range asks() {
				checkUnavailable(t, ask(t.Context(), f), object, apiserver.InvalidAnswer)
			}
			if log := f.log.String(); strings.Contains(log, canary) {
				t.Errorf("log = %s, want no text of the API server", log)
			}
		})
	}
}

// An object of another name is not what was asked for, whoever mixed them up.
func TestAnotherObject(t *testing.T) {
	for name, change := range map[string]func(meta map[string]any){
		"name":          func(m map[string]any) { m["name"] = "other" },
		"namespace":     func(m map[string]any) { m["namespace"] = "shop" },
		"no name":       func(m map[string]any) { delete(m, "name") },
		"no UID":        func(m map[string]any) { delete(m, "uid") },
		"no version":    func(m map[string]any) { delete(m, "resourceVersion") },
		"name in caps":  func(m map[string]any) { m["Name"] = m["name"]; delete(m, "name") },
		"name of error": func(m map[string]any) { m["name"] = canary },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.api.mu.Lock()
			for _, o := range f.api.objects {
				meta, ok := o["metadata"].(map[string]any)
				if !ok {
					t.Fatal("an object has no metadata")
				}
				change(meta)
			}
			f.api.mu.Unlock()
			for object, read := range reads() {
				checkUnavailable(t, read(t.Context(), f), object, apiserver.InvalidAnswer)
			}
		})
	}
}

// A small answer can be a large one.
func TestCompressedAnswer(t *testing.T) {
	f := newFixture(t)
	f.api.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			return false
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, `{"kind":"Pod","x":"`)
		for range 8 {
			_, _ = io.WriteString(z, strings.Repeat(" ", 1<<20))
		}
		_ = z.Close()
		return true
	})
	for object, ask := range asks() {
		checkUnavailable(t, ask(t.Context(), f), object, apiserver.InvalidAnswer)
	}
}

// At the bound an answer is accepted.
func TestLargestAnswer(t *testing.T) {
	f := newFixture(t)
	large := class()
	for _, test := range []struct {
		size int
		want bool
	}{{3 << 20, true}, {3<<20 + 1, false}} {
		large.ResourceVersion, large.Spec.Parameters = "9", map[string]string{"x": ""}
		empty, err := json.Marshal(large)
		if err != nil {
			t.Fatal(err)
		}
		large.Spec.Parameters["x"] = strings.Repeat("x", test.size-len(empty))
		body, err := json.Marshal(large)
		if err != nil || len(body) != test.size {
			t.Fatalf("class of %d bytes, %v, want %d", len(body), err, test.size)
		}
		f.api.says(http.StatusOK, string(body))
		_, err = f.Class(t.Context(), "payments", "db")
		if (err == nil) != test.want {
			t.Errorf("Class() of %d bytes = %v, want accepted %t", test.size, err, test.want)
		}
		f.clock.pass(10 * time.Second)
	}
}

func TestKeysAndIssuer(t *testing.T) {
	f := newFixture(t)
	const keys, document = `{"keys":[{"kty":"RSA","kid":"a"}]}`, `{"issuer":"https://kubernetes.default.svc","jwks_uri":"https://elsewhere"}`
	f.api.answers(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case keysPath:
			w.Header().Set("Content-Type", "application/jwk-set+json")
			_, _ = io.WriteString(w, keys)
		case discoveryPath:
			_, _ = io.WriteString(w, document)
		default:
			return false
		}
		return true
	})
	if got, err := f.JWKS(t.Context()); err != nil || string(got) != keys {
		t.Errorf("JWKS() = %q, %v, want %q", got, err, keys)
	}
	if got, err := f.Issuer(t.Context()); err != nil || got != "https://kubernetes.default.svc" {
		t.Errorf("Issuer() = %q, %v, want the document's", got, err)
	}
	f.api.says(http.StatusOK, `{"issuer":"`+strings.Repeat("x", 1025)+`"}`)
	_, err := f.Issuer(t.Context())
	checkUnavailable(t, err, "token issuer", apiserver.InvalidAnswer)
	f.api.says(http.StatusOK, `{"keys":[{}],"x":"`+strings.Repeat("x", 256<<10)+`"}`)
	_, err = f.JWKS(t.Context())
	checkUnavailable(t, err, "token signing keys", apiserver.InvalidAnswer)
	f.api.says(http.StatusOK, `{"issuer":"a","x":"`+strings.Repeat("x", 64<<10)+`"}`)
	_, err = f.Issuer(t.Context())
	checkUnavailable(t, err, "token issuer", apiserver.InvalidAnswer)
}

// canned answers every request with one body, without a network.
type canned struct {
	code int
	body string
}

func (c canned) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: c.code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.body))}, nil
}

// Whatever the answer is, a read ends with the object that was asked for, with
// its absence, or with an error that is neither.
func FuzzAnswers(f *testing.F) {
	for _, body := range bodies() {
		if len(body) < 2000 {
			f.Add(true, body)
		}
	}
	for _, o := range []any{pod(), namespace(), account(), class(), csiDriver()} {
		text, err := json.Marshal(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(true, strings.Replace(string(text), `"metadata":{`, `"metadata":{"resourceVersion":"1",`, 1))
	}
	f.Add(true, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"payments","uid":"1","resourceVersion":"1"}}`)
	f.Add(true, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"uid":"1"}}]}`)
	f.Add(true, `{"keys":[1]}`)
	f.Add(true, `{"issuer":"a"}`)
	f.Add(false, notFound("", "pods", "api-0"))
	f.Add(false, notFound("secrets-store.csi.x-k8s.io", "secretproviderclasses", "db"))
	f.Fuzz(func(t *testing.T, ok bool, body string) {
		code := http.StatusNotFound
		if ok {
			code = http.StatusOK
		}
		reader, err := apiserver.New(apiserver.Config{
			REST: &rest.Config{Host: "https://198.51.100.1", Transport: canned{code, body}},
			Node: "node-1", DriverName: driverName, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		x := &fixture{Reader: reader}
		named := map[string]bool{}
		if p, err := x.Pod(t.Context(), "payments", "api-0", podUID); err == nil {
			named["pod"] = p.Name == "api-0" && p.Namespace == "payments" && p.UID != "" && p.ResourceVersion != ""
		}
		if n, err := x.Namespace(t.Context(), "payments"); err == nil {
			named["namespace"] = n.Name == "payments" && n.Namespace == ""
		}
		if a, err := x.ServiceAccount(t.Context(), "payments", "api"); err == nil {
			named["service account"] = a.Name == "api" && a.Namespace == "payments"
		}
		if c, err := x.Class(t.Context(), "payments", "db"); err == nil {
			named["SecretProviderClass"] = c.Name == "db" && c.Namespace == "payments"
		}
		if d, err := x.CSIDriver(t.Context()); err == nil {
			named["CSIDriver"] = d.Name == driverName
		}
		for object, right := range named {
			if !right || !ok {
				t.Errorf("%s of code %d, body %q is another object, or one where there was none", object, code, body)
			}
		}
		for object, ask := range asks() {
			err := ask(t.Context(), x)
			_, unavailable := errors.AsType[*apiserver.UnavailableError](err)
			missing := errors.Is(err, kube.ErrNotFound)
			if err != nil && unavailable == missing && !strings.Contains(err.Error(), "said not to exist") || missing && ok {
				t.Errorf("%s of code %d, body %q = %v, want an object, its absence, or neither", object, code, body, err)
			}
		}
	})
}

// Somebody who gave up is told so, and nobody else is.
func TestCallerGivesUp(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for object, ask := range asks() {
		if err := ask(ctx, f); !errors.Is(err, context.Canceled) {
			t.Errorf("%s of a caller who gave up = %v, want context.Canceled", object, err)
		}
	}
	if log := f.log.String(); log != "" {
		t.Errorf("log = %s, want nothing: the API server is not to blame", log)
	}
}
