package provider

import (
	"maps"
	"slices"
	"strings"

	"github.com/portcullis-csi/portcullis/hardening"
)

// Secrets is the content of nodePublishSecretRef: a credential for the
// provider. The zero value is empty.
type Secrets struct {
	values map[string]*hardening.Plaintext
}

// NewSecrets takes the secrets of a NodePublishVolume request. What kubelet
// itself put there is left out: the service account tokens go to the provider
// only as far as the grant says (Tokens), and what a later kubelet may add, a
// policy should know first. No key of a Secret has a slash in it.
func NewSecrets(secrets map[string]string) Secrets {
	s := Secrets{values: make(map[string]*hardening.Plaintext, len(secrets))}
	for name, value := range secrets {
		if !strings.HasPrefix(name, kubeletPrefix) {
			s.values[name] = hardening.NewPlaintext([]byte(value))
		}
	}
	return s
}

// Wipe overwrites every value.
func (s Secrets) Wipe() {
	for _, v := range s.values {
		v.Wipe()
	}
}

// appendJSON writes the secrets as a JSON object of strings.
func (s Secrets) appendJSON(b *scratch) error {
	b.text("{")
	for i, name := range slices.Sorted(maps.Keys(s.values)) {
		if i > 0 {
			b.text(",")
		}
		b.quote([]byte(name))
		b.text(":")
		if err := s.values[name].Use(func(p []byte) error { b.quote(p); return nil }); err != nil {
			return err
		}
	}
	b.text("}")
	return nil
}
