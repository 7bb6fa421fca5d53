package manifests

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Bounds of a directory.
const (
	maxFiles      = 256
	maxFileBytes  = 1 << 20
	maxTotalBytes = 16 << 20
)

// file is one manifest file as it was read.
type file struct {
	name string
	data []byte
}

func equal(a, b []file) bool {
	return slices.EqualFunc(a, b, func(x, y file) bool { return x.name == y.name && bytes.Equal(x.data, y.data) })
}

// readFiles reads the manifests of the directory itself, sorted by name. The
// root keeps links from leading out of it.
func readFiles(root *os.Root) ([]file, error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	var files []file
	total := 0
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".yaml", ".yml", ".json":
		default:
			continue
		}
		if len(files) == maxFiles {
			return nil, fmt.Errorf("read manifests: more than %d files", maxFiles)
		}
		data, err := readFile(root, e.Name())
		if err != nil {
			return nil, fmt.Errorf("read manifest %q: %w", e.Name(), err)
		}
		if total += len(data); total > maxTotalBytes {
			return nil, fmt.Errorf("read manifests: more than %d MiB", maxTotalBytes>>20)
		}
		files = append(files, file{e.Name(), data})
	}
	return files, nil
}

func readFile(root *os.Root, name string) ([]byte, error) {
	// Looked at first, since opening a FIFO would wait for its writer.
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("is not a regular file")
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("is larger than %d KiB", maxFileBytes>>10)
	}
	return data, nil
}
