// The race detector sees no more in megabytes that one goroutine unpacks than in
// a few bytes, and takes some twenty times as long.

//go:build !race

package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// zeros is a reader without an end, for archives that unpack to too much.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestBombsAreRefused: whatever an archive unpacks to, reading it ends.
func TestBombsAreRefused(t *testing.T) {
	bomb := func(write func(io.Writer)) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		write(w)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	many := func(n, size int) []byte {
		return bomb(func(w io.Writer) {
			a := tar.NewWriter(w)
			for i := range n {
				name := fmt.Sprintf("portcullis/checks/c%d/c%d.rego", i, i)
				if err := a.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(size), Mode: 0o644}); err != nil {
					t.Fatal(err)
				}
				_, _ = io.CopyN(a, zeros{}, int64(size))
			}
		})
	}
	// Stored, not compressed, it unpacks to no more than a bundle may.
	var stored bytes.Buffer
	w, err := gzip.NewWriterLevel(&stored, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(unzip(t, packed(t, rich(t))))
	_, _ = io.CopyN(w, zeros{}, 33<<20)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		text []byte
		want string
	}{
		"large and stored": {stored.Bytes(), "larger than a bundle may be"},
		"many files":       {many(3000, 0), "unpack: more than"},
		"many large files": {many(9, 4<<20), "larger than a bundle may be"},
		"zeros":            {bomb(func(w io.Writer) { _, _ = io.CopyN(w, zeros{}, 100<<20) }), "larger than a bundle may be"},
		"zeros after it":   {bomb(func(w io.Writer) { _, _ = w.Write(unzip(t, packed(t, rich(t)))); _, _ = io.CopyN(w, zeros{}, 100<<20) }), "larger than a bundle may be"},
		"a file of 4 GiB": {bomb(func(w io.Writer) {
			_ = tar.NewWriter(w).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "portcullis/grants/data.json", Size: 1 << 32})
		}), "larger than"},
		"header of 100 MiB": {bomb(func(w io.Writer) {
			_ = tar.NewWriter(w).WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "x", PAXRecords: map[string]string{"a": strings.Repeat("x", 900_000)}})
		}), "not a regular file"},
		"large when packed":  {append([]byte{0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte("x"), 33<<20)...), "unpack"},
		"grants of 33 MiB":   {archive(t, []file{{"portcullis/grants/data.json", strings.Repeat(" ", 33<<20), nil}}), "larger than"},
		"depth of the index": {with(t, file{"portcullis/grants/data.json", strings.Repeat("[", 1<<20), nil}), "exceeded max depth"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := bundle.ReadTarball(bytes.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ReadTarball(%s) = %.300v, want an error with %q", name, err, tt.want)
			}
		})
	}
}

// TestIndexThatOutgrowsAnArchive: a few lines of YAML can stand for a large index,
// and what no archive could hold is refused where its author sees it.
func TestIndexThatOutgrowsAnArchive(t *testing.T) {
	list := func(format string, n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(format, i))
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	grants := fmt.Sprintf("- {id: G-1, owner: %q, expiry: 2126-12-31, namespaces: %s, serviceAccounts: %s, provider: local, secrets: %s}\n",
		strings.Repeat("o", 1000), list("n-%d", 32), list("a-%d", 32), list("local://node/%d", 32))
	_, err := bundle.LoadFS(policiestest.Files(grants))
	if err == nil || !strings.Contains(err.Error(), "portcullis/grants/data.json") && !strings.Contains(err.Error(), "would hold more than") {
		t.Errorf("LoadFS(%d bytes of YAML) = %.300v, want a refusal for the size of the index", len(grants), err)
	}
	// A thousand times larger, it is refused before it is made.
	grants = fmt.Sprintf("- {id: G-1, owner: o, expiry: 2126-12-31, namespaces: %s, serviceAccounts: %s, provider: local, secrets: %s}\n",
		list("n-%d", 4000), list("a-%d", 4000), list("local://node/%d", 4000))
	_, err = bundle.LoadFS(policiestest.Files(grants))
	if err == nil || !strings.Contains(err.Error(), "test.yaml:1:3: grant G-1: more than 524288 entries") || !strings.Contains(err.Error(), "hint: use prefixes") {
		t.Errorf("LoadFS(%d bytes of YAML) = %.300v, want a refusal of the grant", len(grants), err)
	}
	// Together they are no smaller; the one that is too much is named.
	two := fmt.Sprintf("- {id: G-%%d, owner: o, expiry: 2126-12-31, namespaces: %s, serviceAccounts: %s, provider: local, secrets: %s}\n",
		list("n-%d", 20), list("a-%d", 30), list("local://node/%d", 500))
	_, err = bundle.LoadFS(policiestest.Files(fmt.Sprintf(two, 1) + fmt.Sprintf(two, 2)))
	if err == nil || !strings.Contains(err.Error(), "test.yaml:2:3: grant G-2: more than") || strings.Contains(err.Error(), "grant G-1") {
		t.Errorf("LoadFS(two large grants) = %.300v, want a refusal of the second", err)
	}
}

// TestArchiveThatStandsForMore: the index of an archive is turned back into grants,
// and a hostile one into a grant of every subject for every secret. It has to be
// refused before its index is made.
func TestArchiveThatStandsForMore(t *testing.T) {
	var keys []string
	for i := range 20_000 {
		keys = append(keys, fmt.Sprintf(`"n-%d/a-%d":{"local://node/%d":[{"id":"G-1","owner":"o","not_after_ns":1798761600000000000,"provider":"local","scoping":{}}]}`, i, i, i))
	}
	text := with(t, file{"portcullis/grants/data.json", `{"by_subject":{` + strings.Join(keys, ",") + "}}\n", nil})
	_, err := bundle.ReadTarball(bytes.NewReader(text))
	if err == nil || !strings.Contains(err.Error(), "grant G-1: more than 524288 entries") {
		t.Errorf("ReadTarball() = %.300v, want a refusal of the grant", err)
	}
}

// TestBoundsOfADirectory: what fits exactly is read.
func TestBoundsOfADirectory(t *testing.T) {
	pad := func(n int) string { return "[]\n" + strings.Repeat("#", n-3) }
	file := func(n int) fstest.MapFS {
		return policiestest.Files(policiestest.Grants, policiestest.WithFile("portcullis/waivers/a.yaml", pad(n)))
	}
	if _, err := bundle.LoadFS(file(4 << 20)); err != nil {
		t.Errorf("LoadFS(a file of 4 MiB) = %v, want nil", err)
	}
	if _, err := bundle.LoadFS(file(4<<20 + 1)); err == nil || !strings.Contains(err.Error(), `"portcullis/waivers/a.yaml" is larger than 4194304 bytes`) {
		t.Errorf("LoadFS(one byte more) = %v, want a refusal", err)
	}
	many := policiestest.Files(policiestest.Grants)
	for i := range 8 {
		policiestest.WithFile(fmt.Sprintf("portcullis/waivers/%d.yaml", i), pad(4<<20))(many)
	}
	if _, err := bundle.LoadFS(many); err == nil || !strings.Contains(err.Error(), "holds more than 33554432 bytes") {
		t.Errorf("LoadFS(more than 32 MiB) = %v, want a refusal", err)
	}
	small := policiestest.Files(policiestest.Grants) // two files
	for i := range 2046 {
		policiestest.WithFile(fmt.Sprintf("portcullis/waivers/%d.yaml", i), "[]")(small)
	}
	if _, err := bundle.LoadFS(small); err != nil {
		t.Errorf("LoadFS(2048 files) = %v, want nil", err)
	}
}
