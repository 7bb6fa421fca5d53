package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-csi/portcullis/admission/server"
)

// counted is a listener that knows how many of its connections are idle.
type counted struct {
	net.Listener
	idle atomic.Int64
}

type countedConn struct {
	net.Conn
	of   *counted
	idle bool
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn, of: c}, nil
}

func (c *countedConn) SetIdle(idle bool) {
	switch {
	case idle && !c.idle:
		c.of.idle.Add(1)
	case !idle && c.idle:
		c.of.idle.Add(-1)
	}
	c.idle = idle
}

// A listener hears which connection nobody waits on, through TLS.
func TestListenersHearWhatIsIdle(t *testing.T) {
	lender := httptest.NewTLSServer(http.NotFoundHandler())
	defer lender.Close()
	entered, leave := make(chan struct{}), make(chan struct{})
	s, err := server.New(server.Config{
		Hooks: map[string]admission.Handler{"/pods": hook(func(ctx context.Context, r admission.Request) admission.Response {
			entered <- struct{}{}
			<-leave
			return allow(ctx, r)
		})},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &lender.TLS.Certificates[0], nil },
		Logger:         slog.New(slog.DiscardHandler), Drain: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := &counted{Listener: l}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, heard) }()
	w := &world{t: t, url: "https://" + l.Addr().String(), client: lender.Client()}
	for range 2 { // the second is on the same connection
		answer := make(chan int)
		go func() { code, _ := w.ask("/pods", bytes.NewReader(review(0))); answer <- code }()
		<-entered
		if n := heard.idle.Load(); n != 0 {
			t.Errorf("%d connections are idle during a review, want none", n)
		}
		leave <- struct{}{}
		if code := <-answer; code != http.StatusOK {
			t.Errorf("review = %d, want 200", code)
		}
		for end := time.Now().Add(5 * time.Second); heard.idle.Load() != 1; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d connections are idle after a review, want one", heard.idle.Load())
			}
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
