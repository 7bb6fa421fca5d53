package workload

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// The bounds of what is read.
const (
	MaxFiles      = 4096
	MaxFileBytes  = 8 << 20
	MaxTotalBytes = 64 << 20
)

// Stdin is the path that stands for the standard input.
const Stdin = "-"

// File is the text of one file of manifests.
type File struct {
	Name string // for messages
	Text []byte
}

// ReadFiles reads files, the .yaml, .yml and .json files of directories and of
// what is in them, and from stdin where a path is "-". Links in directories are
// not followed.
func ReadFiles(paths []string, stdin io.Reader) ([]File, error) {
	r := reader{stdin: stdin}
	for _, path := range paths {
		if err := r.add(path); err != nil {
			return nil, err
		}
	}
	return r.files, nil
}

type reader struct {
	stdin io.Reader
	used  bool // of stdin
	files []File
	total int
}

func (r *reader) add(path string) error {
	if path == Stdin {
		if r.used {
			return errors.New("read manifests: - is named twice; hint: the standard input can be read once")
		}
		r.used = true
		return r.read("standard input", r.stdin)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read manifests: %w", err)
	}
	if !info.IsDir() {
		return r.open(path, info)
	}
	found := len(r.files)
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return r.open(name, info)
	})
	if err != nil {
		return fmt.Errorf("read manifests: %w", err)
	}
	if len(r.files) == found {
		return fmt.Errorf("read manifests: directory %q has no .yaml, .yml or .json file; hint: name the file, or - for the standard input", path)
	}
	return nil
}

// open looks first: opening a FIFO would wait for its writer. A pipe that the
// shell made, as in -f <(helm template .), is one that has a writer.
func (r *reader) open(path string, info fs.FileInfo) error {
	if mode := info.Mode(); !mode.IsRegular() && mode&fs.ModeNamedPipe == 0 {
		return fmt.Errorf("read manifest %q: is not a regular file", path)
	}
	f, err := os.Open(path) //nolint:gosec // the user of the command line names it
	if err != nil {
		return fmt.Errorf("read manifests: %w", err)
	}
	defer f.Close()
	return r.read(path, f)
}

func (r *reader) read(name string, from io.Reader) error {
	if len(r.files) == MaxFiles {
		return fmt.Errorf("read manifests: more than %d files; hint: name a smaller directory", MaxFiles)
	}
	text, err := io.ReadAll(io.LimitReader(from, MaxFileBytes+1))
	if err != nil {
		return fmt.Errorf("read manifest %q: %w", name, err)
	}
	if len(text) > MaxFileBytes {
		return fmt.Errorf("read manifest %q: is larger than %d MiB; hint: split it", name, MaxFileBytes>>20)
	}
	if r.total += len(text); r.total > MaxTotalBytes {
		return fmt.Errorf("read manifests: more than %d MiB; hint: name fewer files", MaxTotalBytes>>20)
	}
	r.files = append(r.files, File{Name: name, Text: text})
	return nil
}
