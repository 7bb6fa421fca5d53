package secretref

import (
	"errors"
	"strings"
)

// ErrMalformed is wrapped by, or is, every error of Parse.
var ErrMalformed = errors.New("secret id is not <provider>://<backend>/<path>[#key][@version] in its canonical form")

// ID is the absolute name of a secret: <provider>://<backend>/<path>[#key][@version].
// Key and Version are optional; an empty one is absent.
type ID struct {
	Provider string
	Backend  string
	Path     string
	Key      string
	Version  string
}

// plainBytes may stand for themselves in an id, besides letters and digits.
// Everything else is percent-encoded: # and @ separate the parts, * is the
// grants' wildcard, and control, white space and non-ASCII characters would
// let two ids look alike in an event.
const plainBytes = "-._~:=+,"

const upperHex = "0123456789ABCDEF"

// String returns the canonical text: equal ids have equal texts, and different
// ids have different ones.
func (id ID) String() string {
	var b strings.Builder
	b.WriteString(id.Provider)
	b.WriteString("://")
	escape(&b, id.Backend, false)
	b.WriteByte('/')
	escape(&b, id.Path, true)
	if id.Key != "" {
		b.WriteByte('#')
		escape(&b, id.Key, false)
	}
	if id.Version != "" {
		b.WriteByte('@')
		escape(&b, id.Version, false)
	}
	return b.String()
}

// Parse reads a canonical id. A text that String would write in another way is
// an error, so that a secret cannot be named in two ways.
func Parse(s string) (ID, error) {
	provider, rest, ok := strings.Cut(s, "://")
	if !ok || !validProvider(provider) {
		return ID{}, ErrMalformed
	}
	rest, version, _ := strings.Cut(rest, "@")
	rest, key, _ := strings.Cut(rest, "#")
	backend, path, _ := strings.Cut(rest, "/")
	id := ID{Provider: provider}
	for _, part := range []struct {
		to   *string
		text string
	}{{&id.Backend, backend}, {&id.Path, path}, {&id.Key, key}, {&id.Version, version}} {
		if *part.to, ok = unescape(part.text); !ok {
			return ID{}, ErrMalformed
		}
	}
	if id.Backend == "" || id.Path == "" || id.String() != s {
		return ID{}, ErrMalformed
	}
	return id, nil
}

// validProvider follows the driver's rule for provider names.
func validProvider(s string) bool {
	if s == "" || len(s) > 30 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// escape keeps slashes only where they separate the elements of a path: a
// grant's prefix ends at one.
func escape(b *strings.Builder, s string, slashes bool) {
	for i := range len(s) {
		c := s[i]
		if alphanumeric(c) || strings.IndexByte(plainBytes, c) >= 0 || slashes && c == '/' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
}

// digit is the value of an upper case hexadecimal digit.
func digit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	default:
		return 0, false
	}
}

func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 {
		return s, true
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, isHi := digit(s[i+1])
		lo, isLo := digit(s[i+2])
		if !isHi || !isLo {
			return "", false
		}
		out = append(out, hi<<4|lo)
		i += 2
	}
	return string(out), true
}
