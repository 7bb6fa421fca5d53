package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// File is one regular file of an image.
type File struct {
	Path       string // absolute, clean
	Executable bool
	Data       []byte
}

// Packer makes layers. Dir, if it is not empty, keeps compressed ones between
// runs, since compressing takes longer than all else.
type Packer struct {
	Time time.Time
	Dir  string
}

// layer holds both forms; images of ours are small enough.
type layer struct {
	diffID, digest v1.Hash
	plain, packed  []byte
}

// Layer packs the files, and the directories that they need, into one layer.
func (p *Packer) Layer(files ...File) (v1.Layer, error) {
	plain, err := p.archive(files)
	if err != nil {
		return nil, fmt.Errorf("pack layer: %w", err)
	}
	packed, err := p.compress(plain)
	if err != nil {
		return nil, fmt.Errorf("compress layer: %w", err)
	}
	return &layer{diffID: sum(plain), digest: sum(packed), plain: plain, packed: packed}, nil
}

func (p *Packer) archive(files []File) ([]byte, error) {
	headers := map[string]*tar.Header{}
	contents := map[string][]byte{}
	for _, f := range files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
			return nil, fmt.Errorf("path %q is not absolute and clean", f.Path)
		}
		name := f.Path[1:]
		if headers[name] != nil {
			return nil, fmt.Errorf("path %q is there twice", f.Path)
		}
		mode := int64(0o444)
		if f.Executable {
			mode = 0o555
		}
		headers[name], contents[name] = p.header(tar.TypeReg, name, mode), f.Data
		headers[name].Size = int64(len(f.Data))
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if old := headers[dir]; old != nil && old.Typeflag != tar.TypeDir {
				return nil, fmt.Errorf("path %q is a file and a directory", "/"+dir)
			}
			headers[dir] = p.header(tar.TypeDir, dir+"/", 0o755)
		}
	}
	names := make([]string, 0, len(headers))
	for name := range headers {
		names = append(names, name)
	}
	slices.Sort(names)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		if err := w.WriteHeader(headers[name]); err != nil {
			return nil, err
		}
		if _, err := w.Write(contents[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil { // writes the end of the archive
		return nil, err
	}
	return b.Bytes(), nil
}

func (p *Packer) header(kind byte, name string, mode int64) *tar.Header {
	return &tar.Header{Typeflag: kind, Name: name, Mode: mode, ModTime: p.Time, Format: tar.FormatUSTAR}
}

// compress takes the compressed form from Dir if it is there and still gives
// the same bytes back, and makes it otherwise.
func (p *Packer) compress(plain []byte) ([]byte, error) {
	kept := ""
	if p.Dir != "" {
		kept = filepath.Join(p.Dir, sum(plain).Hex+".tar.gz")
		if packed, err := os.ReadFile(kept); err == nil && unpacksTo(packed, plain) { //nolint:gosec // checked before it is used
			return packed, nil
		}
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.DefaultCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if kept != "" {
		return b.Bytes(), writeFile(kept, b.Bytes())
	}
	return b.Bytes(), nil
}

func unpacksTo(packed, plain []byte) bool {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return false
	}
	got, err := io.ReadAll(io.LimitReader(r, int64(len(plain))+1))
	return err == nil && bytes.Equal(got, plain)
}

// writeFile replaces a file in one step, so that nobody reads half of one.
func writeFile(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { //nolint:gosec // build output, no secret
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func sum(data []byte) v1.Hash {
	s := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(s[:])}
}

// Digest is that of the compressed layer.
func (l *layer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID is the digest of the layer as it is unpacked.
func (l *layer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// Compressed returns the layer as it is stored.
func (l *layer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.packed)), nil
}

// Uncompressed returns the tar archive.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.plain)), nil
}

// Size is that of the compressed layer.
func (l *layer) Size() (int64, error) { return int64(len(l.packed)), nil }

// MediaType says that it is a compressed tar archive.
func (l *layer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }
