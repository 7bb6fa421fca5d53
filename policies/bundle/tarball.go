package bundle

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// maxStream bounds what a tarball unpacks to: its files, a header and padding for
// each, and the blocks of zeros at its end. Compressed, it has to fit maxBytes.
const maxStream = maxBytes + maxFiles*1024 + 64<<10

// WriteTarball writes a bundle as OPA's tar.gz. Equal bundles give equal bytes:
// files are sorted, and times, owners and modes are constant. Reading it gives a
// bundle with the same digest.
func WriteTarball(w io.Writer, b policies.Bundle) error {
	files, err := canonical(b)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("write policy bundle: %w", err)
	}
	t := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: name, Size: int64(len(files[name])), Mode: 0o644,
			ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
		}
		if err := t.WriteHeader(header); err != nil {
			return fmt.Errorf("write policy file %q: %w", name, err)
		}
		if _, err := t.Write(files[name]); err != nil {
			return fmt.Errorf("write policy file %q: %w", name, err)
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return fmt.Errorf("write policy bundle: %w", err)
	}
	return nil
}

// ReadTarball reads a bundle that WriteTarball made, without a signature. It
// refuses everything else: links, directories, names outside the layout, files
// twice, more than the bounds of a bundle, and anything behind its end.
func ReadTarball(r io.Reader) (policies.Bundle, error) {
	files, err := unpack(r)
	if err != nil {
		return policies.Bundle{}, err
	}
	return fromTarball(files)
}

func unpack(r io.Reader) (map[string][]byte, error) {
	// What is buffered here, gzip reads byte by byte: so none of what follows
	// its stream is lost.
	packed := bufio.NewReader(&bounded{r, maxBytes})
	z, err := gzip.NewReader(packed)
	if err != nil {
		return nil, fmt.Errorf("unpack: not a tar.gz: %w", err)
	}
	z.Multistream(false)
	stream := &bounded{z, maxStream}
	files, err := untar(tar.NewReader(stream))
	if err != nil {
		return nil, err
	}
	return files, atEnd(stream, packed)
}

func untar(t *tar.Reader) (map[string][]byte, error) {
	files, total := map[string][]byte{}, 0
	for {
		header, err := t.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		if err := acceptable(header, files); err != nil {
			return nil, err
		}
		text, err := io.ReadAll(t)
		if err != nil {
			return nil, fmt.Errorf("unpack %q: %w", header.Name, err)
		}
		files[header.Name] = text
		if total += len(text); total > maxBytes || len(files) > maxFiles {
			return nil, fmt.Errorf("unpack: more than %d bytes or %d files", maxBytes, maxFiles)
		}
	}
}

// acceptable refuses an entry that a bundle cannot have. Extended headers, of PAX
// and of GNU, are refused too: readers differ in which of two names they believe.
func acceptable(h *tar.Header, files map[string][]byte) error {
	_, twice := files[h.Name]
	switch {
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("unpack: %q is not a regular file; %s", clip(h.Name), rebuildHint)
	case h.Format != tar.FormatUSTAR:
		return fmt.Errorf("unpack: %q has an extended or foreign header; %s", clip(h.Name), rebuildHint)
	case !inTarball(h.Name):
		return fmt.Errorf("unpack: %q has no place in a built bundle; %s", clip(h.Name), rebuildHint)
	case twice:
		return fmt.Errorf("unpack: %q is there twice; %s", h.Name, rebuildHint)
	case h.Size > int64(maxInTarball(h.Name)):
		return fmt.Errorf("unpack: %q is larger than %d bytes", h.Name, maxInTarball(h.Name))
	}
	return nil
}

// atEnd makes sure that nothing but the zeros of tar follows, in the stream or
// behind it: a second archive there would be in force for some other reader.
func atEnd(stream io.Reader, packed *bufio.Reader) error {
	rest := make([]byte, 4096)
	for {
		n, err := stream.Read(rest)
		for _, b := range rest[:n] {
			if b != 0 {
				return fmt.Errorf("unpack: data follows the end of the archive; %s", rebuildHint)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
	}
	if _, err := packed.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("unpack: data follows the compressed archive; %s", rebuildHint)
	}
	return nil
}

// bounded reads at most so many bytes, and says when there were more. An
// io.LimitedReader would let a file that was cut there look complete.
type bounded struct {
	r    io.Reader
	left int64
}

var errTooLarge = errors.New("archive is larger than a bundle may be")

// Read reads within the bound.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}
