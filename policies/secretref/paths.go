package secretref

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a file's path below the volume, those of package hardening.
const (
	maxPathBytes    = 4096
	maxElementBytes = 255
	maxPathDepth    = 8
	maxNameBytes    = 512
)

// validFile reports whether p can be a file below a volume: the rules by which
// the volume itself is written, and printable, since events carry it.
func validFile(p string) bool {
	if p == "" || p == "." || len(p) > maxPathBytes || path.IsAbs(p) || path.Clean(p) != p || !printable(p) {
		return false
	}
	elements := strings.Split(p, "/")
	if len(elements) > maxPathDepth {
		return false
	}
	for _, e := range elements {
		// kubelet's AtomicWriter layout keeps its own entries under such names.
		if len(e) > maxElementBytes || strings.HasPrefix(e, "..") {
			return false
		}
	}
	return true
}

// validName reports whether s can be the name of an object of a provider whose
// code we do not know. The refused characters are those that a provider which
// builds URLs without escaping would turn into another path: "a/%2e%2e/b" and
// "a/..;/b" must not pass as something below "a/". Nor may an element be empty:
// "a/" and "a//b" are the secrets "a" and "a/b" to whoever cleans paths. Only the
// first may be, since names of AWS's parameter store begin with a slash.
func validName(s string) bool {
	if s == "" || len(s) > maxNameBytes || !printable(s) || strings.ContainsAny(s, `%?\`) {
		return false
	}
	for e := range strings.SplitSeq(strings.TrimPrefix(s, "/"), "/") {
		if e == "" || e == "." || strings.HasPrefix(e, "..") {
			return false
		}
	}
	return true
}

// printable refuses controls, and the format characters with which a name can
// be displayed as another one (CVE-2021-42574).
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// conflicting reports whether two files of a volume are the same, or one is a
// directory of the other.
func conflicting(files []string) bool {
	names := make(map[string]bool, len(files))
	for _, f := range files {
		if names[f] {
			return true
		}
		names[f] = true
	}
	for _, f := range files {
		for dir := path.Dir(f); dir != "."; dir = path.Dir(dir) {
			if names[dir] {
				return true
			}
		}
	}
	return false
}
