package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/test/chart/pack/archive"
	"github.com/portcullis-csi/portcullis/test/chart/render"
)

const chart = "../../../../deploy/chart"

// copyOf is the chart somewhere else, with other times and modes.
func copyOf(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.CopyFS(dir, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return errors.Join(os.Chmod(path, 0o600), os.Chtimes(path, time.Unix(1e9, 0), time.Unix(1e9, 0)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, from string) (file, digest string, text []byte) {
	t.Helper()
	file, digest, err := archive.Write(from, filepath.Join(t.TempDir(), "bin"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	return file, digest, text
}

func TestSameFilesMakeTheSameBytes(t *testing.T) {
	file, digest, first := write(t, chart)
	_, again, second := write(t, copyOf(t))
	if !bytes.Equal(first, second) || digest != again {
		t.Errorf("two archives of the same files differ: %s, %s", digest, again)
	}
	if got := filepath.Base(file); !strings.HasPrefix(got, "portcullis-") || !strings.HasSuffix(got, ".tgz") {
		t.Errorf("the archive is named %s", got)
	}
	changed := copyOf(t)
	if err := os.WriteFile(filepath.Join(changed, "README.md"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, other, _ := write(t, changed); other == digest {
		t.Error("other files have the same digest")
	}
}

func TestArchiveHoldsTheChartAndNothingElse(t *testing.T) {
	dir := copyOf(t)
	for _, name := range []string{"values.yaml.swp", "notes~", ".git/config"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	_, _, text := write(t, dir)
	zip, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o644 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s says where it was packed: %+v", h.Name, h)
		}
		name, ok := strings.CutPrefix(h.Name, "portcullis/")
		if !ok {
			t.Errorf("%s is not below portcullis/", h.Name)
		}
		names = append(names, name)
	}
	if len(names) == 0 || names[0] != "Chart.yaml" {
		t.Errorf("the archive begins with %q, want Chart.yaml", names)
	}
	var want []string
	err = fs.WalkDir(os.DirFS(chart), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			want = append(want, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	slices.Sort(want)
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("files (-chart +archive):\n%s", diff)
	}
}

// Helm must see in the archive what it sees in the directory.
func TestArchiveRendersLikeTheDirectory(t *testing.T) {
	file, _, _ := write(t, chart)
	for name, helm := range map[string]func(render.Config) (render.Files, error){"Helm 3": render.Helm3, "Helm 4": render.Helm4} {
		c := render.Config{Chart: chart, Kubernetes: "v1.37.2", Values: map[string]any{"clusterName": "test", "policy": map[string]any{"keys": []any{"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"}}}}
		want, err := helm(c)
		if err != nil {
			t.Fatal(err)
		}
		c.Chart = file
		got, err := helm(c)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-directory +archive):\n%s", name, diff)
		}
	}
}

func TestWhatIsNoChartIsRefused(t *testing.T) {
	for name, change := range map[string][2]string{
		"no version":        {"version: 0", "edition: 0"},
		"with a dependency": {"type: application", "type: application\ndependencies: [{name: a, version: 1.0.0, repository: https://example.org}]"},
	} {
		dir := copyOf(t)
		path := filepath.Join(dir, "Chart.yaml")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), change[0], change[1], 1)
		if changed == string(text) {
			t.Fatalf("%s: %q is not in Chart.yaml", name, change[0])
		}
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if file, _, err := archive.Write(dir, t.TempDir()); err == nil {
			t.Errorf("%s: packed as %s", name, file)
		}
	}
	if _, _, err := archive.Write(t.TempDir(), t.TempDir()); err == nil {
		t.Error("an empty directory was packed")
	}
}
