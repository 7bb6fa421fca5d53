package daemon

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"
)

// Check is one condition of readiness. Its Err returns nil while it holds.
type Check struct {
	Name string
	// Err says what is missing, in one line that names a remedy.
	Err func() error
	// Warning marks a condition that is shown and does not count.
	Warning bool
}

// HealthHandler serves /healthz, which answers 200 while the process runs, and
// /readyz, which answers 503 and says why while a check fails, and with otherwise
// what does not happen until then. Readiness is about granting: unmounting works
// all the same (promise P8).
//
// Readiness is asked by one caller at a time: anybody may ask, checks may wait for
// the API server, and kubelet's probe has its turn among them. Who has gone by then
// is not answered.
func HealthHandler(checks []Check, otherwise string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.Handle("GET /readyz", OneByOne(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text, ready := readiness(checks, otherwise)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, text)
	})))
	return mux
}

func readiness(checks []Check, otherwise string) (text string, ready bool) {
	var b strings.Builder
	ready = true
	for _, c := range checks {
		err := c.Err()
		switch {
		case err == nil:
			fmt.Fprintf(&b, "[+] %s\n", c.Name)
		case c.Warning:
			fmt.Fprintf(&b, "[!] %s: %s\n", c.Name, oneLine(err))
		default:
			ready = false
			fmt.Fprintf(&b, "[-] %s: %s\n", c.Name, oneLine(err))
		}
	}
	if ready {
		return b.String() + "ready\n", true
	}
	return b.String() + "not ready: " + otherwise + "\n", false
}

// oneLine keeps a condition to its line. The error may quote what a bundle or a
// registry says, which could be a line that looks like another condition.
func oneLine(err error) string {
	const most = 4 << 10
	text := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
