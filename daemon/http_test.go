package daemon_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/daemon"
)

// served starts an endpoint that says ok, and returns its address.
func served(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	if err := (daemon.Endpoint{Flag: "--health-addr", Addr: addr, Handler: h}).Serve(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return addr
}

// enter connects from an address of this machine.
func enter(t *testing.T, addr, from string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// asked makes a request on a connection.
func asked(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: node\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err == nil && string(text) != "ok\n" {
		err = fmt.Errorf("answer is %q, want ok", text)
	}
	return errors.Join(err, resp.Body.Close())
}

// TestP8AFloodOfConnections: every pod of a cluster reaches these ports, and each
// connection is memory of the process that must unmount.
func TestP8AFloodOfConnections(t *testing.T) {
	addr := served(t)
	kubelet := enter(t, addr, "127.0.0.2")
	if err := asked(kubelet); err != nil {
		t.Fatal(err)
	}
	var flood []net.Conn
	for range daemon.MaxGuests + 40 {
		conn := enter(t, addr, "127.0.0.3")
		if err := asked(conn); err != nil {
			t.Fatalf("a new connection is refused: %v", err)
		}
		flood = append(flood, conn)
	}
	if err := asked(kubelet); err != nil {
		t.Errorf("the connection of another address, which has one alone: %v", err)
	}
	open := 0
	for i, conn := range flood {
		err := asked(conn)
		if err == nil {
			open++
		} else if i > 40 || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("connection %d: %v, want the first ones to be reset", i, err)
		}
	}
	if open != daemon.MaxGuests-1 {
		t.Errorf("%d connections of the flood are open, want %d", open, daemon.MaxGuests-1)
	}
	for range 3 * daemon.MaxGuests { // those that leave make room
		conn := enter(t, addr, "127.0.0.4")
		if err := errors.Join(asked(conn), conn.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := asked(kubelet); err != nil {
		t.Errorf("after visitors that have gone: %v", err)
	}
}

// Metrics are gathered for one at a time, and not for whoever has gone.
func TestMetricsAreGatheredOneByOne(t *testing.T) {
	entered, leave := make(chan struct{}, 8), make(chan struct{})
	h := daemon.MetricsOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-leave
		w.Header().Set("Content-Type", "text/x-metrics")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "up 1\n")
	}))
	ask := func(ctx context.Context) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil))
		return w
	}
	first := make(chan *httptest.ResponseRecorder)
	go func() { first <- ask(t.Context()) }()
	<-entered
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if w := ask(gone); w.Body.Len() > 0 || len(entered) > 0 {
		t.Errorf("of a caller that is gone: %q, and gathered %d times more, want neither", w.Body, len(entered))
	}
	close(leave)
	w := <-first
	if w.Code != http.StatusAccepted || w.Body.String() != "up 1\n" || w.Header().Get("Content-Type") != "text/x-metrics" {
		t.Errorf("GET /metrics = %d %q %v, want what was gathered", w.Code, w.Body, w.Header())
	}
	if w := ask(t.Context()); !strings.Contains(w.Body.String(), "up 1") {
		t.Errorf("GET /metrics after that = %q, want it gathered again", w.Body)
	}
}

// An address that is empty serves nothing, and one that is taken names its flag.
func TestEndpointAddresses(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	if err := (daemon.Endpoint{Flag: "--metrics-addr", Handler: http.NotFoundHandler()}).Serve(t.Context(), quiet); err != nil {
		t.Errorf("an endpoint that is switched off: %v", err)
	}
	err := (daemon.Endpoint{Flag: "--metrics-addr", Addr: served(t), Handler: http.NotFoundHandler()}).Serve(t.Context(), quiet)
	if err == nil || !strings.Contains(err.Error(), "listen on --metrics-addr: ") || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("an endpoint whose address is taken: %v, want the flag and why", err)
	}
}

// An endpoint ends with its program.
func TestEndpointEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := (daemon.Endpoint{Flag: "--pprof-port", Addr: addr, Handler: daemon.Profiles()}).Serve(ctx, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	conn := enter(t, addr, "127.0.0.1")
	if _, err := io.WriteString(conn, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: node\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET /debug/pprof/cmdline = %v, %v, want 200", resp, err)
	}
	resp.Body.Close()
	cancel()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read of an endpoint that ended = %d, %v, want that it is closed", n, err)
	}
}
