package main_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	node "github.com/portcullis-csi/portcullis/cmd/portcullis-node"
	"github.com/portcullis-csi/portcullis/driver"
)

// Kubelet restarts what does not answer /healthz, however long a log is read;
// and nothing is ready before it is known to be.
func TestProbesWhileThePluginStarts(t *testing.T) {
	handler, started := node.Health()
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if code, text := ask("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz of a plugin that starts = %d %q, want 200", code, text)
	}
	if code, text := ask("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "[-] start: ") || !strings.Contains(text, "hint: wait") {
		t.Errorf("/readyz of a plugin that starts = %d %q, want 503 and why", code, text)
	}
	started([]driver.Check{{Name: "policy", Err: func() error { return nil }}})
	if code, text := ask("/readyz"); code != http.StatusOK || strings.Contains(text, "start: ") {
		t.Errorf("/readyz of a plugin that has started = %d %q, want 200", code, text)
	}
}
