package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
)

const maxDepth = 16

// decodeYAML reads one YAML document into a struct by its JSON names. It is
// stricter than YAML: a key that is written twice, an anchor, a tag or an
// unknown key is refused, since two readers would understand it differently.
func decodeYAML(text []byte, into any) error {
	if err := checkText(text); err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	switch err := d.Decode(&document); {
	case errors.Is(err, io.EOF), err == nil && nothing(document):
		empty := "{}"
		if reflect.TypeOf(into).Elem().Kind() == reflect.Slice {
			empty = "[]"
		}
		return fmt.Errorf("file is empty or holds comments only; hint: write %s if that is meant", empty)
	case err != nil:
		return fmt.Errorf("parse YAML: %w", err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("file holds more than one document")
	}
	value, err := plain(document.Content[0], 0)
	if err != nil {
		return err
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode YAML as JSON: %w", err)
	}
	if err := policies.DecodeStrictly(encoded, into); err != nil {
		return fmt.Errorf("read fields: %w", err)
	}
	return nil
}

// nothing reports whether a document has no value.
func nothing(document yaml.Node) bool {
	return len(document.Content) != 1 || document.Content[0].ShortTag() == "!!null"
}

// plain turns a node into a JSON value.
func plain(n *yaml.Node, depth int) (any, error) {
	switch {
	case depth > maxDepth:
		return nil, fmt.Errorf("line %d: nested deeper than %d levels", n.Line, maxDepth)
	case n.Anchor != "" || n.Kind == yaml.AliasNode:
		return nil, fmt.Errorf("line %d: anchors and aliases are not allowed", n.Line)
	case n.Style&yaml.TaggedStyle != 0:
		return nil, fmt.Errorf("line %d: tags are not allowed", n.Line)
	}
	switch n.Kind {
	case yaml.MappingNode:
		return plainMapping(n, depth)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			v, err := plain(item, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.ScalarNode:
		return plainScalar(n)
	default:
		return nil, fmt.Errorf("line %d: unexpected YAML", n.Line)
	}
}

func plainMapping(n *yaml.Node, depth int) (any, error) {
	object := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" || key.Anchor != "" {
			return nil, fmt.Errorf("line %d: a key is not plain text", key.Line)
		}
		if _, twice := object[key.Value]; twice {
			return nil, fmt.Errorf("line %d: key %q is written twice", key.Line, key.Value)
		}
		v, err := plain(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		object[key.Value] = v
	}
	return object, nil
}

// plainScalar reads numbers in decimal only: YAML 1.1 and 1.2 disagree on 0440.
func plainScalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		return n.Value, nil
	case "!!bool":
		switch n.Value {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
	case "!!int":
		if v, err := strconv.ParseInt(n.Value, 10, 64); err == nil && strconv.FormatInt(v, 10) == n.Value {
			return v, nil
		}
		return nil, fmt.Errorf("line %d: %q is not a decimal number; hint: put a mode in quotes, \"0440\"", n.Line, n.Value)
	}
	return nil, fmt.Errorf("line %d: %q is not text, a whole number, true or false", n.Line, n.Value)
}
