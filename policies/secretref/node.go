package secretref

import (
	"math"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// node is a place in a parameter's text. Its methods read it for certain or
// refuse it: anchors, aliases, tags and merge keys are refused everywhere.
type node struct {
	yaml *yaml.Node
	name string // in our own words, for problems
	flow bool   // inside a flow collection, where plain scalars end elsewhere
}

// decorated reports anchors, aliases and explicit tags.
func (n node) decorated() bool {
	y := n.yaml
	return y.Anchor != "" || y.Alias != nil || y.Kind == yaml.AliasNode || y.Style&yaml.TaggedStyle != 0
}

// child is a node below n.
func (n node) child(y *yaml.Node, name string) node {
	return node{yaml: y, name: name, flow: n.flow || n.yaml.Style&yaml.FlowStyle != 0}
}

// list returns the entries of a list that is not empty.
func (n node) list() ([]node, error) {
	switch {
	case n.yaml.Kind != yaml.SequenceNode || n.decorated():
		return nil, uncertain(n.name + " is not a plain list")
	case len(n.yaml.Content) == 0:
		return nil, uncertain(n.name + " is an empty list")
	case len(n.yaml.Content) > MaxObjects:
		return nil, &tooManyError{n.name}
	}
	entries := make([]node, len(n.yaml.Content))
	for i, y := range n.yaml.Content {
		entries[i] = n.child(y, "an entry of "+n.name)
	}
	return entries, nil
}

// fields returns the fields of a map, none of which may stand there twice, in
// another spelling, or be one that is not known.
func (n node) fields(known ...string) (fields, error) {
	f, err := n.anyFields()
	if err != nil {
		return fields{}, err
	}
	for name := range f.nodes {
		if !slices.Contains(known, name) {
			return fields{}, uncertain(n.name + " has a field that is not known")
		}
	}
	return f, nil
}

// anyFields returns the fields of a map whose names are the author's own.
func (n node) anyFields() (fields, error) {
	if n.yaml.Kind != yaml.MappingNode || n.decorated() {
		return fields{}, uncertain(n.name + " is not a plain map")
	}
	f := fields{name: n.name, nodes: make(map[string]node, len(n.yaml.Content)/2)}
	for i := 0; i+1 < len(n.yaml.Content); i += 2 {
		key, value := n.child(n.yaml.Content[i], ""), n.child(n.yaml.Content[i+1], "")
		name, ok := certainString(key.yaml, key.flow)
		if !ok || key.decorated() || value.decorated() {
			return fields{}, uncertain(n.name + " has an anchor, alias, tag, merge key or a key that is no string")
		}
		if _, twice := f.nodes[name]; twice {
			return fields{}, uncertain(n.name + " has a field twice")
		}
		value.name = name
		f.nodes[name] = value
	}
	return f, nil
}

// text returns a scalar that everybody reads as the same printable string.
func (n node) text() (string, error) {
	text, certain := certainString(n.yaml, n.flow)
	switch {
	case !certain || n.decorated():
		return "", uncertain(n.name + " is not a string to every YAML version: put it in quotes")
	case !printable(text) || len(text) > maxNameBytes:
		return "", uncertain(n.name + " is too long or has characters that cannot be printed")
	}
	return text, nil
}

// fields are the fields of one map.
type fields struct {
	name  string
	nodes map[string]node
}

func (f fields) has(name string) bool { _, ok := f.nodes[name]; return ok }

// text returns the text of a field, "" if it is absent.
func (f fields) text(name string) (string, error) {
	n, ok := f.nodes[name]
	if !ok {
		return "", nil
	}
	return n.text()
}

// mode returns a file mode, nil if it is absent. It takes a quoted octal number
// only: 0440 without quotes is 288 to YAML 1.1 and 440 to YAML 1.2.
func (f fields) mode(name string) (*uint32, error) {
	n, ok := f.nodes[name]
	if !ok {
		return nil, nil //nolint:nilnil // absent is an answer of its own
	}
	if n.yaml.Kind != yaml.ScalarNode || !quoted(n.yaml) {
		return nil, uncertain(name + ` is not in quotes: write "0440"`)
	}
	mode, err := strconv.ParseUint(n.yaml.Value, 8, 32)
	if err != nil || len(n.yaml.Value) < 3 || len(n.yaml.Value) > 4 {
		return nil, uncertain(name + ` is not an octal number of three or four digits, such as "0440"`)
	}
	return new(uint32(mode)), nil
}

// uid returns a user id, nil if it is absent: decimals without a leading zero,
// which no YAML version reads in another way, in quotes or not.
func (f fields) uid(name string) (*int64, error) {
	n, ok := f.nodes[name]
	if !ok {
		return nil, nil //nolint:nilnil // absent is an answer of its own
	}
	uid, err := strconv.ParseInt(n.yaml.Value, 10, 64)
	plain := n.yaml.Kind == yaml.ScalarNode && (n.yaml.Style == 0 || quoted(n.yaml))
	if err != nil || !plain || uid < 1 || uid > math.MaxInt32 || strconv.FormatInt(uid, 10) != n.yaml.Value {
		return nil, uncertain(name + " is not a decimal number from 1 to 2147483647")
	}
	return &uid, nil
}
