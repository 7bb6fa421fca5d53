package registry_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
)

// basic wants one user's password.
func basic(user, password string) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if u, p, _ := r.BasicAuth(); u != user || p != password {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
}

// TestCredentials come from the file, by the longest entry that fits.
func TestCredentials(t *testing.T) {
	s := serve(t, true, basic("robot", "pass:word"))
	host, ref := s.host(), s.reference(t, "team/policy:1")
	for name, k := range map[string]struct {
		config any
		want   registry.Reason
	}{
		"none":              {map[string]any{}, registry.ReasonUnauthorized},
		"right":             {auths(host, "robot", "pass:word"), ""},
		"a URL":             {auths("https://"+host+"/v2/", "robot", "pass:word"), ""},
		"of the repository": {auths(host+"/team/policy", "robot", "pass:word"), ""},
		"of the folder":     {auths(host+"/team", "robot", "pass:word"), ""},
		"in two fields":     {map[string]any{"auths": map[string]any{host: map[string]string{"username": "robot", "password": "pass:word"}}}, ""},
		"the longest wins": {map[string]any{"auths": map[string]any{
			host: map[string]string{"username": "robot", "password": "wrong"}, host + "/team": map[string]string{"username": "robot", "password": "pass:word"},
		}}, ""},
		"of a neighbour":    {auths(host+"/tea", "robot", "pass:word"), registry.ReasonUnauthorized},
		"of another host":   {auths("other.example", "robot", "pass:word"), registry.ReasonUnauthorized},
		"wrong":             {auths(host, "robot", "wrong"), registry.ReasonUnauthorized},
		"left to a helper":  {map[string]any{"credHelpers": map[string]string{host: "evil"}}, registry.ReasonUnauthorized},
		"left to the store": {map[string]any{"credsStore": "evil"}, registry.ReasonUnauthorized},
		"not base64":        {map[string]any{"auths": map[string]any{host: map[string]string{"auth": "pass:word"}}}, registry.ReasonCredentials},
		"no colon":          {map[string]any{"auths": map[string]any{host: map[string]string{"auth": "cm9ib3Q="}}}, registry.ReasonCredentials},
		"no object":         {[]string{"pass:word"}, registry.ReasonCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, registry.Config{CA: s.ca(), CredentialsFile: credentialsFile(t, k.config)})
			_, err := c.Push(t.Context(), ref, tarball(t, "one"), nil)
			if k.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e := failed(t, err, k.want)
			if strings.Contains(e.Error(), "pass:word") || strings.Contains(e.Error(), base64.StdEncoding.EncodeToString([]byte("robot:wrong"))) {
				t.Errorf("error = %q, which repeats a credential", e)
			}
			if strings.HasPrefix(name, "left to") && !strings.Contains(e.Error(), "credential helper") {
				t.Errorf("error = %q, want it to name the credential helper", e)
			}
		})
	}
	missing := client(t, registry.Config{CA: s.ca(), CredentialsFile: filepath.Join(t.TempDir(), "none.json")})
	_, err := missing.Resolve(t.Context(), ref)
	failed(t, err, registry.ReasonCredentials)
}

// TestNoAmbientCredentials: a daemon has no home.
func TestNoAmbientCredentials(t *testing.T) {
	s := serve(t, true, basic("robot", "password"))
	t.Setenv("DOCKER_CONFIG", filepath.Dir(credentialsFile(t, auths(s.host(), "robot", "password"))))
	_, err := client(t, registry.Config{CA: s.ca()}).Resolve(t.Context(), s.reference(t, "p:1"))
	failed(t, err, registry.ReasonUnauthorized)
}

// TestCredentialsRotate without a new Client.
func TestCredentialsRotate(t *testing.T) {
	password := "one"
	s := serve(t, true, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { basic("robot", password)(h).ServeHTTP(w, r) })
	})
	path := credentialsFile(t, auths(s.host(), "robot", "one"))
	c, ref := client(t, registry.Config{CA: s.ca(), CredentialsFile: path}), s.reference(t, "p:1")
	if _, err := c.Push(t.Context(), ref, tarball(t, "one"), nil); err != nil {
		t.Fatal(err)
	}
	password = "two"
	_, err := c.Resolve(t.Context(), ref)
	failed(t, err, registry.ReasonUnauthorized)
	text, err := os.ReadFile(credentialsFile(t, auths(s.host(), "robot", "two")))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resolve(t.Context(), ref); err != nil {
		t.Errorf("Resolve() = %v after the file was replaced", err)
	}
}

// bearer wants a token, and names where to get it.
func bearer(realm func() string, token string) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				if u, p, _ := r.BasicAuth(); u != "robot" || p != "password" {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				_, _ = io.WriteString(w, `{"token":"`+token+`"}`)
				return
			}
			if r.Header.Get("Authorization") != "Bearer "+token {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="test"`, realm()))
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
}

func TestTokens(t *testing.T) {
	var s *server
	s = serve(t, true, bearer(func() string { return s.URL + "/token" }, "t1"))
	c := client(t, registry.Config{CA: s.ca(), CredentialsFile: credentialsFile(t, auths(s.host(), "robot", "password"))})
	ref := s.reference(t, "p:1")
	digest, err := c.Push(t.Context(), ref, tarball(t, "one"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Resolve(t.Context(), ref); err != nil || got != digest {
		t.Errorf("Resolve() = %q, %v, want %q", got, err, digest)
	}
	wrong := client(t, registry.Config{CA: s.ca(), CredentialsFile: credentialsFile(t, auths(s.host(), "robot", "wrong"))})
	_, err = wrong.Resolve(t.Context(), ref)
	failed(t, err, registry.ReasonUnauthorized)
}

// TestNoCredentialLeavesTLS: not to the place where a registry sends for tokens,
// nor where it redirects, nor on a fall back to http.
func TestNoCredentialLeavesTLS(t *testing.T) {
	thief := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"x"}`) }), httptest.NewServer)
	for name, h := range map[string]http.Handler{
		"realm": bearer(func() string { return "http://" + strings.Replace(thief.host(), "127.0.0.1", "localhost", 1) + "/token" }, "t1")(http.NotFoundHandler()),
		"redirect": basic("robot", "password")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+strings.Replace(thief.host(), "127.0.0.1", "localhost", 1)+r.URL.Path, http.StatusTemporaryRedirect)
		})),
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, h, httptest.NewTLSServer)
			c := client(t, registry.Config{CA: s.ca(), CredentialsFile: credentialsFile(t, auths(s.host(), "robot", "password"))})
			if _, err := c.Resolve(t.Context(), s.reference(t, "p:1")); err == nil {
				t.Error("Resolve() = nil, want an error")
			}
			if seen := thief.requests(); len(seen) != 0 {
				t.Errorf("%d requests went on without TLS, want 0", len(seen))
			}
		})
	}
}

// TestRedirectsCarryNoCredentials: registries keep blobs in stores of others.
func TestRedirectsCarryNoCredentials(t *testing.T) {
	store := serve(t, true, open)
	s := serve(t, true, func(h http.Handler) http.Handler {
		return basic("robot", "password")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				http.Redirect(w, r, store.URL+r.URL.Path, http.StatusTemporaryRedirect)
				return
			}
			h.ServeHTTP(w, r)
		}))
	})
	content := tarball(t, "one")
	ca := append(s.ca(), store.ca()...)
	c := client(t, registry.Config{CA: ca, CredentialsFile: credentialsFile(t, auths(s.host(), "robot", "password"))})
	digest, err := c.Push(t.Context(), s.reference(t, "p:1"), content, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client(t, registry.Config{CA: ca}).Push(t.Context(), store.reference(t, "p:1"), content, nil); err != nil {
		t.Fatal(err)
	}
	store.requests()
	pulled(t, c, s.reference(t, "p:1"), digest)
	seen := store.requests()
	if len(seen) == 0 {
		t.Fatal("nothing was redirected: the test shows nothing")
	}
	for _, r := range seen {
		if got := r.Header.Get("Authorization"); got != "" {
			t.Errorf("%s carried Authorization %q to another host", r.URL, got)
		}
	}
}
