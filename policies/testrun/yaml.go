package testrun

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const maxDepth = 24

// FixtureError says which place of a fixture is wrong and what to do about it.
type FixtureError struct {
	File         string
	Line, Column int
	Path         string // of the field, [0].expect.verdict for example
	Problem      string
	Remedy       string
}

// Error names the place, the problem and the remedy, in one line: what the file
// holds is repeated so that a terminal takes none of it for a command.
func (e *FixtureError) Error() string {
	text := fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Path != "" {
		text += e.Path + ": "
	}
	text += e.Problem
	if e.Remedy != "" {
		text += "; hint: " + e.Remedy
	}
	return Printable(text)
}

// reader fills Go values from YAML by their JSON names, and is stricter than YAML:
// what two readers could understand differently is refused.
type reader struct {
	file   string
	errors []error
	// nulls permits null everywhere; without it, only in the patch of an input,
	// where it removes a field.
	nulls bool
}

// maxErrors bounds what is kept of a file that is wrong throughout.
const maxErrors = 1000

func (r *reader) refuse(n *yaml.Node, path, problem, remedy string) {
	if len(r.errors) >= maxErrors {
		return
	}
	r.errors = append(r.errors, &FixtureError{r.file, n.Line, n.Column, path, problem, remedy})
}

// document returns the one value of a file.
func (r *reader) document(text []byte) (*yaml.Node, bool) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := d.Decode(&doc); err != nil || len(doc.Content) != 1 {
		problem := "file is empty or holds comments only"
		if err != nil && !errors.Is(err, io.EOF) {
			problem = strings.TrimPrefix(err.Error(), "yaml: ")
		}
		r.refuse(&yaml.Node{Line: 1, Column: 1}, "", problem, "write a list of fixtures")
		return nil, false
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		r.refuse(&doc, "", "file holds more than one document", "write one list of fixtures")
		return nil, false
	}
	return doc.Content[0], true
}

// fill reads node n into v, and keeps every error.
func (r *reader) fill(n *yaml.Node, v reflect.Value, path string) {
	switch {
	case strings.Count(path, ".")+strings.Count(path, "[") > maxDepth:
		r.refuse(n, path, "is nested too deep", "")
		return
	case n.Anchor != "" || n.Kind == yaml.AliasNode:
		r.refuse(n, path, "anchors and aliases are not allowed", "write the value out")
		return
	case n.Style&yaml.TaggedStyle != 0:
		r.refuse(n, path, "tags are not allowed", "")
		return
	case n.ShortTag() == "!!null" && (r.nulls || strings.Contains(path, "].input.")):
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.fill(n, v.Elem(), path)
	case reflect.Struct:
		r.object(n, path, func(key string) (reflect.Value, bool) { return fieldOf(v, key) }, fieldNames(v.Type()))
	case reflect.Map:
		r.mapping(n, v, path)
	case reflect.Slice:
		r.list(n, v, path)
	case reflect.Interface:
		r.anything(n, v, path)
	default:
		r.scalar(n, v, path)
	}
}

// object reads the keys of a mapping; field says where each goes.
func (r *reader) object(n *yaml.Node, path string, field func(string) (reflect.Value, bool), known []string) {
	if n.Kind != yaml.MappingNode {
		r.refuse(n, path, "is not an object", "")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, at := n.Content[i], strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
		v, ok := field(key.Value)
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" || key.Anchor != "":
			r.refuse(key, path, "a key is not plain text", "put it in quotes")
		case seen[key.Value]:
			r.refuse(key, at, "is written twice", "")
		case !ok:
			r.refuse(key, at, "is not known", "keys here are "+strings.Join(known, ", "))
		default:
			r.fill(n.Content[i+1], v, at)
		}
		seen[key.Value] = true
	}
}

func (r *reader) mapping(n *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	values := map[string]reflect.Value{}
	r.object(n, path, func(key string) (reflect.Value, bool) {
		values[key] = reflect.New(v.Type().Elem()).Elem()
		return values[key], true
	}, nil)
	for key, value := range values {
		v.SetMapIndex(reflect.ValueOf(key), value)
	}
}

func (r *reader) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		r.refuse(n, path, "is not a list", "")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		r.fill(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

// anything reads a value whose type is not known here.
func (r *reader) anything(n *yaml.Node, v reflect.Value, path string) {
	var into reflect.Value
	switch {
	case n.Kind == yaml.MappingNode:
		into = reflect.New(reflect.TypeFor[map[string]any]()).Elem()
	case n.Kind == yaml.SequenceNode:
		into = reflect.New(reflect.TypeFor[[]any]()).Elem()
	case n.ShortTag() == "!!bool":
		into = reflect.New(reflect.TypeFor[bool]()).Elem()
	case n.ShortTag() == "!!int":
		into = reflect.New(reflect.TypeFor[int64]()).Elem()
	case n.ShortTag() == "!!str", n.ShortTag() == "!!timestamp":
		into = reflect.New(reflect.TypeFor[string]()).Elem()
	default:
		r.refuse(n, path, "is not text, a whole number, true or false", "")
		return
	}
	r.fill(n, into, path)
	v.Set(into)
}

// scalar reads numbers in decimal only: YAML 1.1 and 1.2 disagree on 0440.
func (r *reader) scalar(n *yaml.Node, v reflect.Value, path string) {
	tag := n.ShortTag()
	switch {
	case n.Kind != yaml.ScalarNode:
		r.refuse(n, path, "is not "+kindName(v.Kind()), "")
	case v.Kind() == reflect.String && (tag == "!!str" || tag == "!!timestamp"):
		v.SetString(n.Value)
	case v.Kind() == reflect.Bool && tag == "!!bool" && (n.Value == "true" || n.Value == "false"):
		v.SetBool(n.Value == "true")
	case tag == "!!int" && (v.CanInt() || v.CanUint()):
		r.number(n, v, path)
	default:
		r.refuse(n, path, "is not "+kindName(v.Kind()), "")
	}
}

func (r *reader) number(n *yaml.Node, v reflect.Value, path string) {
	i, err := strconv.ParseInt(n.Value, 10, 64)
	switch {
	case err != nil || strconv.FormatInt(i, 10) != n.Value:
		r.refuse(n, path, "is not a decimal number", "write file modes in decimal, 288 for 0440")
	case v.CanInt() && !v.OverflowInt(i):
		v.SetInt(i)
	case v.CanUint() && i >= 0 && !v.OverflowUint(uint64(i)):
		v.SetUint(uint64(i))
	default:
		r.refuse(n, path, "is out of range", "")
	}
}

func kindName(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	default:
		return "a whole number"
	}
}

func fieldOf(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); name == key && key != "-" && key != "" {
			return v.Field(i), true
		}
	}
	return reflect.New(reflect.TypeFor[any]()).Elem(), false
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
