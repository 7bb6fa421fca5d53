package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	keyFile       = "version.key"
	keyBytes      = 32
	versionDigits = 32
)

var errInside = errors.New("--state-dir is inside --root: its key would be served as a secret")

// versions names the version of an object. Versions reach audit events and
// status objects, where a plain digest of a short secret could be searched for.
type versions struct{ key []byte }

// of is equal for equal contents of one object; two objects with the same
// content have different versions.
func (v versions) of(object string, content []byte) string {
	mac := hmac.New(sha256.New, v.key)
	fmt.Fprintf(mac, "%d:%s", len(object), object)
	mac.Write(content)
	return hex.EncodeToString(mac.Sum(nil))[:versionDigits]
}

// openVersions reads the key, or makes one on the first start: versions must
// stay the same over restarts, or every restart would look like a rotation.
func openVersions(dir string) (versions, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return versions{}, fmt.Errorf("open state directory: %w", err)
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		return versions{}, fmt.Errorf("check state directory: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return versions{}, errors.New("check state directory: it is open to other users; chmod it to 0700")
	}
	key, err := readKey(root)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(root)
	}
	if err != nil {
		return versions{}, fmt.Errorf("read version key: %w", err)
	}
	return versions{key}, nil
}

func readKey(root *os.Root) ([]byte, error) {
	info, err := root.Lstat(keyFile)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || info.Size() != keyBytes {
		return nil, fmt.Errorf("%s is not a file of %d bytes and mode 0600; restore it, or remove it to begin with new versions", keyFile, keyBytes)
	}
	f, err := root.Open(keyFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	key := make([]byte, keyBytes)
	_, err = io.ReadFull(f, key)
	return key, err
}

// makeKey renames a whole key into place: a crash must not leave a short one.
func makeKey(root *os.Root) ([]byte, error) {
	const temporary = keyFile + ".new"
	key := make([]byte, keyBytes)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	if err := root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	return key, root.Rename(temporary, keyFile)
}

// checkOutside refuses a state directory in the root: the key would then be one
// of the secrets that are served.
func checkOutside(root, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	realRoot, err := filepath.EvalSymlinks(root)
	if err != nil {
		return fmt.Errorf("find root: %w", err)
	}
	realDir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("find state directory: %w", err)
	}
	rel, err := filepath.Rel(realRoot, realDir)
	if err != nil {
		return fmt.Errorf("compare directories: %w", err)
	}
	if rel != ".." && !strings.HasPrefix(rel, "../") {
		return errInside
	}
	return nil
}
