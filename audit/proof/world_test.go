package proof_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

const origin = "test/nodes/node-1"

// node is a log that grows through epochs, as a plugin writes it.
type node struct {
	c    auditlog.Config
	next atomic.Int64
	now  func() time.Time
	// ordered appends one by one, so that every run writes the same log.
	ordered bool
}

func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{now: time.Now}
	n.c = auditlog.Config{
		Dir: filepath.Join(t.TempDir(), "audit"), Origin: origin, EpochBytes: 1 << 20, RetentionBytes: 1 << 30,
		Boundary: n.boundary, CheckpointEvery: time.Hour, Logger: slog.New(slog.DiscardHandler),
	}
	return n
}

// fixedNode is one whose key and times are the same in every process: what one
// finds while fuzzing must be found by the next.
func fixedNode(t testing.TB) *node {
	t.Helper()
	n := newNode(t)
	skey, _, err := note.GenerateKey(bytes.NewReader(make([]byte, 32)), origin)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(n.c.Dir, 0o700), os.WriteFile(filepath.Join(n.c.Dir, auditlog.KeyFileName), []byte(skey), 0o600)); err != nil {
		t.Fatal(err)
	}
	n.now = func() time.Time { return time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC) }
	n.c.Clock, n.ordered = n.now, true
	return n
}

func (n *node) boundary(kind string, state []byte) ([]byte, error) {
	return fmt.Appendf(nil, `{"id":"b%d","time":%q,"type":%q,"log":%s}`, n.next.Add(1), n.now().Format(time.RFC3339Nano), kind, state), nil
}

func leaf(i int) []byte { return event(i, 250) }

func event(i, pad int) []byte {
	return fmt.Appendf(nil, `{"id":"e%06d","time":"2026-01-15T12:00:00.%06dZ","type":"secret.mount","pad":%q}`, i, i, strings.Repeat("é", pad))
}

func (n *node) leaf(i int) []byte {
	if n.ordered { // and is short, since fuzzing shortens what it finds
		return event(i, 1)
	}
	return leaf(i)
}

// run opens the log, appends events, rotates the key if told to, and closes it.
func (n *node) run(t testing.TB, from, to int, rotate bool) {
	t.Helper()
	l, err := auditlog.Open(n.c)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := from; i < to; i++ {
		all.Go(func() {
			if _, err := l.Append(t.Context(), n.leaf(i)); err != nil {
				t.Errorf("Append() = %v, want no error", err)
			}
		})
		if i%200 == 199 || n.ordered {
			all.Wait()
		}
	}
	all.Wait()
	if rotate {
		if err := l.RotateKey(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func (n *node) vkey(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.c.Dir, auditlog.VKeyFileName))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkpoints returns the last one of every epoch, by number.
func (n *node) checkpoints(t testing.TB) map[int64]auditlog.VerifiedEpoch {
	t.Helper()
	all := map[int64]auditlog.VerifiedEpoch{}
	_, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: n.c.Dir, VKey: n.vkey(t), Whole: func(e auditlog.VerifiedEpoch) error {
		all[e.Number] = e
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
