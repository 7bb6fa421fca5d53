package bundle_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// TestDepth: settings of checks nest sixteen levels from the top of the file, in
// YAML as in JSON.
func TestDepth(t *testing.T) {
	nested := func(n int) string {
		return `{"checks": {"a": ` + strings.Repeat("[", n) + "1" + strings.Repeat("]", n) + "}}"
	}
	for n, ok := range map[int]bool{1: true, 13: true, 14: true, 15: false, 100: false} {
		for _, name := range []string{"data.yaml", "data.json"} {
			_, err := bundle.LoadFS(policiestest.Files("", policiestest.WithFile("portcullis/config/"+name, nested(n))))
			if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), name+":1:") || err != nil && !strings.Contains(err.Error(), "deeper than 16 levels") {
				t.Errorf("LoadFS(%s, %d lists) = %v, want accepted: %v", name, n, err, ok)
			}
		}
	}
}

// broken is a file system that fails in the middle.
type broken struct {
	fstest.MapFS
	name string
	err  error
}

func (b broken) Open(name string) (fs.File, error) {
	f, err := b.MapFS.Open(name)
	if name == b.name && err == nil {
		return failing{f, b.err}, nil
	}
	return f, err
}

type failing struct {
	fs.File
	err error
}

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestUnreadableFiles: a part of a bundle is no bundle.
func TestUnreadableFiles(t *testing.T) {
	files := policiestest.Files(policiestest.Grants)
	_, err := bundle.LoadFS(broken{files, "portcullis/grants/test.yaml", syscall.EIO})
	if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), `read policy file "portcullis/grants/test.yaml"`) {
		t.Errorf("LoadFS() = %v, want the I/O error with its file", err)
	}
	if os.Geteuid() == 0 {
		return // root reads everything
	}
	dir := write(t, files)
	if err := os.Chmod(filepath.Join(dir, "portcullis/grants"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.LoadDirectory(dir); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("LoadDirectory() = %v, want permission denied", err)
	}
}

// slow returns one byte at a time, and an error at the end.
type slow struct {
	text []byte
	err  error
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.text) == 0 {
		return 0, s.err
	}
	p[0], s.text = s.text[0], s.text[1:]
	return 1, nil
}

// TestReadersThatFail: an archive that could not be read to its end is none, even
// where everything that matters has arrived.
func TestReadersThatFail(t *testing.T) {
	b := load(t, policiestest.Grants)
	text := packed(t, b)
	if got, err := bundle.ReadTarball(&slow{text, io.EOF}); err != nil || got.Digest != b.Digest {
		t.Errorf("ReadTarball(byte by byte) = %q, %v, want %q", got.Digest, err, b.Digest)
	}
	if got, err := bundle.ReadTarball(&slow{text, syscall.EIO}); err == nil || got.Digest != "" {
		t.Errorf("ReadTarball(failing at the end) = %q, %v, want an error", got.Digest, err)
	}
}

type full50 struct{ n int }

func (w *full50) Write(p []byte) (int, error) {
	if w.n += len(p); w.n > 50 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

// TestWritersThatFail: a full disk is told, by WriteTarball as by WriteFile, which
// leaves nothing behind.
func TestWritersThatFail(t *testing.T) {
	b := load(t, policiestest.Grants)
	if err := bundle.WriteTarball(&full50{}, b); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("WriteTarball(full disk) = %v, want ENOSPC", err)
	}
	if err := bundle.WriteTarball(io.Discard, policies.Bundle{}); err == nil || !strings.Contains(err.Error(), "no data") {
		t.Errorf("WriteTarball(no bundle) = %v, want it to say so", err)
	}
	dir := t.TempDir()
	if err := bundle.WriteFile(filepath.Join(dir, "a.tar.gz"), policies.Bundle{}, true); err == nil {
		t.Error("WriteFile(no bundle) = nil, want an error")
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := bundle.WriteFile(filepath.Join(dir, "taken"), b, true); err == nil {
		t.Error("WriteFile(a directory) = nil, want an error")
	}
	if err := bundle.WriteFile(filepath.Join(dir, "missing", "a.tar.gz"), b, true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("WriteFile(into no directory) = %v, want not exist", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "taken" {
		t.Errorf("the directory holds %v, %v, want nothing but what was there", entries, err)
	}
}

// TestWriteFileTouchesTheLinkNotItsTarget: whoever can plant a link beside the
// bundle does not choose what is overwritten.
func TestWriteFileTouchesTheLinkNotItsTarget(t *testing.T) {
	dir := t.TempDir()
	victim, out := filepath.Join(dir, "victim"), filepath.Join(dir, "b.tar.gz")
	if err := errors.Join(os.WriteFile(victim, []byte("mine"), 0o600), os.Symlink("victim", out)); err != nil {
		t.Fatal(err)
	}
	b := load(t, policiestest.Grants)
	if err := bundle.WriteFile(out, b, false); !errors.Is(err, bundle.ErrExists) {
		t.Errorf("WriteFile(link) = %v, want ErrExists", err)
	}
	if err := bundle.WriteFile(out, b, true); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(victim)
	info, err2 := os.Lstat(out)
	if err := errors.Join(err, err2); err != nil || string(text) != "mine" || !info.Mode().IsRegular() || info.Mode().Perm() != 0o644 {
		t.Errorf("after WriteFile() the victim holds %q and the bundle is %v, %v", text, info.Mode(), err)
	}
	if err := bundle.WriteFile(filepath.Join(dir, "dangling"), b, false); err != nil {
		t.Errorf("WriteFile(new) = %v", err)
	}
}

// TestOpenNamesWhatItCannotRead, and does not block on a FIFO.
func TestOpenNamesWhatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	fifo, text := filepath.Join(dir, "fifo"), filepath.Join(dir, "text")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.WriteFile(text, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		fifo: "neither a directory nor a file", text: "not a tar.gz", filepath.Join(dir, "missing"): "no such file", "/dev/null": "neither a directory nor a file",
	} {
		if _, err := bundle.Open(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%s) = %v, want an error with the path and %q", path, err, want)
		}
	}
}

// TestManifestEnds: the default end is the end of a day, so that two builds of a
// day are equal, and an end is written in UTC and whole seconds.
func TestManifestEnds(t *testing.T) {
	var texts [][]byte
	for _, at := range []time.Duration{0, 11 * time.Hour, 12*time.Hour - 1} {
		built, err := bundle.Build(t.Context(), load(t, policiestest.Grants), bundle.BuildConfig{Serial: 1, Now: now().Add(at)})
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, packed(t, built.Bundle))
	}
	if !bytes.Equal(texts[0], texts[1]) || !bytes.Equal(texts[0], texts[2]) {
		t.Error("builds of one day differ")
	}
	zone := time.FixedZone("", 2*3600)
	built, err := bundle.Build(t.Context(), load(t, policiestest.Grants), bundle.BuildConfig{Serial: 1, Now: now(), NotAfter: time.Date(2026, 2, 1, 1, 0, 0, 5, zone)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(time.Date(2026, 1, 31, 23, 0, 0, 0, time.UTC), built.Bundle.Manifest.NotAfter); diff != "" || built.Bundle.Manifest.NotAfter.Location() != time.UTC {
		t.Errorf("NotAfter differs (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		end time.Duration
		ok  bool
	}{{0, false}, {time.Second - 1, false}, {time.Second, true}, {90 * 24 * time.Hour, true}, {90*24*time.Hour + time.Second, false}} {
		_, err := bundle.Build(t.Context(), load(t, policiestest.Grants), bundle.BuildConfig{Serial: 1, Now: now(), NotAfter: now().Add(c.end)})
		if (err == nil) != c.ok {
			t.Errorf("Build(end after %s) = %v, want accepted: %v", c.end, err, c.ok)
		}
	}
	for serial, ok := range map[int64]bool{0: true, 1: false, 8: false, 9: true, 10: true} {
		built, err := bundle.Build(t.Context(), load(t, policiestest.Grants, manifest(`,"serial":9`)), bundle.BuildConfig{Serial: serial, Now: now()})
		if (err == nil) != ok || ok && built.Bundle.Manifest.Serial != max(serial, 9) {
			t.Errorf("Build(serial %d over 9) = serial %d, %v, want accepted: %v", serial, built.Bundle.Manifest.Serial, err, ok)
		}
	}
}
