package admin

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
)

// maxSnapshotFiles is more epochs than fit into any retention.
const maxSnapshotFiles = 10000

// snapshotName is all that a snapshot may hold: no path, no private key.
var snapshotName = regexp.MustCompile(`^(epoch-[0-9]{10}\.db|node\.vkey(\.[0-9a-f]{1,64})?)$`)

// Unpack writes the files of a snapshot into a directory, which must be the
// caller's own. Anything else than new regular files with a log's names, or
// more than limit bytes of them, is refused; what was written by then stays.
func Unpack(r io.Reader, dir string, limit int64) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack snapshot: %w", err)
	}
	defer root.Close()
	t := tar.NewReader(r)
	for range maxSnapshotFiles {
		header, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack snapshot: %w", err)
		}
		switch {
		case header.Typeflag != tar.TypeReg || !snapshotName.MatchString(header.Name):
			return fmt.Errorf("unpack snapshot: %+q is no file of a log; hint: use the portcullis of the plugin's version", clip(header.Name))
		case header.Size > limit:
			return errSnapshotLarge
		}
		n, err := unpackFile(root, header.Name, io.LimitReader(t, limit))
		if err != nil {
			return err
		}
		limit -= n
	}
	return errSnapshotLarge
}

var errSnapshotLarge = errors.New("unpack snapshot: it is larger than it may be; hint: see that the temporary directory has room, or set TMPDIR")

func unpackFile(root *os.Root, name string, r io.Reader) (int64, error) {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, fmt.Errorf("unpack snapshot: %w", err)
	}
	n, err := io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		return n, fmt.Errorf("unpack snapshot: %w", err)
	}
	return n, nil
}
