package apiserver

import (
	"context"
	"encoding/json"
	"net/http"
)

const (
	maxKeyBytes       = 256 << 10
	maxDiscoveryBytes = 64 << 10
	maxIssuerBytes    = 1024
)

// JWKS returns the keys that sign the cluster's service account tokens: a JSON
// Web Key Set (RFC 7517), at most 256 KiB, live. It is JSON with at least one
// key; the keys themselves are for the caller to check.
func (r *Reader) JWKS(ctx context.Context) ([]byte, error) {
	q := question{object: "token signing keys", path: "/openid/v1/jwks", accept: acceptKeys, limit: maxKeyBytes}
	body, err := r.get(ctx, q)
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &set) != nil || len(set.Keys) == 0 {
		return nil, &UnavailableError{Object: q.object, Reason: InvalidAnswer, Code: http.StatusOK}
	}
	return body, nil
}

// Issuer returns the issuer that the cluster's service account tokens name, as
// its discovery document has it (OpenID Connect Discovery 1.0, section 3), live.
func (r *Reader) Issuer(ctx context.Context) (string, error) {
	q := question{object: "token issuer", path: "/.well-known/openid-configuration", accept: acceptJSON, limit: maxDiscoveryBytes}
	body, err := r.get(ctx, q)
	if err != nil {
		return "", err
	}
	var document struct {
		Issuer string `json:"issuer"`
	}
	if json.Unmarshal(body, &document) != nil || document.Issuer == "" || len(document.Issuer) > maxIssuerBytes {
		return "", &UnavailableError{Object: q.object, Reason: InvalidAnswer, Code: http.StatusOK}
	}
	return document.Issuer, nil
}
