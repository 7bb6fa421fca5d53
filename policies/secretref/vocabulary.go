package secretref

import (
	"slices"
	"strings"
)

// vocabulary names the parameters that one provider reads. Any other makes a
// class unreadable: the provider may give it a meaning in its next version.
type vocabulary struct {
	provider    string
	scoping     []string // with whom, where and how the provider asks
	safe        []string // may be shown unless they hold a credential
	credentials []string // literal credentials, whatever their value
	others      []string // lists and texts that are not shown
}

// read returns what the parameters say besides the secrets. An empty value is
// left out of the scoping: to the providers here it is the same as none.
func (v vocabulary) read(p Params) Reading {
	r := Reading{LiteralCredentials: v.literal(p.Parameters)}
	for name, value := range p.Parameters {
		if value == "" || slices.Contains(r.LiteralCredentials, name) {
			continue
		}
		if slices.Contains(v.scoping, name) {
			if r.Scoping == nil {
				r.Scoping = make(map[string]string, len(v.scoping))
			}
			r.Scoping[name] = value
		}
		if slices.Contains(v.safe, name) {
			r.Safe = append(r.Safe, name)
		}
	}
	slices.Sort(r.Safe)
	return r
}

// literal is literalCredentials with the provider's own names, for which no
// value is harmless.
func (v vocabulary) literal(parameters map[string]string) []string {
	names := literalCredentials(parameters)
	for _, name := range v.credentials {
		if parameters[name] != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// check refuses parameters that are not in the vocabulary.
func (v vocabulary) check(parameters map[string]string) error {
	known := slices.Concat(v.scoping, v.safe, v.credentials, v.others, []string{classParameter})
	for name := range parameters {
		if !slices.Contains(known, name) && !strings.HasPrefix(name, kubeletPrefix) {
			return uncertain("provider " + v.provider + " has a parameter that is not known: remove it, or grant the class in full")
		}
	}
	return nil
}
