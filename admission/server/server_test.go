package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-csi/portcullis/admission/server"
)

// hook is a handler that a function is.
type hook func(context.Context, admission.Request) admission.Response

func (h hook) Handle(ctx context.Context, r admission.Request) admission.Response { return h(ctx, r) }

func allow(context.Context, admission.Request) admission.Response { return admission.Allowed("") }

// world is a server in operation, and an API server's client.
type world struct {
	t      *testing.T
	url    string
	server *server.Server
	client *http.Client
	stop   func()
	ended  chan error
	log    *bytes.Buffer
}

func start(t *testing.T, change func(*server.Config)) *world {
	t.Helper()
	lender := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(lender.Close)
	certificate := lender.TLS.Certificates[0]
	w := &world{t: t, ended: make(chan error, 1), log: &bytes.Buffer{}, client: lender.Client()}
	c := server.Config{
		Hooks:          map[string]admission.Handler{"/pods": hook(allow)},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil },
		Logger:         slog.New(slog.NewTextHandler(w.log, nil)), Drain: time.Millisecond,
	}
	if change != nil {
		change(&c)
	}
	var err error
	if w.server, err = server.New(c); err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "https://" + l.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	t.Cleanup(stop)
	go func() { w.ended <- w.server.Serve(ctx, l) }()
	return w
}

// review returns one with an object of this size.
func review(size int) []byte {
	text, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &admissionv1.AdmissionRequest{UID: "u-1"},
	})
	if err != nil {
		panic(err)
	}
	return append(text, bytes.Repeat([]byte(" "), max(0, size-len(text)))...)
}

// ask sends a review and returns status and answer; status 0 means that none came.
func (w *world) ask(path string, body io.Reader) (int, string) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, w.url+path, body)
	if err != nil {
		w.t.Error(err)
		return 0, ""
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

func TestReviewIsAnswered(t *testing.T) {
	w := start(t, nil)
	if code, text := w.ask("/pods", bytes.NewReader(review(0))); code != http.StatusOK || !strings.Contains(text, `"uid":"u-1","allowed":true`) {
		t.Errorf("a review = %d %q, want 200 and allowed", code, text)
	}
	if code, _ := w.ask("/", bytes.NewReader(review(0))); code != http.StatusNotFound {
		t.Errorf("another path = %d, want 404", code)
	}
	if resp, err := w.client.Get(w.url + "/pods"); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET = %v, %v, want 405", resp, err)
	}
	families, err := metrics.Registry.Gather()
	if err != nil || !strings.Contains(fmt.Sprint(families), "controller_runtime_webhook_requests_total") {
		t.Errorf("metrics lack controller_runtime_webhook_requests_total: %v", err)
	}
}

// Every API server speaks 1.3.
func TestTLSIsOfToday(t *testing.T) {
	w := start(t, nil)
	for version, want := range map[uint16]bool{tls.VersionTLS12: false, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), &tls.Config{InsecureSkipVerify: true, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}})
		if (err == nil) != want {
			t.Errorf("%s: %v, want that it is taken: %v", tls.VersionName(version), err, want)
		}
		if err == nil {
			if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
				t.Errorf("protocol = %q, want http/1.1: nobody needs streams here but who resets them", got)
			}
			conn.Close()
		}
	}
}

func TestBodyIsBounded(t *testing.T) {
	w := start(t, nil)
	type chunked struct{ io.Reader } // whose length is not announced
	for name, test := range map[string]struct {
		body io.Reader
		code int
	}{
		"as large as may be": {bytes.NewReader(review(server.MaxBody)), http.StatusOK},
		"too large":          {bytes.NewReader(review(server.MaxBody + 1)), http.StatusRequestEntityTooLarge},
		"in pieces":          {chunked{bytes.NewReader(review(server.MaxBody))}, http.StatusOK},
		"too large pieces":   {chunked{bytes.NewReader(review(server.MaxBody + 1))}, http.StatusRequestEntityTooLarge},
	} {
		code, text := w.ask("/pods", test.body)
		if code != test.code || code != http.StatusOK && !strings.Contains(text, "hint: ") {
			t.Errorf("%s = %d %q, want %d", name, code, text, test.code)
		}
	}
}

// A panic refuses one review, and neither caller nor log learn what it was about.
func TestPanicRefuses(t *testing.T) {
	broken := true
	w := start(t, func(c *server.Config) {
		c.Hooks["/pods"] = hook(func(ctx context.Context, r admission.Request) admission.Response {
			if broken {
				panic("clientSecret: hunter2")
			}
			return allow(ctx, r)
		})
	})
	if code, text := w.ask("/pods", bytes.NewReader(review(0))); code != http.StatusInternalServerError || strings.Contains(text, "hunter2") {
		t.Errorf("a panic = %d %q, want 500 without its text", code, text)
	}
	broken = false
	if code, _ := w.ask("/pods", bytes.NewReader(review(0))); code != http.StatusOK {
		t.Errorf("the review after a panic = %d, want 200", code)
	}
	w.stop()
	if err := <-w.ended; err != nil {
		t.Error(err)
	}
	if text := w.log.String(); !strings.Contains(text, "review refused: a panic") || strings.Contains(text, "hunter2") {
		t.Errorf("log = %q, want the panic without its text", text)
	}
}

// More reviews than fit are refused soon, and those inside are answered.
func TestReviewsAtATime(t *testing.T) {
	entered, leave := make(chan struct{}, 8), make(chan struct{})
	w := start(t, func(c *server.Config) {
		c.InFlight, c.Patience = 2, 50*time.Millisecond
		c.Hooks["/pods"] = hook(func(ctx context.Context, r admission.Request) admission.Response {
			entered <- struct{}{}
			<-leave
			return allow(ctx, r)
		})
	})
	var inside sync.WaitGroup
	for range 2 {
		inside.Go(func() {
			if code, text := w.ask("/pods", bytes.NewReader(review(0))); code != http.StatusOK {
				t.Errorf("a review that was inside = %d %q, want 200", code, text)
			}
		})
		<-entered
	}
	began := time.Now()
	if code, text := w.ask("/pods", bytes.NewReader(review(0))); code != http.StatusServiceUnavailable || !strings.Contains(text, "try again") {
		t.Errorf("a third review = %d %q, want 503", code, text)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the refusal took %v, want that it is fast", took)
	}
	close(leave)
	inside.Wait()
	if code, _ := w.ask("/pods", bytes.NewReader(review(0))); code != http.StatusOK {
		t.Errorf("a review after that = %d, want 200", code)
	}
}

// A server that was told to stop is not ready, answers for a while, ends what it
// began, and takes nothing more.
func TestStopping(t *testing.T) {
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	w := start(t, func(c *server.Config) {
		c.Drain = 300 * time.Millisecond
		c.Hooks["/slow"] = hook(func(ctx context.Context, r admission.Request) admission.Response {
			entered <- struct{}{}
			<-leave
			return allow(ctx, r)
		})
	})
	if err := w.server.Stopping(); err != nil {
		t.Fatalf("Stopping() of a server in operation = %v", err)
	}
	slow := make(chan int)
	go func() { code, _ := w.ask("/slow", bytes.NewReader(review(0))); slow <- code }()
	<-entered
	w.stop()
	for w.server.Stopping() == nil {
		time.Sleep(time.Millisecond)
	}
	if code, text := w.ask("/pods", bytes.NewReader(review(0))); code != http.StatusOK {
		t.Errorf("a review while it stops = %d %q, want 200", code, text)
	}
	time.Sleep(500 * time.Millisecond) // no new ones are taken by now
	if code, _ := w.ask("/pods", bytes.NewReader(review(0))); code != 0 {
		t.Errorf("a review after the time to drain = %d, want none", code)
	}
	close(leave)
	if code := <-slow; code != http.StatusOK {
		t.Errorf("the review that was under way = %d, want 200", code)
	}
	if err := <-w.ended; err != nil {
		t.Errorf("Serve() = %v, want nil", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := server.Config{Hooks: map[string]admission.Handler{"/pods": hook(allow)}, Logger: slog.New(slog.DiscardHandler), GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}
	for field, change := range map[string]func(*server.Config){
		"Hooks": func(c *server.Config) { c.Hooks = nil }, "/pods": func(c *server.Config) { c.Hooks = map[string]admission.Handler{"/pods": nil} },
		"Logger": func(c *server.Config) { c.Logger = nil }, "GetCertificate": func(c *server.Config) { c.GetCertificate = nil },
	} {
		c := good
		change(&c)
		if _, err := server.New(c); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("New without %s = %v, want its name", field, err)
		}
	}
}
