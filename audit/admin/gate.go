package admin

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// maxConnections is far more than people at one node need.
	maxConnections = 16
	// refusalsEvery keeps whoever knocks in a loop from filling the process's log.
	refusalsEvery = 10 * time.Second
	busyTimeout   = 100 * time.Millisecond
)

const busyReply = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 67\r\n\r\n" +
	`{"error":"too many connections","hint":"close some, and try again"}`

// gate is a listener that lets in whom the check accepts, and not too many.
type gate struct {
	net.Listener
	peer    func(net.Conn) error
	logger  *slog.Logger
	slots   chan struct{}
	refused time.Time // when a refusal was logged last; used by Accept alone
}

// Accept returns the next connection of a peer that may connect.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if err := g.peer(conn); err != nil {
			g.report(err)
			_ = conn.Close()
			continue
		}
		select {
		case g.slots <- struct{}{}:
			return &held{Conn: conn, release: sync.OnceFunc(func() { <-g.slots })}, nil
		default:
			g.busy(conn)
		}
	}
}

func (g *gate) report(err error) {
	if now := time.Now(); now.Sub(g.refused) >= refusalsEvery {
		g.refused = now
		g.logger.Warn("connection to the admin socket refused", slog.Any(keyError, err))
	}
}

// busy tells why and hangs up; it must not hold up those behind.
func (g *gate) busy(conn net.Conn) {
	_ = conn.SetWriteDeadline(time.Now().Add(busyTimeout))
	_, _ = conn.Write([]byte(busyReply))
	_ = conn.Close()
}

// held is a connection that gives its slot back.
type held struct {
	net.Conn
	release func()
}

// Close closes the connection.
func (h *held) Close() error {
	defer h.release()
	return h.Conn.Close()
}
