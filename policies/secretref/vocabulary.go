package secretref

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

// kubeletPrefix and classParameter begin and are the names of what the driver
// adds to the parameters of every class: no provider takes them for its own.
const (
	kubeletPrefix  = "csi.storage.k8s.io/"
	classParameter = "secretProviderClass"
)

// vocabulary names the parameters that one provider reads, each by its exact
// name. Any other makes a class unreadable: the provider may give it a meaning
// in its next version.
type vocabulary struct {
	provider    string
	list        string   // holds the list of secrets
	scoping     []string // with whom, where and how the provider asks
	addresses   []string // of scoping: what stands before an @ there is a credential
	safe        []string // may be shown unless they hold a credential
	credentials []string // literal credentials, whatever their value
	others      []string // that are not shown
	// trim is what the provider does to every value; nil: nothing.
	trim func(string) string
	// inText reports whether a list that could not be read for certain has a
	// field that is named like a credential; nil: its names say nothing.
	inText func(string) bool
}

// parameters are those of a class that the provider itself reads. Values that
// are literal credentials are replaced, so that nothing that is made of a value
// can hold one.
type parameters struct {
	vocabulary
	values      map[string]string
	credentials []string // names of literal credentials, sorted
	listErr     error    // why the list could not be read for certain
}

// own returns the parameters of a class without those of the driver. err is why
// the list could not be read for certain.
func (v vocabulary) own(p Params, err error) parameters {
	values := maps.Clone(p.Parameters)
	maps.DeleteFunc(values, func(name, _ string) bool {
		return name == classParameter || strings.HasPrefix(name, kubeletPrefix)
	})
	names := v.literal(values, err)
	return parameters{vocabulary: v, values: Redact(values, names), credentials: names, listErr: err}
}

// literal names the parameters that hold a literal credential, sorted. err is why
// the list could not be read for certain.
func (v vocabulary) literal(values map[string]string, err error) []string {
	names := literalCredentials(values)
	for _, name := range v.credentials {
		if values[name] != "" {
			names = append(names, name)
		}
	}
	for _, name := range v.addresses {
		if strings.Contains(values[name], "@") {
			names = append(names, name)
		}
	}
	if _, literal := errors.AsType[*literalError](err); literal || err != nil && v.inText != nil && v.inText(values[v.list]) {
		names = append(names, v.list)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// reading returns what the parameters say besides the secrets.
func (p parameters) reading() Reading {
	return Reading{
		TooMany: tooMany(p.listErr), Scoping: p.scopes(), Safe: p.safe(), LiteralCredentials: p.credentials,
	}
}

// check returns why the class cannot be read for certain. A list that holds a
// literal credential is refused as well, lest it becomes part of an id.
func (p parameters) check() error {
	known := slices.Concat(p.scoping, p.vocabulary.safe, p.vocabulary.credentials, p.others, []string{p.list})
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		if !slices.Contains(known, name) {
			return uncertain("a parameter is not known for this provider: remove it, or grant the class in full")
		}
		if p.hidden(name) {
			return uncertain("a parameter has characters that cannot be printed")
		}
	}
	if slices.Contains(p.credentials, p.list) {
		return uncertain(p.list + " holds a literal credential")
	}
	return p.listErr
}

// value is that of a parameter as the provider takes it.
func (p parameters) value(name string) string {
	if p.trim != nil {
		return p.trim(p.values[name])
	}
	return p.values[name]
}

// hidden reports whether a parameter that would be shown could be displayed as
// another one. Its class is not read, and the digest stands for it.
func (p parameters) hidden(name string) bool {
	return slices.Contains(p.vocabulary.safe, name) && !printable(p.value(name))
}

// scopes returns the scoping parameters that are set. Setting one to nothing is
// the same as leaving it out for every provider here, and no grant could list an
// empty value.
func (p parameters) scopes() map[string]string {
	set := make(map[string]string, len(p.scoping))
	for _, name := range p.scoping {
		if value := p.value(name); value != "" && !p.hidden(name) {
			set[name] = value
		}
	}
	return set
}

// safe returns the parameters that are there, may be shown and hold no
// credential, in the order of the vocabulary.
func (p parameters) safe() []string {
	var safe []string
	for _, name := range p.vocabulary.safe {
		if _, ok := p.values[name]; ok && !slices.Contains(p.credentials, name) && !p.hidden(name) {
			safe = append(safe, name)
		}
	}
	return safe
}

// requests are the secrets of a class, or its one unparsed request.
func (p parameters) requests(params Params, secrets func() ([]secret, error)) []policies.Request {
	if err := p.check(); err != nil {
		return requestsOf(params, nil, err)
	}
	found, err := secrets()
	return requestsOf(params, found, err)
}

// describe completes what a provider's syntax says with the vocabulary.
func (v vocabulary) describe(s Syntax) Syntax {
	s.Provider, s.List, s.Scoping, s.Credentials = v.provider, v.list, v.scoping, v.credentials
	return s
}
