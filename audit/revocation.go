package audit

import (
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// Revoked is a mounted volume that was emptied: because of a denial
// (ReasonPolicyDenied), or because its time to live ran out
// (ReasonTTLExpired). The decision that this follows from is parentID. With a
// failure the volume was to be emptied, and holds content still.
func Revoked(parentID string, d policies.Decision, cause, failure Reason) Event {
	e := newEvent(TypeRevoke, OutcomeSuccess)
	e.ParentID, e.Reason, e.Severity = parentID, cause, SeverityHigh
	if failure != "" {
		e.Outcome, e.Reason, e.Severity = OutcomeFailure, failure, failure.severity()
	}
	describe(&e, d)
	return e
}

// RevokedEarlier is Revoked as the next process tells it, which knows the
// decision by its id alone: the first event may have been lost with the one
// before.
func RevokedEarlier(c Claim, decisionID string, cause Reason) Event {
	e := newEvent(TypeRevoke, OutcomeSuccess)
	e.Reason, e.Severity = cause, SeverityHigh
	e.Actor, e.Workload = c.actor(), c.workload()
	e.Policy = &Policy{DecisionID: orEmpty("decision", decisionID), Phase: string(policies.PhaseRotate)}
	return e
}

// TTLMissed is content that is older than the ttl_seconds of its decision.
func TTLMissed(parentID string, d policies.Decision) Event {
	e := newEvent(TypeTTLMissed, OutcomeFailure)
	e.ParentID, e.Reason, e.Severity = parentID, ReasonTTLExpired, ReasonTTLExpired.severity()
	describe(&e, d)
	return e
}

// MassRevocation is the brake: so many mounted volumes are denied, the first
// of them since then, that none is emptied any more.
func MassRevocation(denied int, first, last time.Time) Event {
	e := newEvent(TypeMassRevocation, OutcomeFailure)
	e.Reason, e.Severity = ReasonRevocationHeld, ReasonRevocationHeld.severity()
	first, last = first.UTC(), last.UTC()
	e.Count, e.FirstTime, e.LastTime = int64(denied), &first, &last
	return e
}
