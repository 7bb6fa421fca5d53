package audittest

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
)

// Log is an audit.Appender and audit.Leaves that keeps leaves in memory.
type Log struct {
	mu       sync.Mutex
	leaves   [][]byte
	err      error // of Append
	reserved error // of AppendReserved
	hang     chan struct{}
	epoch    int64
	limit    int64
}

// Begin begins an epoch that may have so many bytes. Nothing but what Epoch
// returns changes.
func (l *Log) Begin(epoch, limit int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch, l.limit = epoch, limit
}

// Epoch implements audit.Epochs. Before Begin there is no limit, and so no
// share.
func (l *Log) Epoch() (number, limit int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch, l.limit
}

// Fail makes Append and AppendReserved return err until it is nil again.
func (l *Log) Fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err, l.reserved = err, err
}

// Fill makes Append alone return err, as a log does that is nearly full.
func (l *Log) Fill(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err, l.reserved = err, nil
}

// Hang makes appends wait, as on a disk that does not answer, and not heed
// their context; release lets them go on.
func (l *Log) Hang() (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	hang := make(chan struct{})
	l.hang = hang
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.hang = nil
		close(hang)
	})
}

// Append keeps a leaf.
func (l *Log) Append(ctx context.Context, leaf []byte) (int64, error) {
	return l.append(ctx, leaf, func() error { return l.err })
}

// AppendReserved keeps a leaf.
func (l *Log) AppendReserved(ctx context.Context, leaf []byte) (int64, error) {
	return l.append(ctx, leaf, func() error { return l.reserved })
}

func (l *Log) append(ctx context.Context, leaf []byte, failure func() error) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	hang := l.hang
	l.mu.Unlock()
	if hang != nil {
		<-hang
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := failure(); err != nil {
		return 0, err
	}
	l.leaves = append(l.leaves, bytes.Clone(leaf))
	return int64(len(l.leaves)) - 1, nil
}

// Healthy returns what Append would.
func (l *Log) Healthy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Each gives f every leaf in order.
func (l *Log) Each(f func(index int64, leaf []byte) error) error {
	for i, leaf := range l.Leaves() {
		if err := f(int64(i), leaf); err != nil {
			return err
		}
	}
	return nil
}

// Leaves returns what was appended.
func (l *Log) Leaves() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([][]byte(nil), l.leaves...)
}

// Events returns what was appended, parsed and validated.
func (l *Log) Events(t testing.TB) []audit.Event {
	t.Helper()
	var events []audit.Event
	for i, leaf := range l.Leaves() {
		e, err := audit.Parse(leaf)
		if err != nil {
			t.Fatalf("Parse(leaf %d) = %v, want no error", i, err)
		}
		if err := e.Validate(); err != nil {
			t.Fatalf("Validate(leaf %d) = %v, want no error", i, err)
		}
		events = append(events, e)
	}
	return events
}

// Source is who reports in tests.
func Source() audit.Source {
	return audit.Source{Component: "driver", Version: "v0.0.0-test", Cluster: "test", Node: "node-1"}
}

// New returns a Recorder over a Log in memory. Options change its Config. It is
// closed when the test ends.
func New(t testing.TB, options ...func(*audit.Config)) (*audit.Recorder, *Log) {
	t.Helper()
	l := &Log{}
	c := audit.Config{Log: l, Source: Source(), Logger: slog.New(slog.DiscardHandler)}
	for _, o := range options {
		o(&c)
	}
	r, err := audit.New(c)
	if err != nil {
		t.Fatalf("New() = %v, want no error", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
		defer cancel()
		_ = r.Close(ctx) // the test looks at what was written
	})
	return r, l
}

// Closed closes the recorder, so that all it owes is in the log, and returns
// the log's events.
func Closed(t testing.TB, r *audit.Recorder, l *Log) []audit.Event {
	t.Helper()
	if err := r.Close(t.Context()); err != nil {
		t.Fatalf("Close() = %v, want no error", err)
	}
	return l.Events(t)
}
