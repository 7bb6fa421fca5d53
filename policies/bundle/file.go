package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/portcullis-csi/portcullis/policies"
)

// ErrExists is returned for a file that is not to be overwritten.
var ErrExists = errors.New("file exists")

// WriteFile writes the tarball of a bundle to a file, whole or not at all.
func WriteFile(path string, b policies.Bundle, overwrite bool) (err error) {
	if _, err := os.Lstat(path); !overwrite && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write policy bundle %q: %w", path, errors.Join(ErrExists, err))
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".bundle-*")
	if err != nil {
		return fmt.Errorf("write policy bundle: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := WriteTarball(f, b); err != nil {
		return err
	}
	// Everybody may read it: a bundle holds no secrets, and those who fetch and
	// sign it are often others than its author.
	if err := errors.Join(f.Chmod(0o644), f.Sync()); err != nil {
		return fmt.Errorf("write policy bundle: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write policy bundle: %w", err)
	}
	return f.Close()
}
