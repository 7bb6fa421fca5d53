package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

// attrClass names the class in volumeAttributes.
const attrClass = "secretProviderClass"

// volume is one of our volumes of a pod under review.
type volume struct {
	pod   *corev1.Pod
	was   *corev1.Pod // before an update
	index int         // in spec.volumes
}

func (o volume) name() string { return o.pod.Spec.Volumes[o.index].Name }

func (o volume) class() string { return o.pod.Spec.Volumes[o.index].CSI.VolumeAttributes[attrClass] }

func (o volume) field() string { return fmt.Sprintf("spec.volumes[%d]", o.index) }

// absentError says that something a pod refers to does not exist yet.
type absentError struct {
	what   string // in words for people
	reason audit.Reason
}

func (e *absentError) Error() string { return e.what + " does not exist" }

// factsError says that nobody could say what a pod refers to.
type factsError struct {
	text string // in the words of the node plugin
	err  error
}

func (e *factsError) Error() string { return e.err.Error() }

// reviewVolume decides on one volume and has the decision recorded.
func (g *gate) reviewVolume(ctx context.Context, v review, o volume) answer {
	f, seen, err := g.facts(ctx, o)
	if err != nil {
		return g.undecided(ctx, v, o, unasked{f, err})
	}
	if asksTheSame(f, o.was) {
		return answer{verdict: verdictNone}
	}
	f.Requester = v.requester
	in, err := build(f)
	if err != nil {
		return g.undecided(ctx, v, o, unasked{f, err})
	}
	engine := g.c.Policy.Active()
	d := engine.Decide(ctx, in)
	if cause := d.Cause(); cause != nil {
		g.c.Logger.WarnContext(ctx, "policy did not reach a decision", slog.String(keyDecision, d.ID), slog.Any(keyError, cause))
	}
	if err := g.record(ctx, v, d, audit.Decided(d).SawObjects(seen)); err != nil {
		a := refused(verdictError, auditRefusal(d.ID))
		a.cause = err
		return a
	}
	return decided(d, o, engine)
}

// build leaves out who sent the request where an input would not fit with it: no
// decision depends on that, and the mount does not know it.
func build(f kube.Facts) (policies.Input, error) {
	in, _, err := kube.BuildInput(f)
	if err != nil && f.Requester != nil {
		f.Requester = nil
		in, _, err = kube.BuildInput(f)
	}
	return in, err
}

// record makes an allow durable before the answer. A refusal stands without its
// event, which is owed then. A dry run leaves none.
func (g *gate) record(ctx context.Context, v review, d policies.Decision, e audit.Event) error {
	if v.dryRun {
		return nil
	}
	err := g.c.Recorder.Record(ctx, e)
	if err != nil && d.Verdict() != policies.VerdictAllow {
		g.c.Recorder.Owe(e)
		err = nil
	}
	if err == nil {
		if g.c.Decided != nil {
			g.c.Decided(d)
		}
		return nil
	}
	in := d.Input()
	g.c.Recorder.Owe(audit.ReviewRejected(audit.Review{Requester: in.Requester, Claim: audit.Claim{
		Namespace: in.Subject.Namespace, Pod: in.Subject.PodName, PodUID: in.Subject.PodUID, ServiceAccount: in.Subject.ServiceAccount, Volume: in.Volume.Name,
	}}, audit.ReasonAuditUnavailable))
	return fmt.Errorf("record decision %s: %w", d.ID, err)
}

// tell has the event of a refusal appended, now or as soon as that is possible.
func (g *gate) tell(ctx context.Context, v review, e audit.Event) {
	if v.dryRun {
		return
	}
	if err := g.c.Recorder.Record(ctx, e); err != nil {
		g.c.Recorder.Owe(e)
	}
}

// unasked is why policy could not be asked, and what was known by then.
type unasked struct {
	facts kube.Facts
	err   error
}

// undecided answers about a volume that policy could not be asked about.
func (g *gate) undecided(ctx context.Context, v review, o volume, u unasked) answer {
	err, who := u.err, audit.Review{Claim: claimOf(o.pod, o.name()), Requester: v.requester}
	if absent, ok := errors.AsType[*absentError](err); ok {
		// What is wrong with the pod whatever the missing object will say is told
		// now: the mount would refuse it only once the object is there.
		if err = checkWithout(u.facts, o); err == nil {
			return g.deferred(ctx, v, who, absent)
		}
	}
	if field, ok := errors.AsType[*kube.FieldError](err); ok {
		g.tell(ctx, v, audit.ReviewRejected(who, audit.ReasonInvalidClass))
		a := refused(verdictInvalid, refusal{text: field.Error(), hint: field.Remedy, code: http.StatusBadRequest})
		a.causes = []metav1.StatusCause{cause(string(audit.ReasonInvalidClass), o.field(), field.Error(), field.Remedy)}
		return a
	}
	g.tell(ctx, v, audit.ReviewRejected(who, audit.ReasonFactsUnavailable))
	text := "facts about the pod cannot be read"
	if unread, ok := errors.AsType[*factsError](err); ok {
		text = unread.text
	}
	a := refused(verdictError, refusal{text: text, hint: hintPlatform, code: http.StatusServiceUnavailable})
	a.causes, a.cause = []metav1.StatusCause{cause(string(audit.ReasonFactsUnavailable), o.field(), text, hintPlatform)}, err
	return a
}

// deferred lets a pod through without a decision, which the log has to show all
// the same before the pod exists.
func (g *gate) deferred(ctx context.Context, v review, who audit.Review, absent *absentError) answer {
	if !v.dryRun {
		if err := g.c.Recorder.Record(ctx, audit.ReviewDeferred(who, absent.reason)); err != nil {
			g.c.Recorder.Owe(audit.ReviewRejected(who, audit.ReasonAuditUnavailable))
			a := refused(verdictError, auditRefusal(""))
			a.cause = err
			return a
		}
	}
	return answer{verdict: verdictDeferred, warnings: []string{
		fmt.Sprintf("volume %s: %s does not exist: the pod waits until it does", who.Claim.Volume, absent.what),
	}}
}

// checkWithout returns what is wrong with a pod whatever the objects say that it
// refers to and that do not exist.
func checkWithout(f kube.Facts, o volume) error {
	if f.Namespace == nil {
		f.Namespace = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.pod.Namespace}}
	}
	if f.ServiceAccount == nil {
		f.ServiceAccount = &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: serviceAccountOf(o.pod), Namespace: o.pod.Namespace}}
	}
	if f.Class == nil {
		f.Class = &spcv1.SecretProviderClass{ObjectMeta: metav1.ObjectMeta{Name: o.class(), Namespace: o.pod.Namespace}}
		f.Class.Spec.Provider, f.Class.Spec.Parameters = "unknown", map[string]string{"unknown": ""}
	}
	_, _, err := kube.BuildInput(f)
	return err
}

// facts gathers what the input is made of: the pod from the request, everything
// else from the API server.
func (g *gate) facts(ctx context.Context, o volume) (f kube.Facts, seen audit.Seen, err error) {
	f = kube.Facts{
		Phase: policies.PhaseAdmission, Now: g.c.Clock(), Cluster: g.c.Cluster, DriverName: g.c.DriverName,
		Pod: o.pod, VolumeName: o.name(),
	}
	if err := checkClassName(o.class()); err != nil {
		return f, seen, err
	}
	namespace, account := o.pod.Namespace, serviceAccountOf(o.pod)
	const about = "facts about the pod cannot be read"
	if f.Namespace, err = g.c.Facts.Namespace(ctx, namespace); err != nil {
		return f, seen, asAbsent(err, &absentError{"namespace " + namespace, audit.ReasonPodNotFound}, about)
	}
	if f.ServiceAccount, err = g.c.Facts.ServiceAccount(ctx, namespace, account); err != nil {
		return f, seen, asAbsent(err, &absentError{"service account " + namespace + "/" + account, audit.ReasonPodNotFound}, about)
	}
	if f.Class, err = g.c.Facts.Class(ctx, namespace, o.class()); err != nil {
		return f, seen, asAbsent(err, &absentError{"SecretProviderClass " + namespace + "/" + o.class(), audit.ReasonClassNotFound}, "the SecretProviderClass cannot be read")
	}
	seen = audit.Seen{
		Namespace: f.Namespace.ResourceVersion, ServiceAccount: f.ServiceAccount.ResourceVersion, Class: f.Class.ResourceVersion,
	}
	return f, seen, nil
}

// checkClassName says what the node plugin says of kubelet's request.
func checkClassName(name string) error {
	const field, remedy = "volumeAttributes." + attrClass, "name the SecretProviderClass in the pod's volume"
	switch {
	case name == "":
		return &kube.FieldError{Field: field, Problem: "is missing", Remedy: remedy}
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		return &kube.FieldError{Field: field, Problem: "is not a name that an object can have", Remedy: remedy}
	}
	return nil
}

func asAbsent(err error, absent *absentError, text string) error {
	if errors.Is(err, kube.ErrNotFound) {
		return absent
	}
	return &factsError{text, err}
}
