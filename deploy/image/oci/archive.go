package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Archive writes the index and all it names as a tarball under the reference.
func Archive(file string, ref name.Tag, idx v1.ImageIndex) error {
	entries := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	manifest, err := addIndex(entries, idx)
	if err != nil {
		return fmt.Errorf("archive %s: %w", ref, err)
	}
	raw, err := idx.RawManifest()
	if err != nil {
		return fmt.Errorf("archive %s: %w", ref, err)
	}
	top := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{
		MediaType: types.OCIImageIndex, Size: int64(len(raw)), Digest: sum(raw),
		Annotations: map[string]string{
			"io.containerd.image.name":          ref.Name(),   // read by containerd and Docker
			"org.opencontainers.image.ref.name": ref.TagStr(), // read by skopeo and podman
		},
	}}}
	if entries["index.json"], err = json.Marshal(top); err != nil {
		return fmt.Errorf("archive %s: %w", ref, err)
	}
	// Only for a "docker load" that knows no image layout. It has room for one
	// platform; others ignore it as long as there is an oci-layout.
	manifest.RepoTags = []string{ref.Name()}
	if entries["manifest.json"], err = json.Marshal([]dockerManifest{manifest}); err != nil {
		return fmt.Errorf("archive %s: %w", ref, err)
	}
	data, err := pack(entries)
	if err != nil {
		return fmt.Errorf("archive %s: %w", ref, err)
	}
	if err := writeFile(file, data); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// dockerManifest is an entry of manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// addIndex adds all blobs, and returns the first image in Docker's form.
func addIndex(entries map[string][]byte, idx v1.ImageIndex) (dockerManifest, error) {
	raw, err := idx.RawManifest()
	if err != nil {
		return dockerManifest{}, err
	}
	entries[blob(sum(raw))] = raw
	list, err := idx.IndexManifest()
	if err != nil {
		return dockerManifest{}, err
	}
	var first dockerManifest
	for i, d := range list.Manifests {
		img, err := idx.Image(d.Digest)
		if err != nil {
			return dockerManifest{}, err
		}
		m, err := addImage(entries, img)
		if err != nil {
			return dockerManifest{}, err
		}
		if i == 0 {
			first = m
		}
	}
	return first, nil
}

func addImage(entries map[string][]byte, img v1.Image) (dockerManifest, error) {
	raw, err := img.RawManifest()
	if err != nil {
		return dockerManifest{}, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return dockerManifest{}, err
	}
	entries[blob(sum(raw))], entries[blob(sum(config))] = raw, config
	m := dockerManifest{Config: blob(sum(config))}
	layers, err := img.Layers()
	if err != nil {
		return dockerManifest{}, err
	}
	for _, l := range layers {
		data, err := read(l)
		if err != nil {
			return dockerManifest{}, err
		}
		entries[blob(sum(data))] = data
		m.Layers = append(m.Layers, blob(sum(data)))
	}
	return m, nil
}

func read(l partial.CompressedLayer) ([]byte, error) {
	r, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func blob(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// pack writes sorted entries; what comes first is small, so that a reader that
// looks for index.json need not read the layers.
func pack(entries map[string][]byte) ([]byte, error) {
	var names []string
	for entry := range entries {
		names = append(names, entry)
	}
	slices.SortFunc(names, func(a, b string) int {
		return slices.Compare([]string{order(a), a}, []string{order(b), b})
	})
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, entry := range names {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: entry, Size: int64(len(entries[entry])), Mode: 0o444, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(entries[entry]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil { // writes the end of the archive
		return nil, err
	}
	return b.Bytes(), nil
}

// order puts the layout's own files before the blobs.
func order(entry string) string {
	if slices.Contains([]string{"oci-layout", "index.json", "manifest.json"}, entry) {
		return "0"
	}
	return "1"
}
