package audit

import "fmt"

// Type is what happened, in dotted words.
type Type string

// The types of v1. Some are made by parts that are still to come; their codes
// are fixed so that detections can be written now.
const (
	TypeDriverStart       Type = "driver.start"
	TypeDriverStop        Type = "driver.stop"
	TypeLogOpened         Type = "log.opened"
	TypeLogClosed         Type = "log.closed"
	TypeKeyRotated        Type = "key.rotated"
	TypeSinkDegraded      Type = "sink.degraded"
	TypeSinkRecovered     Type = "sink.recovered"
	TypeAuditGap          Type = "audit.gap"
	TypeAuditHeartbeat    Type = "audit.heartbeat"
	TypeAuditRepeated     Type = "audit.repeated"
	TypeAuditCounted      Type = "audit.counted"
	TypeAdmission         Type = "admission.decision"
	TypeMount             Type = "secret.mount"
	TypeRotate            Type = "secret.rotate"
	TypeUnmount           Type = "secret.unmount"
	TypeSync              Type = "secret.sync"
	TypeSyncDelete        Type = "secret.sync.delete"
	TypeTTLMissed         Type = "secret.ttl_missed"
	TypeProviderError     Type = "secret.provider_error"
	TypeRevoke            Type = "secret.revoke"
	TypePolicyChange      Type = "policy.change"
	TypePolicyLoadFailed  Type = "policy.load_failed"
	TypeConfigChange      Type = "config.change"
	TypeRBACMisconfig     Type = "rbac.misconfig"
	TypeAccessSpike       Type = "anomaly.access_spike"
	TypeUnauthorizedBurst Type = "unauthorized.burst"
	TypeMassRevocation    Type = "anomaly.mass_revocation"
	TypeIntegrityFailure  Type = "integrity.failure"
	TypeLogVerifyFailed   Type = "log.verify_failed"
	TypeForeignMount      Type = "foreign-mount"
)

// Code is PC, the four digits of the type, and a letter for the outcome: I for
// success and unknown, W for denied, E for failure.
type Code string

// Kind is one row of the table of codes.
type Kind struct {
	Type     Type
	Number   int       // the digits of the code
	Outcomes []Outcome // that events of this type have
	Meaning  string
}

// Kinds returns the table of codes. Numbers are never reused.
func Kinds() []Kind {
	var (
		done    = []Outcome{OutcomeSuccess}
		broken  = []Outcome{OutcomeFailure}
		either  = []Outcome{OutcomeSuccess, OutcomeFailure}
		decided = []Outcome{OutcomeSuccess, OutcomeFailure, OutcomeDenied, OutcomeUnknown}
	)
	return []Kind{
		{TypeDriverStart, 1, done, "the node plugin or the webhook has started"},
		{TypeDriverStop, 2, either, "it stops"},
		{TypeLogOpened, 3, done, "an epoch of the log begins, or a process goes on with one; at this size and root"},
		{TypeLogClosed, 4, done, "an epoch of the log ended at this size and root"},
		{TypeKeyRotated, 5, done, "the node's log key was replaced"},
		{TypeSinkDegraded, 6, broken, "a receiver does not take events"},
		{TypeSinkRecovered, 7, done, "it takes them again"},
		{TypeAuditGap, 8, broken, "count events were not written: nobody can tell what they said"},
		{TypeAuditHeartbeat, 9, done, "the log is alive: silence is an alarm"},
		{TypeAuditRepeated, 10, decided, "count events equal to parentId were not written"},
		{TypeAuditCounted, 11, []Outcome{OutcomeDenied}, "count refusals of a namespace were not listed, since it has filled its share of the log"},
		{TypeAdmission, 1001, decided, "the webhook decided on a pod"},
		{TypeMount, 2001, decided, "secrets for a new volume: refused, about to be delivered (stage intent), or delivered (stage complete)"},
		{TypeRotate, 2002, decided, "policy was asked again about a mounted volume (no stage), or its content was swapped (stage complete)"},
		{TypeUnmount, 2003, either, "a volume was scrubbed and unmounted"},
		{TypeSync, 2004, decided, "a secret was copied to a Secret object"},
		{TypeSyncDelete, 2005, either, "such a copy was deleted"},
		{TypeTTLMissed, 2006, broken, "content is older than its ttl_seconds"},
		{TypeProviderError, 2007, broken, "a provider failed"},
		{TypeRevoke, 2008, either, "a mounted volume was emptied, since policy denies it now or its time to live ran out; or it was to be and was not"},
		{TypePolicyChange, 3001, done, "another policy bundle is in force"},
		{TypePolicyLoadFailed, 3002, broken, "a policy bundle was refused: the one in force stays"},
		{TypeConfigChange, 3003, done, "the configuration changed"},
		{TypeRBACMisconfig, 4001, broken, "somebody may do in the cluster what defeats Portcullis"},
		{TypeAccessSpike, 8001, broken, "far more mounts than this account is known for"},
		{TypeUnauthorizedBurst, 8002, []Outcome{OutcomeDenied}, "many denials of one account"},
		{TypeMassRevocation, 8003, broken, "count mounted volumes of the node are denied at once: revocation has stopped until they are fewer, or a bundle says mass_revoke"},
		{TypeIntegrityFailure, 9001, broken, "something happened to a volume that must not be possible"},
		{TypeLogVerifyFailed, 9002, broken, "the log is not what was signed"},
		{TypeForeignMount, 9003, broken, "a mount that is not ours was at a target path"},
	}
}

// Code returns the code of an event of this kind with this outcome.
func (k Kind) Code(o Outcome) Code {
	letter := "I"
	switch o {
	case OutcomeDenied:
		letter = "W"
	case OutcomeFailure:
		letter = "E"
	case OutcomeSuccess, OutcomeUnknown:
	}
	return Code(fmt.Sprintf("PC%04d%s", k.Number, letter))
}

// codeOf returns "" for a pair that is not in the table, which no event passes
// validation with.
func codeOf(t Type, o Outcome) Code {
	for _, k := range Kinds() {
		if k.Type != t {
			continue
		}
		for _, have := range k.Outcomes {
			if have == o {
				return k.Code(o)
			}
		}
	}
	return ""
}
