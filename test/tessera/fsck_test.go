package tessera_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/audit/proof"
)

const origin = "test/nodes/node-1"

func boundary(kind string, state []byte) ([]byte, error) {
	now := time.Now()
	return fmt.Appendf(nil, `{"id":"%s-%d","time":%q,"type":%q,"log":%s}`, kind, now.UnixNano(), now.Format(time.RFC3339Nano), kind, state), nil
}

// writeLog makes a log of several epochs, with a key that was replaced.
func writeLog(t *testing.T) (dir, vkey string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "audit")
	l, err := auditlog.Open(auditlog.Config{
		Dir: dir, Origin: origin, EpochBytes: 1 << 20, RetentionBytes: 1 << 30,
		Boundary: boundary, CheckpointEvery: time.Hour, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	const events, rotateAt = 3000, 1000
	for i := range events {
		leaf := fmt.Appendf(nil, `{"id":"e%06d","time":"2026-01-15T12:00:00.%06dZ","pad":%q}`, i, i, strings.Repeat("x", 400))
		_, err := l.Append(t.Context(), leaf)
		if err == nil && i == rotateAt {
			err = l.RotateKey(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	vkey, err = l.VerifierKey()
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, vkey
}

// hashes are those of a bundle's entries, by tessera's own reading of it.
func hashes(text []byte) ([][]byte, error) {
	var bundle api.EntryBundle
	if err := bundle.UnmarshalText(text); err != nil {
		return nil, err
	}
	var list [][]byte
	for _, entry := range bundle.Entries {
		list = append(list, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return list, nil
}

func check(ctx context.Context, e proof.Exported) error {
	vkey, err := os.ReadFile(filepath.Join(e.Dir, auditlog.VKeyFileName))
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		return err
	}
	return fsck.New(e.Origin, verifier, client.FileFetcher{Root: e.Dir}, hashes, fsck.Opts{N: 2}).Check(ctx)
}

func TestFsckAcceptsEveryEpochAndNoEdit(t *testing.T) {
	dir, vkey := writeLog(t)
	list, err := proof.Export(t.Context(), proof.ExportConfig{Path: dir, VKey: vkey, Out: filepath.Join(t.TempDir(), "export")})
	if err != nil {
		t.Fatal(err)
	}
	keys, full := map[string]bool{}, 0
	for _, e := range list {
		keys[e.Key] = true
		full += int(e.Size / 256)
		if err := check(t.Context(), e); err != nil {
			t.Errorf("fsck of epoch %d with %d events = %v, want no error", e.Number, e.Size, err)
		}
	}
	if len(list) < 3 || len(keys) != 2 || full == 0 {
		t.Fatalf("the export has %d epochs of %d keys with %d full bundles, want 3, 2 and some", len(list), len(keys), full)
	}
	for _, tt := range []struct{ file, old, new string }{
		{"tile/entries/000", `"e000007"`, `"e999997"`},
		{"tile/0/000", "", ""},
		{"checkpoint", "\n" + fmt.Sprint(list[0].Size) + "\n", "\n" + fmt.Sprint(list[0].Size-1) + "\n"},
	} {
		name := filepath.Join(list[0].Dir, filepath.FromSlash(tt.file))
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		changed := bytes.Replace(good, []byte(tt.old), []byte(tt.new), 1)
		if tt.old == "" {
			changed[40] ^= 1
		}
		if bytes.Equal(changed, good) && tt.old != "" {
			t.Fatalf("%s does not hold %q", tt.file, tt.old)
		}
		if err := os.WriteFile(name, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := check(t.Context(), list[0]); err == nil {
			t.Errorf("fsck with %s changed = nil, want an error", tt.file)
		}
		if err := os.WriteFile(name, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := check(t.Context(), list[0]); err != nil {
		t.Errorf("fsck with everything back = %v, want no error", err)
	}
}
