package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/portcullis-csi/portcullis/deploy/image/oci"
)

// write puts an image, what describes it and its digest beside each other.
func (b *builder) write(w io.Writer, made built) error {
	repository := made.ref.RepositoryStr()
	base := filepath.Join(b.options.out, filepath.Base(repository))
	digest, err := made.index.Digest()
	if err != nil {
		return err
	}
	if err := oci.Archive(base+".tar", made.ref, made.index); err != nil {
		return err
	}
	if err := writeDigest(base, digest); err != nil {
		return err
	}
	if err := removeOld(base + "-linux-*"); err != nil {
		return err
	}
	size, err := os.Stat(base + ".tar") //nolint:gosec // the user names the directory
	if err != nil {
		return err
	}
	say(w, "%s@%s\n  %s.tar %s\n", made.ref, digest, base, megabytes(size.Size()))
	for n, d := range made.documents {
		platform := fmt.Sprintf("%s-%s-%s", base, d.target.OS, d.target.Arch)
		file := platform + ".cdx.json"
		if err := os.WriteFile(file, d.data, 0o644); err != nil { //nolint:gosec // build output, no secret
			return err
		}
		digest, err := made.images[n].Digest()
		if err != nil {
			return err
		}
		if err := writeDigest(platform, digest); err != nil {
			return err
		}
		packed, plain, err := sizes(made.images[n])
		if err != nil {
			return err
		}
		say(w, "  %s %s, %s to fetch, %s unpacked\n  %s\n", d.target, digest, megabytes(packed), megabytes(plain), file)
	}
	return nil
}

// writeDigest is for scripts: a file that holds nothing else.
func writeDigest(base string, digest v1.Hash) error {
	return os.WriteFile(base+".digest", []byte(digest.String()+"\n"), 0o644) //nolint:gosec // build output, no secret
}

// removeOld takes away descriptions and digests of a build with other platforms.
func removeOld(pattern string) error {
	old, err := filepath.Glob(pattern)
	for _, file := range old {
		err = errors.Join(err, os.Remove(file)) //nolint:gosec // below the directory that the user names
	}
	return err
}

// sizes returns how much the layers are, compressed and not.
func sizes(img v1.Image) (packed, plain int64, err error) {
	layers, err := img.Layers()
	if err != nil {
		return 0, 0, err
	}
	for _, l := range layers {
		size, err := l.Size()
		if err != nil {
			return 0, 0, err
		}
		r, err := l.Uncompressed()
		if err != nil {
			return 0, 0, err
		}
		n, err := io.Copy(io.Discard, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return 0, 0, err
		}
		packed, plain = packed+size, plain+n
	}
	return packed, plain, nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
