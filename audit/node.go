package audit

// Unmounted is a volume that was scrubbed and unmounted: because kubelet asked
// for it, or as ReasonOrphaned because nobody was left to ask. With any other
// reason it is one that was not, or not whole.
func Unmounted(c Claim, reason Reason) Event {
	return ofVolume(TypeUnmount, c, reason)
}

// ForeignMount is a mount at a target path that is not ours.
func ForeignMount(c Claim, a ForeignAction) Event {
	return ofVolume(TypeForeignMount, c, Reason(a))
}

// IntegrityFailure is something that must not be possible.
func IntegrityFailure(c Claim, reason Reason) Event {
	return ofVolume(TypeIntegrityFailure, c, reason)
}

func ofVolume(t Type, c Claim, reason Reason) Event {
	e := newEvent(t, OutcomeFailure)
	if t == TypeUnmount && reason.outcome() == OutcomeSuccess {
		e.Outcome = OutcomeSuccess
	}
	e.Severity, e.Reason, e.Workload = reason.severity(), reason, c.workload()
	return e
}

// DriverStarted is the first event of a process but for what its start found.
func DriverStarted() Event { return newEvent(TypeDriverStart, OutcomeSuccess) }

// DriverStopped is its last.
func DriverStopped(reason Reason) Event {
	e := newEvent(TypeDriverStop, OutcomeSuccess)
	if reason != ReasonSignal && reason != "" {
		e.Outcome = OutcomeFailure
	}
	e.Severity, e.Reason = reason.severity(), reason
	return e
}

// LogTampered is a log that is not what was signed.
func LogTampered() Event {
	e := newEvent(TypeLogVerifyFailed, OutcomeFailure)
	e.Severity, e.Reason = ReasonLogTampered.severity(), ReasonLogTampered
	return e
}

// Bundle is a policy bundle that was loaded or refused.
type Bundle struct {
	Digest   string // sha256:<hex>, "" if it could not be read
	Previous string // digest of the bundle that was, or stays, in force; "" for none
	Serial   int64
	Signed   bool
	// BreakGlass is set for a bundle for emergencies.
	BreakGlass bool
	Reason     Reason // why it was refused, or is in force other than by its source's wish
}

// PolicyLoaded is another bundle in force.
func PolicyLoaded(b Bundle) Event {
	e := newEvent(TypePolicyChange, OutcomeSuccess)
	verb := VerbUpdate
	if b.Previous == "" {
		verb = VerbCreate
	}
	e.Change = &Change{
		Kind: ChangePolicyBundle, Verb: verb, To: b.Serial,
		FromDigest: orEmpty("digest", b.Previous), ToDigest: orEmpty("digest", b.Digest),
	}
	e.Severity, e.Reason = b.Reason.severity(), b.Reason
	switch {
	case b.BreakGlass:
		e.Severity = SeverityCritical
	case !b.Signed:
		e.Severity = SeverityHigh
	}
	e.Policy = &Policy{BundleDigest: orEmpty("digest", b.Digest), BundleSerial: b.Serial, Unsigned: !b.Signed, BreakGlass: b.BreakGlass}
	return e
}

// PolicyLoadFailed is a bundle that was refused.
func PolicyLoadFailed(b Bundle) Event {
	e := newEvent(TypePolicyLoadFailed, OutcomeFailure)
	if b.Reason == "" {
		b.Reason = ReasonBundleInvalid
	}
	e.Severity, e.Reason = b.Reason.severity(), b.Reason
	e.Change = &Change{
		Kind: ChangePolicyBundle, Verb: VerbUpdate, To: b.Serial,
		FromDigest: orEmpty("digest", b.Previous), ToDigest: orEmpty("digest", b.Digest),
	}
	return e
}
