package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
)

// What an Effective shows.
const (
	keyProvider = "provider"
	keyDigest   = "parametersSha256"
)

// Effective are the parameters that the provider gets: the class's, merged
// with the volume's attributes. It is opaque, since nobody knows what people
// write there: printing, logging and marshalling show provider and digest only.
// The zero Effective has no digest, and no grant permits it.
type Effective struct {
	provider string
	digest   string
	objects  []string
	// merged returns the map. A closure hides it from printers that reflect
	// over unexported fields.
	merged func() map[string]string
}

// Provider returns the class's provider.
func (e Effective) Provider() string { return e.provider }

// Digest returns the parametersSha256: SHA-256 in hexadecimal over the JSON of
// the whole merged map with sorted keys and without white space. The values of
// literal credentials are replaced by a constant before, so that not even a
// digest of them leaves; a class that has any is denied. With providers that read
// their list from the pod's annotations those are part of the map, each as
// "annotation <name>".
func (e Effective) Digest() string { return e.digest }

// ObjectIDs returns the ids that the provider has to report, and no others, in
// no order: with providers that read their list from the pod, it may have
// changed since the decision. nil: the provider's ids say nothing for certain.
// Empty but not nil: it may report none.
func (e Effective) ObjectIDs() []string { return slices.Clone(e.objects) }

// Attributes returns what is sent to the provider: the merged parameters and
// extra, which holds kubelet's keys as rebuilt from confirmed facts. What was
// decided goes before extra. Only driver/provider calls it, after the grant
// has permitted the digest.
func (e Effective) Attributes(extra map[string]string) map[string]string {
	attributes := maps.Clone(extra)
	if attributes == nil {
		attributes = make(map[string]string)
	}
	if e.merged != nil {
		maps.Copy(attributes, e.merged())
	}
	return attributes
}

// String returns provider and digest.
func (e Effective) String() string {
	return fmt.Sprintf("parameters of provider %s, sha256 %s", e.provider, e.digest)
}

// Format writes String for every verb, so that %#v shows no more than %v.
func (e Effective) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, e.String())
}

// LogValue implements slog.LogValuer.
func (e Effective) LogValue() slog.Value {
	return slog.GroupValue(slog.String(keyProvider, e.provider), slog.String(keyDigest, e.digest))
}

// MarshalJSON writes provider and digest.
func (e Effective) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{keyProvider: e.provider, keyDigest: e.digest})
}
