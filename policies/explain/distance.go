package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

const (
	// maxPathEdits: paths that differ in more letters are no misspelling.
	maxPathEdits = 3
	// maxEditBytes bounds the time of a comparison.
	maxEditBytes = 256
)

// asked is a secret that is asked for, taken apart once for all grants.
type asked struct {
	keys []string // of the index, that cover it
	parts
}

func ask(secret string) asked { return asked{policies.SecretKeys(secret), split(secret)} }

// covers reports whether one of the grant's keys is one that the library looks up.
func (k *granted) covers(a asked) bool {
	return slices.ContainsFunc(k.secrets, func(key string) bool { return slices.Contains(a.keys, key) })
}

// distance says how far the closest secret of the grant is from the one that is
// asked for, and in what: 0 and no text if the grant covers it. Grants of other
// backends are not near: a place is no misspelling of another.
func (k *granted) distance(a asked) (score int, lack string, near bool) {
	if k.covers(a) {
		return 0, "", true
	}
	for _, key := range k.secrets {
		if a.backend == "" || !strings.HasPrefix(key, a.backend) {
			continue
		}
		s, reason, ok := distance(key, a.parts)
		if ok && (!near || s < score) {
			score, lack, near = s, reason, true
		}
	}
	return score, lack, near
}

// distance compares a key of the index with an id.
func distance(key string, want parts) (int, string, bool) {
	pattern := key
	if strings.HasSuffix(key, "/") || strings.HasSuffix(key, "#") {
		pattern += "*"
	}
	have := split(strings.TrimSuffix(key, "/"))
	everyKey := strings.HasSuffix(key, "#")
	switch {
	case want.backend != have.backend:
		return 0, "", false
	case want.path == have.path && everyKey:
		return 1, fmt.Sprintf("is for %s, each key of it and not the whole", pattern), true
	case want.path == have.path && want.key == have.key:
		return 1, fmt.Sprintf("is for %s, another version of it", pattern), true
	case want.path == have.path && have.key == "":
		return 1, fmt.Sprintf("is for %s, not for the key %s of it", pattern, want.key), true
	case want.path == have.path:
		return 1, fmt.Sprintf("is for %s, another key of it", pattern), true
	}
	if strings.HasPrefix(want.path, have.path+"/") && !strings.HasSuffix(key, "/") {
		return 2, fmt.Sprintf("is for %s alone, not for what is below it", pattern), true
	}
	if edits := edits(head(want.path, have.path, key), have.path); edits <= maxPathEdits && edits*3 < len(have.path) {
		return 2 + edits, fmt.Sprintf("is for %s, not for this secret", pattern), true
	}
	if shared := sharedElements(want.path, have.path); shared > 0 && 2*shared >= strings.Count(have.path, "/")+1 {
		return 6 - min(shared, 3), fmt.Sprintf("is for %s, not for this secret", pattern), true
	}
	return 0, "", false
}

// head cuts a path to as many elements as a prefix has.
func head(path, prefix, key string) string {
	if !strings.HasSuffix(key, "/") {
		return path
	}
	left := strings.Count(prefix, "/") + 1
	for i := range len(path) {
		if path[i] == '/' {
			if left--; left == 0 {
				return path[:i]
			}
		}
	}
	return path
}

type parts struct{ backend, path, key string }

// split takes an id apart: "vault://host" or "vault://host/kv" has its path empty
// or "kv".
func split(id string) parts {
	if strings.HasPrefix(id, "unparsed:") {
		return parts{}
	}
	id, _, _ = strings.Cut(id, "@")
	id, key, _ := strings.Cut(id, "#")
	provider, rest, _ := strings.Cut(id, "://")
	backend, path, _ := strings.Cut(rest, "/")
	return parts{provider + "://" + backend, path, key}
}

// sharedElements counts the leading path elements that are equal.
func sharedElements(a, b string) int {
	n := 0
	for {
		x, restA, moreA := strings.Cut(a, "/")
		y, restB, moreB := strings.Cut(b, "/")
		if x != y {
			return n
		}
		if n++; !moreA || !moreB {
			return n
		}
		a, b = restA, restB
	}
}

// edits is the Levenshtein distance. Texts that are too long for a misspelling to
// matter are far apart.
func edits(a, b string) int {
	if len(a) > maxEditBytes || len(b) > maxEditBytes || max(len(a), len(b))-min(len(a), len(b)) > maxPathEdits {
		return maxPathEdits + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// grantRules are the findings that a grant would answer.
func grantRules() []string { return []string{"PR-001", "PR-013", "PR-020", "PR-101"} }

// onlyGrantsLack reports whether grants are all that keeps the volume from its
// secrets: a suggestion beside a mistake would be a distraction.
func onlyGrantsLack(d policies.Decision) bool {
	for _, f := range d.Deny {
		answered := false
		for _, id := range grantRules() {
			answered = answered || f.ID == id
		}
		if !answered {
			return false
		}
	}
	return len(d.Deny) > 0
}
