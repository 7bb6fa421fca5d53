package admin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit/admin"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// say sends raw bytes and returns what comes back until the server hangs up.
func say(t *testing.T, path, text string) string {
	t.Helper()
	conn := dial(t, path)
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(conn, text) }() // the server may hang up in the middle
	answer, err := io.ReadAll(conn)
	if err != nil && len(answer) == 0 {
		return err.Error()
	}
	return string(answer)
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func get(target string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
}

// TestHostileRequestsAreRefusedInWords: each gets a status of its own, and at
// once, and nothing is done.
func TestHostileRequestsAreRefusedInWords(t *testing.T) {
	log := newMemoryLog(leaves(0, 3))
	s := serve(t, admin.Config{Log: log, Inputs: &memoryInputs{}})
	const follow = "/v1/audit/follow"
	tests := map[string]struct{ request, want string }{
		"unknown path":            {get("/"), " 404 "},
		"another version":         {get("/v2/audit/epochs"), " 404 "},
		"path that climbs":        {get("/v1/audit/../audit/epochs"), " 404 "},
		"path with a slash more":  {get("/v1/audit/epochs/"), " 404 "},
		"input that climbs":       {get("/v1/audit/inputs/../../../etc/shadow"), " 400 "},
		"input in upper case":     {get("/v1/audit/inputs/" + strings.ToUpper(sha)), " 400 "},
		"bundle without digest":   {get("/v1/audit/bundles/"), " 400 "},
		"bundle, escaped climb":   {get("/v1/audit/bundles/..%2f..%2fnode.key"), " 400 "},
		"rotation by GET":         {get("/v1/audit/rotate-key"), " 405 "},
		"HEAD":                    {"HEAD " + follow + " HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n", " 405 "},
		"DELETE":                  {"DELETE /v1/audit/epochs HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n", " 405 "},
		"query where none is":     {get("/v1/audit/epochs?epoch=1"), " 400 "},
		"epoch zero":              {get(follow + "?epoch=0"), " 400 "},
		"negative index":          {get(follow + "?epoch=1&index=-1"), " 400 "},
		"index alone":             {get(follow + "?index=1"), " 400 "},
		"plus sign":               {get(follow + "?epoch=%2B1"), " 400 "},
		"twice":                   {get(follow + "?epoch=1&epoch=2"), " 400 "},
		"overflow":                {get(follow + "?epoch=9223372036854775808"), " 400 "},
		"semicolon":               {get(follow + "?epoch=1;index=0"), " 400 "},
		"misspelt":                {get(follow + "?epoc=1"), " 400 "},
		"control characters":      {get(follow + "?%1b%5b31m=1"), " 400 "},
		"count zero":              {get(follow + "?count=0"), " 400 "},
		"rotation with a body":    {"POST /v1/audit/rotate-key HTTP/1.1\r\nHost: n\r\nContent-Length: 3\r\n\r\nabc", " 400 "},
		"body that never comes":   {"POST /v1/audit/rotate-key HTTP/1.1\r\nHost: n\r\nContent-Length: 100000\r\n\r\n", " 400 "},
		"chunks that never come":  {"POST /v1/audit/rotate-key HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n", " 400 "},
		"smuggled second request": {"GET /v1/audit/epochs HTTP/1.1\r\nHost: n\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", " 400 "},
		"headers without end":     {"GET / HTTP/1.1\r\nHost: n\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", " 431 "},
		"no HTTP":                 {"\x16\x03\x01\x00\xff\r\n\r\n", " 400 "},
		"HTTP/2":                  {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", " 400 "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			status, _, _ := strings.Cut(say(t, s.path, tt.request), "\r\n")
			if !strings.Contains(status+" ", tt.want) {
				t.Errorf("answer to %.80q = %q, want%q", tt.request, status, tt.want)
			}
		})
	}
	if log.rotated != 0 {
		t.Errorf("the key was rotated %d times, want never", log.rotated)
	}
}

// TestASlowReaderIsCut: it takes no more time of a log than Stall, also when
// it reads a byte now and then.
func TestASlowReaderIsCut(t *testing.T) {
	ended := make(chan error, 1)
	log := newMemoryLog(leaves(0, 1))
	log.snapshot = func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				ended <- err
				return err
			}
		}
	}
	s := serve(t, admin.Config{Log: log, Stall: 100 * time.Millisecond})
	conn := dial(t, s.path)
	if _, err := io.WriteString(conn, get("/v1/audit/snapshot")); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for b := make([]byte, 1); ; {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				_, _ = conn.Read(b)
			}
		}
	}()
	select {
	case err := <-ended:
		if !isTimeout(err) {
			t.Errorf("the snapshot ended with %v, want a timeout", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the snapshot goes on although nobody reads it")
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// TestAFollowerThatDoesNotReadIsCut: the same for a stream of events.
func TestAFollowerThatDoesNotReadIsCut(t *testing.T) {
	big := `{"x":"` + strings.Repeat("x", 30<<10) + `"}`
	var many []string
	for range 200 {
		many = append(many, big)
	}
	log := &watchedLog{memoryLog: newMemoryLog(many), ended: make(chan error, 1)}
	s := serve(t, admin.Config{Log: log, Stall: 100 * time.Millisecond})
	conn := dial(t, s.path)
	if _, err := io.WriteString(conn, get("/v1/audit/follow")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-log.ended:
		if !isTimeout(err) && !errors.Is(err, context.Canceled) {
			t.Errorf("Follow() ended with %v, want a timeout", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the log is still followed although nobody reads")
	}
}

// watchedLog says how the following of it ends.
type watchedLog struct {
	*memoryLog
	ended chan error
}

func (l *watchedLog) Follow(ctx context.Context, from admin.Position, f func(auditlog.Leaf) error) error {
	err := l.memoryLog.Follow(ctx, from, f)
	l.ended <- err
	return err
}

// TestOneSnapshotAtATime: each reads the whole log from the disk.
func TestOneSnapshotAtATime(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	log := newMemoryLog()
	log.snapshot = func(w io.Writer) error {
		close(begun)
		<-release
		return archive(w)
	}
	c := admin.Dial(serve(t, admin.Config{Log: log}).path, nil)
	dir := t.TempDir()
	first := make(chan error, 1)
	go func() { first <- c.Snapshot(context.WithoutCancel(t.Context()), dir, 1<<20) }()
	<-begun
	err := c.Snapshot(t.Context(), t.TempDir(), 1<<20)
	if e, ok := errors.AsType[*admin.Error](err); !ok || e.Status != http.StatusTooManyRequests {
		t.Errorf("second Snapshot() = %v, want status 429", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("first Snapshot() = %v, want no error", err)
	}
}

// TestConnectionsAreBounded: idle ones do not keep others out for ever, and
// whoever is one too many is told.
func TestConnectionsAreBounded(t *testing.T) {
	s := serve(t, admin.Config{Log: newMemoryLog(leaves(0, 1))})
	const most = 16
	var open []net.Conn
	for range most {
		conn := dial(t, s.path)
		if _, err := io.WriteString(conn, "GET /v1/audit/follow HTTP/1.1\r\nHost: n\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
			t.Fatalf("follower %d got %q, %v, want 200", len(open), line, err)
		}
		open = append(open, conn)
	}
	answer := say(t, s.path, get("/v1/audit/epochs"))
	head, body, _ := strings.Cut(answer, "\r\n\r\n")
	if !strings.HasPrefix(head, "HTTP/1.1 503 ") || !strings.Contains(head, fmt.Sprintf("Content-Length: %d", len(body))) || !strings.Contains(body, "too many connections") {
		t.Errorf("one connection more got %q, want a 503 that says why", answer)
	}
	_ = open[0].Close()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.HasPrefix(say(t, s.path, get("/v1/audit/epochs")), "HTTP/1.1 200 ") {
		if time.Now().After(deadline) {
			t.Fatal("a connection that was closed does not give its place back")
		}
	}
}

// TestRefusedPeersAreNotHeard: they are hung up on before a byte is read.
func TestRefusedPeersAreNotHeard(t *testing.T) {
	log := newMemoryLog(leaves(0, 1))
	var once sync.Once
	s := serve(t, admin.Config{Log: log, Peer: func(net.Conn) (err error) {
		once.Do(func() { err = errors.New("not you") })
		return err
	}})
	if got := say(t, s.path, "POST /v1/audit/rotate-key HTTP/1.1\r\nHost: n\r\n\r\n"); strings.Contains(got, "HTTP") || log.rotated != 0 {
		t.Errorf("a refused peer got %q and rotated %d keys, want nothing", got, log.rotated)
	}
	if got := say(t, s.path, get("/v1/audit/epochs")); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("the next peer got %q, want 200", got)
	}
}
