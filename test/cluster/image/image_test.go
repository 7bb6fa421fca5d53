package image_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/test/cluster/image"
)

// entries reads an archive: names, and what they hold or lead to.
func entries(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	found := map[string]string{}
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := found[h.Name]; twice {
			t.Errorf("%s is in the archive twice", h.Name)
		}
		found[h.Name] = h.FileInfo().Mode().String() + " " + h.Linkname + string(content)
	}
}

func example(t *testing.T) image.Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("machine code"), 0o755); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(data, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	return image.Image{
		References: []string{"lab.invalid/example:1", "docker.io/library/example:2"}, Architecture: "arm64",
		Entrypoint: []string{"/bin/program"}, User: "65535:65535",
		Files: []image.File{
			{Path: "/bin/program", From: program},
			{Path: "/bin/second", Link: "program"},
			{Path: "/etc/deep/data", From: data},
			{Path: "/tmp"},
		},
	}
}

func TestArchive(t *testing.T) {
	i := example(t)
	var archive bytes.Buffer
	if err := i.Write(&archive); err != nil {
		t.Fatal(err)
	}
	files := entries(t, &archive)
	get := func(digest string) string {
		_, hash, _ := strings.Cut(digest, ":")
		_, content, ok := strings.Cut(files["blobs/sha256/"+hash], " ")
		if sum := sha256.Sum256([]byte(content)); !ok || hex.EncodeToString(sum[:]) != hash {
			t.Errorf("the blob %s is not there or has another digest", digest)
		}
		return content
	}
	type descriptor struct {
		Digest      string
		Platform    struct{ Architecture, OS string }
		Annotations map[string]string
	}
	var index struct{ Manifests []descriptor }
	unmarshal(t, strings.TrimPrefix(files["index.json"], "-rw-r--r-- "), &index)
	if len(index.Manifests) != 2 {
		t.Fatalf("the index names %d images, want 2", len(index.Manifests))
	}
	for n, m := range index.Manifests {
		if m.Annotations["io.containerd.image.name"] != i.References[n] || m.Platform.Architecture != "arm64" || m.Digest != index.Manifests[0].Digest {
			t.Errorf("image %d is %+v, want the same one named %s", n, m, i.References[n])
		}
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	unmarshal(t, get(index.Manifests[0].Digest), &manifest)
	var config struct {
		Architecture string
		Config       struct {
			Entrypoint []string
			User       string
		}
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	unmarshal(t, get(manifest.Config.Digest), &config)
	if config.Config.User != "65535:65535" || config.Config.Entrypoint[0] != "/bin/program" || config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Errorf("the configuration is %+v", config)
	}
	want := map[string]string{
		"bin/": "drwxr-xr-x ", "bin/program": "-rwxr-xr-x machine code", "bin/second": "Lrwxrwxrwx program",
		"etc/": "drwxr-xr-x ", "etc/deep/": "drwxr-xr-x ", "etc/deep/data": "-rw-r--r-- text", "tmp/": "dtrwxrwxrwx ",
	}
	if diff := cmp.Diff(want, entries(t, strings.NewReader(get(manifest.Layers[0].Digest)))); diff != "" {
		t.Errorf("files of the image (-want +got):\n%s", diff)
	}
}

func unmarshal(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("Unmarshal(%q) = %v", text, err)
	}
}

func TestEqualInputGivesEqualBytes(t *testing.T) {
	i := example(t)
	var first, second bytes.Buffer
	if err := i.Write(&first); err != nil {
		t.Fatal(err)
	}
	// Times and owners of the files are no input.
	if err := os.Chtimes(i.Files[0].From, time.Unix(0, 0), time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	if err := i.Write(&second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("Write() wrote other bytes the second time, want the same")
	}
}

func TestImagesThatCannotBeWritten(t *testing.T) {
	for name, i := range map[string]image.Image{
		"no name": {},
		"no file": {References: []string{"lab.invalid/a:1"}, Files: []image.File{{Path: "/a", From: "/no/such/file"}}},
	} {
		if err := i.Write(io.Discard); err == nil || !strings.Contains(err.Error(), "write") {
			t.Errorf("%s: Write() = %v, want an error", name, err)
		}
	}
}
