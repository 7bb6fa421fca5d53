package signature

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// ParseFile reads a signature as it lies beside a bundle: a bundle of Sigstore, the
// older JSON of cosign sign-blob --bundle, or the bare Base64 of its
// --output-signature.
func ParseFile(data []byte) (Signature, error) {
	if len(data) > MaxSignatureBytes {
		return Signature{}, refuse(TooLarge, fmt.Sprintf("a file of %d bytes", len(data)))
	}
	data = bytes.TrimSpace(data)
	if !bytes.HasPrefix(data, []byte("{")) {
		if raw, err := base64.StdEncoding.Strict().DecodeString(string(data)); err != nil || len(raw) == 0 {
			return Signature{}, refuse(Malformed, "neither JSON nor Base64")
		}
		return Signature{Base64: string(data)}, nil
	}
	if err := checkJSON(data); err != nil {
		return Signature{}, refuse(Malformed, err.Error())
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return Signature{}, refuse(Malformed, err.Error())
	}
	if _, older := members["base64Signature"]; !older {
		return Signature{Bundle: data}, nil
	}
	s, err := parseOlder(data)
	if err != nil {
		return Signature{}, refuse(Malformed, err.Error())
	}
	return s, nil
}

// parseOlder reads what cosign 2 writes without --new-bundle-format.
func parseOlder(data []byte) (Signature, error) {
	members, err := object(data, "base64Signature", "cert", "rekorBundle")
	if err != nil {
		return Signature{}, err
	}
	var s Signature
	if s.Base64, err = text(members, "base64Signature"); err != nil || s.Base64 == "" {
		return Signature{}, errors.New("its base64Signature is empty")
	}
	encoded, err := text(members, "cert")
	if err != nil {
		return Signature{}, err
	}
	if encoded != "" {
		if s.Certificate, err = base64.StdEncoding.Strict().DecodeString(encoded); err != nil {
			return Signature{}, fmt.Errorf("cert: %w", err)
		}
	}
	if entry := members["rekorBundle"]; entry != nil && !bytes.Equal(entry, []byte("null")) {
		s.RekorBundle = entry
	}
	return s, nil
}
