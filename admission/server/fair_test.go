package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-csi/portcullis/admission/server"
)

// dialFrom connects from an address of its own, as each pod has one.
func (w *world) dialFrom(address string) (net.Conn, error) {
	dialer := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}, Config: &tls.Config{InsecureSkipVerify: true}}
	return dialer.DialContext(context.Background(), "tcp", strings.TrimPrefix(w.url, "https://"))
}

// slow announces a body and never sends it, again and again, until the test ends.
func (w *world) slow(address string, length int) {
	ctx := w.t.Context()
	var ends sync.WaitGroup
	w.t.Cleanup(ends.Wait)
	ends.Go(func() {
		for ctx.Err() == nil {
			conn, err := w.dialFrom(address)
			if err != nil {
				return // the test is over
			}
			_, _ = fmt.Fprintf(conn, "POST /pods HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", length)
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			_, _ = io.Copy(io.Discard, conn)
			stop()
			conn.Close()
		}
	})
}

// reviews sends some as an API server does and wants each answered.
func (w *world) reviews(n int) {
	w.t.Helper()
	for i := range n {
		if code, text := w.ask("/pods", bytes.NewReader(review(0))); code != http.StatusOK {
			w.t.Fatalf("review %d of the API server = %d %q, want 200", i, code, text)
		}
	}
}

// Whoever fills every turn with bodies that never come keeps no API server out,
// wherever they come from, and however large they say that these are.
func TestP8SlowBodiesKeepNobodyOut(t *testing.T) {
	for name, test := range map[string]struct{ addresses, each, length int }{
		"one address": {1, 40, 100}, "forty addresses": {40, 2, 100}, "large ones": {2, 10, server.MaxBody},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, func(c *server.Config) { c.InFlight = 8 })
			for i := range test.addresses {
				for range test.each {
					w.slow(fmt.Sprintf("127.0.1.%d", i+1), test.length)
				}
			}
			time.Sleep(300 * time.Millisecond) // all turns are taken by now
			w.reviews(20)
		})
	}
}

// Turns go round by address: a flood of whole reviews delays an API server by about
// one of them, not by all that came before.
func TestP8AFloodWaitsForItself(t *testing.T) {
	var answered atomic.Int64
	w := start(t, func(c *server.Config) {
		c.InFlight, c.Patience = 2, time.Minute
		c.Hooks["/pods"] = hook(func(ctx context.Context, r admission.Request) admission.Response {
			time.Sleep(20 * time.Millisecond)
			answered.Add(1)
			return allow(ctx, r)
		})
	})
	const callers, asked = 150, 20
	flood := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		return w.dialFrom("127.0.1.1")
	}}}
	ctx, stop := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	for range callers {
		ended.Go(func() {
			for ctx.Err() == nil {
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/pods", bytes.NewReader(review(0)))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Content-Type", "application/json")
				if a, err := flood.Do(r); err == nil {
					_, _ = io.Copy(io.Discard, a.Body)
					a.Body.Close()
				}
			}
		})
	}
	for answered.Load() < 50 { // the flood is there
		time.Sleep(10 * time.Millisecond)
	}
	before := answered.Load()
	w.reviews(asked)
	// Where everybody waits for all who came before, it is as many as there are callers.
	if each := (answered.Load() - before) / asked; each > callers/5 {
		t.Errorf("%d reviews were answered for each of the API server's, want a few", each)
	}
	stop()
	ended.Wait()
}

// Reviews hold so many bytes at a time, small ones go by, and large ones get theirs.
func TestBytesAtATime(t *testing.T) {
	entered, leave := make(chan struct{}, 16), make(chan struct{})
	w := start(t, func(c *server.Config) {
		c.Patience = 200 * time.Millisecond
		c.Hooks["/slow"] = hook(func(ctx context.Context, r admission.Request) admission.Response {
			entered <- struct{}{}
			<-leave
			return allow(ctx, r)
		})
	})
	var inside sync.WaitGroup
	for range 4 {
		inside.Go(func() {
			if code, text := w.ask("/slow", bytes.NewReader(review(server.MaxBody-4096))); code != http.StatusOK {
				t.Errorf("a large review = %d %q, want 200", code, text)
			}
		})
		<-entered
	}
	if code, _ := w.ask("/slow", bytes.NewReader(review(server.MaxBody))); code != http.StatusServiceUnavailable {
		t.Errorf("a fifth large review = %d, want 503", code)
	}
	w.reviews(3)
	close(leave)
	inside.Wait()
	if code, _ := w.ask("/pods", bytes.NewReader(review(server.MaxBody))); code != http.StatusOK {
		t.Errorf("a large review after that = %d, want 200", code)
	}
}

// A caller who goes away while it waits takes nobody's turn.
func TestWhoGoesAwayTakesNoTurn(t *testing.T) {
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	w := start(t, func(c *server.Config) {
		c.InFlight, c.Patience = 1, 10*time.Second
		c.Hooks["/slow"] = hook(func(ctx context.Context, r admission.Request) admission.Response {
			entered <- struct{}{}
			<-leave
			return allow(ctx, r)
		})
	})
	ended := make(chan int)
	go func() { code, _ := w.ask("/slow", bytes.NewReader(review(0))); ended <- code }()
	<-entered
	for range 20 {
		conn, err := w.dialFrom("127.0.1.1")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprint(conn, "POST /pods HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n")
		time.Sleep(5 * time.Millisecond)
		conn.Close()
	}
	close(leave)
	if code := <-ended; code != http.StatusOK {
		t.Errorf("the review that was inside = %d, want 200", code)
	}
	w.reviews(5)
}
