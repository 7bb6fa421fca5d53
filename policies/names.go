package policies

import (
	"encoding/hex"
	"regexp"
	"strings"
)

// What names may look like. Keys of the grant index are made of names, so a
// name must never hold the characters that separate them.
var (
	driverPattern       = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$`)
	labelPattern        = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	namePattern         = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$`)
	providerPattern     = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,30}$`)
	digestPattern       = regexp.MustCompile(`^[0-9a-f]{64}$`)
	bundleDigestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	entryPattern        = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$`)
	rulePattern         = regexp.MustCompile(`^PR-[0-9]{3}$`)
	// One # and one @ at most, in this order: the library cuts the key and the
	// version off there, and a second one would move the cut.
	secretPattern       = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,30}://[^/#@[:cntrl:] ]+/[^#@[:cntrl:] ]+(#[^#@[:cntrl:] ]+)?(@[^#@[:cntrl:] ]+)?$`)
	secretPrefixPattern = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,30}://[^/#@[:cntrl:] ]+(/[^#@[:cntrl:] ]*)?$`)
)

func validLabel(s string) bool { return len(s) <= 63 && labelPattern.MatchString(s) }

func validName(s string) bool { return len(s) <= 253 && namePattern.MatchString(s) }

// ValidClusterName reports whether input and events can have this as the name of the
// cluster. It is the one rule for --cluster-name: both gates and the chart hold it.
func ValidClusterName(s string) bool { return validName(s) }

// ValidDriverName reports whether a CSI driver can have this name: what GetPluginInfo
// may answer (CSI specification, GetPluginInfoResponse) and a CSIDriver object be
// called. It is the one rule for --drivername.
func ValidDriverName(s string) bool { return len(s) <= 63 && driverPattern.MatchString(s) }

// validSecret reports whether s is a whole id. A path that ends in a slash is
// none: a backend may serve it as the path without.
func validSecret(s string) bool {
	path, _, _ := strings.Cut(s, "@")
	path, _, _ = strings.Cut(path, "#")
	return secretPattern.MatchString(s) && !hasDotElement(s) && !strings.HasSuffix(path, "/")
}

// plainBytes may stand for themselves in an id, besides letters and digits.
// Package secretref writes every other byte as % and two digits.
const plainBytes = "-._~:=+,"

// canonical reports whether an id, or a prefix without its last slash, is
// written as package secretref writes it. A grant in another spelling would be
// accepted and never apply.
func canonical(id string) bool {
	_, rest, _ := strings.Cut(id, "://")
	rest, version, _ := strings.Cut(rest, "@")
	rest, key, _ := strings.Cut(rest, "#")
	backend, path, _ := strings.Cut(rest, "/")
	return !strings.HasSuffix(path, "/") && escaped(path, "/") && escaped(backend, "") && escaped(key, "") && escaped(version, "")
}

// escaped reports whether a part of an id has escapes exactly where it needs them.
func escaped(part, separator string) bool {
	for i := 0; i < len(part); i++ {
		c := part[i]
		if plainByte(c) || strings.IndexByte(separator, c) >= 0 {
			continue
		}
		if c != '%' || i+2 >= len(part) {
			return false
		}
		b, err := hex.DecodeString(part[i+1 : i+3])
		if err != nil || strings.ToUpper(part[i:i+3]) != part[i:i+3] || plainByte(b[0]) || strings.IndexByte(separator, b[0]) >= 0 {
			return false
		}
		i += 2
	}
	return true
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(plainBytes, c) >= 0
}

// hasDotElement reports whether a path element is . or .. in any spelling:
// a grant for p://b/a/ must not cover p://b/a/../c, which a backend may resolve.
func hasDotElement(id string) bool {
	path, _, _ := strings.Cut(id, "#")
	path, _, _ = strings.Cut(path, "@")
	for element := range strings.SplitSeq(strings.ToLower(path), "/") {
		switch strings.ReplaceAll(element, "%2e", ".") {
		case ".", "..":
			return true
		}
	}
	return false
}

// ValidSecret reports whether grants and waivers may name one secret by s: a
// whole id in its one spelling, or unparsed parameters in full.
func ValidSecret(s string) bool {
	if digest, ok := strings.CutPrefix(s, unparsedPrefix); ok {
		return digestPattern.MatchString(digest)
	}
	return validSecret(s) && canonical(s)
}

// ValidSecretKey reports whether the grant index may have this key: a whole id,
// a prefix that ends in "/" below a backend, or an id and "#" for each of its
// keys. Unparsed ids are keys in full only: nobody can say what a part of a
// digest stands for.
func ValidSecretKey(key string) bool {
	if path, ok := strings.CutSuffix(key, "#"); ok {
		return validSecret(path) && canonical(path) && !strings.ContainsAny(path, "#@")
	}
	if path, ok := strings.CutSuffix(key, "/"); ok {
		return secretPrefixPattern.MatchString(path) && canonical(path) && !hasDotElement(path)
	}
	return ValidSecret(key)
}
