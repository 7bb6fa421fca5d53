package secretref

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of the arguments of one request.
const (
	maxArgumentDepth = 4
	maxArguments     = 64 // in one list or map
)

// argumentNumber is an integer that every YAML version reads alike.
var argumentNumber = regexp.MustCompile(`^(?:0|-?[1-9][0-9]{0,14})$`)

// arguments returns the canonical JSON of a map of arguments, "" if it is
// absent: equal requests have equal texts. Slashes are escaped, since they
// would separate elements of an id.
func (f fields) arguments(name string) (string, error) {
	n, ok := f.nodes[name]
	if !ok {
		return "", nil
	}
	if n.yaml.Kind != yaml.MappingNode {
		return "", uncertain(name + " is not a map")
	}
	value, err := n.argument(name, maxArgumentDepth)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return "", uncertain(name + " cannot be read")
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "/", `\u002f`), nil
}

// argument returns a value that any YAML library decodes to the same JSON.
// Names below n are the author's, so problems name the field only.
func (n node) argument(field string, depth int) (any, error) {
	n.name = "an argument in " + field
	if len(n.yaml.Content) > 2*maxArguments || depth < 0 {
		return nil, uncertain(field + " is too large or nested too deeply")
	}
	switch n.yaml.Kind {
	case yaml.MappingNode:
		return n.argumentMap(field, depth)
	case yaml.SequenceNode:
		if n.decorated() || len(n.yaml.Content) == 0 {
			return nil, uncertain(n.name + " is not a plain list, or is empty")
		}
		list := make([]any, len(n.yaml.Content))
		for i, y := range n.yaml.Content {
			var err error
			if list[i], err = n.child(y, "").argument(field, depth-1); err != nil {
				return nil, err
			}
		}
		return list, nil
	default:
		return n.argumentScalar(field)
	}
}

func (n node) argumentMap(field string, depth int) (any, error) {
	f, err := n.anyFields()
	if err != nil {
		return nil, err
	}
	if len(f.nodes) == 0 {
		return nil, uncertain(field + " is empty: leave it out")
	}
	values := make(map[string]any, len(f.nodes))
	// In order, so that the same text always has the same problem.
	for _, name := range slices.Sorted(maps.Keys(f.nodes)) {
		value := f.nodes[name]
		if !printable(name) || len(name) > maxNameBytes {
			return nil, uncertain("the name of " + n.name + " is too long or has characters that cannot be printed")
		}
		if values[name], err = value.argument(field, depth-1); err != nil {
			return nil, err
		}
		if credentialName(name) && (value.yaml.Kind != yaml.ScalarNode || !harmless(value.yaml.Value)) {
			return nil, literal(field + " holds a literal credential")
		}
	}
	return values, nil
}

func (n node) argumentScalar(field string) (any, error) {
	// A block scalar is a string, whatever it holds.
	plain := n.yaml.Kind == yaml.ScalarNode && !n.decorated() && n.yaml.Style == 0
	switch {
	case plain && n.yaml.Tag == "!!int" && argumentNumber.MatchString(n.yaml.Value):
		return json.Number(n.yaml.Value), nil
	case plain && (n.yaml.Value == "true" || n.yaml.Value == "false"):
		return n.yaml.Value == "true", nil
	}
	text, err := n.text()
	if err == nil && credentialArgument(text) {
		return nil, literal(field + " holds a literal credential")
	}
	return text, err
}
