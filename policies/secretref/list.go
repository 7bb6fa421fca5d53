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
	objects     []object
	credentials []string // names of parameters that are literal credentials, sorted
	err         error    // why it cannot be read for certain
}

// listOf reads objects. It holds a literal credential if it has a field that is
// named like one, at any depth: what can be read for certain has no such field.
// Then it is refused, lest the value becomes part of an id.
func listOf(p Params) list {
	objects, err := parseObjects(p.Parameters[objectsParameter])
	v := vocabulary{list: objectsParameter, inText: credentialText}
	credentials := v.literal(p.Parameters, err)
	if err == nil && slices.Contains(credentials, objectsParameter) {
		err = uncertain("objects holds a literal credential")
	}
	return list{objects, credentials, err}
}

func tooMany(err error) bool {
	_, ok := errors.AsType[*tooManyError](err)
	return ok
}

// requests turns the list into requests; valid is the provider's rule for the
// names of objects.
func (l list) requests(p Params, backend string, valid func(string) bool) []policies.Request {
	secrets := make([]secret, len(l.objects))
	err := l.err
	for i, o := range l.objects {
		if err == nil && !valid(o.name) {
			err = uncertain("an objectName has an empty element, . or .., or a character that a provider could read as another path")
		}
		id := ID{Provider: p.Provider, Backend: backend, Path: o.name, Version: o.version}
		secrets[i] = secret{id: id, file: o.file(), mode: o.mode, uid: o.uid}
	}
	return requestsOf(p, secrets, err)
}

// secret is one secret that a provider would fetch, and the file it would
// become.
type secret struct {
	id   ID
	file string
	mode *uint32
	uid  *int64
}

// requestsOf turns what a reader found into requests, or into the one request of
// parameters that cannot be read: for err, or since an id or a file cannot be.
func requestsOf(p Params, secrets []secret, err error) []policies.Request {
	if err != nil {
		return unparsed(p, problem(err))
	}
	requests := make([]policies.Request, len(secrets))
	files := make([]string, len(secrets))
	for i, s := range secrets {
		id := s.id.String()
		switch {
		case !validFile(s.file):
			return unparsed(p, "an object has no usable file name: set objectAlias to a relative path")
		case len(id) > maxIDBytes:
			return unparsed(p, "an objectName with its objectVersion is too long")
		}
		files[i] = s.file
		requests[i] = policies.Request{Secret: id, File: s.file, Mode: s.mode, UID: s.uid}
	}
	if conflicting(files) {
		return unparsed(p, "two objects have the same file, or the file of one is the directory of another")
	}
	return requests
}

// objectIDs returns the ids by which a provider reports the secrets, if they
// could be read.
func objectIDs(requests []policies.Request, secrets []secret, id func(secret) string) []string {
	if requests[0].ParseError != "" {
		return nil
	}
	ids := make([]string, len(secrets))
	for i, s := range secrets {
		ids[i] = id(s)
	}
	return ids
}

// problem returns our own words for an error of parseObjects.
func problem(err error) string {
	if s, ok := errors.AsType[*syntaxError](err); ok {
		return s.problem
	}
	if e, ok := errors.AsType[*tooManyError](err); ok {
		return e.Error()
	}
	return "the parameters cannot be read"
}
