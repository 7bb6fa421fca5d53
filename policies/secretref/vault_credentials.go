package secretref

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// literalError is a literal credential in a place where the names of fields do
// not tell.
type literalError struct{ reason error }

// Error returns the reason in our own words.
func (e *literalError) Error() string { return e.reason.Error() }

// Unwrap returns the reason.
func (e *literalError) Unwrap() error { return e.reason }

func literal(problem string) error { return &literalError{uncertain(problem)} }

// vaultCredentialText is credentialText for the objects of the Vault providers:
// secretKey names a key there, and queries have names as well.
func vaultCredentialText(text string) bool {
	if credentialQuery(text) {
		return true
	}
	root, err := parseDocument(objectsParameter, text)
	switch {
	case err != nil && strings.Contains(text, fieldSecretArgs):
		// One of the arguments may be called secretKey too.
		return credentialLine(text)
	case err != nil:
		return credentialLine(text, fieldSecretKey)
	case root.yaml.Kind != yaml.SequenceNode:
		return credentialKey(root.yaml)
	}
	return slices.ContainsFunc(root.yaml.Content, vaultCredentialObject)
}

// vaultCredentialObject is credentialKey for one object, whose own secretKey is
// no credential.
func vaultCredentialObject(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode {
		return credentialKey(n)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.ScalarNode && credentialName(key.Value) && key.Value != fieldSecretKey || credentialKey(value) {
			return true
		}
	}
	return false
}
