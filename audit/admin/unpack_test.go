package admin_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit/admin"
)

const epochFile = "epoch-0000000001.db"

func packed(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range headers {
		h := headers[i]
		if h.Typeflag == tar.TypeReg {
			h.Size = 4
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("data")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func regular(name string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o777}
}

func TestUnpackWritesTheFilesOfALog(t *testing.T) {
	dir := t.TempDir()
	names := []string{epochFile, "epoch-1764115200.db", "node.vkey", "node.vkey.0123456789abcdef"}
	var headers []tar.Header
	for _, n := range names {
		headers = append(headers, regular(n))
	}
	if err := admin.Unpack(bytes.NewReader(packed(t, headers...)), dir, 16); err != nil {
		t.Fatalf("Unpack() = %v, want no error", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 || info.Size() != 4 {
			t.Errorf("%s has mode %v and %d bytes, want 0600 and 4, whatever the archive says", e.Name(), info.Mode(), info.Size())
		}
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestUnpackRefuses(t *testing.T) {
	tests := map[string]struct {
		archive []byte
		limit   int64
	}{
		"path that climbs":    {packed(t, regular("../"+epochFile)), 1000},
		"absolute path":       {packed(t, regular("/tmp/"+epochFile)), 1000},
		"in a directory":      {packed(t, regular("a/"+epochFile)), 1000},
		"private key":         {packed(t, regular("node.key")), 1000},
		"unfinished epoch":    {packed(t, regular(epochFile+".new")), 1000},
		"name with a newline": {packed(t, regular(epochFile+"\n")), 1000},
		"twice":               {packed(t, regular(epochFile), regular(epochFile)), 1000},
		"symbolic link":       {packed(t, tar.Header{Name: epochFile, Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"}), 1000},
		"hard link":           {packed(t, tar.Header{Name: epochFile, Typeflag: tar.TypeLink, Linkname: "/etc/shadow"}), 1000},
		"directory":           {packed(t, tar.Header{Name: "node.vkey", Typeflag: tar.TypeDir}), 1000},
		"FIFO":                {packed(t, tar.Header{Name: epochFile, Typeflag: tar.TypeFifo}), 1000},
		"device":              {packed(t, tar.Header{Name: epochFile, Typeflag: tar.TypeChar}), 1000},
		"too large":           {packed(t, regular(epochFile)), 3},
		"too large together":  {packed(t, regular(epochFile), regular("node.vkey")), 7},
		"cut":                 {packed(t, regular(epochFile))[:514], 1000},
		"no archive":          {[]byte(strings.Repeat("x", 2000)), 1000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			dir := filepath.Join(outer, "in")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := admin.Unpack(bytes.NewReader(tt.archive), dir, tt.limit); err == nil || !strings.HasPrefix(err.Error(), "unpack snapshot: ") {
				t.Errorf("Unpack() = %v, want an error", err)
			}
			if entries, err := os.ReadDir(outer); err != nil || len(entries) != 1 {
				t.Errorf("beside the directory: %v, %v, want nothing", entries, err)
			}
		})
	}
}

func TestUnpackDoesNotFollowWhatIsInTheDirectory(t *testing.T) {
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.Symlink(victim, filepath.Join(dir, epochFile)); err != nil {
		t.Fatal(err)
	}
	if err := admin.Unpack(bytes.NewReader(packed(t, regular(epochFile))), dir, 1000); err == nil {
		t.Error("Unpack() over a link = nil, want an error")
	}
	if _, err := os.Lstat(victim); !os.IsNotExist(err) {
		t.Errorf("what the link names: %v, want it not to be made", err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(packed(f, regular(epochFile), regular("node.vkey")))
	f.Add(packed(f, tar.Header{Name: epochFile, Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"}))
	f.Add(packed(f, tar.Header{Name: epochFile, Typeflag: tar.TypeReg, Format: tar.FormatPAX, PAXRecords: map[string]string{"A.b": "c"}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, archive []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		const limit = 1 << 16
		_ = admin.Unpack(bytes.NewReader(archive), dir, limit) // what it wrote is looked at
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		total := int64(0)
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if !info.Mode().IsRegular() {
				t.Errorf("it made %s of mode %v", e.Name(), info.Mode())
			}
			total += info.Size()
		}
		if total > limit {
			t.Errorf("it wrote %d bytes, want at most %d", total, limit)
		}
		if beside, err := os.ReadDir(outer); err != nil || len(beside) != 1 {
			t.Errorf("beside the directory: %v, %v", beside, err)
		}
	})
}

func TestSnapshotArrivesWhole(t *testing.T) {
	log := newMemoryLog(leaves(0, 1))
	content := strings.Repeat("0123456789", 100000)
	log.snapshot = func(w io.Writer) error { return archive(w, epochFile, content, "node.vkey", "key\n") }
	c := admin.Dial(serve(t, admin.Config{Log: log}).path, nil)
	dir := t.TempDir()
	if err := c.Snapshot(t.Context(), dir, 2<<20); err != nil {
		t.Fatalf("Snapshot() = %v, want no error", err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, epochFile)); err != nil || string(got) != content {
		t.Errorf("the file has %d bytes, %v; want the %d that were sent", len(got), err, len(content))
	}
}
