package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Why a file is not served. Each is a fact about its name, never its content.
var (
	errNoObject = errors.New("object does not exist below the root")
	errNotFile  = errors.New("object is not a regular file below the root")
	errTooLarge = errors.New("object is larger than --max-file-bytes")
	errUnstable = errors.New("object changes while it is read; replace it by renaming a new file")
	errOpenRoot = errors.New("directory is writable by everybody; remove that permission")
	// errEmpty also covers the moment between a shell's truncation and its write.
	errEmpty = errors.New("object is empty")
)

// readTries is how often a file that changes while being read is read.
const readTries = 3

// store reads files below one directory, by its descriptor.
type store struct {
	root     *os.Root
	maxBytes int64
	// afterRead runs between reading a file and looking whether it changed;
	// may be nil.
	afterRead func()
}

func openStore(dir string, maxBytes int64) (*store, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	info, err := root.Stat(".")
	if err == nil && info.Mode()&0o002 != 0 {
		err = errOpenRoot
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("check root: %w", err), root.Close())
	}
	return &store{root: root, maxBytes: maxBytes}, nil
}

// read returns the content of a file at one moment.
func (s *store) read(name string) ([]byte, error) {
	for range readTries {
		data, stable, err := s.readOnce(name)
		if err != nil || stable {
			return data, err
		}
		clear(data)
	}
	return nil, errUnstable
}

func (s *store) readOnce(name string) (data []byte, stable bool, err error) {
	// Without O_NONBLOCK opening a FIFO would wait for its writer.
	f, err := s.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil, false, errNoObject
	case err != nil:
		// Among them os.Root's refusal of links that lead out of the root.
		return nil, false, errNotFile
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil || !before.Mode().IsRegular() {
		return nil, false, errNotFile
	}
	switch size := before.Size(); {
	case size == 0:
		return nil, false, errEmpty
	case size > s.maxBytes:
		return nil, false, errTooLarge
	}
	data, err = readExactly(f, before.Size())
	if err != nil {
		return nil, false, errNotFile
	}
	if s.afterRead != nil {
		s.afterRead()
	}
	after, err := f.Stat()
	if err != nil {
		return nil, false, errNotFile
	}
	return data, unchanged(before, after, int64(len(data))), nil
}

// readExactly reads up to one byte more than size, which shows growth.
func readExactly(r io.Reader, size int64) ([]byte, error) {
	data := make([]byte, size+1)
	n, err := io.ReadFull(r, data)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data[:n], nil
}

// unchanged detects writers that truncate and write in place, as editors and
// shells do: half of a secret must not be served.
func unchanged(before, after fs.FileInfo, read int64) bool {
	return before.Size() == read && after.Size() == read && before.ModTime().Equal(after.ModTime())
}
