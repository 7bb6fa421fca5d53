package admin_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/audit/admin"
)

func TestShadowHandsOverTheReport(t *testing.T) {
	const report = `{"compared":3,"flipped":[{"workload":"<&>"}]}`
	c := admin.Dial(serve(t, admin.Config{Log: newMemoryLog(), Shadow: func() ([]byte, error) { return []byte(report), nil }}).path, nil)
	if got, err := c.Shadow(t.Context()); err != nil || string(got) != report {
		t.Errorf("Shadow() = %q, %v, want the report's own bytes", got, err)
	}
}

func TestShadowWithoutACandidateSaysSo(t *testing.T) {
	for name, f := range map[string]func() ([]byte, error){
		"not built in": nil, "not given": func() ([]byte, error) { return nil, admin.ErrNoCandidate },
	} {
		c := admin.Dial(serve(t, admin.Config{Log: newMemoryLog(), Shadow: f}).path, nil)
		_, err := c.Shadow(t.Context())
		if !errors.Is(err, admin.ErrNoCandidate) || !strings.Contains(err.Error(), "; hint: start the plugin with --policy-shadow") {
			t.Errorf("%s: Shadow() = %v, want ErrNoCandidate with its hint", name, err)
		}
	}
}

func TestShadowThatFailsIsSaidInItsWords(t *testing.T) {
	c := admin.Dial(serve(t, admin.Config{Log: newMemoryLog(), Shadow: func() ([]byte, error) { return nil, errors.New("no \x1b[31mreport") }}).path, nil)
	if _, err := c.Shadow(t.Context()); err == nil || err.Error() != "the plugin refused: no ?[31mreport" || errors.Is(err, admin.ErrNoCandidate) {
		t.Errorf("Shadow() = %v, want the error in printable words", err)
	}
}

// The report takes no parameters and changes nothing.
func TestShadowIsReadOnly(t *testing.T) {
	asked := 0
	s := serve(t, admin.Config{Log: newMemoryLog(), Shadow: func() ([]byte, error) { asked++; return []byte("{}"), nil }})
	for request, want := range map[string]string{
		get("/v1/shadow?all=1"): " 400 ", get("/v1/shadow/"): " 404 ", get("/v1/../v1/shadow"): " 404 ",
		"POST /v1/shadow HTTP/1.1\r\nHost: n\r\nConnection: close\r\nContent-Length: 0\r\n\r\n": " 405 ",
	} {
		if status, _, _ := strings.Cut(say(t, s.path, request), "\r\n"); !strings.Contains(status, want) {
			t.Errorf("answer to %q = %q, want%q", request, status, want)
		}
	}
	if asked != 0 {
		t.Errorf("the report was made %d times, want never", asked)
	}
}
