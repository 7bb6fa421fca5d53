package admission

import (
	"context"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/template"
)

func templateRequests() []expected {
	var all []expected
	for _, e := range []expected{
		{group: "apps", resource: "deployments", kind: "Deployment"}, {group: "apps", resource: "statefulsets", kind: "StatefulSet"},
		{group: "apps", resource: "daemonsets", kind: "DaemonSet"}, {group: "apps", resource: "replicasets", kind: "ReplicaSet"},
		{group: "batch", resource: "jobs", kind: "Job"}, {group: "batch", resource: "cronjobs", kind: "CronJob"},
		{resource: "replicationcontrollers", kind: "ReplicationController"},
	} {
		e.version, e.operations = "v1", []admissionv1.Operation{admissionv1.Create, admissionv1.Update}
		all = append(all, e)
	}
	return all
}

// reviewTemplate warns of what the pods of a template would be refused for. It is
// advice and no decision: the pods come later, under other facts, and each is
// reviewed then. So it refuses nothing and leaves no event, only a count.
func (g *gate) reviewTemplate(ctx context.Context, v review) answer {
	o, err := g.decode(v, v.Object.Raw)
	object, ok := o.(metav1.Object)
	if err != nil || !ok || v.Namespace == "" {
		return advice(verdictError, "this webhook cannot read the object: its pods are reviewed when they are created")
	}
	pod := template.Pod(object, v.Namespace)
	if pod == nil {
		return answer{verdict: verdictNone}
	}
	volumes := g.volumesOf(pod)
	all := answer{verdict: verdictNone}
	for _, i := range volumes[:min(len(volumes), maxVolumes)] {
		all = all.and(g.advise(ctx, volume{pod: pod, index: i}))
	}
	return all
}

func advice(v verdict, warnings ...string) answer { return answer{verdict: v, warnings: warnings} }

// advise says what would become of one volume.
func (g *gate) advise(ctx context.Context, o volume) answer {
	of := "volume " + o.name()
	f, _, err := g.facts(ctx, o)
	if err == nil {
		var in policies.Input
		if in, err = build(f); err == nil {
			return advised(g.c.Policy.Active(), g.decideOn(ctx, in), of)
		}
	}
	if absent, ok := errors.AsType[*absentError](err); ok {
		if err = checkWithout(f, o); err == nil {
			return advice(verdictDeferred, fmt.Sprintf("%s: %s does not exist: pods wait until it does", of, absent.what))
		}
	}
	if field, ok := errors.AsType[*kube.FieldError](err); ok {
		return advice(verdictInvalid, fmt.Sprintf("%s: pods would be refused: %v; hint: %s", of, field, field.Remedy))
	}
	return advice(verdictError, of+": cannot tell whether pods would be allowed: the facts cannot be read")
}

// decideOn asks the policy that is in force.
func (g *gate) decideOn(ctx context.Context, in policies.Input) policies.Decision {
	return g.c.Policy.Active().Decide(ctx, in)
}

func advised(engine *policies.Engine, d policies.Decision, of string) answer {
	a := advice(verdictAllow, warningsOf(d, of, engine)...)
	a.bundle, a.serial, a.rules, a.monitored = d.BundleDigest, d.BundleSerial, policies.RuleIDs(append(d.Deny, d.Warn...)), d.Monitored()
	switch d.Verdict() {
	case policies.VerdictAllow:
	case policies.VerdictDeny:
		a.verdict = verdictDeny
		denials := make([]string, 0, len(d.Deny))
		for _, f := range d.Deny {
			denials = append(denials, fmt.Sprintf("%s: pods would be denied by %s: %s", of, f.ID, f.Message))
		}
		a.warnings = append(denials, a.warnings...)
	default:
		r := undecidedRefusal(d)
		a.verdict, a.warnings = verdictError, []string{of + ": cannot tell whether pods would be allowed: " + r.text}
	}
	return a
}
