package admission

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

const (
	maxMessageBytes = 700 // as the node plugin's replies
	// maxWarningBytes is what Kubernetes asks of warnings; more than 256 characters
	// it cuts, and drops what is beyond 4096 in all.
	maxWarningBytes = 120
	maxRules        = 12

	textDenied   = "denied by policy: "
	hintPlatform = "the platform team sees the reason in the webhook's log and readiness; try again later"
)

// line puts a message together as the node plugin does; what does not fit is cut
// off the hint.
func line(text, hint, decision string) string {
	tail := ""
	if decision != "" {
		tail = "; decision " + printable(decision)
	}
	head := printable(text)
	if hint != "" {
		head += "; hint: " + printable(hint)
	}
	return shortened(head, maxMessageBytes-len(tail)) + tail
}

// shortened cuts a text that is printable ASCII.
func shortened(s string, most int) string {
	const ellipsis = "..."
	if len(s) <= most {
		return s
	}
	return s[:most-len(ellipsis)] + ellipsis
}

// printable replaces what is not printable ASCII: kubectl passes escape sequences
// on to terminals.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

func ruleList(ids []string) string {
	if n := len(ids); n > maxRules {
		return fmt.Sprintf("%s and %d more", strings.Join(ids[:maxRules], ", "), n-maxRules)
	}
	return strings.Join(ids, ", ")
}

// remedyOf is the remedy of the first finding, unless one is critical.
func remedyOf(findings []policies.Finding) string {
	remedy := ""
	for _, f := range findings {
		if f.Severity == policies.SeverityCritical && f.Remediation != "" {
			return f.Remediation
		}
		remedy = cmp.Or(remedy, f.Remediation)
	}
	return cmp.Or(remedy, "ask the security team about these rules")
}

func critical(findings []policies.Finding) bool {
	return slices.ContainsFunc(findings, func(f policies.Finding) bool { return f.Severity == policies.SeverityCritical })
}

// undecidedRefusal words a decision without a verdict. Only facts that are out of
// bounds are for the pod's author to mend.
func undecidedRefusal(d policies.Decision) refusal {
	if e, ok := errors.AsType[*policies.InputError](d.Cause()); ok {
		return refusal{text: fmt.Sprintf("input field %s: %s", e.Field, e.Limit), hint: e.Remedy, code: http.StatusBadRequest}
	}
	e := &policies.UndecidedError{DecisionID: d.ID, Reason: d.Undecided}
	return refusal{text: e.Error(), hint: hintPlatform, code: http.StatusServiceUnavailable}
}

// warningsOf tells what a decision says besides its verdict. of is what it is
// about.
func warningsOf(d policies.Decision, of string, engine *policies.Engine) []string {
	until := ""
	if end := engine.MonitorEnd(); !end.IsZero() {
		until = " from " + end.UTC().Format("2006-01-02")
	}
	var all []string
	for _, f := range d.Warn {
		switch {
		case f.Monitored:
			all = append(all, fmt.Sprintf("%s: %s would be denied%s: %s", of, f.ID, until, f.Message))
		case f.Waived:
			all = append(all, fmt.Sprintf("%s: %s is waived: %s", of, f.ID, f.Message))
		default:
			all = append(all, fmt.Sprintf("%s: %s: %s", of, f.ID, f.Message))
		}
	}
	return all
}

// bounded makes warnings fit: each once, not too long, and not too many.
func bounded(warnings []string) []string {
	var out []string
	for _, w := range warnings {
		out = append(out, shortened(printable(w), maxWarningBytes))
	}
	out = unique(out) // once cut, those of several volumes may be the same
	if n := len(out); n > maxWarnings {
		out = append(out[:maxWarnings-1], fmt.Sprintf("and %d more warnings", n-maxWarnings+1))
	}
	return out
}
