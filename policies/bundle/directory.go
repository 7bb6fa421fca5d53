package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// The bounds of a bundle.
const (
	maxFiles     = 2048
	maxFileBytes = 4 << 20
	maxBytes     = 32 << 20
	maxPathDepth = 6
)

// testsDirectory is where the author keeps fixtures beside the bundle. Nothing of
// it is in force, so nothing of it is read.
const testsDirectory = "tests"

// Open reads a policy bundle from where its author has it, without asking for a
// signature: for the command line, which puts nothing in force.
func Open(path string) (policies.Bundle, error) { return LoadDirectory(path) }

// LoadDirectory reads a policy bundle from a directory, without a signature:
//
//	.manifest                               revision and metadata, JSON
//	portcullis/checks/<name>/<name>.rego    checks; <name>_test.rego is left out
//	portcullis/config/data.yaml             or data.json
//	portcullis/grants/*.yaml                lists of grants
//	portcullis/waivers/*.yaml               lists of waivers
//	tests/                                  fixtures, which are left out
//
// Anything else is refused, so that no file is mistaken for one in force.
func LoadDirectory(dir string) (policies.Bundle, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return policies.Bundle{}, fmt.Errorf("open policy directory: %w", err)
	}
	b, err := LoadFS(root.FS())
	return b, errors.Join(err, root.Close())
}

// LoadFS reads the same layout from a file system.
func LoadFS(fsys fs.FS) (policies.Bundle, error) {
	files, err := readFiles(fsys)
	if err != nil {
		return policies.Bundle{}, err
	}
	b := policies.Bundle{Modules: map[string]string{}, Digest: digest(files)}
	var s sources
	for _, name := range slices.Sorted(maps.Keys(files)) {
		err := checkText(files[name])
		if err == nil && isRego(name) {
			b.Modules[name] = string(files[name])
			continue
		}
		if err == nil {
			err = s.add(name, files[name])
		}
		if err != nil {
			return policies.Bundle{}, fmt.Errorf("read policy file %q: %w", name, err)
		}
	}
	b.Manifest = s.manifest
	b.Data, err = s.data()
	return b, err
}

// readFiles reads the files in force, within the bounds.
func readFiles(fsys fs.FS) (map[string][]byte, error) {
	files, total := map[string][]byte{}, 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("walk policy directory: %w", err)
		case d.IsDir() && strings.HasPrefix(d.Name(), "..") && name != ".":
			// A ConfigMap volume keeps its files below such a directory and
			// links to them: only what is no link is read.
			return fmt.Errorf("policy directory holds %q; hint: copy the bundle out of the ConfigMap volume", name)
		case d.IsDir() && name == testsDirectory:
			return fs.SkipDir
		case d.IsDir() && strings.Count(name, "/") >= maxPathDepth:
			return fmt.Errorf("policy directory %q is nested too deep", name)
		case d.IsDir() || strings.HasSuffix(name, "_test.rego"):
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("policy file %q is not a regular file; hint: links are not followed", name)
		case !inLayout(name):
			return fmt.Errorf("policy file %q has no place in a bundle; hint: see the layout in docs/POLICIES.md", name)
		}
		text, err := readFile(fsys, name)
		if err != nil {
			return err
		}
		files[name] = text
		if total += len(text); total > maxBytes || len(files) > maxFiles {
			return fmt.Errorf("policy directory holds more than %d bytes or %d files", maxBytes, maxFiles)
		}
		return nil
	})
	return files, err
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open policy file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read policy file %q: %w", name, err)
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("policy file %q is larger than %d bytes", name, maxFileBytes)
	}
	return text, nil
}

// inLayout reports whether a bundle may hold this file.
func inLayout(name string) bool {
	if name == ".manifest" || name == "portcullis/config/data.yaml" || name == "portcullis/config/data.json" {
		return true
	}
	dir := path.Dir(name)
	if dir == "portcullis/grants" || dir == "portcullis/waivers" {
		return path.Ext(name) == ".yaml"
	}
	return isRego(name) && path.Dir(dir) == "portcullis/checks" && path.Base(name) == path.Base(dir)+".rego"
}

func isRego(name string) bool { return path.Ext(name) == ".rego" }

// digest hashes paths and contents in the order of the paths, each behind its
// length, so that no two bundles share a digest.
func digest(files map[string][]byte) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%d:%s%d:%s", len(name), name, len(files[name]), files[name])
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// sources collects what the YAML and JSON files of a bundle say.
type sources struct {
	manifest policies.Manifest
	config   map[string]any
	grants   []Grant
	waivers  []Waiver
}

func (s *sources) add(name string, text []byte) error {
	switch path.Dir(name) {
	case ".":
		m, err := parseManifest(text)
		s.manifest = m
		return err
	case "portcullis/grants":
		grants, err := ParseGrants(text)
		s.grants = append(s.grants, grants...)
		return err
	case "portcullis/waivers":
		waivers, err := ParseWaivers(text)
		s.waivers = append(s.waivers, waivers...)
		return err
	default:
		if s.config != nil {
			return errors.New("config is in data.json and in data.yaml; hint: keep one of them")
		}
		// JSON is YAML, and read as such is checked for keys written twice.
		return decodeYAML(text, &s.config)
	}
}

// data returns the document that the library reads.
func (s *sources) data() (map[string]any, error) {
	grants, err := IndexGrants(s.grants, labelKeys(s.config))
	if err != nil {
		return nil, err
	}
	waivers, err := IndexWaivers(s.waivers)
	if err != nil {
		return nil, err
	}
	config := s.config
	if config == nil {
		config = map[string]any{}
	}
	return map[string]any{"portcullis": map[string]any{
		"config":  config,
		"grants":  map[string]any{"by_subject": grants},
		"waivers": map[string]any{"by_finding": waivers},
	}}, nil
}

func labelKeys(config map[string]any) []string {
	list, _ := config["namespace_label_keys"].([]any)
	keys := make([]string, 0, len(list))
	for _, v := range list {
		if key, ok := v.(string); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// parseManifest reads OPA's .manifest, whose metadata holds what is ours.
func parseManifest(text []byte) (policies.Manifest, error) {
	var m struct {
		Revision    string   `json:"revision"`
		Roots       []string `json:"roots"`
		RegoVersion *int     `json:"rego_version"`
		Metadata    struct {
			Contract     string    `json:"contract"`
			Serial       int64     `json:"serial"`
			NotAfter     time.Time `json:"not_after"`
			SourceCommit string    `json:"source_commit"`
		} `json:"metadata"`
	}
	if err := policies.DecodeStrictly(text, &m); err != nil {
		return policies.Manifest{}, fmt.Errorf("decode manifest: %w", err)
	}
	if err := checkUnique(text); err != nil {
		return policies.Manifest{}, fmt.Errorf("decode manifest: %w", err)
	}
	if m.Roots != nil && !slices.Equal(m.Roots, []string{"portcullis"}) {
		return policies.Manifest{}, fmt.Errorf("manifest has roots %q; hint: use [\"portcullis\"]", m.Roots)
	}
	if m.RegoVersion != nil && *m.RegoVersion != 1 {
		return policies.Manifest{}, fmt.Errorf("manifest has rego_version %d; hint: use 1", *m.RegoVersion)
	}
	return policies.Manifest{
		Revision: m.Revision, Contract: m.Metadata.Contract, Serial: m.Metadata.Serial,
		NotAfter: m.Metadata.NotAfter, SourceCommit: m.Metadata.SourceCommit,
	}, nil
}
