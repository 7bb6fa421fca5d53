package secretref

import (
	"errors"
	"slices"

	"github.com/portcullis-csi/portcullis/policies"
)

// maxIDBytes is what the policy contract takes.
const maxIDBytes = 2048

// list is the objects parameter, read once.
type list struct {
	objects []object
	err     error // why it cannot be read for certain
}

func listOf(p Params) list {
	objects, err := parseObjects(p.Parameters[objectsParameter])
	return list{objects, err}
}

// tooMany tells a list that is beyond the bounds from one that cannot be read.
func (l list) tooMany() bool { return errors.Is(l.err, errTooMany) }

// credentials names the parameters that hold a literal credential. objects is
// one if it has a field that is named like one, at any depth: what can be read
// for certain has no such field.
func (l list) credentials(p Params) []string {
	names := literalCredentials(p.Parameters)
	if l.err != nil && credentialText(p.Parameters[objectsParameter]) && !slices.Contains(names, objectsParameter) {
		names = append(names, objectsParameter)
		slices.Sort(names)
	}
	return names
}

// requests turns the list into requests; valid is the provider's rule for the
// names of objects.
func (l list) requests(p Params, backend string, valid func(string) bool) []policies.Request {
	if l.err != nil {
		return unparsed(p, problem(l.err))
	}
	requests := make([]policies.Request, len(l.objects))
	files := make([]string, len(l.objects))
	for i, o := range l.objects {
		id := ID{Provider: p.Provider, Backend: backend, Path: o.name, Version: o.version}.String()
		switch {
		case !valid(o.name):
			return unparsed(p, "an objectName has an empty element, . or .., or a character that a provider could read as another path")
		case !validFile(o.file()):
			return unparsed(p, "an object has no usable file name: set objectAlias to a relative path")
		case len(id) > maxIDBytes:
			return unparsed(p, "an objectName with its objectVersion is too long")
		}
		files[i] = o.file()
		requests[i] = policies.Request{Secret: id, File: o.file(), Mode: o.mode, UID: o.uid}
	}
	if conflicting(files) {
		return unparsed(p, "two objects have the same file, or the file of one is the directory of another")
	}
	return requests
}

// problem returns our own words for an error of parseObjects.
func problem(err error) string {
	if s, ok := errors.AsType[*syntaxError](err); ok {
		return s.problem
	}
	return "objects cannot be read"
}
