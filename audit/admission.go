package audit

import "github.com/portcullis-csi/portcullis/policies"

// Review is what an API request under review says: which pod, and who asks. The
// claim may be of a pod that never comes to be.
type Review struct {
	Claim     Claim
	Requester *policies.Requester // absent: nobody is named
}

// ReviewRejected is a pod that was refused at admission before policy was asked,
// or that policy could not be asked about.
func ReviewRejected(v Review, reason Reason) Event {
	e := v.event(reason.outcome())
	e.Severity, e.Reason = reason.severity(), reason
	return e
}

// ReviewDeferred is a pod that was let through without a decision, since what it
// refers to does not exist yet: the mount decides.
func ReviewDeferred(v Review, reason Reason) Event {
	e := v.event(OutcomeUnknown)
	e.Severity, e.Reason = SeverityLow, reason
	return e
}

// ClassReview is a SecretProviderClass under review.
type ClassReview struct {
	Namespace, Name, UID, Provider string
	Generation                     int64
	Requester                      *policies.Requester // absent: nobody is named
	Findings                       []policies.Finding  // what refused it; absent where it cannot be read
}

// ClassRejected is a SecretProviderClass that was refused. It holds nothing of the
// parameters, not even a digest: one of them may be a password.
func ClassRejected(r ClassReview, reason Reason) Event {
	v := Review{Claim: Claim{Namespace: r.Namespace}, Requester: r.Requester}
	e := v.event(reason.outcome())
	e.Severity, e.Reason = reason.severity(), reason
	e.Class = &Class{
		Name: vetted("name", r.Name), UID: vetted("uid", r.UID), Generation: r.Generation, Provider: vetted("provider", r.Provider),
	}
	if len(r.Findings) > 0 {
		e.Severity = gravest(r.Findings, SeverityHigh)
		e.Policy = &Policy{Effect: EffectDeny, Phase: string(policies.PhaseAdmission), Rules: rules(r.Findings, true)}
	}
	return e
}

func (v Review) event(o Outcome) Event {
	e := newEvent(TypeAdmission, o)
	e.Workload = v.Claim.workload()
	e.Actor = v.Claim.actor()
	if r := v.Requester; r != nil && r.Username != "" {
		e.Actor = userActor(r)
	}
	return e
}

func userActor(r *policies.Requester) Actor {
	return Actor{Kind: ActorUser, Name: vetted("actor", r.Username), Groups: vettedAll("actor", r.Groups)}
}
