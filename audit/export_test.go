package audit

import "regexp"

// RuleOf returns what a check tag stands for.
func RuleOf(tag string) (words []string, pattern *regexp.Regexp, longest int, ok bool) {
	r, ok := ruleOf(tag)
	return r.words, r.pattern, r.longest, ok
}

// Reasons returns the closed list.
func Reasons() []Reason { return reasons() }

// RepeatWindow is how long equal events are one.
const RepeatWindow = repeatWindow
