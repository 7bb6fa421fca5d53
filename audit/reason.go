package audit

import "github.com/portcullis-csi/portcullis/policies"

// Reason says why, in a word of a closed list: never in the words of a
// provider, which may quote a secret.
type Reason string

// Why policy or the driver refused.
const (
	ReasonPolicyDenied        Reason = "PolicyDenied"        // a rule, see policy.rules
	ReasonInvalidRequest      Reason = "InvalidRequest"      // kubelet's request or a volume attribute
	ReasonInvalidClass        Reason = "InvalidClass"        // the SecretProviderClass
	ReasonIdentityUnconfirmed Reason = "IdentityUnconfirmed" // the pod is not what the request says
	ReasonBudgetExceeded      Reason = "BudgetExceeded"      // memory of the volume or the node
	ReasonBeyondGrant         Reason = "BeyondGrant"         // files that nobody asked for, or too few
	ReasonParametersChanged   Reason = "ParametersChanged"   // between decision and fetch
	ReasonFileRefused         Reason = "FileRefused"         // a path or mode that no volume may have
)

// Why there was no verdict: the words of policies.UndecidedReason.
const (
	ReasonNoBundle          = Reason(policies.UndecidedNoBundle)      // no policy is in force
	ReasonBundleExpired     = Reason(policies.UndecidedBundleExpired) // the bundle in force has ended
	ReasonEvaluationTimeout = Reason(policies.UndecidedTimeout)       // policy took longer than its budget
	ReasonEvaluationFailed  = Reason(policies.UndecidedEngine)        // policy broke while it was evaluated
	ReasonMalformedDecision = Reason(policies.UndecidedBadDecision)   // policy answered what the contract does not know
	ReasonInvalidInput      = Reason(policies.UndecidedInput)         // the facts are outside the bounds of the contract
)

// What was missing or broken.
const (
	ReasonPodNotFound         Reason = "PodNotFound"         // the API server does not know the pod
	ReasonClassNotFound       Reason = "ClassNotFound"       // nor the SecretProviderClass
	ReasonFactsUnavailable    Reason = "FactsUnavailable"    // the cluster did not answer
	ReasonDriverObjectUnfit   Reason = "DriverObjectUnfit"   // the CSIDriver object is missing, or has authors of pods say who they are
	ReasonAuditUnavailable    Reason = "AuditUnavailable"    // the log could not be written
	ReasonProviderUnavailable Reason = "ProviderUnavailable" // no socket, or no answer
	ReasonProviderUntrusted   Reason = "ProviderUntrusted"   // owner or mode of its socket
	ReasonProviderDenied      Reason = "ProviderDenied"      // the provider refused
	ReasonProviderNotFound    Reason = "ProviderNotFound"    // it does not have the object
	ReasonProviderInvalid     Reason = "ProviderInvalid"     // an answer that is none
	ReasonProviderError       Reason = "ProviderError"       // the provider failed in another way
	ReasonVolumeFailed        Reason = "VolumeFailed"        // make, fill, attach or swap
	ReasonUnmountFailed       Reason = "UnmountFailed"       // something is still mounted
	ReasonScrubIncomplete     Reason = "ScrubIncomplete"     // some file kept its content until it was unmounted
	ReasonDeadlineExceeded    Reason = "DeadlineExceeded"    // it took too long
	ReasonAborted             Reason = "Aborted"             // another call for the volume came in between
	ReasonRevocationHeld      Reason = "RevocationHeld"      // too many volumes of the node would be revoked at once
	ReasonTTLExpired          Reason = "TTLExpired"          // no fetch succeeded within ttl_seconds
	ReasonOrphaned            Reason = "Orphaned"            // a volume whose pod neither kubelet nor the API server knows
	ReasonInternal            Reason = "Internal"            // a defect of Portcullis
)

// What an integrity.failure or foreign-mount found.
const (
	ReasonProviderWroteTarget   Reason = "ProviderWroteTarget"    // plaintext in a plain directory
	ReasonVolumeCovered         Reason = "VolumeCovered"          // something was mounted over our volume
	ReasonForeignMountKept      Reason = Reason(ForeignKept)      // a publish met it and left it alone
	ReasonForeignMountUnmounted Reason = Reason(ForeignUnmounted) // an unpublish met it
	ReasonLogTampered           Reason = "LogTampered"            // the log is not what was signed
)

// How a delivery ended that was interrupted.
const (
	ReasonRecovered Reason = "Recovered" // the volume was attached
	ReasonAbandoned Reason = "Abandoned" // it was not
)

// Why a bundle was not loaded.
const (
	ReasonBundleUnreadable Reason = "BundleUnreadable" // it could not be fetched or read
	ReasonBundleUnsigned   Reason = "BundleUnsigned"   // nobody signed it
	ReasonBundleUntrusted  Reason = "BundleUntrusted"  // signed, but not by a known key
	ReasonBundleRollback   Reason = "BundleRollback"   // older than the floor
	ReasonBundleInvalid    Reason = "BundleInvalid"    // does not compile
	ReasonBundleConflict   Reason = "BundleConflict"   // other content with a serial that was in force
	ReasonFloorUnreadable  Reason = "FloorUnreadable"  // nobody can say how old is too old
	ReasonBreakGlassUsed   Reason = "BreakGlassUsed"   // a break-glass bundle that was used, is over, or lasts too long
)

// Why a bundle is in force that its source did not deliver as usual.
const (
	ReasonBreakGlass      Reason = "BreakGlass"      // it is for emergencies
	ReasonBreakGlassEnded Reason = "BreakGlassEnded" // the emergency is over
	ReasonBundleFallback  Reason = "BundleFallback"  // neither source nor store had a good one
	ReasonBundleRecovered Reason = "BundleRecovered" // the source is good again, the bundle the same
)

// Why events are missing or a process ended.
const (
	ReasonQueueFull     Reason = "QueueFull"     // the log did not take events for too long
	ReasonInvalidEvent  Reason = "InvalidEvent"  // a defect of Portcullis
	ReasonShareExceeded Reason = "ShareExceeded" // refusals of the namespace fill a quarter of the epoch
	ReasonSignal        Reason = "Signal"        // it was told to stop
	ReasonFatalError    Reason = "FatalError"    // it could not go on
)

func reasons() []Reason {
	return []Reason{
		ReasonPolicyDenied, ReasonInvalidRequest, ReasonInvalidClass, ReasonIdentityUnconfirmed,
		ReasonBudgetExceeded, ReasonBeyondGrant, ReasonParametersChanged, ReasonFileRefused,
		ReasonNoBundle, ReasonBundleExpired, ReasonEvaluationTimeout, ReasonEvaluationFailed,
		ReasonMalformedDecision, ReasonInvalidInput,
		ReasonPodNotFound, ReasonClassNotFound, ReasonFactsUnavailable, ReasonDriverObjectUnfit, ReasonAuditUnavailable,
		ReasonProviderUnavailable, ReasonProviderUntrusted, ReasonProviderDenied, ReasonProviderNotFound,
		ReasonProviderInvalid, ReasonProviderError, ReasonVolumeFailed, ReasonUnmountFailed,
		ReasonScrubIncomplete, ReasonDeadlineExceeded, ReasonAborted, ReasonRevocationHeld, ReasonTTLExpired, ReasonOrphaned, ReasonInternal,
		ReasonProviderWroteTarget, ReasonVolumeCovered, ReasonForeignMountKept, ReasonForeignMountUnmounted,
		ReasonLogTampered, ReasonRecovered, ReasonAbandoned,
		ReasonBundleUnreadable, ReasonBundleUnsigned, ReasonBundleUntrusted, ReasonBundleRollback, ReasonBundleInvalid,
		ReasonBundleConflict, ReasonFloorUnreadable, ReasonBreakGlassUsed,
		ReasonBreakGlass, ReasonBreakGlassEnded, ReasonBundleFallback, ReasonBundleRecovered,
		ReasonQueueFull, ReasonInvalidEvent, ReasonShareExceeded, ReasonSignal, ReasonFatalError,
	}
}

// denies reports whether the reason is a refusal rather than a breakdown.
func (r Reason) denies() bool {
	switch r {
	case ReasonPolicyDenied, ReasonInvalidRequest, ReasonInvalidClass, ReasonIdentityUnconfirmed,
		ReasonBudgetExceeded, ReasonBeyondGrant, ReasonParametersChanged, ReasonFileRefused, ReasonProviderUntrusted:
		return true
	default:
		return false
	}
}

// outcome is that of an event with this reason; none is success.
func (r Reason) outcome() Outcome {
	switch {
	case r == "" || r == ReasonRecovered || r == ReasonOrphaned:
		return OutcomeSuccess
	case r.denies():
		return OutcomeDenied
	default:
		return OutcomeFailure
	}
}

// severity is that of an event whose outcome follows from the reason.
func (r Reason) severity() Severity {
	switch r {
	case "", ReasonSignal, ReasonBundleRecovered:
		return SeverityInfo
	case ReasonRecovered:
		return SeverityLow
	case ReasonProviderWroteTarget, ReasonVolumeCovered, ReasonLogTampered, ReasonBundleUntrusted, ReasonBundleRollback, ReasonRevocationHeld,
		ReasonBundleConflict, ReasonBreakGlassUsed, ReasonBreakGlass, ReasonBreakGlassEnded:
		return SeverityCritical
	case ReasonIdentityUnconfirmed, ReasonBeyondGrant, ReasonParametersChanged, ReasonProviderUntrusted,
		ReasonDriverObjectUnfit, ReasonAuditUnavailable, ReasonUnmountFailed, ReasonScrubIncomplete, ReasonForeignMountKept,
		ReasonForeignMountUnmounted, ReasonBundleUnreadable, ReasonBundleUnsigned, ReasonBundleInvalid,
		ReasonFloorUnreadable, ReasonBundleFallback,
		ReasonNoBundle, ReasonBundleExpired, ReasonFatalError, ReasonInternal, ReasonTTLExpired:
		return SeverityHigh
	default:
		return SeverityMedium
	}
}
