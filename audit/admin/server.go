package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	headerTimeout  = 5 * time.Second
	bodyTimeout    = time.Second
	idleTimeout    = 30 * time.Second
	maxHeaderBytes = 8 << 10
	stallTimeout   = 30 * time.Second
	// snapshotTimeout bounds how long a snapshot keeps pages of the log's files
	// from being used again.
	snapshotTimeout = 30 * time.Minute
)

// Config of a server.
type Config struct {
	Log    Log
	Inputs Inputs // absent: nothing is kept
	// Shadow returns what a candidate bundle would have decided, as JSON, or
	// ErrNoCandidate. Absent: there never is one.
	Shadow func() ([]byte, error)
	// Peer returns why a connection is refused. It must look at who the kernel
	// says is at the other end.
	Peer   func(net.Conn) error
	Logger *slog.Logger
	// Stall is how long a reader may read nothing; absent: 30 s.
	Stall time.Duration
}

func (c *Config) complete() error {
	switch {
	case c.Log == nil:
		return errors.New("configure admin socket: Log is missing")
	case c.Peer == nil:
		return errors.New("configure admin socket: Peer is missing")
	case c.Logger == nil:
		return errors.New("configure admin socket: Logger is missing")
	}
	if c.Stall <= 0 {
		c.Stall = stallTimeout
	}
	return nil
}

// Serve answers until ctx ends, and returns when the last request has ended:
// after that nothing uses the log any more. It closes the listener.
func Serve(ctx context.Context, l net.Listener, c Config) error {
	if err := c.complete(); err != nil {
		return errors.Join(err, l.Close())
	}
	h := &handler{c: c, snapshot: make(chan struct{}, 1)}
	var running sync.WaitGroup
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			running.Add(1)
			defer running.Done()
			h.serve(w, r)
		}),
		// No ReadTimeout: it would end the context of whoever follows.
		ReadHeaderTimeout: headerTimeout, WriteTimeout: c.Stall, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	err := s.Serve(&gate{Listener: l, peer: c.Peer, logger: c.Logger, slots: make(chan struct{}, maxConnections)})
	_ = s.Close()
	running.Wait()
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
