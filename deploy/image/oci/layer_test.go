package oci_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/portcullis-csi/portcullis/deploy/image/oci"
)

func packer(dir string) *oci.Packer {
	return &oci.Packer{Time: time.Unix(1700000000, 0).UTC(), Dir: dir}
}

func file(path, text string) oci.File { return oci.File{Path: path, Data: []byte(text)} }

func layerOf(t *testing.T, p *oci.Packer, files ...oci.File) v1.Layer {
	t.Helper()
	l, err := p.Layer(files...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func digest(t *testing.T, l interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// headers reads all entries of a tar archive, to its end.
func headers(t *testing.T, r io.Reader) (list []tar.Header, contents map[string]string) {
	t.Helper()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(all, make([]byte, 1024)) { // POSIX: two blocks of zeros end an archive
		t.Error("the archive has no end")
	}
	contents = map[string]string{}
	for tr := tar.NewReader(bytes.NewReader(all)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return list, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		list, contents[h.Name] = append(list, *h), string(data)
	}
}

func TestLayerHoldsNothingOfTheMachine(t *testing.T) {
	l := layerOf(t, packer(""), file("/z", "last"), file("/etc/ssl/cert", "c"), oci.File{Path: "/program", Executable: true, Data: []byte("p")})
	if err := validate.Layer(l); err != nil {
		t.Error(err)
	}
	r, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	got, contents := headers(t, r)
	type entry struct {
		name string
		mode int64
		kind byte
	}
	want := []entry{{"etc/", 0o755, tar.TypeDir}, {"etc/ssl/", 0o755, tar.TypeDir}, {"etc/ssl/cert", 0o444, tar.TypeReg}, {"program", 0o555, tar.TypeReg}, {"z", 0o444, tar.TypeReg}}
	var have []entry
	for _, h := range got {
		have = append(have, entry{h.Name, h.Mode, h.Typeflag})
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || !h.ModTime.Equal(time.Unix(1700000000, 0)) || len(h.PAXRecords) > 0 {
			t.Errorf("entry %s is of user %d (%q), group %d (%q), time %v, records %v", h.Name, h.Uid, h.Uname, h.Gid, h.Gname, h.ModTime, h.PAXRecords)
		}
	}
	if diff := cmp.Diff(want, have, cmp.AllowUnexported(entry{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if contents["z"] != "last" || contents["program"] != "p" {
		t.Errorf("contents are %q", contents)
	}
}

func TestEqualFilesGiveEqualLayers(t *testing.T) {
	a, b := file("/a/x", "1"), file("/b/y", "2")
	one := digest(t, layerOf(t, packer(""), a, b))
	if two := digest(t, layerOf(t, packer(t.TempDir()), b, a)); two != one {
		t.Errorf("digest depends on the order of the files: %s and %s", one, two)
	}
	if other := digest(t, layerOf(t, packer(""), a, file("/b/y", "3"))); other == one {
		t.Error("other contents have the same digest")
	}
	if other := digest(t, layerOf(t, packer(""), a, oci.File{Path: "/b/y", Executable: true, Data: []byte("2")})); other == one {
		t.Error("another mode has the same digest")
	}
}

func TestLayerRefuses(t *testing.T) {
	for name, files := range map[string][]oci.File{
		"a relative path":         {file("a", "")},
		"a path upwards":          {file("/a/../../b", "")},
		"a slash at the end":      {file("/a/", "")},
		"the root":                {file("/", "")},
		"a path twice":            {file("/a", "1"), file("/a", "2")},
		"a file as directory":     {file("/a/b", "1"), file("/a", "2")},
		"a directory as file":     {file("/a", "2"), file("/a/b", "1")},
		"a name that is too long": {file("/"+string(bytes.Repeat([]byte("x"), 300)), "")},
	} {
		if l, err := packer("").Layer(files...); err == nil {
			t.Errorf("%s: Layer = %v, want an error", name, l)
		}
	}
}

// Whatever lies in the directory of compressed layers, an image holds what it
// should.
func TestKeptLayersAreNotBelieved(t *testing.T) {
	dir := t.TempDir()
	want := digest(t, layerOf(t, packer(dir), file("/a", "right")))
	other := digest(t, layerOf(t, packer(dir), file("/a", "wrong")))
	kept, err := filepath.Glob(filepath.Join(dir, "*.tar.gz"))
	if err != nil || len(kept) != 2 || want == other {
		t.Fatalf("kept %v, %v, want two files", kept, err)
	}
	first, err := os.ReadFile(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(kept[1])
	if err != nil {
		t.Fatal(err)
	}
	for name, swap := range map[string][2][]byte{
		"swapped": {second, first}, "cut off": {first[:len(first)/2], second[:len(second)/2]}, "empty": {nil, nil}, "not gzip": {[]byte("x"), []byte("y")},
	} {
		for i, data := range swap {
			if err := os.WriteFile(kept[i], data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := digest(t, layerOf(t, packer(dir), file("/a", "right"))); got != want {
			t.Errorf("with a kept layer %s: digest is %s, want %s", name, got, want)
		}
	}
	if stray, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(stray) > 0 {
		t.Errorf("files left behind: %v", stray)
	}
}
