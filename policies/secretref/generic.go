package secretref

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
)

const (
	// defaultBackend is the backend of a provider that gets nothing but
	// objects: wherever it is configured to ask.
	defaultBackend = "default"
	// backendDigits of a digest are kept. Whoever writes classes chooses the
	// text, so it must be too long to search for one that collides.
	backendDigits = 32
	// redactedValue stands for a literal credential.
	redactedValue = "[literal credential]"
)

// genericReader reads the `objects` array of a provider that is not known.
//
// What such a provider does with its other parameters cannot be known, so
// their digest is part of every id: another value is another secret. Nothing
// is shown, and nothing is scoping, since the id already pins it.
type genericReader struct{}

// Read implements Reader.
func (genericReader) Read(p Params) Reading {
	list := listOf(p)
	reading := Reading{LiteralCredentials: list.credentials, TooMany: tooMany(list.err)}
	backend, err := genericBackend(p.Parameters, reading.LiteralCredentials)
	if err != nil {
		reading.Requests = unparsed(p, "parameters cannot be digested")
		return reading
	}
	reading.Requests = list.requests(p, backend, validName)
	return reading
}

// genericBackend digests every parameter but objects. A literal credential
// must not leave even as a digest, since a short one could be guessed from it.
func genericBackend(parameters map[string]string, credentials []string) (string, error) {
	others := Redact(parameters, credentials)
	delete(others, objectsParameter)
	if len(others) == 0 {
		return defaultBackend, nil
	}
	canonical, err := json.Marshal(others)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(canonical)
	return "p-" + hex.EncodeToString(sum[:])[:backendDigits], nil
}

// Redact returns a copy of parameters with the values of the named ones
// replaced by a constant.
func Redact(parameters map[string]string, names []string) map[string]string {
	redacted := make(map[string]string, len(parameters))
	maps.Copy(redacted, parameters)
	for _, name := range names {
		if _, ok := redacted[name]; ok {
			redacted[name] = redactedValue
		}
	}
	return redacted
}
