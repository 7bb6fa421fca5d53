package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

const (
	// maxShownGrants bounds how many grants one warning names.
	maxShownGrants = 4
	standIn        = "stand-in" // of whoever would mount the class
)

func classRequests() []expected {
	return []expected{{
		group: spcv1.SchemeGroupVersion.Group, version: spcv1.SchemeGroupVersion.Version, kind: "SecretProviderClass", resource: "secretproviderclasses",
		operations: []admissionv1.Operation{admissionv1.Create, admissionv1.Update},
	}}
}

// reviewClass refuses a class that no pod could ever mount, since the node plugin
// refuses each of them in the same words: one out of bounds, or with a credential
// in it, which everybody who may read classes could take. Of everything else that
// will not work it warns.
func (g *gate) reviewClass(ctx context.Context, v review) answer {
	class, err := g.decodeClass(v, v.Object.Raw)
	if err != nil {
		unread := &spcv1.SecretProviderClass{ObjectMeta: metav1.ObjectMeta{Name: v.Name}}
		g.tell(ctx, v, audit.ClassRejected(classReview(v, unread, nil), audit.ReasonInvalidRequest))
		return refusedObject(err)
	}
	if v.Operation == admissionv1.Update {
		// What leaves the content alone must stay possible with a class from before:
		// a finalizer has to come off even of one with a password in it.
		was, err := g.decodeClass(v, v.OldObject.Raw)
		if err == nil && equality.Semantic.DeepEqual(was.Spec, class.Spec) {
			return answer{verdict: verdictNone}
		}
	}
	in, err := g.mountedBy(class)
	if field, ok := errors.AsType[*kube.FieldError](err); ok {
		a := refused(verdictInvalid, refusal{text: field.Error(), hint: field.Remedy, code: http.StatusBadRequest})
		a.causes = []metav1.StatusCause{cause(string(audit.ReasonInvalidClass), field.Field, field.Error(), field.Remedy)}
		g.tell(ctx, v, audit.ClassRejected(classReview(v, class, nil), audit.ReasonInvalidClass))
		return a
	}
	if err != nil {
		a := refused(verdictError, refusal{text: "the class cannot be judged", hint: hintPlatform, code: http.StatusServiceUnavailable})
		a.cause = err
		return a
	}
	if findings := policies.CredentialFindings(in.SPC); len(findings) > 0 {
		g.tell(ctx, v, audit.ClassRejected(classReview(v, class, findings), audit.ReasonPolicyDenied))
		return deniedClass(in, findings)
	}
	return g.warnOfClass(ctx, class, in)
}

func (g *gate) decodeClass(v review, raw []byte) (*spcv1.SecretProviderClass, error) {
	o, err := g.decode(v, raw)
	if err != nil {
		return nil, err
	}
	class, ok := o.(*spcv1.SecretProviderClass)
	if !ok || v.Namespace == "" || class.Namespace != "" && class.Namespace != v.Namespace {
		return nil, errUndecodable
	}
	class.Namespace = v.Namespace
	return class, nil
}

// mountedBy is the input of a pod of which nothing is known but that it mounts the
// class.
func (g *gate) mountedBy(class *spcv1.SecretProviderClass) (policies.Input, error) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: standIn, Namespace: class.Namespace}}
	pod.Spec.ServiceAccountName = standIn
	pod.Spec.Volumes = []corev1.Volume{{Name: standIn, VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
		Driver: g.c.DriverName, ReadOnly: new(true), VolumeAttributes: map[string]string{attrClass: class.Name},
	}}}}
	in, _, err := kube.BuildInput(kube.Facts{
		Phase: policies.PhaseAdmission, Now: g.c.Clock(), Cluster: g.c.Cluster, DriverName: g.c.DriverName, Pod: pod, VolumeName: standIn, Class: class,
		Namespace:      &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: class.Namespace}},
		ServiceAccount: &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: standIn, Namespace: class.Namespace}},
	})
	return in, err
}

func deniedClass(in policies.Input, findings []policies.Finding) answer {
	a := answer{verdict: verdictDeny, refusal: denial(findings), rules: policies.RuleIDs(findings)}
	for _, f := range findings {
		field := "spec.parameters"
		if names := in.SPC.LiteralCredentials; len(names) > 0 {
			field = fmt.Sprintf("%s[%s]", field, names[0])
		}
		a.causes = append(a.causes, cause(f.ID, field, f.Message, f.Remediation))
	}
	return a
}

func classReview(v review, class *spcv1.SecretProviderClass, findings []policies.Finding) audit.ClassReview {
	return audit.ClassReview{
		Namespace: v.Namespace, Name: class.Name, UID: string(class.UID), Provider: string(class.Spec.Provider), Generation: class.Generation,
		Requester: v.requester, Findings: findings,
	}
}

// warnOfClass says what will not work, and which grants there are.
func (g *gate) warnOfClass(ctx context.Context, class *spcv1.SecretProviderClass, in policies.Input) answer {
	a := answer{verdict: verdictAllow}
	if known := g.c.KnownProviders; len(known) > 0 && !slices.Contains(known, in.SPC.Provider) {
		a.warn("provider %s is none of those that this cluster is known to have: %s", in.SPC.Provider, strings.Join(known, ", "))
	}
	if len(class.Spec.SecretObjects) > 0 {
		a.warn("secretObjects are not copied: pods get the files, and no Secret object is written")
	}
	for _, r := range in.Requests {
		if r.ParseError != "" {
			a.warn("PR-013: the parameters cannot be read for certain: %s", r.ParseError)
		}
	}
	if len(in.Requests) == 0 {
		a.warn("PR-003: the class asks for nothing that can be read here")
	}
	g.warnOfGrants(ctx, &a, in)
	return a
}

// warnOfGrants lists the grants of the namespace that name what the class asks for,
// and the secrets that none of them names.
func (g *gate) warnOfGrants(ctx context.Context, a *answer, in policies.Input) {
	namespace, engine := in.Subject.Namespace, g.c.Policy.Active()
	if engine == nil {
		a.warn("no policy is in force: nothing is granted until there is one")
		return
	}
	a.bundle, a.serial = engine.Digest(), engine.Manifest().Serial
	object, err := g.c.Facts.Namespace(ctx, namespace)
	if err != nil {
		a.warn("cannot tell which grants there are: namespace %s cannot be read", namespace)
		return
	}
	secrets := make([]string, 0, len(in.Requests))
	for _, r := range in.Requests {
		secrets = append(secrets, r.Secret)
	}
	granted, err := engine.GrantsIn(ctx, namespace, object.Labels, secrets)
	if err != nil {
		g.c.Logger.WarnContext(ctx, "the grants of a class cannot be listed", slog.Any(keyError, err))
		a.warn("cannot tell which grants there are")
		return
	}
	var grants []string
	for _, s := range unique(secrets) {
		if len(granted[s]) == 0 {
			a.warn("PR-001: no grant in namespace %s names %s", namespace, s)
		}
		for _, grant := range granted[s] {
			grants = append(grants, fmt.Sprintf("%s (service account %s)", grant.ID, grant.ServiceAccount))
		}
	}
	if grants = unique(grants); len(grants) > 0 {
		shown := strings.Join(grants[:min(len(grants), maxShownGrants)], ", ")
		if n := len(grants) - maxShownGrants; n > 0 {
			shown += fmt.Sprintf(" and %d more", n)
		}
		a.warn("granted in namespace %s by %s", namespace, shown)
	}
}

func (a *answer) warn(format string, args ...any) {
	a.warnings = append(a.warnings, fmt.Sprintf(format, args...))
}
