package policies

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"sort"
	"strings"
)

//go:embed rego/main/*.rego rego/lib/*.rego
var library embed.FS

//go:embed input.schema.json
var inputSchema []byte

// InputSchema returns the JSON Schema of Input, which policy authors and the
// compiler of policies read.
func InputSchema() []byte { return append([]byte(nil), inputSchema...) }

// libraryModules returns the embedded Rego files, tests left out.
func libraryModules() (map[string]string, error) {
	modules := map[string]string{}
	err := fs.WalkDir(library, "rego", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.rego") {
			return err
		}
		text, err := library.ReadFile(path)
		modules[path] = string(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read embedded library: %w", err)
	}
	return modules, nil
}

// LibraryDigest identifies the embedded library and the input schema:
// sha256:<hex>. Together with the bundle's digest and the input it determines a
// decision.
func LibraryDigest() (string, error) {
	modules, err := libraryModules()
	if err != nil {
		return "", err
	}
	modules["input.schema.json"] = string(inputSchema)
	return digestFiles(modules), nil
}

// digestFiles hashes paths and contents in the order of the paths, each behind
// its length so that no two sets of files share a digest.
func digestFiles(files map[string]string) string {
	paths := make([]string, 0, len(files))
	for path := range files {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	h := sha256.New()
	for _, path := range paths {
		fmt.Fprintf(h, "%d:%s%d:%s", len(path), path, len(files[path]), files[path])
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
