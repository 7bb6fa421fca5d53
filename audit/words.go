package audit

// Stage is intent or complete, and empty on events that are both at once.
type Stage string

// The stages. An intent is durable before its effect, and an event of the
// stage complete with its id as parentId follows.
const (
	StageIntent   Stage = "intent"
	StageComplete Stage = "complete"
)

// Outcome is how it went.
type Outcome string

// The outcomes. Failure is what was tried and did not work, denied is what
// policy or a rule of the driver refused.
const (
	OutcomeSuccess Outcome = "success"
	OutcomeFailure Outcome = "failure"
	OutcomeDenied  Outcome = "denied"
	OutcomeUnknown Outcome = "unknown"
)

// Severity is how much somebody should care.
type Severity string

// The severities, in rising order.
const (
	SeverityInfo     Severity = "info"
	SeverityLow      Severity = "low"
	SeverityMedium   Severity = "medium"
	SeverityHigh     Severity = "high"
	SeverityCritical Severity = "critical"
)

// Effect is what policy said.
type Effect string

// The effects. Error is no verdict: nothing is granted and nothing revoked.
const (
	EffectAllow            Effect = "allow"
	EffectAllowedMonitored Effect = "allowed_monitored"
	EffectDeny             Effect = "deny"
	EffectError            Effect = "error"
)

// ActorKind is what kind of name an actor has.
type ActorKind string

// The kinds of actor.
const (
	ActorServiceAccount ActorKind = "ServiceAccount"
	ActorUser           ActorKind = "User"
	ActorSystem         ActorKind = "System"
)

// ChangeKind is what was changed.
type ChangeKind string

// The kinds of change.
const (
	ChangePolicyBundle  ChangeKind = "PolicyBundle"
	ChangeConfiguration ChangeKind = "Configuration"
)

// Verb is how it was changed.
type Verb string

// The verbs of a change.
const (
	VerbCreate Verb = "create"
	VerbUpdate Verb = "update"
	VerbDelete Verb = "delete"
)

// ForeignAction is what was done about a mount that is not ours.
type ForeignAction string

// What is done about foreign mounts: left alone on publish, unmounted on
// unpublish, since kubelet owns that path.
const (
	ForeignKept      ForeignAction = "ForeignMountKept"
	ForeignUnmounted ForeignAction = "ForeignMountUnmounted"
)

func stages() []Stage { return []Stage{StageIntent, StageComplete} }

func outcomes() []Outcome {
	return []Outcome{OutcomeSuccess, OutcomeFailure, OutcomeDenied, OutcomeUnknown}
}

func severities() []Severity {
	return []Severity{SeverityInfo, SeverityLow, SeverityMedium, SeverityHigh, SeverityCritical}
}

func effects() []Effect {
	return []Effect{EffectAllow, EffectAllowedMonitored, EffectDeny, EffectError}
}

func actorKinds() []ActorKind {
	return []ActorKind{ActorServiceAccount, ActorUser, ActorSystem}
}

func changeKinds() []ChangeKind { return []ChangeKind{ChangePolicyBundle, ChangeConfiguration} }

func verbs() []Verb { return []Verb{VerbCreate, VerbUpdate, VerbDelete} }
