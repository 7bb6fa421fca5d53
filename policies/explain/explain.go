package explain

import (
	"context"
	"errors"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/workload"
)

// Why there is no verdict, besides the engine's reasons.
const (
	ReasonNotFound        = "NotFound"
	ReasonInvalidManifest = "InvalidManifest"
	ReasonUnavailable     = "Unavailable"
)

// Volume decides about a volume and says all that is known about the outcome.
func (x *Explainer) Volume(ctx context.Context, v workload.Volume) Answer {
	a := Answer{
		Workload: *v.Workload, Volume: v.Name, Class: v.Class, Effect: Undecided, Assumed: list(v.Assumed),
		ServiceAccount: v.Workload.Pod.Spec.ServiceAccountName,
		Secrets:        []Secret{}, Deny: []policies.Finding{}, Warn: []policies.Finding{}, Grants: []GrantRef{}, Waivers: []string{}, Overrides: []string{},
	}
	if v.Err != nil {
		a.Problem = ProblemOf(v.Err)
		return a
	}
	d := x.engine.Decide(ctx, v.Input)
	x.fill(&a, d)
	if a.Effect == Undecided {
		a.Problem = undecided(d)
	}
	return a
}

// remedied are errors that know what their user can do.
type remedied interface {
	error
	Problem() string
	Remedy() string
}

// ProblemOf turns an error about a volume into what its author can do.
func ProblemOf(err error) *Problem {
	if e, ok := errors.AsType[*workload.NoClassError](err); ok {
		return &Problem{Reason: ReasonNotFound, Text: e.Error(), Remedy: "create the class in the pod's namespace, or add its manifest"}
	}
	if e, ok := errors.AsType[*kube.FieldError](err); ok {
		return &Problem{Reason: ReasonInvalidManifest, Field: e.Field, Text: e.Problem, Remedy: e.Remedy}
	}
	if e, ok := errors.AsType[remedied](err); ok {
		return &Problem{Reason: ReasonUnavailable, Text: e.Problem(), Remedy: e.Remedy()}
	}
	return &Problem{Reason: ReasonUnavailable, Text: err.Error()}
}

func undecided(d policies.Decision) *Problem {
	p := &Problem{Reason: string(d.Undecided), Remedy: remedyOf(d.Undecided)}
	if cause := d.Cause(); cause != nil {
		p.Text = cause.Error()
	}
	if e, ok := errors.AsType[*policies.InputError](d.Cause()); ok {
		p.Field, p.Text, p.Remedy = e.Field, e.Limit, e.Remedy
	}
	return p
}

func remedyOf(r policies.UndecidedReason) string {
	switch r {
	case policies.UndecidedBundleExpired:
		return "tell the security team: renew not_after of the policy bundle"
	case policies.UndecidedTimeout:
		return "tell the security team: a rule takes too long on this input; policy check measures it"
	case policies.UndecidedBadDecision:
		return "tell the security team: a check makes a finding or an obligation that the engine does not understand"
	default:
		return "tell the security team: the policy cannot be evaluated on this input; policy eval --trace shows where"
	}
}
