package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"

	storagev1 "k8s.io/api/storage/v1"

	"github.com/portcullis-csi/portcullis/policies/kube"
)

// tokensKey is where kubelet puts service account tokens.
const tokensKey = kubeletPrefix + "serviceAccount.tokens"

// DriverObjectError says that the CSIDriver object lets nobody be confirmed:
// without podInfoOnMount the request holds whatever the pod's author wrote.
type DriverObjectError struct {
	Field   string // of the CSIDriver object, "" for the object itself
	Problem string
	Remedy  string
}

// Error names the field.
func (e *DriverObjectError) Error() string {
	if e.Field == "" {
		return "the CSIDriver object " + e.Problem
	}
	return fmt.Sprintf("%s of the CSIDriver object %s", e.Field, e.Problem)
}

// driverObject returns the CSIDriver object, if it lets anybody be confirmed.
func (v *Verifier) driverObject(ctx context.Context) (*storagev1.CSIDriver, error) {
	object, err := v.c.Cluster.CSIDriver(ctx)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		object = nil
	case err != nil:
		return nil, &UnavailableError{Object: "CSIDriver object", err: err}
	}
	for _, p := range CheckDriverObject(object) {
		if p.Severity == SeverityNoGrants {
			return nil, &DriverObjectError{Field: p.Field, Problem: p.Problem, Remedy: p.Remedy}
		}
	}
	if object.Name != "" && object.Name != v.c.DriverName {
		return nil, &DriverObjectError{Field: "metadata.name", Problem: "is not the name of this driver", Remedy: "start the plugin with the driver name of the CSIDriver object (--drivername)"}
	}
	return object, nil
}

// genuineTokens returns the tokens that kubelet wrote, and whether they came in
// the volume context. Kubelet writes them in one place, the one that the
// CSIDriver object names, and there over whatever the pod's author wrote. In
// any other place they are the author's, and refused in the words in which
// kube.Merge refuses the same key in the pod's spec: that check finds the key
// where it was written, this one where it arrived.
func genuineTokens(object *storagev1.CSIDriver, c Claim) (tokens Tokens, fromContext bool, err error) {
	if c.ContextTokens == nil {
		return c.Tokens, false, nil
	}
	inSecrets := is(object.Spec.ServiceAccountTokenInSecrets)
	some := c.Tokens != nil && len(c.Tokens.Audiences()) > 0
	if len(object.Spec.TokenRequests) == 0 || inSecrets || some {
		return nil, false, &kube.SpoofError{Field: fmt.Sprintf("csi.volumeAttributes[%q]", tokensKey)}
	}
	return c.ContextTokens, true, nil
}

// Severity says what a problem of the CSIDriver object means.
type Severity string

// The severities.
const (
	SeverityNoGrants Severity = "no grants" // nobody is confirmed
	SeverityBroken   Severity = "broken"    // pods do not start, or cannot read
	SeverityWeak     Severity = "weak"      // works, with less protection than there could be
)

// Problem is something in the CSIDriver object that Portcullis would have
// otherwise.
type Problem struct {
	Severity Severity
	Field    string // "" for the object itself
	Problem  string
	Remedy   string
}

// CheckDriverObject returns what is wrong with the CSIDriver object, gravest
// first; nil means that there is none, and is a problem itself. What it returns
// is for readiness and doctor; Verify acts on SeverityNoGrants alone.
func CheckDriverObject(object *storagev1.CSIDriver) []Problem {
	if object == nil {
		return []Problem{{SeverityNoGrants, "", "is not in the cluster", "apply the chart's CSIDriver object, with podInfoOnMount: true"}}
	}
	spec := object.Spec
	secrets := is(spec.ServiceAccountTokenInSecrets)
	var problems []Problem
	for _, p := range []struct {
		wrong bool
		Problem
	}{
		{!is(spec.PodInfoOnMount), Problem{SeverityNoGrants, "spec.podInfoOnMount", "is not true: authors of pods could say who they are", "set podInfoOnMount: true"}},
		{spec.AttachRequired == nil || *spec.AttachRequired, Problem{SeverityBroken, "spec.attachRequired", "is not false: pods would wait for an attachment that nobody makes", "set attachRequired: false when creating the object"}},
		{!slices.Contains(spec.VolumeLifecycleModes, storagev1.VolumeLifecycleEphemeral), Problem{SeverityBroken, "spec.volumeLifecycleModes", "does not list Ephemeral: kubelet refuses inline volumes", "list Ephemeral when creating the object"}},
		{spec.FSGroupPolicy == nil || *spec.FSGroupPolicy != storagev1.NoneFSGroupPolicy, Problem{SeverityWeak, "spec.fsGroupPolicy", "is not None: with it kubelet leaves owners and modes to the driver", "set fsGroupPolicy: None"}},
		{!is(spec.RequiresRepublish), Problem{SeverityWeak, "spec.requiresRepublish", "is not true: mounted secrets are neither rotated nor revoked", "set requiresRepublish: true"}},
		{len(spec.TokenRequests) == 0, Problem{SeverityWeak, "spec.tokenRequests", "is empty: no token confirms a pod, and policy sees tokenVerified false", "list an audience there"}},
		{len(spec.TokenRequests) > 0 && !secrets, Problem{SeverityWeak, "spec.serviceAccountTokenInSecrets", "is not true: tokens travel in the volume context, which other components may log", "set it to true, from Kubernetes 1.35 on"}},
		{is(spec.SELinuxMount), Problem{SeverityWeak, "spec.seLinuxMount", "is true, and the driver takes no SELinux mount option from kubelet", "set seLinuxMount: false"}},
	} {
		if p.wrong {
			problems = append(problems, p.Problem)
		}
	}
	return problems
}

func is(b *bool) bool { return b != nil && *b }
