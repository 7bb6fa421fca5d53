package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const (
	// MaxBody is as large as a review may be. The API server stores no object of
	// more than half of that, and an update has the old one and the new one.
	MaxBody = 3 << 20

	defaultInFlight = 32
	defaultPatience = time.Second
	defaultDrain    = 10 * time.Second

	headerTimeout   = 5 * time.Second
	readTimeout     = 10 * time.Second
	writeTimeout    = 15 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 5 * time.Second
	maxHeader       = 16 << 10

	// maxBytes is what reviews may hold at a time, of which most have 20 KiB.
	maxBytes = 4 * MaxBody
	// bodyGrace is far longer than a review takes from an API server to here. It counts
	// only while others wait.
	bodyGrace = 100 * time.Millisecond
)

// Config of a Server. Every field is required but where it says otherwise.
type Config struct {
	Hooks          map[string]admission.Handler // by path
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Logger         *slog.Logger
	Callers        *Callers      // whose connections are taken; absent: everybody's
	InFlight       int           // reviews at a time; absent: 32
	Patience       time.Duration // that a review waits for its turn; absent: a second
	Drain          time.Duration // between the end of Serve's context and of serving; absent: ten seconds
}

// Server answers reviews.
type Server struct {
	c        Config
	handler  http.Handler
	turns    *turns
	stopping atomic.Bool
}

// New returns a Server, or an error that names what is missing.
func New(c Config) (*Server, error) {
	switch {
	case len(c.Hooks) == 0:
		return nil, errors.New("configure webhook server: Hooks is empty")
	case c.GetCertificate == nil:
		return nil, errors.New("configure webhook server: GetCertificate is missing")
	case c.Logger == nil:
		return nil, errors.New("configure webhook server: Logger is missing")
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{{&c.Patience, defaultPatience}, {&c.Drain, defaultDrain}} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	if c.InFlight <= 0 {
		c.InFlight = defaultInFlight
	}
	s := &Server{c: c, turns: &turns{most: c.InFlight, bytes: maxBytes, grace: bodyGrace}}
	mux := http.NewServeMux()
	for _, path := range slices.Sorted(maps.Keys(c.Hooks)) {
		if c.Hooks[path] == nil {
			return nil, fmt.Errorf("configure webhook server: the handler of %s is missing", path)
		}
		// The text of a panic would go to whoever created the object: panics are
		// taken below.
		hook := &admission.Webhook{Handler: c.Hooks[path], RecoverPanic: new(bool)}
		h, err := admission.StandaloneWebhook(hook, admission.StandaloneOptions{MetricsPath: path})
		if err != nil {
			return nil, fmt.Errorf("configure webhook server: %w", err)
		}
		mux.Handle("POST "+path, s.bounded(h))
	}
	s.handler = mux
	return s, nil
}

var errStopping = errors.New("the webhook stops: it answers until no endpoint leads to it any more")

// Stopping returns an error once the server was told to stop. It is a condition of
// readiness, so that API servers are led elsewhere while it still answers.
func (s *Server) Stopping() error {
	if s.stopping.Load() {
		return errStopping
	}
	return nil
}

// Serve answers on a listener, which it closes. When ctx ends it goes on for the time
// of Drain, then takes nothing new and ends with the last answer.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	// API servers call webhooks by HTTP/1.1, so that connections spread over replicas
	// (kubernetes#75791). It is all that is spoken here: a connection is a review at
	// a time, and the bound on connections one on reviews that wait.
	spoken := new(http.Protocols)
	spoken.SetHTTP1(true)
	secured := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: s.c.GetCertificate}
	if s.c.Callers != nil {
		secured.ClientAuth, secured.VerifyConnection = tls.RequireAnyClientCert, s.c.Callers.verify
	}
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, Protocols: spoken, TLSConfig: secured, ConnState: tellIdle,
		ErrorLog: slog.NewLogLogger(s.c.Logger.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(l, "", "") }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve webhooks: %w", err)
	case <-ctx.Done():
	}
	s.stopping.Store(true)
	drained := time.NewTimer(s.c.Drain)
	defer drained.Stop()
	select {
	case err := <-failed:
		return fmt.Errorf("serve webhooks: %w", err)
	case <-drained.C:
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		return errors.Join(fmt.Errorf("end reviews: %w", err), server.Close())
	}
	return nil
}

// tellIdle tells a listener that bounds connections which of them nobody needs now.
func tellIdle(conn net.Conn, state http.ConnState) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	if guest, ok := conn.(interface{ SetIdle(idle bool) }); ok {
		guest.SetIdle(state == http.StateIdle)
	}
}
