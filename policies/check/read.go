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

const (
	maxModuleBytes = 4 << 20
	maxModules     = 2048
)

// readModules reads the checks of a directory and their tests, whatever else is
// wrong with the bundle.
func readModules(fsys fs.FS) (map[string]string, error) {
	files := map[string]string{}
	names, err := fs.Glob(fsys, "portcullis/checks/*/*.rego")
	if err != nil || len(names) > maxModules {
		return nil, fmt.Errorf("list modules: more than %d, or %w", maxModules, err)
	}
	for _, name := range names {
		info, err := fs.Stat(fsys, name)
		if err != nil || !info.Mode().IsRegular() {
			continue // the bundle's own reader says what is wrong with it
		}
		f, err := fsys.Open(name)
		if err != nil {
			return nil, fmt.Errorf("open module: %w", err)
		}
		text, err := io.ReadAll(io.LimitReader(f, maxModuleBytes))
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("read module %q: %w", name, err)
		}
		files[name] = string(text)
	}
	return files, nil
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
