package render

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Config is what helm install is told.
type Config struct {
	Chart      string // directory or archive
	Release    string // default: portcullis
	Namespace  string // default: kube-system
	Kubernetes string // version that the chart sees, as in v1.37.2
	Values     map[string]any
	Upgrade    bool // render as helm upgrade does
}

func (c Config) withDefaults() Config {
	if c.Release == "" {
		c.Release = "portcullis"
	}
	if c.Namespace == "" {
		c.Namespace = "kube-system"
	}
	return c
}

// Files are rendered templates and the CRDs, by their path inside the chart.
type Files map[string]string

// Notes returns what Helm prints at the end.
func (f Files) Notes() string { return f["templates/NOTES.txt"] }

// Object is one rendered object and the file that it comes from.
type Object struct {
	File   string
	Fields map[string]any
}

// Kind returns apiVersion and kind, as in apps/v1/DaemonSet.
func (o Object) Kind() string {
	return o.text("apiVersion") + "/" + o.text("kind")
}

// Name returns metadata.name.
func (o Object) Name() string { return o.metadata("name") }

// Namespace returns metadata.namespace.
func (o Object) Namespace() string { return o.metadata("namespace") }

// Labels returns metadata.labels.
func (o Object) Labels() map[string]string { return o.pairs("labels") }

// Annotations returns metadata.annotations.
func (o Object) Annotations() map[string]string { return o.pairs("annotations") }

// IsCRD reports whether the object is a definition, which Helm installs before
// anything else and never changes again.
func (o Object) IsCRD() bool { return strings.HasPrefix(o.File, "crds/") }

// String says which object it is and where it comes from.
func (o Object) String() string {
	return fmt.Sprintf("%s: %s %s", o.File, o.text("kind"), o.Name())
}

func (o Object) text(key string) string {
	s, _ := o.Fields[key].(string)
	return s
}

func (o Object) metadata(key string) string {
	m, _ := o.Fields["metadata"].(map[string]any)
	s, _ := m[key].(string)
	return s
}

func (o Object) pairs(key string) map[string]string {
	m, _ := o.Fields["metadata"].(map[string]any)
	pairs, _ := m[key].(map[string]any)
	found := map[string]string{}
	for k, v := range pairs {
		found[k], _ = v.(string)
	}
	return found
}

// Objects parses everything but the notes. A key that is there twice, a
// document that is no object and one without kind and name are errors: Helm
// would take the first, and guess about the others.
func (f Files) Objects() ([]Object, error) {
	var objects []Object
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if ext := path.Ext(name); ext != ".yaml" && ext != ".yml" {
			continue
		}
		found, err := Parse(name, f[name])
		if err != nil {
			return nil, err
		}
		objects = append(objects, found...)
	}
	return objects, nil
}

// Parse reads the objects of one file.
func Parse(name, text string) ([]Object, error) {
	var objects []Object
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var fields map[string]any
		err := decoder.Decode(&fields)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w in\n%s", name, err, numbered(text))
		}
		if fields == nil {
			continue // only comments, or an empty template
		}
		o := Object{File: name, Fields: fields}
		if o.text("apiVersion") == "" || o.text("kind") == "" || o.Name() == "" {
			return nil, fmt.Errorf("parse %s: an object without apiVersion, kind or metadata.name: %v", name, fields)
		}
		objects = append(objects, o)
	}
}

func numbered(text string) string {
	var b bytes.Buffer
	for i, line := range strings.Split(text, "\n") {
		fmt.Fprintf(&b, "%4d  %s\n", i+1, line)
	}
	return b.String()
}
