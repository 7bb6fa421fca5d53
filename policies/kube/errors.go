package kube

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrNotFound is returned by whoever reads objects when one does not exist.
var ErrNotFound = errors.New("not found")

// FieldError says which field of the pod or the class cannot be accepted, and
// what its author can do. It is a bad request at both gates.
type FieldError struct {
	Field   string // as it stands in the manifest
	Problem string // in our words, without the value
	Remedy  string
}

// Error names the field and the problem.
func (e *FieldError) Error() string { return e.Field + " " + e.Problem }

// SpoofError says that an author set a key that only kubelet may set. Kubelet
// passes unknown ones through beside its own, so a provider would believe them.
type SpoofError struct {
	Field string // as it stands in the manifest
}

// Error names the field.
func (e *SpoofError) Error() string { return e.Unwrap().Error() }

// Unwrap returns the same as a *FieldError, for callers that treat both alike.
func (e *SpoofError) Unwrap() error {
	return &FieldError{
		Field:   e.Field,
		Problem: "begins with " + kubeletPrefix + ", which only kubelet may use",
		Remedy:  "remove it",
	}
}

// MissingFactError says that the caller did not supply a fact, or supplied one
// about another object. Without it nothing is decided.
type MissingFactError struct {
	Fact string
}

// Error names the fact.
func (e *MissingFactError) Error() string { return "fact is missing or of another object: " + e.Fact }

// maxShownKey bounds how much of an author's key an error repeats.
const maxShownKey = 64

// entry names one entry of a map field. Keys are the author's text, so they
// are quoted and cut: kubelet prints errors on terminals.
func entry(field, key string) string {
	if len(key) > maxShownKey {
		key = key[:maxShownKey] + "..."
	}
	return fmt.Sprintf("%s[%s]", field, strconv.QuoteToASCII(key))
}
