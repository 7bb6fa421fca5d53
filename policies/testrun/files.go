package testrun

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// Directory is where the fixtures of a bundle are, beside portcullis/: no part
// of the bundle, which its reader skips.
const Directory = "tests"

// The bounds of what is read.
const (
	maxFiles     = 1024
	maxFileBytes = 4 << 20
	maxBytes     = 32 << 20
)

// sources are the tests of a bundle as files.
type sources struct {
	rego     map[string]string // by path
	fixtures map[string][]byte
	bytes    int
}

// readSources reads portcullis/checks/*/*_test.rego and tests/*.yaml. Nothing is
// looked for elsewhere, and links are not followed.
func readSources(fsys fs.FS) (sources, error) {
	s := sources{rego: map[string]string{}, fixtures: map[string][]byte{}}
	err := s.each(fsys, "portcullis/checks", func(dir fs.DirEntry) error {
		if !dir.IsDir() {
			return nil
		}
		where := path.Join("portcullis/checks", dir.Name())
		return s.each(fsys, where, func(f fs.DirEntry) error {
			if !strings.HasSuffix(f.Name(), "_test.rego") {
				return nil
			}
			text, err := s.read(fsys, path.Join(where, f.Name()), f)
			s.rego[path.Join(where, f.Name())] = string(text)
			return err
		})
	})
	if err != nil {
		return sources{}, err
	}
	return s, s.each(fsys, Directory, func(f fs.DirEntry) error {
		name := path.Join(Directory, f.Name())
		switch {
		case path.Ext(name) == ".yml":
			return fmt.Errorf("fixture file %q is not read; hint: name it .yaml", name)
		case f.IsDir() || path.Ext(name) != ".yaml":
			return nil
		}
		text, err := s.read(fsys, name, f)
		s.fixtures[name] = text
		return err
	})
}

// each visits the entries of a directory, if there is one.
func (*sources) each(fsys fs.FS, dir string, visit func(fs.DirEntry) error) error {
	entries, err := fs.ReadDir(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read tests: %w", err)
	}
	for _, e := range entries {
		if err := visit(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *sources) read(fsys fs.FS, name string, entry fs.DirEntry) ([]byte, error) {
	if !entry.Type().IsRegular() {
		return nil, fmt.Errorf("test file %q is not a regular file; hint: links are not followed", name)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open test file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read test file %q: %w", name, err)
	}
	s.bytes += len(text)
	if len(text) > maxFileBytes || s.bytes > maxBytes || len(s.rego)+len(s.fixtures) >= maxFiles {
		return nil, fmt.Errorf("tests hold more than %d bytes in a file, %d in all, or %d files", maxFileBytes, maxBytes, maxFiles)
	}
	return text, nil
}
