package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// read returns what a file holds behind its first line, which is the SHA-256 of
// that.
func (s *Store) read(name string, most int) ([]byte, error) {
	info, err := s.dir.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("read policy %s: %w", name, err)
	}
	if !info.Mode().IsRegular() { // opening a FIFO waits for a writer (fifo(7))
		return nil, fmt.Errorf("read policy %s: not a regular file: %w", name, ErrDamaged)
	}
	f, err := s.dir.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read policy %s: %w", name, err)
	}
	limit := int64(most) + sha256.Size*2 + 1
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read policy %s: %w", name, err)
	}
	sum, rest, found := bytes.Cut(text, []byte("\n"))
	want := sha256.Sum256(rest)
	if int64(len(text)) > limit || !found || string(sum) != hex.EncodeToString(want[:]) {
		return nil, fmt.Errorf("read policy %s: %w", name, ErrDamaged)
	}
	return rest, nil
}

// write replaces a file: written beside it, made durable, renamed, and the name
// made durable. Before the rename the old file is whole, and after it the new one.
func (s *Store) write(name string, parts ...[]byte) error {
	err := s.replace(name, parts)
	if err != nil {
		return fmt.Errorf("write policy %s: %w", name, err)
	}
	return nil
}

func (s *Store) replace(name string, parts [][]byte) error {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	sum := []byte(hex.EncodeToString(h.Sum(nil)) + "\n")
	if err := s.step(name + "/begin"); err != nil {
		return err
	}
	f, err := s.dir.OpenFile(name+nextSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	for _, p := range append([][]byte{sum}, parts...) {
		if _, err := f.Write(p); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := s.step(name + "/written"); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := s.step(name + "/synced"); err != nil {
		return err
	}
	if err := s.dir.Rename(name+nextSuffix, name); err != nil {
		return err
	}
	if err := s.step(name + "/renamed"); err != nil {
		return err
	}
	d, err := s.dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
