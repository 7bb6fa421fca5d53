package secretref

import (
	"github.com/portcullis-csi/portcullis/policies"
)

// MaxObjects is the number of secrets that one volume may ask for.
const MaxObjects = 64

// unparsedPrefix begins the id of parameters that cannot be read. It has no
// "://", so that Parse and every pattern of a grant refuse it.
const unparsedPrefix = "unparsed:"

// objectsParameter holds the list of secrets in the syntaxes of this package.
const objectsParameter = "objects"

// Params are the effective parameters of one class and volume, as the provider
// would get them.
type Params struct {
	Provider   string
	Parameters map[string]string
	// PodAnnotations are for providers that take their list from the pod
	// rather than from the class. May be nil.
	PodAnnotations map[string]string
	// Digest identifies the parameters: 64 hexadecimal digits.
	Digest string
}

// Reading is what one provider's syntax makes of the parameters. The zero
// Reading asks for nothing, which no policy allows.
type Reading struct {
	// Requests holds each secret once per file, in the order of the
	// parameters, or one unparsed request.
	Requests []policies.Request
	// TooMany reports that more secrets are listed than MaxObjects: a bad
	// request at both gates, whatever a grant says.
	TooMany bool
	// Scoping holds the parameters that choose with which identity, and at
	// which backend, the provider asks.
	Scoping map[string]string
	// Safe names the parameters whose values may be shown to policy, events
	// and people.
	Safe []string
	// LiteralCredentials names the parameters that hold a credential in
	// plain text, sorted.
	LiteralCredentials []string
	// Annotations are those of the pod that were read in place of a parameter.
	// They identify what is asked for along with the parameters.
	Annotations map[string]string `json:",omitempty"`
	// ObjectIDs are the ids by which the provider reports what it fetched for
	// each of Requests, nil where its ids say nothing. Empty but not nil: what it
	// fetches cannot be known before, and nothing that it reports was decided on.
	ObjectIDs []string `json:",omitempty"`
}

// Reader reads one provider's syntax. Read is a pure function of p: both gates
// call it and must come to the same requests.
type Reader interface {
	Read(p Params) Reading
}

// Syntax describes how one provider's parameters are read. docs/POLICIES.md
// shows it.
type Syntax struct {
	Provider    string   // name in the class
	List        string   // parameter with the list of secrets
	ID          string   // form of an id, with the parameters it is made of
	File        string   // where the name of a file comes from
	Scoping     []string // parameters that a grant must list with their values
	Credentials []string // parameters that are literal credentials by their name alone
	Unparsed    []string // what is not read for certain although the provider takes it
}

// described is a Reader that tells its syntax.
type described interface {
	Reader
	syntax() Syntax
}

// readers are the providers with a syntax of their own.
func readers() []described {
	return append([]described{
		akeylessReader{}, awsReader{}, azureReader{}, conjurReader{}, gcpReader{}, localReader{},
	}, vaultReaders()...)
}

// For returns the reader of a provider's syntax. An unknown provider is read
// by the widespread `objects` array.
func For(provider string) Reader {
	for _, r := range readers() {
		if r.syntax().Provider == provider {
			return r
		}
	}
	return genericReader{}
}

// Syntaxes returns the syntaxes of the providers that are known.
func Syntaxes() []Syntax {
	all := make([]Syntax, 0, len(readers()))
	for _, r := range readers() {
		all = append(all, r.syntax())
	}
	return all
}

// unparsed is the only request of parameters that cannot be read for certain.
// problem is one of this package's own sentences.
func unparsed(p Params, problem string) []policies.Request {
	return []policies.Request{{Secret: unparsedPrefix + p.Digest, ParseError: problem}}
}
