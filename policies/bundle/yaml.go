package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
)

const maxDepth = 16

// tree is a file that was parsed, for looking up where its values stand.
type tree struct {
	file string
	root *yaml.Node
}

// readYAML reads one YAML document into a value by its JSON names. It is
// stricter than YAML: a key that is written twice, an anchor, a tag or an
// unknown key is refused, since two readers would understand it differently.
// The error is a policies.FileErrors of everything that is wrong.
func readYAML(file string, text []byte, into any) (*tree, error) {
	if err := checkText(file, text); err != nil {
		return nil, err
	}
	root, err := parseYAML(file, text, reflect.TypeOf(into).Elem())
	if err != nil {
		return nil, policies.FileErrors{err}
	}
	return readNode(&tree{file, root}, into)
}

func parseYAML(file string, text []byte, typ reflect.Type) (*yaml.Node, *policies.FileError) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	switch err := d.Decode(&document); {
	case errors.Is(err, io.EOF), err == nil && nothing(document):
		empty := "{}"
		if typ.Kind() == reflect.Slice {
			empty = "[]"
		}
		return nil, &policies.FileError{Place: policies.Place{File: file}, Problem: "file is empty or holds comments only", Hint: "write " + empty + " if that is meant"}
	case err != nil:
		return nil, syntaxError(file, err)
	}
	var second yaml.Node
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, &policies.FileError{Place: policies.Place{File: file, Line: second.Line, Column: second.Column}, Problem: "file holds more than one document", Hint: "keep one, without --- or ... after it"}
	}
	return document.Content[0], nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxError moves the line from the parser's text to where lines belong.
func syntaxError(file string, err error) *policies.FileError {
	text := err.Error()
	m := yamlLine.FindStringSubmatch(text)
	place := policies.Place{File: file}
	if len(m) == 2 {
		place.Line, _ = strconv.Atoi(m[1])
		text = strings.TrimPrefix(text, m[0])
	}
	return &policies.FileError{Place: place, Problem: "parse YAML: " + text, Hint: "check indentation, quotes and colons"}
}

// nothing reports whether a document has no value.
func nothing(document yaml.Node) bool {
	return len(document.Content) != 1 || document.Content[0].ShortTag() == "!!null"
}

// readNode decodes a tree. The nodes are walked along the type first, so that
// each mistake has its place; the decoder behind it is as strict, and cannot
// find another one.
func readNode(t *tree, into any) (*tree, error) {
	w := walk{file: t.file}
	value := w.value(t.root, reflect.TypeOf(into).Elem(), "", 0)
	if err := w.errs.Err(); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode YAML as JSON: %w", err)
	}
	if err := policies.DecodeStrictly(encoded, into); err != nil {
		return nil, policies.FileErrors{{Place: policies.Place{File: t.file}, Problem: "read fields: " + err.Error()}}
	}
	return t, nil
}

// where returns the place of a path such as [3].pods.namePatterns[0], or of the
// nearest value above it that is there.
func (t *tree) where(path string) policies.Place {
	if t == nil {
		return policies.Place{}
	}
	n := t.root
	for at := n; at != nil; at, path = step(at, path) {
		n = at
	}
	return policies.Place{File: t.file, Line: n.Line, Column: n.Column}
}

// step returns the value that the first part of a path names, and the rest of
// the path. Keys may hold dots: the one that fits the path is taken.
func step(n *yaml.Node, path string) (*yaml.Node, string) {
	switch n.Kind {
	case yaml.SequenceNode:
		index, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
		i, err := strconv.Atoi(index)
		if ok && err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], rest
		}
	case yaml.MappingNode:
		path = strings.TrimPrefix(path, ".")
		for i := 0; i+1 < len(n.Content); i += 2 {
			rest, ok := strings.CutPrefix(path, n.Content[i].Value)
			if ok && path != "" && (rest == "" || rest[0] == '.' || rest[0] == '[') {
				return n.Content[i+1], rest
			}
		}
	default:
	}
	return nil, ""
}
