package apiserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

// listen accepts connections and has f do with each what it likes.
func listen(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go f(c)
		}
	}()
	return "https://" + l.Addr().String()
}

func TestNetworkFailures(t *testing.T) {
	stranger := httptest.NewTLSServer(http.NotFoundHandler()) // of another certificate authority
	stranger.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(stranger.Close)
	closed := listen(t, func(net.Conn) {})
	for name, test := range map[string]struct {
		host   string
		reason apiserver.Reason
		cause  string // in the log
	}{
		"refused":             {"https://127.0.0.1:1", apiserver.Unreachable, "connection refused"},
		"swallows all":        {closed, apiserver.Timeout, "deadline exceeded"},
		"hangs up":            {listen(t, func(c net.Conn) { _ = c.Close() }), apiserver.Unreachable, ""},
		"speaks no TLS":       {listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n{}") }), apiserver.Unreachable, "HTTP response to HTTPS client"},
		"cannot be trusted":   {stranger.URL, apiserver.Unreachable, "certificate"},
		"name that is no URL": {"https://127.0.0.1:99999", apiserver.Unreachable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Any authority that is not the stranger's: newFixture gives its own.
			f := newFixture(t, func(c *apiserver.Config) {
				c.REST.Host = test.host
				if test.reason == apiserver.Timeout {
					c.ReadTimeout = 300 * time.Millisecond
				}
				if test.host == stranger.URL {
					c.REST.CAData = foreignAuthority(t)
				}
			})
			for object, ask := range asks() {
				begin := time.Now()
				checkUnavailable(t, ask(t.Context(), f), object, test.reason)
				if took := time.Since(begin); took > 5*time.Second {
					t.Errorf("%s took %v, want no longer than ReadTimeout", object, took)
				}
			}
			if log := f.log.String(); !strings.Contains(log, test.cause) || strings.Contains(log, canary) {
				t.Errorf("log = %s, want the cause %q and no token", log, test.cause)
			}
		})
	}
}

// foreignAuthority is a certificate that signed nothing here.
func foreignAuthority(t *testing.T) []byte {
	t.Helper()
	cert, _ := selfSigned(t)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
}

// An answer that stops in its middle is no answer.
func TestHalfAnAnswer(t *testing.T) {
	f := newFixture(t, func(c *apiserver.Config) { c.ReadTimeout = 300 * time.Millisecond })
	for name, test := range map[string]struct {
		reason apiserver.Reason
		end    func(r *http.Request)
	}{
		"breaks off": {apiserver.Unreachable, func(*http.Request) { panic(http.ErrAbortHandler) }},
		"drips":      {apiserver.Timeout, func(r *http.Request) { <-r.Context().Done() }},
	} {
		t.Run(name, func(t *testing.T) {
			f.api.answers(func(w http.ResponseWriter, r *http.Request) bool {
				_, _ = io.WriteString(w, `{"kind":"Pod"`)
				http.NewResponseController(w).Flush() //nolint:errcheck // the reader is there
				test.end(r)
				return true
			})
			for object, ask := range asks() {
				checkUnavailable(t, ask(t.Context(), f), object, test.reason)
			}
		})
	}
}

// Whoever an answer points to would get the token.
func TestRedirectsAreNotFollowed(t *testing.T) {
	f := newFixture(t)
	var visits atomic.Int64
	f.api.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/elsewhere" {
			visits.Add(1)
			return false
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		return true
	})
	for object, ask := range asks() {
		checkUnavailable(t, ask(t.Context(), f), object, apiserver.InvalidAnswer)
	}
	f.start(t)
	eventually(t, "a list is asked for", func() bool { return f.api.count("/api/v1/namespaces") > 0 })
	if n := visits.Load(); n != 0 {
		t.Errorf("redirects followed = %d, want none", n)
	}
}

// A connection that swallows requests is left after the first.
func TestStuckConnectionIsLeft(t *testing.T) {
	f := newFixture(t, func(c *apiserver.Config) { c.ReadTimeout = 300 * time.Millisecond })
	if _, err := f.Namespace(t.Context(), "payments"); err != nil {
		t.Fatal(err)
	}
	stuck := f.api.asked[0].RemoteAddr
	f.api.answers(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.RemoteAddr != stuck {
			return false
		}
		<-r.Context().Done()
		return true
	})
	_, err := f.Namespace(t.Context(), "payments")
	checkUnavailable(t, err, "namespace", apiserver.Timeout)
	if _, err := f.Namespace(t.Context(), "payments"); err != nil {
		t.Errorf("Namespace() after a timeout = %v, want an answer over another connection", err)
	}
	if r := f.api.asked[0]; r.ProtoMajor != 2 {
		t.Errorf("protocol = %s, want HTTP/2 as with an API server", r.Proto)
	}
}

// While the API server is down, each complaint is made once a minute.
func TestComplaintsAreFew(t *testing.T) {
	f := newFixture(t)
	f.api.Close()
	complaints := func() int { return strings.Count(f.log.String(), "gives no answer that can be used") }
	for range 20 {
		_, err := f.Namespace(t.Context(), "payments")
		checkUnavailable(t, err, "namespace", apiserver.Unreachable)
	}
	if n := complaints(); n != 1 {
		t.Errorf("20 failures left %d lines in the log, want 1", n)
	}
	if _, err := f.CSIDriver(t.Context()); err == nil || complaints() != 2 {
		t.Errorf("another object: %v with %d lines, want a second one", err, complaints())
	}
	f.clock.pass(time.Minute)
	if _, err := f.Namespace(t.Context(), "payments"); err == nil || complaints() != 3 {
		t.Errorf("a minute later: %v with %d lines, want a third one", err, complaints())
	}
}

// What a server says before anybody knows who it is must not get into a
// terminal, nor fill the log.
func TestCausesInTheLogAreBounded(t *testing.T) {
	host := listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 \x1b[31m"+strings.Repeat("x", 4096))
	})
	f := newFixture(t, func(c *apiserver.Config) {
		c.REST.Host = host
		c.REST.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return conn, errorOf(conn)
		}
	})
	if _, err := f.CSIDriver(t.Context()); err == nil {
		t.Fatal("CSIDriver() = nil, want an error")
	}
	if log := f.log.String(); log == "" || len(log) > 1000 || strings.ContainsRune(log, '\x1b') || bytes.Contains([]byte(log), []byte(`\u001b`)) {
		t.Errorf("log = %q, want a short line without escapes", log)
	}
}

// errorOf is an error that repeats what the other side wrote.
func errorOf(c net.Conn) error {
	b := make([]byte, 2048)
	n, err := io.ReadFull(c, b)
	if err != nil {
		return err
	}
	_ = c.Close()
	return tls.RecordHeaderError{Msg: string(b[:n])}
}
