package secretref

import (
	"regexp"
	"strings"
)

// maxBackendPart bounds the address and the namespace, so that a secret has room
// in its id.
const maxBackendPart = 256

var (
	vaultAddressPattern = regexp.MustCompile(
		`^([Hh][Tt][Tt][Pp][Ss]?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{0,4}))?((?:/[A-Za-z0-9._~-]+)*)/?$`)
	vaultNamespacePattern = regexp.MustCompile(`^[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*/?$`)
)

// vaultBackend is the backend of a Vault server: what the class leaves out is
// the provider's own setting, which is "default" where it is the address.
//
// Attributes follow after commas, which neither hosts nor namespaces have: an
// address without TLS is another backend, however it may be granted.
func vaultBackend(address, namespace string) (string, error) {
	backend := defaultBackend
	if len(address) > maxBackendPart || len(namespace) > maxBackendPart {
		return "", uncertain("the address or the namespace is too long")
	}
	if address != "" {
		m := vaultAddressPattern.FindStringSubmatch(address)
		if m == nil || dotElement(m[4]) {
			return "", uncertain("the address is not http:// or https:// with a host, and possibly a port and a path")
		}
		scheme, host, port := strings.ToLower(m[1]), strings.ToLower(m[2]), m[3]
		if host == defaultBackend {
			return "", uncertain("the address has the host default, which stands for the provider's own setting")
		}
		standard := scheme == "https" && port == "443" || scheme == "http" && port == "80"
		if port != "" && !standard {
			host += ":" + port
		}
		if backend = host + m[4]; scheme == "http" {
			backend += ",scheme=http"
		}
	}
	if namespace != "" {
		if !vaultNamespacePattern.MatchString(namespace) || dotElement(namespace) {
			return "", uncertain("the namespace has an empty element, ., .., or other characters than letters, digits and ._-/")
		}
		backend += ",namespace=" + strings.TrimSuffix(namespace, "/")
	}
	return backend, nil
}

// dotElement reports whether an element of a path is . or .. or begins with the
// latter.
func dotElement(path string) bool {
	for e := range strings.SplitSeq(path, "/") {
		if e == "." || strings.HasPrefix(e, "..") {
			return true
		}
	}
	return false
}
