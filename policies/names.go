package policies

import (
	"regexp"
	"strings"
)

// What names may look like. Keys of the grant index are made of names, so a
// name must never hold the characters that separate them.
var (
	labelPattern        = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	namePattern         = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$`)
	providerPattern     = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,30}$`)
	digestPattern       = regexp.MustCompile(`^[0-9a-f]{64}$`)
	bundleDigestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	rulePattern         = regexp.MustCompile(`^PR-[0-9]{3}$`)
	// One # and one @ at most, in this order: the library cuts the key and the
	// version off there, and a second one would move the cut.
	secretPattern       = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,30}://[^/#@[:cntrl:] ]+/[^#@[:cntrl:] ]+(#[^#@[:cntrl:] ]+)?(@[^#@[:cntrl:] ]+)?$`)
	secretPrefixPattern = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,30}://[^/#@[:cntrl:] ]+(/[^#@[:cntrl:] ]*)?$`)
)

func validLabel(s string) bool { return len(s) <= 63 && labelPattern.MatchString(s) }

func validName(s string) bool { return len(s) <= 253 && namePattern.MatchString(s) }

func validSecret(s string) bool { return secretPattern.MatchString(s) && !hasDotElement(s) }

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

// ValidSecretKey reports whether the grant index may have this key: a whole id,
// a prefix that ends in "/" below a backend, or an id and "#" for each of its
// keys. Unparsed ids are keys in full only: nobody can say what a part of a
// digest stands for.
func ValidSecretKey(key string) bool {
	if digest, ok := strings.CutPrefix(key, unparsedPrefix); ok {
		return digestPattern.MatchString(digest)
	}
	if path, ok := strings.CutSuffix(key, "#"); ok {
		return validSecret(path) && !strings.ContainsAny(path, "#@")
	}
	if path, ok := strings.CutSuffix(key, "/"); ok {
		return secretPrefixPattern.MatchString(path) && !hasDotElement(path)
	}
	return validSecret(key)
}
