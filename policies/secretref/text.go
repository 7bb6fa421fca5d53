package secretref

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// verbatim returns the text of a scalar as providers get it that decode into
// struct fields of type string with gopkg.in/yaml v2 or v3: a plain scalar is
// taken by its characters, number or not, so that 0755 and 1e3 stay what they
// are. An empty one is no text.
func (n node) verbatim() (string, error) {
	y := n.yaml
	plain := y.Kind == yaml.ScalarNode && y.Style == 0 && !n.decorated()
	switch {
	case !plain:
		return n.text()
	case y.Value == "":
		return "", nil
	case null(y.Value) || strings.IndexByte("=<", y.Value[0]) >= 0 || n.flow && strings.ContainsAny(y.Value, ":?#,[]{}"):
		return "", uncertain(n.name + " is not a string to every YAML version: put it in quotes")
	case !printable(y.Value) || len(y.Value) > maxNameBytes:
		return "", uncertain(n.name + " is too long or has characters that cannot be printed")
	}
	return y.Value, nil
}

func null(s string) bool { return s == "~" || strings.EqualFold(s, "null") }

// verbatim returns the text of a field, "" if it is absent.
func (f fields) verbatim(name string) (string, error) {
	n, ok := f.nodes[name]
	if !ok {
		return "", nil
	}
	return n.verbatim()
}

// field is one to read, and where its text goes.
type field struct {
	name string
	to   *string
}

// readAll reads fields in their order, with one of the ways to read text.
func readAll(read func(string) (string, error), all ...field) error {
	for _, f := range all {
		text, err := read(f.name)
		if err != nil {
			return err
		}
		*f.to = text
	}
	return nil
}

// parseList reads a text that is a list, each entry by parse.
func parseList[T any](name, text string, parse func(node) (T, error)) ([]T, error) {
	root, err := parseDocument(name, text)
	if err != nil {
		return nil, err
	}
	return each(root, parse)
}

// each reads the entries of a list in their order.
func each[T any](n node, parse func(node) (T, error)) ([]T, error) {
	entries, err := n.list()
	if err != nil {
		return nil, err
	}
	all := make([]T, len(entries))
	for i, entry := range entries {
		if all[i], err = parse(entry); err != nil {
			return nil, err
		}
	}
	return all, nil
}
