package bundle

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
)

// walk turns nodes into JSON values along the type that they are for, and
// collects what is wrong on the way.
type walk struct {
	file string
	errs policies.FileErrors
}

func (w *walk) fault(n *yaml.Node, path, problem, hint string) {
	if len(w.errs) < maxCollected {
		w.errs = append(w.errs, &policies.FileError{
			Place: policies.Place{File: w.file, Line: n.Line, Column: n.Column}, Path: printablePath(path), Problem: problem, Hint: hint,
		})
	}
}

func printablePath(path string) string {
	if path == "" {
		return ""
	}
	return printable(strings.TrimPrefix(path, "."))
}

// value reads a node. A nil type, or an interface, takes any value.
func (w *walk) value(n *yaml.Node, typ reflect.Type, path string, depth int) any {
	for typ != nil && typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ != nil && typ.Kind() == reflect.Interface {
		typ = nil
	}
	switch {
	case depth > maxDepth:
		w.fault(n, "", fmt.Sprintf("nested deeper than %d levels", maxDepth), "")
	case n.Anchor != "" || n.Kind == yaml.AliasNode:
		w.fault(n, path, "anchors and aliases are not allowed", "write the value out")
	case n.Style&yaml.TaggedStyle != 0:
		w.fault(n, path, "tags are not allowed", "write the value without one")
	case n.Kind == yaml.MappingNode && accepts(typ, reflect.Struct, reflect.Map):
		return w.mapping(n, typ, path, depth)
	case n.Kind == yaml.SequenceNode && accepts(typ, reflect.Slice):
		return w.sequence(n, typ, path, depth)
	case n.Kind == yaml.ScalarNode:
		return w.scalar(n, typ, path)
	default:
		w.fault(n, path, wanted(typ), "")
	}
	return nil
}

// accepts reports whether the type is of one of the kinds, or any.
func accepts(typ reflect.Type, kinds ...reflect.Kind) bool {
	return typ == nil || typ != reflect.TypeFor[time.Time]() && slices.Contains(kinds, typ.Kind())
}

// wanted says what a type takes.
func wanted(typ reflect.Type) string {
	want := "other YAML"
	switch {
	case typ == nil:
	case typ == reflect.TypeFor[time.Time]():
		want = "a time of RFC 3339, in quotes"
	case typ.Kind() == reflect.Slice:
		want = "a list"
	case typ.Kind() == reflect.Struct || typ.Kind() == reflect.Map:
		want = "an object"
	case typ.Kind() == reflect.String:
		want = "text"
	case typ.Kind() == reflect.Bool:
		want = "true or false"
	default:
		want = "a whole number"
	}
	return "has to be " + want
}

func (w *walk) sequence(n *yaml.Node, typ reflect.Type, path string, depth int) any {
	var of reflect.Type
	if typ != nil {
		of = typ.Elem()
	}
	list := make([]any, 0, len(n.Content))
	for i, item := range n.Content {
		list = append(list, w.value(item, of, fmt.Sprintf("%s[%d]", path, i), depth+1))
	}
	return list
}

func (w *walk) mapping(n *yaml.Node, typ reflect.Type, path string, depth int) any {
	object, twice := make(map[string]any, len(n.Content)/2), map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 {
			w.fault(key, path, "a key is not plain text", "write the key out, without anchor, tag or <<")
			continue
		}
		if _, ok := object[key.Value]; ok {
			if !twice[key.Value] {
				w.fault(key, path, fmt.Sprintf("key %q is written twice", clip(key.Value)), "keep one of them")
			}
			twice[key.Value] = true
			continue
		}
		of, ok := elementOf(typ, key.Value)
		if !ok && len(w.errs) < maxCollected { // looking for what was meant takes time
			w.fault(key, path, fmt.Sprintf("unknown key %q", clip(key.Value)), nearest(typ, key.Value))
		}
		object[key.Value] = w.value(n.Content[i+1], of, path+"."+key.Value, depth+1)
	}
	return object
}

// elementOf returns the type of a key's value, nil for any, and whether there is
// such a key.
func elementOf(typ reflect.Type, key string) (reflect.Type, bool) {
	switch {
	case typ == nil:
		return nil, true
	case typ.Kind() == reflect.Map:
		return typ.Elem(), true
	}
	for f := range typ.Fields() {
		if jsonName(f) == key && key != "" {
			return f.Type, true
		}
	}
	return nil, false
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// nearest returns a hint that names the known key which the author meant, or all
// of them.
func nearest(typ reflect.Type, key string) string {
	best, least := "", 3
	var known []string
	for f := range typ.Fields() {
		name := jsonName(f)
		known = append(known, name)
		if d := distance(strings.ToLower(clip(key)), strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	slices.Sort(known)
	return "known keys are " + strings.Join(known, ", ")
}

// distance is Levenshtein's: how many letters to add, drop or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// scalar reads numbers in decimal only: YAML 1.1 and 1.2 disagree on 0440.
func (w *walk) scalar(n *yaml.Node, typ reflect.Type, path string) any {
	v, problem, hint := plainScalar(n)
	if problem == "" {
		problem = misfit(v, typ)
	}
	if problem != "" {
		w.fault(n, path, problem, hint)
		return nil
	}
	return v
}

func plainScalar(n *yaml.Node) (v any, problem, hint string) {
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		return n.Value, "", ""
	case "!!bool":
		switch n.Value {
		case "true":
			return true, "", ""
		case "false":
			return false, "", ""
		}
	case "!!int":
		if v, err := strconv.ParseInt(n.Value, 10, 64); err == nil && strconv.FormatInt(v, 10) == n.Value {
			return v, "", ""
		}
		return nil, fmt.Sprintf("%q is not a decimal number", clip(n.Value)), `put a mode in quotes, "0440"`
	}
	return nil, fmt.Sprintf("%q is not text, a whole number, true or false", clip(n.Value)), "put text in quotes, and leave out what has no value"
}

// misfit says why the value is not one of the type, "" if it is.
func misfit(v any, typ reflect.Type) string {
	if typ == nil {
		return ""
	}
	encoded, err := json.Marshal(v)
	if err == nil && json.Unmarshal(encoded, reflect.New(typ).Interface()) == nil {
		return ""
	}
	return wanted(typ)
}
