package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
)

// What strings may look like that are not words of a list. A string from
// outside that does not fit is replaced by its SHA-256, so that the event is
// still written and says nothing it must not: hence the second branch of most.
var (
	patternUUID      = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	patternCode      = regexp.MustCompile(`^PC[0-9]{4}[IWE]$`)
	patternHex64     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	patternDigest    = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	patternDecision  = regexp.MustCompile(`^[A-Z2-7]{26}$`)
	patternNamespace = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?|sha256:[0-9a-f]{64})$`)
	patternName      = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9._]{0,251}[A-Za-z0-9])?|sha256:[0-9a-f]{64})$`)
	patternUID       = regexp.MustCompile(`^([0-9A-Za-z][-0-9A-Za-z]{0,63}|sha256:[0-9a-f]{64})$`)
	patternProvider  = regexp.MustCompile(`^([A-Za-z0-9_-]{1,30}|sha256:[0-9a-f]{64})$`)
	patternActor     = regexp.MustCompile(`^[-A-Za-z0-9@:._/+=~]{1,400}$`)
	patternIP        = regexp.MustCompile(`^[0-9A-Fa-f:.]{2,45}$`)
	patternSecret    = regexp.MustCompile(`^([A-Za-z0-9_-]{1,30}://[!#-\[\]-~]+|unparsed:[0-9a-f]{64}|sha256:[0-9a-f]{64})$`)
	patternPath      = regexp.MustCompile(`^([-A-Za-z0-9_.+=@:,~/ ]+|sha256:[0-9a-f]{64})$`)
	patternVersion   = regexp.MustCompile(`^([A-Za-z0-9][-A-Za-z0-9_.:/+=@]{0,127}|sha256:[0-9a-f]{64})$`)
	patternRelease   = regexp.MustCompile(`^([A-Za-z0-9(][-A-Za-z0-9_.+()]{0,127}|sha256:[0-9a-f]{64})$`)
	patternRule      = regexp.MustCompile(`^(PR-[0-9]{3,4}|sha256:[0-9a-f]{64})$`)
	patternObject    = regexp.MustCompile(`^([A-Za-z0-9][-A-Za-z0-9_.]{0,62}|sha256:[0-9a-f]{64})$`)
	patternRV        = regexp.MustCompile(`^([0-9A-Za-z][-0-9A-Za-z]{0,63}|sha256:[0-9a-f]{64})$`)
	patternVerifier  = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9._/]{0,199}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}$`)
	patternTraceID   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	patternSpanID    = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

const (
	maxSecretLength = 2048
	maxPathLength   = 1024
)

// rule says what one kind of string may be: one of words, or anything short
// enough that the pattern matches.
type rule struct {
	words   []string
	pattern *regexp.Regexp
	longest int // 0: the pattern bounds it
}

// ruleOf returns the rule that a check tag names.
func ruleOf(tag string) (r rule, ok bool) {
	if words := wordsOf(tag); words != nil {
		return rule{words: words}, true
	}
	r.pattern = patternOf(tag)
	switch tag {
	case "secret":
		r.longest = maxSecretLength
	case "path":
		r.longest = maxPathLength
	}
	return r, r.pattern != nil
}

func wordsOf(tag string) []string {
	switch tag {
	case "schema":
		return []string{SchemaID}
	case "type":
		return texts(types())
	case "stage":
		return texts(stages())
	case "outcome":
		return texts(outcomes())
	case "severity":
		return texts(severities())
	case "reason":
		return texts(reasons())
	case "effect":
		return texts(effects())
	case "actorkind":
		return texts(actorKinds())
	case "changekind":
		return texts(changeKinds())
	case "verb":
		return texts(verbs())
	case "component":
		return []string{"driver", "admission", "cli"}
	case "phase":
		return []string{"admission", "mount", "rotate", "sync", "ci"}
	default:
		return nil
	}
}

func patternOf(tag string) *regexp.Regexp {
	switch tag {
	case "uuid":
		return patternUUID
	case "code":
		return patternCode
	case "hex64":
		return patternHex64
	case "digest":
		return patternDigest
	case "decision":
		return patternDecision
	case "namespace":
		return patternNamespace
	case "name":
		return patternName
	case "uid":
		return patternUID
	case "provider":
		return patternProvider
	case "actor":
		return patternActor
	case "ip":
		return patternIP
	case "secret":
		return patternSecret
	case "path":
		return patternPath
	case "version":
		return patternVersion
	case "release":
		return patternRelease
	case "rule":
		return patternRule
	case "object":
		return patternObject
	case "resourceversion":
		return patternRV
	case "verifierkey":
		return patternVerifier
	case "traceid":
		return patternTraceID
	case "spanid":
		return patternSpanID
	default:
		return nil
	}
}

func texts[T ~string](words []T) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return out
}

func types() []Type {
	kinds := Kinds()
	out := make([]Type, len(kinds))
	for i, k := range kinds {
		out[i] = k.Type
	}
	return out
}

func (r rule) matches(s string) bool {
	if r.pattern == nil {
		for _, w := range r.words {
			if w == s {
				return true
			}
		}
		return false
	}
	return (r.longest == 0 || len(s) <= r.longest) && r.pattern.MatchString(s)
}

// vetted returns s if it fits the pattern, else its SHA-256: enough to
// recognise the value by, for whoever has it.
func vetted(tag, s string) string {
	if s == "" {
		return ""
	}
	if r, ok := ruleOf(tag); ok && r.matches(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func vettedAll(tag string, list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = vetted(tag, s)
	}
	return out
}
