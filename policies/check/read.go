package check

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// The bounds of what is read: those of a bundle and of its tests.
const (
	maxModuleBytes = 4 << 20
	maxBytes       = 64 << 20
	maxModules     = 2048
)

// readModules reads the checks of a directory and their tests, whatever else is
// wrong with the bundle. Links are not followed.
func readModules(fsys fs.FS) (map[string]string, error) {
	files := map[string]string{}
	names, err := fs.Glob(fsys, "portcullis/checks/*/*.rego")
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	if len(names) > maxModules {
		return nil, fmt.Errorf("the directory holds %d modules, more than %d; hint: look for files that are no part of the policy", len(names), maxModules)
	}
	total := 0
	for _, name := range names {
		info, err := fs.Lstat(fsys, name)
		if err != nil || !info.Mode().IsRegular() {
			continue // the bundle's own reader says what is wrong with it
		}
		text, err := readModule(fsys, name)
		if err != nil {
			return nil, err
		}
		if total += len(text); total > maxBytes {
			return nil, fmt.Errorf("the modules of the directory hold more than %d bytes; hint: look for files that are no part of the policy", maxBytes)
		}
		// A part of a file is not looked at: Fix writes back what was read. The
		// other readers say that it is too large.
		if len(text) <= maxModuleBytes {
			files[name] = text
		}
	}
	return files, nil
}

func readModule(fsys fs.FS, name string) (string, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", fmt.Errorf("open module: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxModuleBytes+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read module %q: %w", name, err)
	}
	return string(text), nil
}

func isTest(name string) bool { return strings.HasSuffix(name, "_test.rego") }

// checkOf returns the name of the check that a file belongs to.
func checkOf(name string) string { return path.Base(path.Dir(name)) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
