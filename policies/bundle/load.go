package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"

	"github.com/portcullis-csi/portcullis/policies"
)

// Open reads a policy bundle from a directory or from a tarball that WriteTarball
// made, without asking for a signature.
func Open(path string) (policies.Bundle, error) {
	info, err := os.Stat(path)
	if err != nil {
		return policies.Bundle{}, fmt.Errorf("open policy bundle: %w", err)
	}
	switch {
	case info.IsDir():
		return LoadDirectory(path)
	case !info.Mode().IsRegular():
		// A FIFO would block for ever.
		return policies.Bundle{}, fmt.Errorf("open policy bundle: %q is neither a directory nor a file", path)
	}
	f, err := os.Open(path) //nolint:gosec // whoever calls names the bundle
	if err != nil {
		return policies.Bundle{}, fmt.Errorf("open policy bundle: %w", err)
	}
	b, err := ReadTarball(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return policies.Bundle{}, fmt.Errorf("read policy bundle %q: %w", path, err)
	}
	return b, nil
}

// LoadDirectory reads a policy bundle from a directory, without a signature:
//
//	.manifest                               revision and metadata, JSON
//	portcullis/checks/<name>/<name>.rego    checks; <name>_test.rego is left out
//	portcullis/config/data.yaml             or data.json
//	portcullis/grants/*.yaml                lists of grants
//	portcullis/waivers/*.yaml               lists of waivers
//	tests/                                  not read
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

// LoadFS reads the same layout from a file system. What is wrong with the files
// is a policies.FileErrors.
func LoadFS(fsys fs.FS) (policies.Bundle, error) {
	files, err := readFiles(fsys)
	if err != nil {
		return policies.Bundle{}, err
	}
	r := reader{modules: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		r.file(name, files[name])
	}
	b := r.bundle()
	if err := r.errs.Err(); err != nil {
		return policies.Bundle{}, err
	}
	return WithManifest(b, b.Manifest)
}

// reader collects what the files of a bundle say.
type reader struct {
	collector

	modules    map[string]string
	manifest   policies.Manifest
	config     map[string]any
	labels     []string
	configured bool
	// doubtful is set where the configuration cannot be read: then nobody can
	// say which labels it trusts.
	doubtful bool
	grants   []entry[Grant]
	waivers  []entry[Waiver]
}

func (r *reader) file(name string, text []byte) {
	switch dir := path.Dir(name); {
	case name == manifestFile:
		r.manifest = r.parseManifest(text)
	case isRego(name):
		if err := checkText(name, text); err != nil {
			r.addAll(name, err)
		}
		r.modules[name] = string(text)
	case dir == grantsDir:
		r.grants = append(r.grants, readEntries[Grant](&r.collector, name, text)...)
	case dir == waiversDir:
		r.waivers = append(r.waivers, readEntries[Waiver](&r.collector, name, text)...)
	case r.configured:
		r.add(&policies.FileError{Place: policies.Place{File: name}, Problem: "config is in data.json and in data.yaml", Hint: "keep one of them"})
	default:
		r.configured = true
		r.readConfig(name, text)
	}
}

// readEntries reads a file with a list of grants or waivers.
func readEntries[T any](c *collector, name string, text []byte) []entry[T] {
	var values []T
	t, err := readYAML(name, text, &values)
	if err != nil {
		c.addAll(name, err)
		return nil
	}
	entries := make([]entry[T], 0, len(values))
	for i, v := range values {
		at := fmt.Sprintf("[%d]", i)
		entries = append(entries, entry[T]{v, func(path string) policies.Place {
			if path == "" {
				return t.where(at)
			}
			return t.where(at + "." + path)
		}})
	}
	return entries
}

// readConfig reads portcullis/config. What depends on the time is checked when
// the bundle is compiled, so the places of its fields are noted.
func (r *reader) readConfig(name string, text []byte) {
	read := readYAML
	if path.Ext(name) == ".json" {
		read = readJSON
	}
	var c policies.Config
	t, err := read(name, text, &c)
	if err != nil {
		r.doubtful = true
		r.addAll(name, err)
		return
	}
	r.labels = c.NamespaceLabelKeys
	before := len(r.errs)
	forms{}.check(reflect.ValueOf(c), "", func(path, problem, hint string) {
		r.add(&policies.FileError{Place: t.where(path), Path: "config " + printable(path), Problem: problem, Hint: hint})
	})
	r.doubtful = len(r.errs) > before
	w := walk{file: name}
	if object, ok := w.value(t.root, reflect.TypeFor[policies.Config](), "", 0).(map[string]any); ok {
		r.config = object
	}
	for _, part := range []string{"obligations", "monitor", "monitor.until", "required_checks", "mass_revoke"} {
		r.place("config "+part, t.where(part))
	}
	for i := range c.RequiredChecks {
		part := fmt.Sprintf("required_checks[%d]", i)
		r.place("config "+part, t.where(part))
	}
	if c.Monitor != nil {
		for i := range c.Monitor.Rules {
			part := fmt.Sprintf("monitor.rules[%d]", i)
			r.place("config "+part, t.where(part))
		}
	}
}

// bundle indexes grants and waivers, and returns what the files say. It is good
// only if nothing was reported.
func (r *reader) bundle() policies.Bundle {
	labels := r.labels
	if r.doubtful {
		for _, g := range r.grants {
			labels = append(labels, slices.Collect(maps.Keys(g.value.NamespaceSelector))...)
		}
	}
	config := r.config
	if config == nil {
		config = map[string]any{}
	}
	data := map[string]any{
		"config":  config,
		"grants":  map[string]any{"by_subject": r.indexGrants(r.grants, labels)},
		"waivers": map[string]any{"by_finding": r.indexWaivers(r.waivers)},
	}
	return policies.Bundle{
		Modules: r.modules, Data: map[string]any{"portcullis": data}, Manifest: r.manifest, Places: r.places,
	}
}
