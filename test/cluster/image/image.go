package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Image is what Write writes.
type Image struct {
	// References are the names it is imported under, all of them whole:
	// docker.io/library/busybox:1.37.
	References []string

	// Architecture is that of the programs in it.
	Architecture string

	// Files are the contents of the image.
	Files []File

	Entrypoint, Cmd []string

	// User is numeric: "65535:65535". Root where it is empty.
	User string
}

// File is one entry of the image: a copy of a file, a link, or a directory.
type File struct {
	Path string // in the image, with a slash in front
	From string // on this machine; a directory where this and Link are empty
	Link string // target of a symbolic link
}

const (
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
)

// descriptor refers to a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
}

// Write writes the image as an archive.
func (i Image) Write(w io.Writer) error {
	if len(i.References) == 0 {
		return fmt.Errorf("write an image without a name; hint: set References")
	}
	layer, err := i.layer()
	if err != nil {
		return fmt.Errorf("write image %s: %w", i.References[0], err)
	}
	a := &archive{tar: tar.NewWriter(w)}
	a.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	layerRef := a.blob(typeLayer, layer)
	configRef := a.json(typeConfig, i.config(layerRef.Digest))
	ref := a.json(typeManifest, manifest{SchemaVersion: 2, MediaType: typeManifest, Config: &configRef, Layers: []descriptor{layerRef}})
	ref.Platform = &platform{i.Architecture, "linux"}
	index := manifest{SchemaVersion: 2, MediaType: typeIndex}
	for _, name := range i.References {
		named := ref
		named.Annotations = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
		index.Manifests = append(index.Manifests, named)
	}
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	a.file("index.json", text)
	if a.err != nil {
		return fmt.Errorf("write image %s: %w", i.References[0], a.err)
	}
	return a.tar.Close()
}

func (i Image) config(layer string) any {
	type object = map[string]any
	return object{
		"architecture": i.Architecture, "os": "linux",
		"config": object{"Entrypoint": i.Entrypoint, "Cmd": i.Cmd, "User": i.User, "Env": []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin"}},
		"rootfs": object{"type": "layers", "diff_ids": []string{layer}},
	}
}

// layer is the archive of the image's files, with the directories they lie in.
func (i Image) layer() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := map[string]bool{".": true, "/": true}
	for _, f := range i.Files {
		if err := addParents(w, path.Dir(f.Path), made); err != nil {
			return nil, err
		}
		if err := f.add(w); err != nil {
			return nil, err
		}
		made[f.Path] = true
	}
	return b.Bytes(), w.Close()
}

func addParents(w *tar.Writer, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	if err := addParents(w, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	return File{Path: dir}.add(w)
}

func (f File) add(w *tar.Writer) error {
	header := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: 0o755, Format: tar.FormatPAX}
	if f.Path == "/tmp" {
		header.Mode = 0o1777
	}
	switch {
	case f.Link != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.Link, 0o777
		return w.WriteHeader(header)
	case f.From == "":
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		return w.WriteHeader(header)
	}
	content, err := os.ReadFile(f.From)
	if err != nil {
		return err
	}
	header.Typeflag, header.Size = tar.TypeReg, int64(len(content))
	if info, err := os.Stat(f.From); err == nil && info.Mode()&(fs.ModePerm&0o111) == 0 {
		header.Mode = 0o644
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}

// archive writes the blobs of a layout, and keeps the first error.
type archive struct {
	tar *tar.Writer
	err error
}

func (a *archive) file(name string, content []byte) {
	if a.err != nil {
		return
	}
	a.err = a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))})
	if a.err == nil {
		_, a.err = a.tar.Write(content)
	}
}

func (a *archive) blob(mediaType string, content []byte) descriptor {
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	a.file("blobs/sha256/"+digest, content)
	return descriptor{MediaType: mediaType, Digest: "sha256:" + digest, Size: len(content)}
}

func (a *archive) json(mediaType string, v any) descriptor {
	text, err := json.Marshal(v)
	if err != nil && a.err == nil {
		a.err = err
	}
	return a.blob(mediaType, text)
}
