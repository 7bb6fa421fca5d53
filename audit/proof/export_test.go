package proof_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/audit/proof"
)

func export(t testing.TB, n *node, out string) []proof.Exported {
	t.Helper()
	list, err := proof.Export(t.Context(), proof.ExportConfig{Path: n.c.Dir, VKey: n.vkey(t), Out: out})
	if err != nil {
		t.Fatalf("Export() = %v, want no error", err)
	}
	return list
}

// entries reads bundles of events with nothing but the published format.
func entries(t testing.TB, dir string, size int64) [][]byte {
	t.Helper()
	var list [][]byte
	for int64(len(list)) < size {
		width := min(256, int(size)-len(list))
		path := tlog.Tile{H: 8, N: int64(len(list)) / 256, W: width}.Path()
		b, err := os.ReadFile(filepath.Join(dir, strings.Replace(path, "tile/8/0/", "tile/entries/", 1)))
		if err != nil {
			t.Fatal(err)
		}
		for range width {
			n := int(binary.BigEndian.Uint16(b))
			list, b = append(list, b[2:2+n]), b[2+n:]
		}
		if len(b) != 0 {
			t.Fatalf("bundle %s has %d bytes after its events, want none", path, len(b))
		}
	}
	return list
}

func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, dir)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestExportHoldsTheLog compares an export with the log, event by event and root
// by root, and a second export with the first.
func TestExportHoldsTheLog(t *testing.T) {
	n := newNode(t)
	n.run(t, 0, 1500, true)
	out := filepath.Join(t.TempDir(), "export")
	list := export(t, n, out)
	if len(list) < 2 {
		t.Fatalf("Export() = %d epochs, want several", len(list))
	}
	before := files(t, out)
	n.run(t, 1500, 3200, false)
	list = export(t, n, out)
	after := files(t, out)
	for name, text := range before {
		if !strings.HasSuffix(name, "/checkpoint") && after[name] != text {
			t.Errorf("Export() again changed %s, want it as it was", name)
		}
	}
	var want [][]byte
	sizes := map[int64]int64{}
	if _, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: n.c.Dir, VKey: n.vkey(t), Each: func(at auditlog.Position, leaf []byte) error {
		want = append(want, bytes.Clone(leaf))
		sizes[at.Epoch]++
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	var got [][]byte
	for _, e := range list {
		if e.Size != sizes[e.Number] {
			t.Errorf("Export() of epoch %d = %d events, want %d", e.Number, e.Size, sizes[e.Number])
		}
		got = append(got, entries(t, e.Dir, e.Size)...)
		vkey, err := os.ReadFile(filepath.Join(e.Dir, auditlog.VKeyFileName))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(e.Dir, "checkpoint"))
		if err != nil {
			t.Fatal(err)
		}
		heads, err := auditlog.ReadCheckpoints(text, string(vkey))
		if err != nil || len(heads) != 1 || heads[0].Size != e.Size || heads[0].Root != e.Root {
			t.Errorf("checkpoint of epoch %d = %+v, %v, want that of the whole epoch by the key beside it", e.Number, heads, err)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("Export() = %d events, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("event %d = %s, want %s", i, got[i], want[i])
		}
	}
	for _, e := range export(t, n, out) {
		if e.Files != 0 {
			t.Errorf("Export() of nothing new wrote %d files of epoch %d, want none", e.Files, e.Number)
		}
	}
}

// TestExportLeavesOutWhatIsNotSigned: the log of a plugin that was killed.
func TestExportLeavesOutWhatIsNotSigned(t *testing.T) {
	n := newNode(t)
	n.run(t, 0, 100, false)
	l, err := auditlog.Open(n.c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if _, err := l.Append(t.Context(), leaf(100+i)); err != nil {
			t.Fatal(err)
		}
	}
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(n.c.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	list, err := proof.Export(t.Context(), proof.ExportConfig{Path: killed, VKey: n.vkey(t), Out: filepath.Join(t.TempDir(), "export")})
	if err != nil || len(list) != 1 || list[0].Events != 301 || list[0].Size != 101 {
		t.Fatalf("Export() = %+v, %v, want 101 of 301 events", list, err)
	}
	if got := entries(t, list[0].Dir, 101); !bytes.Contains(got[100], []byte(`"e0000`)) {
		t.Errorf("the last event = %s, want one of the first hundred", got[100])
	}
	if _, err := os.Stat(filepath.Join(list[0].Dir, "tile", "entries", "000")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a full bundle of 101 events: %v, want none", err)
	}
	_, err = proof.Prove(t.Context(), proof.ProveConfig{Path: killed, VKey: n.vkey(t), At: auditlog.Position{Epoch: 1, Index: 200}})
	if err == nil || !strings.Contains(err.Error(), "event 1/200 is not signed") {
		t.Errorf("Prove(an event that is not signed) = %v, want that said", err)
	}
}

func TestExportRefuses(t *testing.T) {
	n := newNode(t)
	n.run(t, 0, 300, false)
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(n.c.Dir)); err != nil {
		t.Fatal(err)
	}
	n.run(t, 300, 2000, false)
	good := t.TempDir()
	export(t, n, good)
	other := newNode(t)
	other.run(t, 0, 300, false) // fewer than either has of the first epoch, so that size alone tells nothing
	elsewhere := t.TempDir()
	export(t, other, elsewhere)
	write := func(name, text string) func(t *testing.T, out string) {
		return func(t *testing.T, out string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(out, filepath.FromSlash(name)), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name       string
		path, from string
		tamper     func(t *testing.T, out string)
		want       string
	}{
		{"an older log", old, good, nil, "it is an older"},
		{"another node's log there", n.c.Dir, elsewhere, nil, "are not those that are there"},
		{"events that were changed", n.c.Dir, good, write("epoch-0000000001/tile/entries/000", "x"), "is not what the log holds"},
		{"hashes that were changed", n.c.Dir, good, write("epoch-0000000001/tile/0/000", "x"), "is not what the log holds"},
		{"a checkpoint that is none", n.c.Dir, good, write("epoch-0000000001/checkpoint", "x"), "is not that of an export"},
		{"a later epoch there", n.c.Dir, good, func(t *testing.T, out string) {
			if err := os.Mkdir(filepath.Join(out, "epoch-0000000099"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "epoch 99 is there"},
		{"a link in a file's place", n.c.Dir, good, func(t *testing.T, out string) {
			name := filepath.Join(out, "epoch-0000000001", "tile", "0", "000")
			if err := errors.Join(os.Remove(name), os.Symlink("/etc/passwd", name)); err != nil {
				t.Fatal(err)
			}
		}, "is not a file of an export"},
		{"the log's own directory", n.c.Dir, n.c.Dir, nil, "holds a log itself"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := t.TempDir()
			if err := os.CopyFS(out, os.DirFS(tt.from)); err != nil {
				t.Fatal(err)
			}
			if tt.tamper != nil {
				tt.tamper(t, out)
			}
			before := files(t, out)
			_, err := proof.Export(t.Context(), proof.ExportConfig{Path: tt.path, VKey: n.vkey(t), Out: out})
			if _, ok := errors.AsType[*proof.RefusedError](err); !ok || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Export() = %v, want a RefusedError with %q", err, tt.want)
			}
			for name, text := range files(t, out) {
				if had, ok := before[name]; ok && had != text {
					t.Errorf("Export() changed %s, want it as it was", name)
				}
			}
		})
	}
}

// TestExportOfATamperedLogWritesNothing of it.
func TestExportOfATamperedLogWritesNothing(t *testing.T) {
	n := newNode(t)
	n.run(t, 0, 300, false)
	file := filepath.Join(n.c.Dir, auditlog.EpochFile(1))
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte("e000299"), []byte("e999999"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	_, err = proof.Export(t.Context(), proof.ExportConfig{Path: n.c.Dir, VKey: n.vkey(t), Out: out})
	if _, ok := errors.AsType[*auditlog.TamperedError](err); !ok || len(files(t, out)) != 0 {
		t.Errorf("Export() = %v with %d files, want a TamperedError and none", err, len(files(t, out)))
	}
}

// TestAnInterruptedExportIsNoLog: at whatever file it stops, there is no
// checkpoint, and the next export makes it whole.
func TestAnInterruptedExportIsNoLog(t *testing.T) {
	n := newNode(t)
	n.run(t, 0, 600, false)
	whole := t.TempDir()
	export(t, n, whole)
	out := t.TempDir()
	blocked := filepath.Join(out, "epoch-0000000001", "tile", "1", "000.p")
	if err := errors.Join(os.MkdirAll(filepath.Dir(blocked), 0o700), os.WriteFile(blocked, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := proof.Export(t.Context(), proof.ExportConfig{Path: n.c.Dir, VKey: n.vkey(t), Out: out}); err == nil {
		t.Fatal("Export() over a file that is in the way = nil, want an error")
	}
	got := files(t, out)
	if _, ok := got["/epoch-0000000001/checkpoint"]; ok || got["/epoch-0000000001/tile/entries/000"] == "" {
		t.Errorf("Export() that was interrupted left a checkpoint: %v, or nothing", ok)
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	export(t, n, out)
	if got, want := files(t, out), files(t, whole); len(got) != len(want) {
		t.Errorf("Export() after an interruption = %d files, want %d", len(got), len(want))
	}
}

// TestExportAfterEpochsWereDeleted: the export is an archive of what the node
// does not keep, and what comes must follow what is there.
func TestExportAfterEpochsWereDeleted(t *testing.T) {
	n, fork := newNode(t), newNode(t)
	n.run(t, 0, 50, true)
	if err := os.CopyFS(fork.c.Dir, os.DirFS(n.c.Dir)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(fork.c.Dir, func(path string, d fs.DirEntry, err error) error {
		mode := fs.FileMode(0o600)
		if d.IsDir() {
			mode = 0o700
		}
		return errors.Join(err, os.Chmod(path, mode))
	})
	if err != nil {
		t.Fatal(err)
	}
	fork.next.Store(n.next.Load())
	n.run(t, 50, 100, true)
	out := t.TempDir()
	export(t, n, out)
	before := files(t, out)
	n.run(t, 100, 150, true)
	fork.run(t, 70, 90, true)
	for _, number := range []int64{1, 2} {
		name := auditlog.EpochFile(number)
		if err := errors.Join(os.Remove(filepath.Join(n.c.Dir, name)), os.Remove(filepath.Join(fork.c.Dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	list := export(t, n, out)
	if len(list) != 2 || list[0].Number != 3 || list[1].Number != 4 {
		t.Fatalf("Export() = %+v, want epochs 3 and 4", list)
	}
	after := files(t, out)
	for name, text := range before {
		if !strings.Contains(name, "0003/") && after[name] != text {
			t.Errorf("Export() changed %s, want what the node deleted to stay", name)
		}
	}
	for _, number := range []int64{3, 4} {
		if err := os.RemoveAll(filepath.Join(out, "epoch-000000000"+strconv.FormatInt(number, 10))); err != nil {
			t.Fatal(err)
		}
	}
	_, err = proof.Export(t.Context(), proof.ExportConfig{Path: fork.c.Dir, VKey: fork.vkey(t), Out: out})
	if err == nil || !strings.Contains(err.Error(), "epoch 3 does not follow epoch 2 as it is there") {
		t.Errorf("Export(of a fork) = %v, want it refused", err)
	}
}
