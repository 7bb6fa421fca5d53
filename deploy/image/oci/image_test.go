package oci_test

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/portcullis-csi/portcullis/deploy/image/oci"
)

func imageOf(t *testing.T, arch string) v1.Image {
	t.Helper()
	img, err := oci.Image(oci.Config{
		Platform: v1.Platform{OS: "linux", Architecture: arch}, Entrypoint: "/p", User: "0:0", Created: time.Unix(1700000000, 0).UTC(),
		Labels: map[string]string{"a.label": "x"}, CreatedWith: "a test",
	}, layerOf(t, packer(""), file("/base", "b")), layerOf(t, packer(""), file("/p", "program for "+arch)))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func indexOf(t *testing.T) v1.ImageIndex {
	t.Helper()
	idx, err := oci.Index(map[string]string{"a.label": "x"}, imageOf(t, "amd64"), imageOf(t, "arm64"))
	if err != nil {
		t.Fatal(err)
	}
	return idx
}

func tag(t *testing.T, ref string) name.Tag {
	t.Helper()
	parsed, err := name.NewTag(ref, name.StrictValidation)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// archive writes the index as a tarball and unpacks it.
func archive(t *testing.T) (tarFile, dir string) {
	t.Helper()
	dir = t.TempDir()
	tarFile = filepath.Join(dir, "image.tar")
	if err := oci.Archive(tarFile, tag(t, "registry.example/a/p:1.2.3"), indexOf(t)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(tarFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, contents := headers(t, f)
	dir = filepath.Join(dir, "layout")
	for entry, text := range contents {
		to := filepath.Join(dir, entry)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tarFile, dir
}

func TestArchiveIsAnImageLayout(t *testing.T) {
	_, dir := archive(t)
	path, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	top, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	list, err := top.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"io.containerd.image.name": "registry.example/a/p:1.2.3", "org.opencontainers.image.ref.name": "1.2.3"}
	if len(list.Manifests) != 1 || cmp.Diff(want, list.Manifests[0].Annotations) != "" {
		t.Fatalf("index.json is %+v, want one entry with %v", list, want)
	}
	idx, err := top.ImageIndex(list.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(idx); err != nil {
		t.Error(err)
	}
	platforms, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range platforms.Manifests {
		got = append(got, m.Platform.String())
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, got); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

// Docker before its containerd store reads manifest.json.
func TestArchiveIsADockerArchive(t *testing.T) {
	file, _ := archive(t)
	ref := tag(t, "registry.example/a/p:1.2.3")
	img, err := tarball.ImageFromPath(file, &ref)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != "amd64" || len(layers) != 2 {
		t.Errorf("Docker sees %s with %d layers, want amd64 with 2", config.Architecture, len(layers))
	}
	for i, l := range layers {
		diffID, err := l.DiffID()
		if err != nil || diffID != config.RootFS.DiffIDs[i] {
			t.Errorf("layer %d has the content %v, %v, want %v", i, diffID, err, config.RootFS.DiffIDs[i])
		}
	}
}

func TestConfigSaysHowToRun(t *testing.T) {
	config, err := imageOf(t, "arm64").ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{Entrypoint: []string{"/p"}, Env: []string{"PATH=/"}, User: "0:0", WorkingDir: "/", Labels: map[string]string{"a.label": "x"}}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if config.Architecture != "arm64" || config.OS != "linux" || !config.Created.Equal(time.Unix(1700000000, 0)) {
		t.Errorf("config is for %s/%s of %v", config.OS, config.Architecture, config.Created)
	}
	manifest, err := imageOf(t, "arm64").Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.Annotations["a.label"] != "x" || !strings.HasPrefix(string(manifest.MediaType), "application/vnd.oci.image.manifest") {
		t.Errorf("manifest is %+v", manifest)
	}
}

// A registry that knows the referrers API, and one that has only tags for it.
func TestPushedDocumentsAreFound(t *testing.T) {
	for api, enabled := range map[string]bool{"referrers API": true, "tags": false} {
		t.Run(api, func(t *testing.T) {
			server := httptest.NewServer(registry.New(registry.WithReferrersSupport(enabled), registry.Logger(log.New(io.Discard, "", 0))))
			defer server.Close()
			ref := tag(t, strings.TrimPrefix(server.URL, "http://")+"/a/p:1.2.3")
			idx := indexOf(t)
			img := imageOf(t, "amd64")
			subject, err := partial.Descriptor(img)
			if err != nil {
				t.Fatal(err)
			}
			const kind = "application/vnd.example+json"
			document := oci.Referrer{Subject: *subject, MediaType: kind, Data: []byte(`{"a":1}`), Annotations: map[string]string{"x": "y"}}
			for range 2 { // again changes nothing
				if err := oci.Push(t.Context(), ref, idx, document); err != nil {
					t.Fatal(err)
				}
			}
			pulled, err := remote.Index(ref)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := digest(t, pulled), digest(t, idx); got != want {
				t.Errorf("pulled %s, want %s", got, want)
			}
			found, err := remote.Referrers(ref.Context().Digest(digest(t, img)))
			if err != nil {
				t.Fatal(err)
			}
			list, err := found.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Manifests) != 1 {
				t.Fatalf("referrers are %+v, want one", list.Manifests)
			}
			artifact, err := remote.Image(ref.Context().Digest(list.Manifests[0].Digest.String()))
			if err != nil {
				t.Fatal(err)
			}
			m, err := artifact.Manifest()
			if err != nil {
				t.Fatal(err)
			}
			if m.ArtifactType != kind || m.Subject == nil || m.Subject.Digest != subject.Digest || m.Annotations["x"] != "y" {
				t.Errorf("document is %+v, want type %s about %s", m, kind, subject.Digest)
			}
			layers, err := artifact.Layers()
			if err != nil || len(layers) != 1 {
				t.Fatalf("document has layers %v, %v, want one", layers, err)
			}
			r, err := layers[0].Compressed()
			if err != nil {
				t.Fatal(err)
			}
			if text, err := io.ReadAll(r); err != nil || string(text) != `{"a":1}` {
				t.Errorf("document is %q, %v", text, err)
			}
		})
	}
}

func TestPushToNobodyFails(t *testing.T) {
	server := httptest.NewServer(registry.New())
	ref := tag(t, strings.TrimPrefix(server.URL, "http://")+"/a/p:1.2.3")
	server.Close()
	if err := oci.Push(t.Context(), ref, indexOf(t)); err == nil || !strings.Contains(err.Error(), ref.String()) {
		t.Errorf("Push = %v, want an error that names %s", err, ref)
	}
}
