package secretref

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// kubeletPrefix and classParameter begin and are the names of what the driver
// adds to the parameters of every class: no provider takes them for its own.
const (
	kubeletPrefix  = "csi.storage.k8s.io/"
	classParameter = "secretProviderClass"
)

// parameters are those of a class of a provider that reads each by its exact
// name. Values that are literal credentials are replaced, so that nothing that
// is made of a value can hold one.
type parameters struct {
	values      map[string]string
	credentials []string // names of literal credentials, sorted
}

// ownParameters returns the parameters that the provider itself reads. list is
// the one with the list of secrets, err why it could not be read for certain.
func ownParameters(p Params, list string, err error) parameters {
	own := maps.Clone(p.Parameters)
	maps.DeleteFunc(own, func(name, _ string) bool {
		return name == classParameter || strings.HasPrefix(name, kubeletPrefix)
	})
	credentials := withCredentialText(literalCredentials(own), own, list, err)
	return parameters{values: Redact(own, credentials), credentials: credentials}
}

// check refuses parameters that are not known: the provider may read them
// tomorrow, or another version may have read them yesterday. A list that holds
// a literal credential is refused as well, lest it becomes part of an id.
func (p parameters) check(list string, known ...[]string) error {
	for name := range p.values {
		if name != list && !slices.ContainsFunc(known, func(k []string) bool { return slices.Contains(k, name) }) {
			return uncertain("a parameter is not known for this provider")
		}
	}
	if slices.Contains(p.credentials, list) {
		return uncertain(list + " holds a literal credential")
	}
	return nil
}

// scoping returns the named parameters that are set. Setting one to nothing is
// the same as leaving it out for every provider that uses this, and no grant
// could list an empty value.
func (p parameters) scoping(names []string, trim func(string) string) map[string]string {
	set := make(map[string]string, len(names))
	for _, name := range names {
		if value := trim(p.values[name]); value != "" {
			set[name] = value
		}
	}
	return set
}

// safe returns the named parameters that are there and hold no credential.
func (p parameters) safe(names ...[]string) []string {
	var safe []string
	for _, name := range slices.Concat(names...) {
		if _, ok := p.values[name]; ok && !slices.Contains(p.credentials, name) {
			safe = append(safe, name)
		}
	}
	return safe
}

// asIs is the trim of a provider that does not trim.
func asIs(s string) string { return s }

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
