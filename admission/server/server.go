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
	maxStreams      = 128
)

// Config of a Server. Every field is required but where it says otherwise.
type Config struct {
	Hooks          map[string]admission.Handler // by path
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Logger         *slog.Logger
	InFlight       int           // reviews at a time; absent: 32
	Patience       time.Duration // that a review waits for its turn; absent: a second
	Drain          time.Duration // between the end of Serve's context and of serving; absent: ten seconds
}

// Server answers reviews.
type Server struct {
	c        Config
	handler  http.Handler
	slots    chan struct{}
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
	s := &Server{c: c, slots: make(chan struct{}, c.InFlight)}
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
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: s.c.GetCertificate},
		ErrorLog:  slog.NewLogLogger(s.c.Logger.Handler(), slog.LevelDebug),
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
