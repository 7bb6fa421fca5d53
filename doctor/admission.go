package doctor

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// soon is how long before the end of an authority is warned.
const soon = 14 * 24 * time.Hour

// webhookName is the ValidatingWebhookConfiguration of the chart.
const webhookName = "portcullis"

// policyNames are the ValidatingAdmissionPolicies of the chart; true: its binding
// always denies.
func policyNames() map[string]bool {
	return map[string]bool{
		"portcullis-status-of-own-node": true, "portcullis-volumes-read-only": true, "portcullis-no-persistent-volumes": true,
		"portcullis-privileged": false, "portcullis-ephemeral-containers": false, "portcullis-host-paths": false, "portcullis-policy-floor": false,
		"portcullis-webhook-configuration": false,
	}
}

// deniesWhereItIs reports whether a policy that need not be there has no other use
// than to deny.
func deniesWhereItIs(policy string) bool {
	return policy == FloorName || policy == "portcullis-webhook-configuration"
}

func admissionChecks() []Check {
	return []Check{
		{"webhook.certificate", OfCluster, "caBundle of the ValidatingWebhookConfiguration portcullis", "valid for more than two weeks", "WARN: ends soon; FAIL: over or unreadable; n/a: no webhook is installed", judgeWebhook},
		{"admission.policies", OfCluster, "the chart's ValidatingAdmissionPolicies and the actions of their bindings", "in force as the chart has them", "WARN: one that always denies is missing or does not deny, or that of the floor or of the webhook's configuration is there and does not; n/a: none is installed", judgePolicies},
		{"admission.deny-preview", OfCluster, "running pods, by the rules of those policies that are at warn or off", "deny would refuse none of them", "WARN: deny would refuse the pod when it is made again", judgePreview},
	}
}

func judgeWebhook(f *Facts) []Result {
	webhooks, none := f.configuration()
	if none != nil {
		return none
	}
	var results []Result
	for i := range webhooks {
		w := &webhooks[i]
		results = append(results, f.judgeAuthority(w.Name, w.ClientConfig.CABundle))
	}
	if results == nil {
		return []Result{fail("install the chart anew", "the ValidatingWebhookConfiguration %s has no webhook", webhookName)}
	}
	return results
}

// judgeAuthority judges the certificates that a webhook's own is signed with.
func (f *Facts) judgeAuthority(name string, bundle []byte) Result {
	const hint = "have the certificate issued anew, and caBundle written with it"
	var last time.Time // the one that is good for longest: bundles rotate with both in them
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fail(hint, "%s: caBundle has what is no certificate", name)
		}
		if c.NotAfter.After(last) && !f.Now.Before(c.NotBefore) {
			last = c.NotAfter
		}
	}
	switch until := last.UTC().Format(time.RFC3339); {
	case last.IsZero():
		return fail(hint, "%s: caBundle has no certificate that is valid yet", name)
	case !f.Now.Before(last):
		return fail(hint, "%s: the last certificate of caBundle ended %s", name, until)
	case last.Sub(f.Now) < soon:
		return warn(hint, "%s: the last certificate of caBundle ends %s", name, until)
	default:
		return ok("%s: caBundle is valid until %s", name, until)
	}
}

// actions returns what the bindings of a policy do.
func (f *Facts) actions(policy string) []string {
	var all []string
	for i := range f.Cluster.Bindings.Value {
		b := &f.Cluster.Bindings.Value[i]
		if b.Spec.PolicyName != policy {
			continue
		}
		for _, a := range b.Spec.ValidationActions {
			all = append(all, string(a))
		}
	}
	return all
}

// exempt reports whether the binding of a policy that is of its name, which is the
// one for pods, leaves a namespace out.
func (f *Facts) exempt(policy, namespace string) bool {
	return slices.ContainsFunc(f.Cluster.Bindings.Value, func(b admissionv1.ValidatingAdmissionPolicyBinding) bool {
		m := b.Spec.MatchResources
		if b.Name != policy || m == nil || m.NamespaceSelector == nil {
			return false
		}
		return slices.ContainsFunc(m.NamespaceSelector.MatchExpressions, func(e metav1.LabelSelectorRequirement) bool {
			return e.Key == corev1.LabelMetadataName && e.Operator == metav1.LabelSelectorOpNotIn && slices.Contains(e.Values, namespace)
		})
	})
}

func judgePolicies(f *Facts) []Result {
	c := f.Cluster
	for _, err := range []error{c.Policies.Err, c.Bindings.Err} {
		if err != nil {
			return []Result{f.unasked("ValidatingAdmissionPolicies", err)}
		}
	}
	there := map[string]bool{}
	for i := range c.Policies.Value {
		there[c.Policies.Value[i].Name] = true
	}
	wanted := policyNames()
	var results []Result
	installed := false
	for _, name := range sortedKeys(wanted) {
		actions := f.actions(name)
		does := strings.Join(actions, " and ")
		installed = installed || there[name]
		switch {
		case !there[name] && wanted[name]:
			results = append(results, warn("install the chart anew", "%s is missing", name))
		case !there[name]:
			results = append(results, ok("%s is off", name))
		case len(actions) == 0:
			results = append(results, warn("install the chart anew", "%s has no binding and does nothing", name))
		case (wanted[name] || deniesWhereItIs(name)) && !slices.Contains(actions, string(admissionv1.Deny)):
			results = append(results, warn("install the chart anew", "the binding of %s does %s, not Deny", name, does))
		default:
			results = append(results, ok("%s: %s", name, does))
		}
	}
	if !installed {
		return []Result{na("the chart's ValidatingAdmissionPolicies are not installed")}
	}
	return results
}

func judgePreview(f *Facts) []Result {
	switch {
	case f.Refusals == nil:
		return []Result{na("this build does not know the rules of the policies")}
	case f.Cluster.Pods.Err != nil:
		return []Result{f.unasked("pods", f.Cluster.Pods.Err)}
	}
	var results []Result
	for i := range f.Cluster.Pods.Value {
		p := &f.Cluster.Pods.Value[i]
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, r := range f.Refusals(p) {
			if slices.Contains(f.actions(r.Policy), string(admissionv1.Deny)) {
				continue // in force, and the pod is older
			}
			if f.exempt(r.Policy, p.Namespace) {
				continue
			}
			message, hint, found := strings.Cut(r.Message, sep)
			if !found {
				hint = "change the pod before the value of the chart is set to deny"
			}
			results = append(results, warn(hint, "%s would refuse pod %s/%s for %s: %s", r.Policy, p.Namespace, p.Name, r.Field, message))
		}
	}
	if results == nil {
		return []Result{ok("deny would refuse none of %s", plural(len(f.Cluster.Pods.Value), "pod"))}
	}
	return results
}
