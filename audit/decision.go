package audit

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/portcullis-csi/portcullis/policies"
)

// Claim is what a request says of itself: kubelet's word, confirmed by nobody.
// Values that cannot be names are recorded as their SHA-256.
type Claim struct {
	Namespace, Pod, PodUID, ServiceAccount, Volume string
}

// Rejected is a request that was refused before policy was asked.
func Rejected(c Claim, reason Reason) Event {
	e := newEvent(TypeMount, reason.outcome())
	e.Severity, e.Reason = reason.severity(), reason
	e.Actor, e.Workload = c.actor(), c.workload()
	e.Actor.Unconfirmed = true
	return e
}

// Decided is a decision of policy. An allowed mount or sync is an intent: its
// ID is the parentId of the event that Finished returns, which must follow. An
// allowed rotation is not, since it ends in no event when nothing has changed.
func Decided(d policies.Decision) Event {
	e := newEvent(typeOf(d.Input().Phase), OutcomeUnknown)
	switch d.Verdict() {
	case policies.VerdictAllow:
		e.Severity = monitoredSeverity(d)
		if p := d.Input().Phase; p == policies.PhaseMount || p == policies.PhaseSync {
			e.Stage = StageIntent
		}
		if e.Type == TypeAdmission {
			e.Outcome = OutcomeSuccess
		}
	case policies.VerdictDeny:
		e.Outcome, e.Reason, e.Severity = OutcomeDenied, ReasonPolicyDenied, gravest(d.Deny, SeverityHigh)
	default:
		e.Outcome, e.Reason = OutcomeFailure, undecidedReason(d)
		e.Severity = e.Reason.severity()
	}
	describe(&e, d)
	e.Policy.Rules = slices.Concat(rules(d.Deny, true), rules(d.Warn, false))
	e.Policy.Grants, e.Policy.Waivers = vettedAll("object", d.Grants), vettedAll("object", d.Waivers)
	for _, r := range d.Input().Requests {
		if r.Secret == "" {
			continue // of an input that is invalid, which the reason says
		}
		e.Secrets = append(e.Secrets, Secret{ID: vetted("secret", r.Secret), File: vetted("path", r.File)})
	}
	if d.Verdict() != policies.VerdictError { // which may be for want of bounds
		e.input = new(d.Input())
	}
	return e
}

// Finished ends the intent with this id: the files were delivered, or, with a
// reason, nothing was.
func Finished(intentID string, d policies.Decision, files []File, reason Reason) Event {
	e := newEvent(typeOf(d.Input().Phase), reason.outcome())
	e.Stage, e.ParentID = StageComplete, intentID
	e.Severity, e.Reason = reason.severity(), reason
	describe(&e, d)
	e.Files = vettedFiles(files)
	return e
}

// Rotated is new content in a mounted volume. The decision that allowed it is
// parentID.
func Rotated(parentID string, d policies.Decision, files []File, r Rotation) Event {
	e := Finished(parentID, d, files, "")
	e.Rotation = &r
	return e
}

// RotationFailed is an allowed rotation that did not come about: the content
// that was mounted stays.
func RotationFailed(parentID string, d policies.Decision, reason Reason) Event {
	return Finished(parentID, d, nil, reason)
}

func newEvent(t Type, o Outcome) Event {
	e := Event{Schema: SchemaID, Type: t, Outcome: o, Severity: SeverityInfo, Actor: system()}
	// An id that cannot be made stays empty, and an event without id is refused.
	if id, err := uuid.NewV7(); err == nil {
		e.ID = id.String()
	}
	return e
}

func system() Actor { return Actor{Kind: ActorSystem, Name: "portcullis"} }

func typeOf(p policies.Phase) Type {
	switch p {
	case policies.PhaseAdmission:
		return TypeAdmission
	case policies.PhaseRotate:
		return TypeRotate
	case policies.PhaseSync:
		return TypeSync
	default:
		return TypeMount
	}
}

// describe fills in who, for which volume, under which policy.
func describe(e *Event, d policies.Decision) {
	in := d.Input()
	c := Claim{in.Subject.Namespace, in.Subject.PodName, in.Subject.PodUID, in.Subject.ServiceAccount, in.Volume.Name}
	e.Actor, e.Workload = c.actor(), c.workload()
	e.Workload.Node = vetted("name", in.Subject.Node)
	if r := in.Requester; r != nil && r.Username != "" {
		e.Actor = userActor(r)
	}
	if in.SPC.Name != "" {
		e.Class = &Class{
			Name: vetted("name", in.SPC.Name), UID: vetted("uid", in.SPC.UID), Generation: in.SPC.Generation,
			Provider: vetted("provider", in.SPC.Provider), ParametersSHA256: orEmpty("hex64", in.SPC.ParametersSHA256),
		}
	}
	e.Policy = &Policy{
		DecisionID: orEmpty("decision", d.ID), Effect: effectOf(d), Phase: orEmpty("phase", string(in.Phase)),
		LibraryDigest: orEmpty("digest", d.LibraryDigest), BundleDigest: orEmpty("digest", d.BundleDigest),
		BundleSerial: d.BundleSerial, Unsigned: d.BundleDigest != "" && !d.BundleSigned,
		InputSHA256: orEmpty("hex64", d.InputSHA256), NowNS: in.NowNS,
	}
}

func (c Claim) workload() *Workload {
	return &Workload{
		Namespace: vetted("namespace", c.Namespace), Pod: vetted("name", c.Pod), PodUID: vetted("uid", c.PodUID),
		ServiceAccount: vetted("name", c.ServiceAccount), Volume: vetted("name", c.Volume),
	}
}

func (c Claim) actor() Actor {
	if c.Namespace == "" || c.ServiceAccount == "" {
		return system()
	}
	return Actor{Kind: ActorServiceAccount, Name: "system:serviceaccount:" + vetted("namespace", c.Namespace) + ":" + vetted("name", c.ServiceAccount)}
}

func effectOf(d policies.Decision) Effect {
	switch d.Verdict() {
	case policies.VerdictAllow:
		if d.Monitored() {
			return EffectAllowedMonitored
		}
		return EffectAllow
	case policies.VerdictDeny:
		return EffectDeny
	default:
		return EffectError
	}
}

// undecidedReason keeps to the closed list, whatever a later engine says.
func undecidedReason(d policies.Decision) Reason {
	if r := Reason(d.Undecided); r != "" && slices.Contains(reasons(), r) {
		return r
	}
	return ReasonEvaluationFailed
}

func rules(findings []policies.Finding, denies bool) []Rule {
	out := make([]Rule, len(findings))
	for i, f := range findings {
		out[i] = Rule{
			ID: vetted("rule", f.ID), Severity: severityOf(f.Severity), Secret: vetted("secret", f.Secret),
			Denies: denies, Waived: f.Waived, Monitored: f.Monitored,
		}
	}
	return out
}

// severityOf takes a word that nobody defined for the gravest but one: a rule
// must not hide by a misspelt severity.
func severityOf(s policies.Severity) Severity {
	if r := Severity(s); slices.Contains(severities(), r) {
		return r
	}
	return SeverityHigh
}

func gravest(findings []policies.Finding, least Severity) Severity {
	order := severities()
	worst := -1
	for _, f := range findings {
		worst = max(worst, slices.Index(order, severityOf(f.Severity)))
	}
	if worst < 0 {
		return least
	}
	return order[worst]
}

// monitoredSeverity makes what would have been denied as visible as the denial.
func monitoredSeverity(d policies.Decision) Severity {
	var monitored []policies.Finding
	for _, f := range d.Warn {
		if f.Monitored {
			monitored = append(monitored, f)
		}
	}
	return gravest(monitored, SeverityInfo)
}

func vettedFiles(files []File) []File {
	out := make([]File, len(files))
	for i, f := range files {
		f.Path, f.Version = vetted("path", f.Path), vetted("version", f.Version)
		f.PreviousVersion = vetted("version", f.PreviousVersion)
		out[i] = f
	}
	return out
}

// orEmpty drops a digest or id that is none: half a digest proves nothing.
func orEmpty(tag, s string) string {
	if r, ok := ruleOf(tag); ok && r.matches(s) {
		return s
	}
	return ""
}

// Took returns the event with the time that it took.
func (e Event) Took(d time.Duration) Event {
	e.DurationMS = max(d.Milliseconds(), 0)
	return e
}

// SawObjects returns the event with the resource versions that its decision was
// made from. Objects of another source than an API server have none.
func (e Event) SawObjects(s Seen) Event {
	if s == (Seen{}) {
		return e
	}
	e.Seen = &Seen{
		Pod: vetted("resourceversion", s.Pod), Namespace: vetted("resourceversion", s.Namespace),
		ServiceAccount: vetted("resourceversion", s.ServiceAccount), Class: vetted("resourceversion", s.Class),
	}
	return e
}
