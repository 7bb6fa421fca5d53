package daemon_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/daemon"
)

func TestHealthHandler(t *testing.T) {
	var missing error
	h := daemon.HealthHandler([]daemon.Check{
		{Name: "policy", Err: func() error { return missing }},
		{Name: "providers", Warning: true, Err: func() error { return errors.New("no socket; hint: install one") }},
	}, "nothing is granted")
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

// A condition has one line, whatever its error quotes: who reads it by lines must not
// take a piece of a bundle for another condition.
func TestAConditionIsOneLine(t *testing.T) {
	text := "modules: 2 errors occurred:\nodd.rego:8: bad\n\t[+] audit log\r\nready\n\x1b[2Jend; hint: mend it" + strings.Repeat("x", 10_000)
	h := daemon.HealthHandler([]daemon.Check{
		{Name: "policy", Err: func() error { return errors.New(text) }},
		{Name: "policy source", Warning: true, Err: func() error { return errors.New(text) }},
	}, "nothing is granted")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	lines := strings.Split(strings.TrimSuffix(w.Body.String(), "\n"), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "[-] policy: modules: ") || !strings.HasPrefix(lines[1], "[!] policy source: ") || !strings.HasPrefix(lines[2], "not ready: ") {
		t.Fatalf("GET /readyz = %d lines, want one for each condition and the answer: %.500q", len(lines), w.Body)
	}
	if strings.ContainsAny(lines[0], "\r\t\x1b") || len(lines[0]) > 5000 || !strings.Contains(lines[0], "; odd.rego:8: bad; ") {
		t.Errorf("line = %.300q, want what it says without controls, and bounded", lines[0])
	}
}

// A check that waits holds up neither /healthz nor whoever has gone away, and
// however many ask for readiness, the check is made for one at a time.
func TestReadinessIsAskedOneByOne(t *testing.T) {
	entered, leave := make(chan struct{}, 8), make(chan struct{})
	h := daemon.HealthHandler([]daemon.Check{{Name: "slow", Err: func() error { entered <- struct{}{}; <-leave; return nil }}}, "")
	ask := func(ctx context.Context, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
		return w
	}
	first := make(chan string)
	go func() { first <- ask(t.Context(), "/readyz").Body.String() }()
	<-entered
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if text := ask(gone, "/readyz").Body.String(); text != "" {
		t.Errorf("GET /readyz of a caller that is gone = %q, want nothing", text)
	}
	if code := ask(t.Context(), "/healthz").Code; code != http.StatusOK {
		t.Errorf("GET /healthz while a check waits = %d, want 200", code)
	}
	if len(entered) > 0 {
		t.Error("the check was made for two callers at the same time")
	}
	close(leave)
	if text := <-first; text != "[+] slow\nready\n" {
		t.Errorf("GET /readyz = %q, want the check and ready", text)
	}
	if text := ask(t.Context(), "/readyz").Body.String(); text != "[+] slow\nready\n" {
		t.Errorf("GET /readyz after that = %q, want it to be asked again", text)
	}
}

// A check that panics does not keep the others from their turn.
func TestReadinessSurvivesAPanic(t *testing.T) {
	broken := true
	h := daemon.HealthHandler([]daemon.Check{{Name: "broken", Err: func() error {
		if broken {
			panic("broken")
		}
		return nil
	}}}, "")
	ask := func() (code int) {
		defer func() { _ = recover() }()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		return w.Code
	}
	if code := ask(); code != 0 {
		t.Fatalf("GET /readyz = %d, want the panic", code)
	}
	broken = false
	if code := ask(); code != http.StatusOK {
		t.Errorf("GET /readyz after a panic = %d, want 200", code)
	}
}
