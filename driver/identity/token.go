package identity

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

const (
	// maxTokenBytes bounds one token; Kubernetes' have one or two kilobytes.
	maxTokenBytes = 16 << 10
	// leeway is what the clocks of API server and node may differ by: the one
	// minute that the API server itself allows.
	leeway = time.Minute
)

// unverified says in our words why a token was not verified; "" means it was.
type unverified string

const (
	malformed      unverified = "is not a JSON Web Token as the API server writes it"
	wrongAlgorithm unverified = "is signed with an algorithm that is not the key's, or not accepted"
	unknownKey     unverified = "is signed with a key that the cluster does not publish"
	badSignature   unverified = "has a signature that is not the cluster's"
	wrongIssuer    unverified = "has another issuer than the cluster's"
	wrongAudience  unverified = "is not for this audience"
	expired        unverified = "has expired"
	notYetValid    unverified = "is not valid yet"
	notBound       unverified = "is not bound to a pod"
	noKeys         unverified = "cannot be verified: no keys are configured"
	wiped          unverified = "is no longer there"
)

// doubtful reports whether keys or a clock may be wrong rather than the token:
// API servers that publish different keys, a key that was withdrawn at once, an
// issuer that changed, a node whose clock stepped. None of these is a fact about
// the pod, and only facts deny (promise P9).
func (u unverified) doubtful() bool {
	return u == unknownKey || u == wrongIssuer || u == expired || u == notYetValid
}

// UnverifiedToken says why the token for an audience was not verified.
type UnverifiedToken struct {
	Audience string
	Problem  string // our words; nothing of the token
}

// checkTokens verifies every token, and fails if one that verifies names
// somebody else.
func (v *Verifier) checkTokens(ctx context.Context, c Confirmed, tokens Tokens, wasVerified bool) (Confirmed, error) {
	if tokens == nil {
		return c, nil
	}
	for _, audience := range slices.Sorted(slices.Values(tokens.Audiences())) {
		t, problem, err := v.checkToken(ctx, tokens, audience)
		if err != nil {
			return Confirmed{}, err
		}
		if problem == "" {
			if problem, err = v.compare(t, c); err != nil {
				return Confirmed{}, err
			}
		}
		if wasVerified && problem.doubtful() {
			return Confirmed{}, &UnavailableError{Object: objectKeys, err: fmt.Errorf("a token %s, and one of this volume was verified before", problem)}
		}
		c.Tokens = append(c.Tokens, policies.Token{Audience: audience, Verified: problem == ""})
		if problem != "" {
			c.Unverified = append(c.Unverified, UnverifiedToken{audience, string(problem)})
		}
		c.TokenVerified = c.TokenVerified || problem == ""
		c.Doubtful = c.Doubtful || problem.doubtful()
	}
	return c, nil
}

// checkToken verifies the token for one audience. The bytes stay in the
// Plaintext and in buffers that are overwritten; strings are made of claims
// only, which are worth nothing without the signature.
func (v *Verifier) checkToken(ctx context.Context, tokens Tokens, audience string) (t claims, problem unverified, err error) {
	p, ok := tokens.Token(audience)
	if !ok || p.Len() == 0 {
		return claims{}, wiped, nil
	}
	if v.c.Keys == nil {
		return claims{}, noKeys, nil
	}
	used := p.Use(func(token []byte) error {
		t, problem, err = v.verifyToken(ctx, token, audience)
		return nil
	})
	if used != nil {
		return claims{}, wiped, nil // the request is over, and with it its tokens
	}
	return t, problem, err
}

// verifyToken checks form, signature, issuer, audience and time, in this order:
// nothing of a payload is read before its signature was verified.
func (v *Verifier) verifyToken(ctx context.Context, token []byte, audience string) (claims, unverified, error) {
	parts, ok := split(token)
	if !ok {
		return claims{}, malformed, nil
	}
	header, ok := parseHeader(parts.header)
	if !ok {
		return claims{}, malformed, nil
	}
	set, err := v.c.Keys.current(ctx)
	if err != nil {
		return claims{}, "", err
	}
	if _, known := set.keys[header.keyID]; !known {
		if set, err = v.c.Keys.latest(ctx); err != nil {
			return claims{}, "", err
		}
	}
	if problem := verifySignature(set, header, parts); problem != "" {
		return claims{}, problem, nil
	}
	t, ok := parseClaims(parts.payload)
	if !ok {
		return claims{}, malformed, nil
	}
	if !slices.Contains(set.issuers(v.c.Clock()), t.issuer) {
		if set, err = v.c.Keys.latest(ctx); err != nil {
			return claims{}, "", err
		}
	}
	return t, v.checkClaims(set, t, audience), nil
}

func verifySignature(set *keySet, h header, p parts) unverified {
	key, known := set.keys[h.keyID]
	switch {
	case !known:
		return unknownKey
	case h.algorithm != string(key.algorithm):
		return wrongAlgorithm
	}
	signature, ok := decodePart(p.signature)
	defer clear(signature)
	if !ok {
		return malformed
	}
	if !key.verify(p.signed, signature) {
		return badSignature
	}
	return ""
}

func (v *Verifier) checkClaims(set *keySet, t claims, audience string) unverified {
	now := v.c.Clock()
	wanted := v.c.Keys.audiences(audience, set)
	switch {
	case !slices.Contains(set.issuers(now), t.issuer):
		return wrongIssuer
	case !slices.ContainsFunc(t.audiences, func(a string) bool { return slices.Contains(wanted, a) }):
		return wrongAudience
	case now.Add(-leeway).Unix() >= t.expires:
		return expired
	case now.Add(leeway).Unix() < max(t.notBefore, t.issued):
		return notYetValid
	}
	return ""
}

// parts of a compact serialization (RFC 7515 section 7.1), within its bytes.
type parts struct{ header, payload, signature, signed []byte }

func split(token []byte) (parts, bool) {
	if len(token) > maxTokenBytes || bytes.Count(token, []byte(".")) != 2 {
		return parts{}, false
	}
	first, last := bytes.IndexByte(token, '.'), bytes.LastIndexByte(token, '.')
	p := parts{header: token[:first], payload: token[first+1 : last], signature: token[last+1:], signed: token[:last]}
	return p, len(p.header) > 0 && len(p.payload) > 0 && len(p.signature) > 0
}

// decodePart decodes canonical base64url alone: Go's decoder skips line ends,
// and one token must have one spelling.
func decodePart(part []byte) ([]byte, bool) {
	if bytes.ContainsAny(part, "\r\n") {
		return nil, false
	}
	decoded := make([]byte, base64.RawURLEncoding.DecodedLen(len(part)))
	n, err := base64.RawURLEncoding.Strict().Decode(decoded, part)
	if err != nil {
		clear(decoded)
		return nil, false
	}
	return decoded[:n], true
}

// header is a JOSE header: what the token says of its signature.
type header struct{ algorithm, keyID string }

// parseHeader takes the three parameters that Kubernetes writes and no other:
// jwk, jku, x5u and x5c offer a key of the token's own, crit and b64 change
// what was signed. A token without a key id is none of Kubernetes' either, and
// no key is tried on it.
func parseHeader(part []byte) (header, bool) {
	text, ok := decodePart(part)
	defer clear(text)
	if !ok {
		return header{}, false
	}
	object, err := decodeObject(text)
	if err != nil {
		return header{}, false
	}
	for name := range object {
		if name != "alg" && name != "kid" && name != "typ" {
			return header{}, false
		}
	}
	if typ, set := object["typ"]; set && typ != "JWT" {
		return header{}, false
	}
	algorithm, hasAlgorithm := object["alg"].(string)
	keyID, hasKeyID := object["kid"].(string)
	return header{algorithm, keyID}, hasAlgorithm && hasKeyID && keyID != "" && len(keyID) <= maxKeyID
}
