package chart_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// With an authority of callers the webhook is told its file, which is mounted, and
// the names; and one without the other is refused.
func TestWebhookIsToldWhoMayCall(t *testing.T) {
	r := install(t, newest(), "webhook: {enabled: true, clientCA: {configMap: callers, names: [kube-apiserver, second]}}")
	spec := r.statefulSet(t).Spec.Template.Spec
	c := spec.Containers[0]
	for _, want := range []string{"--client-ca=/client-ca/ca.crt", "--client-names=kube-apiserver,second"} {
		if !slices.Contains(c.Args, want) {
			t.Errorf("flags %q, want %s", c.Args, want)
		}
	}
	m := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/client-ca" && m.ReadOnly })
	v := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.ConfigMap != nil && v.ConfigMap.Name == "callers" })
	if m < 0 || v < 0 || c.VolumeMounts[m].Name != spec.Volumes[v].Name || spec.Volumes[v].ConfigMap.Optional != nil {
		t.Errorf("mounts %+v of %+v, want the ConfigMap: without it there is no webhook, and not one that answers everybody", c.VolumeMounts, spec.Volumes)
	}
	if args := install(t, newest(), "webhook: {enabled: true}").statefulSet(t).Spec.Template.Spec.Containers[0].Args; strings.Contains(strings.Join(args, " "), "client-") {
		t.Errorf("flags %q, want none about callers", args)
	}
	for values, want := range map[string]string{
		"webhook: {enabled: true, clientCA: {configMap: callers}}":                   "webhook.clientCA needs both",
		"webhook: {enabled: true, clientCA: {names: [a]}}":                           "webhook.clientCA needs both",
		"webhook: {enabled: true, clientCA: {configMap: callers, names: ['a,b']}}":   "names",
		"webhook: {enabled: true, clientCA: {configMap: callers, names: ['']}}":      "names",
		"webhook: {enabled: true, clientCA: {configMap: 'a b', names: [a]}}":         "configMap",
		"webhook: {enabled: true, extraArgs: ['--client-ca=/x']}":                    "--client-ca",
		"webhook: {enabled: true, extraArgs: ['--client-names=kube-apiserver']}":     "--client-names",
		"webhook: {enabled: true, clientCA: {configMap: callers, names: [a], x: 1}}": "clientCA",
	} {
		if got := refusal(t, valuesOf(t, "clusterName: test\n"+values)); !strings.Contains(got, want) {
			t.Errorf("%s: refusal %q, want %q", values, got, want)
		}
	}
}

// The notes say who can call while nothing keeps anybody away.
func TestNotesSayWhoCanCall(t *testing.T) {
	const text = "Every pod of the cluster can send reviews"
	for values, want := range map[string]bool{
		"":                         false,
		"webhook: {enabled: true}": true,
		"webhook: {enabled: true}\nnetworkPolicy: {enabled: true}":                                                 true,
		"webhook: {enabled: true}\nnetworkPolicy: {webhookFrom: [{ipBlock: {cidr: 192.0.2.0/24}}]}":                true,
		"webhook: {enabled: true}\nnetworkPolicy: {enabled: true, webhookFrom: [{ipBlock: {cidr: 192.0.2.0/24}}]}": false,
		"webhook: {enabled: true, clientCA: {configMap: callers, names: [a]}}":                                     false,
	} {
		if notes := install(t, newest(), values).files.Notes(); strings.Contains(notes, text) != want {
			t.Errorf("notes with %q, want %q: %v\n%s", values, text, want, notes)
		}
	}
}

// Who may patch the configuration can have API servers send them every object. Where
// cert-manager writes caBundle the webhook has no use for that, nor for its Secret.
func TestCertManagerTakesRightsAway(t *testing.T) {
	verbs := func(values, resource string) (found []string) {
		r := install(t, newest(), values)
		rules := slices.Concat(
			decode[rbacv1.ClusterRole](t, r.object(t, "rbac.authorization.k8s.io/v1/ClusterRole", "portcullis-webhook")).Rules,
			decode[rbacv1.Role](t, r.object(t, "rbac.authorization.k8s.io/v1/Role", "portcullis-webhook")).Rules)
		for _, rule := range rules {
			if slices.Contains(rule.Resources, resource) {
				found = append(found, rule.Verbs...)
			}
		}
		return found
	}
	const own, managed = "webhook: {enabled: true}", "webhook: {enabled: true, certManager: {enabled: true}}"
	for _, c := range []struct {
		values, resource string
		want             []string
	}{
		{own, "validatingwebhookconfigurations", []string{"get", "patch"}}, {own, "secrets", []string{"get", "update"}},
		{managed, "validatingwebhookconfigurations", []string{"get"}}, {managed, "secrets", nil},
		{managed, "namespaces", []string{"get", "list", "watch"}}, {managed, "configmaps", []string{"get", "update"}},
	} {
		if got := verbs(c.values, c.resource); !slices.Equal(got, c.want) {
			t.Errorf("%s: %s may be asked to %q, want %q", c.values, c.resource, got, c.want)
		}
	}
}

// The policy that holds the webhook's account to caBundle names every other field of a
// webhook that there is. One that a newer API brings has to be named too.
func TestTheGuardOfTheConfigurationNamesEveryField(t *testing.T) {
	r := install(t, newest(), "webhook: {enabled: true}")
	o := r.object(t, "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy", "portcullis-webhook-configuration")
	policy := decode[admissionv1.ValidatingAdmissionPolicy](t, o)
	var text strings.Builder
	for _, v := range policy.Spec.Validations {
		text.WriteString(v.Expression)
	}
	for of, prefix := range map[reflect.Type]string{reflect.TypeFor[admissionv1.ValidatingWebhook](): "w.?", reflect.TypeFor[admissionv1.WebhookClientConfig](): "w.?clientConfig.?"} {
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			compared := strings.Contains(text.String(), prefix+name+" == ") || name == "name" && strings.Contains(text.String(), "o.name == w.name")
			if held := name != "caBundle" && name != "clientConfig"; compared != held {
				t.Errorf("%s is compared: %v, want %v", prefix+name, compared, held)
			}
		}
	}
	if policy.Spec.FailurePolicy == nil || *policy.Spec.FailurePolicy != admissionv1.Fail || !strings.Contains(policy.Spec.MatchConditions[0].Expression, "'system:serviceaccount:kube-system:portcullis-webhook'") {
		t.Errorf("policy = %+v, want that it fails closed, for the webhook's account alone", policy.Spec)
	}
	for _, values := range []string{"", "webhook: {enabled: true, certManager: {enabled: true}}"} {
		for _, o := range install(t, newest(), values).objects {
			if o.Name() == "portcullis-webhook-configuration" {
				t.Errorf("with %q there is %s, which nobody needs", values, o)
			}
		}
	}
}
