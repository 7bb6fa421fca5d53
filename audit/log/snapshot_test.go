package log_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// unpack writes the files of a snapshot, and returns their names.
func unpack(t testing.TB, r io.Reader, dir string) (names []string) {
	t.Helper()
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatalf("read snapshot: %v", err)
		}
		text, err := io.ReadAll(in)
		if err := errors.Join(err, os.WriteFile(filepath.Join(dir, filepath.Base(h.Name)), text, 0o600)); err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

// slowWriter passes on what it gets after each call of wait.
type slowWriter struct {
	io.Writer
	wait func()
}

func (s slowWriter) Write(b []byte) (int, error) {
	s.wait()
	return s.Writer.Write(b)
}

// TestSnapshotVerifies takes a copy while others go on writing, so much that
// what it copies ends and is deleted meanwhile. Nobody waits for it.
func TestSnapshotVerifies(t *testing.T) {
	c := config(t)
	c.EpochBytes, c.RetentionBytes = 1<<20, 2<<20
	l := open(t, c)
	fill(t, l, 0, 1500)
	before, err := l.Epochs()
	if err != nil {
		t.Fatal(err)
	}
	written := false
	var text bytes.Buffer
	end, err := l.Snapshot(slowWriter{&text, func() {
		if !written { // the snapshot has begun, and waits for this
			written = true
			for i := 0; i < 6000; i += 500 {
				fill(t, l, 10_000+i, 500)
			}
		}
	}})
	if err != nil {
		t.Fatalf("Snapshot() = %v, want no error", err)
	}
	after, err := l.Epochs()
	if err != nil || after[0].Number <= before[len(before)-1].Number {
		t.Fatalf("epochs %+v, then %+v, %v, want none of them kept", before, after, err)
	}
	key := vkey(t, c.Dir)
	dir := t.TempDir()
	names := unpack(t, &text, dir)
	if len(names) != len(before)+1 || names[0] != auditlog.VKeyFileName || vkey(t, dir) != key {
		t.Errorf("Snapshot() holds %q, want node.vkey and %d epochs", names, len(before))
	}
	events := int64(0)
	for i, name := range names[1:] {
		r, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: filepath.Join(dir, name), VKey: key})
		if err != nil || r.Tail != 0 {
			t.Errorf("Verify(%s) = %+v, %v, want all signed", name, r, err)
		}
		if events += r.Events; i == len(before)-1 && (end != auditlog.Position{Epoch: before[i].Number, Index: r.Events}) {
			t.Errorf("Snapshot() = %+v, want the end of %s at %d", end, name, r.Events)
		}
	}
	if events < 1500 {
		t.Errorf("the snapshot holds %d events, want at least 1500", events)
	}
}

func TestSnapshotEndsWithTheLog(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 0, 3)
	closed := make(chan error, 1)
	started := false
	_, err := l.Snapshot(slowWriter{io.Discard, func() {
		if !started {
			started = true
			go func() { closed <- l.Close() }()
			for l.Healthy() == nil && !l.Closing() {
			}
		}
	}})
	if !errors.Is(err, auditlog.ErrClosed) {
		t.Errorf("Snapshot() of a log that is closed = %v, want %v", err, auditlog.ErrClosed)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close() = %v, want no error", err)
	}
}
