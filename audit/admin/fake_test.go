package admin_test

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit/admin"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/policies"
)

// memoryLog is an admin.Log of epochs in memory.
type memoryLog struct {
	mu       sync.Mutex
	epochs   [][]string // leaves, from epoch 1 on; nil: deleted
	changed  chan struct{}
	err      error // of everything
	snapshot func(io.Writer) error
	rotated  int
}

func newMemoryLog(epochs ...[]string) *memoryLog {
	return &memoryLog{epochs: epochs, changed: make(chan struct{})}
}

// append adds a leaf to an epoch, which may be a new one.
func (l *memoryLog) append(epoch int, leaf string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.epochs) < epoch {
		l.epochs = append(l.epochs, []string{})
	}
	l.epochs[epoch-1] = append(l.epochs[epoch-1], leaf)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *memoryLog) remove(epoch int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epochs[epoch-1] = nil
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *memoryLog) Epochs() ([]auditlog.Epoch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []auditlog.Epoch
	for i, leaves := range l.epochs {
		if leaves != nil {
			list = append(list, auditlog.Epoch{Number: int64(i) + 1, Origin: "test/nodes/n/1", Size: int64(len(leaves)), Bytes: 4096, Closed: i < len(l.epochs)-1})
		}
	}
	return list, l.err
}

// next returns the leaf at a position, or what to wait for.
func (l *memoryLog) next(at admin.Position) (leaf string, found admin.Position, wait chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at.Epoch <= int64(len(l.epochs)) {
		leaves := l.epochs[at.Epoch-1]
		switch {
		case l.err != nil:
			return "", at, nil, l.err
		case leaves == nil:
			return "", at, nil, admin.ErrGone
		case at.Index < int64(len(leaves)):
			return leaves[at.Index], at, nil, nil
		case at.Epoch == int64(len(l.epochs)):
			return "", at, l.changed, nil
		}
		at = admin.Position{Epoch: at.Epoch + 1}
	}
	return "", at, l.changed, l.err
}

func (l *memoryLog) Follow(ctx context.Context, from admin.Position, f func(auditlog.Leaf) error) error {
	for {
		leaf, at, wait, err := l.next(from)
		if err != nil {
			return err
		}
		if wait != nil {
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := f(auditlog.Leaf{Position: at, Data: []byte(leaf)}); err != nil {
			return err
		}
		from = admin.Position{Epoch: at.Epoch, Index: at.Index + 1}
	}
}

func (l *memoryLog) Snapshot(w io.Writer) (end admin.Position, err error) {
	if l.err != nil || l.snapshot == nil {
		return end, l.err
	}
	return end, l.snapshot(w)
}

func (l *memoryLog) Checkpoint() ([]byte, error) { return []byte("origin\n1\nroot\n"), l.err }

func (l *memoryLog) RotateKey(context.Context) error {
	l.rotated++
	return l.err
}

func (l *memoryLog) VerifierKey() (string, error) { return "test+1234+key\n", nil }

// memoryInputs keeps what is in the maps.
type memoryInputs struct {
	recorded []policies.Recorded
	inputs   map[string]string
	bundles  map[string]string
	err      error
}

func (m *memoryInputs) Recorded(_ context.Context, f func(policies.Recorded) error) error {
	for _, r := range m.recorded {
		if err := f(r); err != nil {
			return err
		}
	}
	return m.err
}

func (m *memoryInputs) Input(sha string) ([]byte, error) { return kept(m.inputs, sha) }

func (m *memoryInputs) Bundle(digest string) ([]byte, error) { return kept(m.bundles, digest) }

func kept(m map[string]string, key string) ([]byte, error) {
	text, ok := m[key]
	if !ok {
		return nil, admin.ErrNotKept
	}
	return []byte(text), nil
}

// server is one that runs, and how it is reached.
type server struct {
	path string
	stop func() error // returns what Serve did
}

// serve runs a server until the test ends.
func serve(t testing.TB, c admin.Config) server {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, admin.SocketName)
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Peer == nil {
		c.Peer = func(net.Conn) error { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- admin.Serve(ctx, l, c) }()
	stop := sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("Serve does not end")
		}
	})
	t.Cleanup(func() { _ = stop() })
	return server{path, stop}
}

// archive writes a tar file of these files, name and content in turn.
func archive(w io.Writer, files ...string) error {
	t := tar.NewWriter(w)
	for i := 0; i < len(files); i += 2 {
		if err := t.WriteHeader(&tar.Header{Name: files[i], Mode: 0o600, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		if _, err := io.WriteString(t, files[i+1]); err != nil {
			return err
		}
	}
	return t.Close()
}
