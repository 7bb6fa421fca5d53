package admission

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-csi/portcullis/policies"
)

// Keys of audit annotations. The API server puts the webhook's name before them.
const (
	annotationDecision = "decision-id"
	annotationBundle   = "bundle"
	annotationSerial   = "serial"
	annotationRules    = "rules"
	annotationVerdict  = "verdict"
)

const (
	maxCauses    = 32
	maxWarnings  = 16
	maxDecisions = 8
	// maxAnnotation bounds a value: audit backends cut or drop large events.
	maxAnnotation = 512
)

// refusal is why a request is refused, in our own words: kubectl prints them on
// terminals, and controllers copy them into events.
type refusal struct {
	text, hint string
	rules      []string // of a denial, which has no other text
	code       int32
	critical   bool // its hint goes before others
}

// answer is what a review comes to. The zero answer has no verdict, and refuses.
type answer struct {
	resource  string
	verdict   verdict
	refusal   *refusal
	cause     error // for the log alone
	causes    []metav1.StatusCause
	warnings  []string
	decisions []string // ids
	rules     []string // ids of those that fired
	bundle    string
	serial    int64
	monitored bool
}

func refused(v verdict, r refusal) answer { return answer{verdict: v, refusal: &r} }

// refusedObject is about a request whose object is none.
func refusedObject(err error) answer {
	return refused(verdictInvalid, refusal{
		text: err.Error(), hint: "send it as the API server has it; the kind is that of the request", code: http.StatusBadRequest,
	})
}

func denial(findings []policies.Finding) *refusal {
	return &refusal{rules: policies.RuleIDs(findings), hint: remedyOf(findings), code: http.StatusForbidden, critical: critical(findings)}
}

func auditRefusal(decision string) refusal {
	r := refusal{
		text: "the decision cannot be recorded in the audit log", hint: "nothing is granted without a record; " + hintPlatform,
		code: http.StatusServiceUnavailable,
	}
	if decision != "" {
		r.text += " (decision " + decision + ")"
	}
	return r
}

// decided is the answer that a decision about a volume stands for.
func decided(d policies.Decision, o volume, engine *policies.Engine) answer {
	a := answer{
		verdict: verdictAllow, bundle: d.BundleDigest, serial: d.BundleSerial, decisions: []string{d.ID}, monitored: d.Monitored(),
		rules: policies.RuleIDs(slices.Concat(d.Deny, d.Warn)), warnings: warningsOf(d, "volume "+o.name(), engine),
	}
	switch d.Verdict() {
	case policies.VerdictAllow:
		return a
	case policies.VerdictDeny:
		a.verdict, a.refusal = verdictDeny, denial(d.Deny)
		for _, f := range d.Deny {
			a.causes = append(a.causes, cause(f.ID, fieldOf(f, o), f.Message, f.Remediation))
		}
		return a
	default:
		r := undecidedRefusal(d)
		a.verdict, a.refusal = verdictError, &r
		if r.code == http.StatusBadRequest {
			a.verdict = verdictInvalid
		}
		a.causes = []metav1.StatusCause{cause(string(d.Undecided), o.field(), r.text, r.hint)}
		return a
	}
}

// and is the answer for both: the heavier verdict, and what either has to say.
func (a answer) and(b answer) answer {
	heavy, light := a, b
	if b.verdict.weight() > a.verdict.weight() {
		heavy, light = b, a
	}
	both := heavy
	if heavy.verdict == light.verdict && heavy.refusal != nil && light.refusal != nil {
		both.refusal = heavy.refusal.and(*light.refusal)
	}
	if both.bundle == "" { // of a volume that was not decided on
		both.bundle, both.serial = light.bundle, light.serial
	}
	both.monitored = a.monitored || b.monitored
	both.causes = slices.Concat(heavy.causes, light.causes) // the last are cut
	both.warnings = slices.Concat(a.warnings, b.warnings)
	both.decisions = slices.Concat(a.decisions, b.decisions)
	both.rules = slices.Concat(a.rules, b.rules)
	if heavy.cause == nil {
		both.cause = light.cause
	}
	return both
}

// and tells of two denials the rules of both.
func (r refusal) and(other refusal) *refusal {
	r.rules = unique(slices.Concat(r.rules, other.rules))
	if other.critical && !r.critical {
		r.hint, r.critical = other.hint, true
	}
	return &r
}

// response is the answer as the API server reads it.
func (a answer) response() webhook.Response {
	out := webhook.Response{AdmissionResponse: admissionv1.AdmissionResponse{
		Allowed: a.refusal == nil && a.verdict != "", Warnings: bounded(a.warnings), AuditAnnotations: a.annotations(),
	}}
	if out.Allowed {
		out.Result = &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusOK}
		return out
	}
	r := refusal{text: "internal error", hint: "see the log of the webhook", code: http.StatusServiceUnavailable}
	if a.refusal != nil {
		r = *a.refusal
	}
	if len(r.rules) > 0 {
		r.text = textDenied + ruleList(r.rules)
	}
	out.Result = &metav1.Status{
		Status: metav1.StatusFailure, Code: r.code, Reason: reasonOf(r.code),
		Message: line(r.text, r.hint, joined(a.decisions)),
	}
	if n := len(a.causes); n > 0 {
		out.Result.Details = &metav1.StatusDetails{Causes: a.causes[:min(n, maxCauses)]}
	}
	return out
}

func reasonOf(code int32) metav1.StatusReason {
	switch code {
	case http.StatusForbidden:
		return metav1.StatusReasonForbidden
	case http.StatusRequestEntityTooLarge:
		return metav1.StatusReasonRequestEntityTooLarge
	case http.StatusBadRequest:
		return metav1.StatusReasonBadRequest
	default:
		return metav1.StatusReasonServiceUnavailable
	}
}

// annotations join the API server's audit log with ours.
func (a answer) annotations() map[string]string {
	said := string(a.verdict)
	switch {
	case a.verdict == "":
		said = string(verdictError)
	case a.verdict == verdictAllow && a.monitored:
		said = "allowed_monitored"
	}
	all := map[string]string{annotationVerdict: said}
	if len(a.decisions) > 0 {
		all[annotationDecision] = shortened(strings.Join(a.decisions, ","), maxAnnotation)
	}
	if a.bundle != "" {
		all[annotationBundle], all[annotationSerial] = a.bundle, strconv.FormatInt(a.serial, 10)
	}
	if len(a.rules) > 0 {
		all[annotationRules] = shortened(strings.Join(unique(a.rules), ","), maxAnnotation)
	}
	return all
}

func cause(id, field, message, remedy string) metav1.StatusCause {
	return metav1.StatusCause{Type: metav1.CauseType(printable(id)), Field: shortened(printable(field), maxMessageBytes), Message: line(message, remedy, "")}
}

// joined names decisions in a line.
func joined(ids []string) string {
	if n := len(ids); n > maxDecisions {
		return strings.Join(ids[:maxDecisions], ", ") + " and " + strconv.Itoa(n-maxDecisions) + " more"
	}
	return strings.Join(ids, ", ")
}

// unique returns each once, in the order of their first.
func unique(list []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}
