// Package secretref reads the parameters of a SecretProviderClass and says
// which secrets the provider would fetch and which files they would become.
//
// It promises that a secret has exactly one id, that two different secrets
// never share one, and that parameters it cannot read for certain become one
// request that no pattern of a grant matches. "For certain" means that every
// YAML library in use would read the text in the same way: a decision about
// what we read is worth nothing if the provider reads something else.
//
// It does not promise that a secret exists, nor that the provider is honest:
// the node compares the files that come back with the requests.
//
// The caller first merges the class with the volume's attributes as the
// provider would get them (package kube does), and passes the digest of the
// result. Each provider's syntax is one file that implements Reader.
package secretref
