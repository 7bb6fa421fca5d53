package driver_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/driver"
)

func TestHealthHandler(t *testing.T) {
	var missing error
	h := driver.HealthHandler([]driver.Check{
		{Name: "policy", Err: func() error { return missing }},
		{Name: "providers", Warning: true, Err: func() error { return errors.New("no socket; hint: install one") }},
	})
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if code, text := get("/readyz"); code != http.StatusOK || !strings.Contains(text, "[+] policy") || !strings.Contains(text, "[!] providers: no socket") {
		t.Errorf("GET /readyz = %d %q, want 200 with the warning", code, text)
	}
	missing = errors.New("no active bundle; hint: see --policy")
	if code, text := get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "[-] policy: no active bundle") {
		t.Errorf("GET /readyz = %d %q, want 503 with the reason", code, text)
	}
	if code, _ := get("/healthz"); code != http.StatusOK {
		t.Errorf("GET /healthz = %d, want 200", code)
	}
	if code, _ := get("/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("GET /debug/pprof/ = %d, want 404", code)
	}
}
