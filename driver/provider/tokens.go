package provider

import (
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"

	"github.com/portcullis-csi/portcullis/hardening"
)

// TokensKey is where kubelet puts the service account tokens: among the
// secrets of the request where the CSIDriver says serviceAccountTokenInSecrets,
// in the volume context where it does not. Providers find them among the
// attributes under the same key either way.
const TokensKey = kubeletPrefix + "serviceAccount.tokens"

// kubeletPrefix begins the keys that only kubelet sets.
const kubeletPrefix = "csi.storage.k8s.io/"

// ErrTokens says that the tokens of a request cannot be read. It holds nothing
// of what was read.
var ErrTokens = errors.New("parse service account tokens: not an object of audience to token as kubelet writes it")

// Bounds of what kubelet hands over; a token is a JWT of one or two kilobytes.
const (
	maxTokensBytes = 256 << 10
	maxTokens      = 32
)

// Tokens holds a pod's service account tokens by audience. The zero value
// holds none.
type Tokens struct{ byAudience map[string]token }

type token struct {
	value   *hardening.Plaintext
	expires string
}

// wireToken is kubelet's form of a token. Raw, so that encoding/json makes no
// string of it that nobody could wipe.
type wireToken struct {
	Token               json.RawMessage `json:"token"`
	ExpirationTimestamp string          `json:"expirationTimestamp"`
}

// ParseTokens reads the tokens from the secrets, or the volume context, of a
// NodePublishVolume request. No tokens is no error.
func ParseTokens(from map[string]string) (Tokens, error) {
	text := from[TokensKey]
	if text == "" {
		return Tokens{}, nil
	}
	if len(text) > maxTokensBytes {
		return Tokens{}, ErrTokens
	}
	raw := []byte(text)
	defer clear(raw)
	var wire map[string]wireToken
	err := json.Unmarshal(raw, &wire)
	defer wipeWire(wire)
	if err != nil || len(wire) > maxTokens {
		return Tokens{}, ErrTokens
	}
	return tokensOf(wire)
}

// tokensOf copies the values out of the wire form.
func tokensOf(wire map[string]wireToken) (Tokens, error) {
	// Compact JWS and opaque tokens (RFC 6750 section 2.1); an escape sequence
	// would need decoding, and no issuer writes one.
	quoted := regexp.MustCompile(`^"[A-Za-z0-9._~+/=-]+"$`)
	timestamp := regexp.MustCompile(`^[0-9TZ:.+-]{0,64}$`)
	t := Tokens{byAudience: make(map[string]token, len(wire))}
	for audience, w := range wire {
		if !quoted.Match(w.Token) || !timestamp.MatchString(w.ExpirationTimestamp) {
			t.Wipe()
			return Tokens{}, ErrTokens
		}
		value := slices.Clone(w.Token[1 : len(w.Token)-1])
		t.byAudience[audience] = token{hardening.NewPlaintext(value), w.ExpirationTimestamp}
	}
	return t, nil
}

func wipeWire(wire map[string]wireToken) {
	for _, w := range wire {
		clear(w.Token[:cap(w.Token)])
	}
}

// Audiences returns the audiences, sorted.
func (t Tokens) Audiences() []string { return slices.Sorted(maps.Keys(t.byAudience)) }

// Token returns the token for an audience, and whether there is one. It stays
// the property of t.
func (t Tokens) Token(audience string) (*hardening.Plaintext, bool) {
	tok, ok := t.byAudience[audience]
	return tok.value, ok
}

// Wipe overwrites every token.
func (t Tokens) Wipe() {
	for _, tok := range t.byAudience {
		tok.value.Wipe()
	}
}

// only returns the tokens for the audiences, sharing their values. A nil list
// means all of them, an empty one none.
func (t Tokens) only(audiences []string) Tokens {
	if audiences == nil {
		return t
	}
	some := Tokens{byAudience: map[string]token{}}
	for _, a := range audiences {
		if tok, ok := t.byAudience[a]; ok {
			some.byAudience[a] = tok
		}
	}
	return some
}

// appendJSON writes the tokens as kubelet does.
func (t Tokens) appendJSON(s *scratch) error {
	separator := "{"
	for _, audience := range t.Audiences() {
		tok := t.byAudience[audience]
		s.text(separator)
		s.quote([]byte(audience))
		s.text(`:{"token":`)
		if err := tok.value.Use(func(p []byte) error { s.quote(p); return nil }); err != nil {
			return err
		}
		s.text(`,"expirationTimestamp":`)
		s.quote([]byte(tok.expires))
		s.text("}")
		separator = ","
	}
	if separator == "{" {
		s.text("{")
	}
	s.text("}")
	return nil
}
