package daemon_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/daemon"
)

// Kubelet restarts what does not answer /healthz, however long a log is read;
// and nothing is ready before it is known to be.
func TestProbesWhileAProgramStarts(t *testing.T) {
	handler := daemon.NewHealth("the log is being read; hint: wait", "nothing is granted")
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if code, text := ask("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz of a program that starts = %d %q, want 200", code, text)
	}
	if code, text := ask("/readyz"); code != http.StatusServiceUnavailable || text != "[-] start: the log is being read; hint: wait\nnot ready: nothing is granted\n" {
		t.Errorf("/readyz of a program that starts = %d %q, want 503 and why", code, text)
	}
	handler.Set([]daemon.Check{{Name: "policy", Err: func() error { return nil }}})
	if code, text := ask("/readyz"); code != http.StatusOK || strings.Contains(text, "start: ") {
		t.Errorf("/readyz of a program that has started = %d %q, want 200", code, text)
	}
}
