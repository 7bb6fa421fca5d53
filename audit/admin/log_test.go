package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit/admin"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// openLog opens a log with epochs as small as they can be.
func openLog(t testing.TB, options ...func(*auditlog.Config)) *auditlog.Log {
	t.Helper()
	c := auditlog.Config{
		Dir: filepath.Join(t.TempDir(), "audit"), Origin: "test/nodes/node-1", EpochBytes: 1 << 20, RetentionBytes: 64 << 20,
		Boundary: func(kind string, state []byte) ([]byte, error) {
			return json.Marshal(map[string]any{"type": kind, "time": time.Now().UTC(), "log": json.RawMessage(state)})
		},
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, o := range options {
		o(&c)
	}
	l, err := auditlog.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// produce appends from so many goroutines until stop is called, which returns
// how many leaves were acknowledged.
func produce(t testing.TB, l *auditlog.Log, producers int) (stop func() int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	var acknowledged atomic.Int64
	for p := range producers {
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				leaf := fmt.Sprintf(`{"producer":%d,"n":%d,"time":%q,"pad":"%01000d"}`, p, n, time.Now().UTC().Format(time.RFC3339Nano), n)
				if _, err := l.Append(context.WithoutCancel(t.Context()), []byte(leaf)); err != nil {
					t.Errorf("Append() = %v, want no error", err)
					return
				}
				acknowledged.Add(1)
			}
		})
	}
	return func() int64 {
		cancel()
		running.Wait()
		return acknowledged.Load()
	}
}

func verify(t testing.TB, dir string) auditlog.Report {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(dir, auditlog.VKeyFileName))
	if err != nil {
		t.Fatal(err)
	}
	report, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: dir, VKey: string(key)})
	if err != nil {
		t.Fatalf("Verify(snapshot) = %v, want no error", err)
	}
	return report
}

// TestP7SnapshotsVerifyWhile16ProducersAppend: each holds all that was
// acknowledged before it was asked for, nobody waits for its reader, and the
// log rolls over meanwhile.
func TestP7SnapshotsVerifyWhile16ProducersAppend(t *testing.T) {
	l := openLog(t)
	c := admin.Dial(serve(t, admin.Config{Log: l}).path, nil)
	stop := produce(t, l, 16)
	for range 3 {
		epochs, err := c.Epochs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		least := int64(0)
		for _, e := range epochs {
			least += e.Size
		}
		dir := t.TempDir()
		if err := c.Snapshot(t.Context(), dir, 256<<20); err != nil {
			t.Fatalf("Snapshot() = %v, want no error", err)
		}
		if report := verify(t, dir); report.Events < least || report.Tail != 0 {
			t.Errorf("the snapshot has %d events, %d of them unsigned; want at least %d, all signed", report.Events, report.Tail, least)
		}
		waitForRollOver(t, c, epochs[len(epochs)-1].Number)
	}
	if n := stop(); n == 0 {
		t.Error("nothing was appended meanwhile: the test proves nothing")
	}
}

// waitForRollOver follows the log to the next epoch.
func waitForRollOver(t *testing.T, c *admin.Client, number int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := c.Follow(ctx, admin.Position{Epoch: number}, func(at admin.Position, _ []byte) error {
		if at.Epoch > number {
			return errStop
		}
		return nil
	})
	if !errors.Is(err, errStop) {
		t.Fatalf("Follow() to the next epoch = %v", err)
	}
}

// TestFollowMissesNothingAcrossRollOvers: every event of three epochs, in
// order, each once.
func TestFollowMissesNothingAcrossRollOvers(t *testing.T) {
	l := openLog(t)
	c := admin.Dial(serve(t, admin.Config{Log: l}).path, nil)
	stop := produce(t, l, 4)
	last := admin.Position{Epoch: 1, Index: -1}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := c.Follow(ctx, admin.Position{}, func(at admin.Position, leaf []byte) error {
		next := at.Epoch == last.Epoch && at.Index == last.Index+1 || at.Epoch == last.Epoch+1 && at.Index == 0
		if !next || !json.Valid(leaf) {
			t.Errorf("after %v came %v, %.40s", last, at, leaf)
			return errStop
		}
		if last = at; at.Epoch == 4 {
			return errStop
		}
		return nil
	})
	if !errors.Is(err, errStop) {
		t.Errorf("Follow() = %v, want it to reach epoch 4", err)
	}
	stop()
}

// TestRotateKeyOverTheSocket: the log goes on under the new key, and the old
// one still vouches for it.
func TestRotateKeyOverTheSocket(t *testing.T) {
	l := openLog(t)
	c := admin.Dial(serve(t, admin.Config{Log: l}).path, nil)
	old, err := l.VerifierKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := c.RotateKey(t.Context())
	if err != nil || key.VerifierKey == "" || key.VerifierKey+"\n" == old {
		t.Fatalf("RotateKey() = %q, %v, want another key than %q", key, err, old)
	}
	epochs, err := c.Epochs(t.Context())
	if err != nil || len(epochs) != 2 || !epochs[0].Closed || epochs[1].Closed {
		t.Errorf("Epochs() = %v, %v, want one closed and one open", epochs, err)
	}
	dir := t.TempDir()
	if err := c.Snapshot(t.Context(), dir, 64<<20); err != nil {
		t.Fatal(err)
	}
	for name, vkey := range map[string]string{"old": old, "new": key.VerifierKey} {
		if _, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: dir, VKey: vkey}); err != nil {
			t.Errorf("Verify(by the %s key) = %v, want no error", name, err)
		}
	}
}

// TestASlowReaderDoesNotHoldTheLog: while a snapshot and a follower are not
// read, appends go on and epochs roll over.
func TestASlowReaderDoesNotHoldTheLog(t *testing.T) {
	l := openLog(t)
	s := serve(t, admin.Config{Log: l})
	c := admin.Dial(s.path, nil)
	stop := produce(t, l, 4)
	waitForRollOver(t, c, 1)
	for _, target := range []string{"/v1/audit/snapshot", "/v1/audit/follow"} {
		conn := dial(t, s.path)
		if _, err := conn.Write([]byte(get(target))); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil { // it is being answered
			t.Fatal(err)
		}
	}
	epochs, err := c.Epochs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waitForRollOver(t, c, epochs[len(epochs)-1].Number)
	waitForRollOver(t, c, epochs[len(epochs)-1].Number+1)
	stop()
}
