package policies

import (
	"fmt"
	"strings"
)

// Verdict is the outcome of a decision. The zero value is VerdictError, which
// grants nothing and revokes nothing.
type Verdict string

// The three verdicts. Allow and deny come only from a completed evaluation of
// a valid bundle over complete facts; everything else is error.
const (
	VerdictError Verdict = ""
	VerdictAllow Verdict = "allow"
	VerdictDeny  Verdict = "deny"
)

// String returns allow, deny or error.
func (v Verdict) String() string {
	if v == VerdictAllow || v == VerdictDeny {
		return string(v)
	}
	return "error"
}

// Mode is enforce, or monitor where a signed bundle says so.
type Mode string

// The modes of a decision.
const (
	ModeEnforce Mode = "enforce"
	ModeMonitor Mode = "monitor"
)

// UndecidedReason says why there is no verdict. It is a closed list, so that
// events and metrics can carry it.
type UndecidedReason string

// Why a decision has the verdict error.
const (
	UndecidedNoBundle      UndecidedReason = "NoBundle"
	UndecidedBundleExpired UndecidedReason = "BundleExpired"
	UndecidedTimeout       UndecidedReason = "EvaluationTimeout"
	UndecidedEngine        UndecidedReason = "EvaluationFailed"
	UndecidedBadDecision   UndecidedReason = "MalformedDecision"
	UndecidedInput         UndecidedReason = "InvalidInput"
)

// Severity of a finding.
type Severity string

// The severities, the SIEM's words.
const (
	SeverityInfo     Severity = "info"
	SeverityLow      Severity = "low"
	SeverityMedium   Severity = "medium"
	SeverityHigh     Severity = "high"
	SeverityCritical Severity = "critical"
)

// Finding is one rule that fired.
type Finding struct {
	ID          string   `json:"id"` // PR-nnn
	Check       string   `json:"check"`
	Severity    Severity `json:"severity"`
	Secret      string   `json:"secret,omitempty"`
	Message     string   `json:"message"`
	Remediation string   `json:"remediation,omitempty"`
	Waivable    bool     `json:"waivable"`
	Waived      bool     `json:"waived,omitempty"`
	Monitored   bool     `json:"monitored,omitempty"`
}

// OnLoss is keep or scrub: what happens to mounted content.
type OnLoss string

// What to do with mounted content when it is revoked or expires.
const (
	OnLossKeep  OnLoss = "keep"
	OnLossScrub OnLoss = "scrub"
)

// Obligations are conditions of an allow, enforced by Go. An obligation that
// this engine does not know makes the decision an error.
type Obligations struct {
	MaxFileMode     *uint32  `json:"max_file_mode,omitempty" doc:"Read bits that files may have, decimal: 288 is 0440."`
	RequiredFSGroup *int64   `json:"required_fs_group,omitempty" doc:"Group that the volume has to have."`
	TTLSeconds      int64    `json:"ttl_seconds,omitempty" doc:"Longest time between two fetches."`
	MaxStaleSeconds int64    `json:"max_stale_seconds,omitempty" doc:"Age of cached content that a new volume may get; absent: none."`
	AuditLevel      int      `json:"audit_level,omitempty" doc:"0 to 2."`
	SyncAllowed     bool     `json:"sync_allowed,omitempty" doc:"False forbids copies in Secret objects."`
	OnRevoke        OnLoss   `json:"on_revoke,omitempty" form:"loss" doc:"What happens to content that is revoked: scrub, the default, or keep."`
	OnExpire        OnLoss   `json:"on_expire,omitempty" form:"loss" doc:"What happens to content whose ttl_seconds run out: keep, the default, or scrub."`
	Audiences       []string `json:"audiences,omitempty" doc:"Tokens that go to the provider; absent: all."`
}

// Decision is the answer of an Engine to one Input. Only an Engine makes one
// whose verdict is not error.
type Decision struct {
	// ID is equal for equal library, bundle, facts and outcome, whatever the
	// time: 26 characters of base32.
	ID            string
	BundleDigest  string // sha256:<hex>
	LibraryDigest string // sha256:<hex>
	BundleSerial  int64
	// BundleSigned is false for bundles that no signature vouches for; only
	// development builds have such decisions, and every event says so.
	BundleSigned bool
	// BreakGlass is set under a bundle for emergencies: every event says so.
	BreakGlass  bool
	InputSHA256 string // of the input without now_ns, 64 hexadecimal digits
	Mode        Mode
	Undecided   UndecidedReason // set only if the verdict is error
	Deny, Warn  []Finding
	Waivers     []string
	Grants      []string
	Obligations Obligations

	verdict Verdict
	input   Input
	cause   error
}

// Verdict returns the outcome; the zero Decision's is VerdictError.
func (d Decision) Verdict() Verdict { return d.verdict }

// Input returns the facts that were decided on.
func (d Decision) Input() Input { return d.input }

// Cause returns what kept the engine from a verdict, nil where there is one: an
// *InputError where the input is out of bounds. It is for the log of operators
// and for the reply about the input, not for events: it may quote policy.
func (d Decision) Cause() error { return d.cause }

// Monitored reports whether denials were let through because the bundle is in
// monitor mode.
func (d Decision) Monitored() bool {
	for _, f := range d.Warn {
		if f.Monitored {
			return true
		}
	}
	return false
}

// Grant returns the proof of an allow, else a *DeniedError or an *UndecidedError.
func (d Decision) Grant() (Grant, error) {
	switch d.verdict {
	case VerdictAllow:
		return Grant{decision: &d}, nil
	case VerdictDeny:
		return Grant{}, &DeniedError{DecisionID: d.ID, Findings: d.Deny}
	default:
		return Grant{}, &UndecidedError{DecisionID: d.ID, Reason: d.Undecided}
	}
}

// DeniedError says which rules refused.
type DeniedError struct {
	DecisionID string
	Findings   []Finding
}

// Error names the rules and the decision, nothing that came from outside.
func (e *DeniedError) Error() string {
	return fmt.Sprintf("denied by policy: %s (decision %s)", strings.Join(e.RuleIDs(), ", "), e.DecisionID)
}

// RuleIDs returns the ids of the rules that refused, each once, in the order
// of the findings.
func (e *DeniedError) RuleIDs() []string { return RuleIDs(e.Findings) }

// UndecidedError says why there is no verdict.
type UndecidedError struct {
	DecisionID string
	Reason     UndecidedReason
}

// Error names the reason.
func (e *UndecidedError) Error() string {
	return fmt.Sprintf("policy did not reach a decision: %s", e.Reason)
}

// RuleIDs returns the ids of findings, each once, in their order.
func RuleIDs(findings []Finding) []string {
	seen := make(map[string]bool, len(findings))
	ids := make([]string, 0, len(findings))
	for _, f := range findings {
		if !seen[f.ID] {
			seen[f.ID] = true
			ids = append(ids, f.ID)
		}
	}
	return ids
}
