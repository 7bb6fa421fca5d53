package chart_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/test/chart/render"
)

type actions map[string][]admissionv1.ValidationAction

// admission returns what is done about a finding of each policy, by the names of
// the bindings, and the policies.
func admission(t *testing.T, r release) (actions, map[string]admissionv1.ValidatingAdmissionPolicy) {
	t.Helper()
	done, policies := actions{}, map[string]admissionv1.ValidatingAdmissionPolicy{}
	bound := map[string]bool{}
	for _, o := range r.objects {
		switch {
		case strings.HasSuffix(o.Kind(), "/ValidatingAdmissionPolicy"):
			policies[o.Name()] = decode[admissionv1.ValidatingAdmissionPolicy](t, o)
		case strings.HasSuffix(o.Kind(), "/ValidatingAdmissionPolicyBinding"):
			binding := decode[admissionv1.ValidatingAdmissionPolicyBinding](t, o)
			done[o.Name()] = binding.Spec.ValidationActions
			bound[binding.Spec.PolicyName] = true
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(policies)), slices.Sorted(maps.Keys(bound))); diff != "" {
		t.Errorf("%s: policies without a binding, or bindings to nothing (-policies +bound):\n%s", r.name, diff)
	}
	return done, policies
}

func TestAdmissionPoliciesDoWhatTheValuesSay(t *testing.T) {
	const audit, deny, warn = admissionv1.Audit, admissionv1.Deny, admissionv1.Warn
	chosen := map[string]string{
		"privileged": "portcullis-privileged", "ephemeralContainers": "portcullis-ephemeral-containers", "hostPaths": "portcullis-host-paths",
	}
	for setting, want := range map[string][]admissionv1.ValidationAction{"": {warn, audit}, "warn": {warn, audit}, "deny": {deny, audit}, "off": nil} {
		values := ""
		for name := range chosen {
			if setting != "" {
				values += fmt.Sprintf("  %s: %q\n", name, setting)
			}
		}
		if values != "" {
			values = "admissionPolicies:\n" + values
		}
		got, policies := admission(t, install(t, newest(), values))
		for _, name := range chosen {
			has := slices.Clone(got[name])
			slices.SortFunc(has, func(a, b admissionv1.ValidationAction) int { return strings.Compare(string(b), string(a)) })
			expected := slices.Clone(want)
			slices.SortFunc(expected, func(a, b admissionv1.ValidationAction) int { return strings.Compare(string(b), string(a)) })
			if !slices.Equal(has, expected) {
				t.Errorf("%s with %q does %q, want %q", name, setting, has, expected)
			}
			if _, there := policies[name]; there != (want != nil) {
				t.Errorf("the policy %s is there with %q: %v", name, setting, there)
			}
		}
		for _, name := range []string{"portcullis-status-of-own-node", "portcullis-volumes-read-only", "portcullis-no-persistent-volumes"} {
			if !slices.Contains(got[name], deny) {
				t.Errorf("%s with %q does %q, want Deny whatever the values say", name, setting, got[name])
			}
			if p := policies[name].Spec.FailurePolicy; p == nil || *p != admissionv1.Fail {
				t.Errorf("%s lets through what it cannot judge", name)
			}
		}
	}
}

// Nobody can be locked out of a cluster by a policy about volumes of a driver.
func TestAdmissionPoliciesAreNarrow(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		_, policies := admission(t, r)
		for name, policy := range policies {
			for _, rule := range policy.Spec.MatchConstraints.ResourceRules {
				if slices.Contains(rule.Resources, "*") || slices.Contains(rule.Resources, "*/*") || slices.Contains(rule.APIGroups, "*") {
					t.Errorf("%s is asked about everything: %+v", name, rule)
				}
			}
			for _, v := range policy.Spec.Validations {
				if text := v.Message + v.MessageExpression; !strings.Contains(text, "hint:") {
					t.Errorf("%s refuses without a remedy: %q", name, text)
				}
			}
		}
	})
}

func TestAdmissionPoliciesKnowTheDirectoriesOfTheNode(t *testing.T) {
	values := "linux: {kubeletRootDir: /mnt/kubelet, providersDir: /run/providers, additionalProvidersDirs: [/run/more]}\nstateDir: /srv/portcullis"
	o := install(t, newest(), values).object(t, "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy", "portcullis-host-paths")
	policy := decode[admissionv1.ValidatingAdmissionPolicy](t, o)
	var text strings.Builder
	for _, v := range policy.Spec.Variables {
		text.WriteString(v.Expression)
	}
	for _, dir := range []string{"/mnt/kubelet/pods", "/mnt/kubelet/plugins", "/run/providers", "/run/more", "/srv/portcullis", "/proc"} {
		if !strings.Contains(text.String(), dir) {
			t.Errorf("the policy does not know %s:\n%s", dir, text.String())
		}
	}
	for _, dir := range []string{"/var/lib/kubelet", "/var/lib/portcullis", "/var/run/secrets-store-csi-providers"} {
		if strings.Contains(text.String(), dir) {
			t.Errorf("the policy still has the default %s:\n%s", dir, text.String())
		}
	}
}

// Everything of the check is a hook: it is there while the release goes, and
// leaves nothing behind. What the check may do is to list pods.
func TestUninstallCheckRunsBeforeAnythingIsDeleted(t *testing.T) {
	kinds := map[string]bool{}
	for _, o := range install(t, newest(), "").objects {
		hook := o.Annotations()["helm.sh/hook"]
		if hook == "" {
			continue
		}
		kinds[o.Kind()[strings.LastIndex(o.Kind(), "/")+1:]] = true
		if hook != "pre-delete" || !strings.Contains(o.Annotations()["helm.sh/hook-delete-policy"], "before-hook-creation") {
			t.Errorf("%s is a hook %q, deleted %q", o, hook, o.Annotations()["helm.sh/hook-delete-policy"])
		}
	}
	if diff := cmp.Diff([]string{"ClusterRole", "ClusterRoleBinding", "Job", "ServiceAccount"}, slices.Sorted(maps.Keys(kinds))); diff != "" {
		t.Errorf("hooks (-want +got):\n%s", diff)
	}
	r := install(t, newest(), "linux: {nodeSelector: {pool: a}}\nimagePullSecrets: [{name: registry}]")
	job := decode[batchv1.Job](t, r.object(t, "batch/v1/Job", "portcullis-uninstall-check"))
	spec := job.Spec.Template.Spec
	if spec.Containers[0].Image != r.plugin(t).Image || !slices.Equal(spec.Containers[0].Command, []string{"/portcullis"}) || spec.Containers[0].Args[0] != "uninstall-check" {
		t.Errorf("the check runs %s %q %q, want /portcullis uninstall-check of the plugin's image", spec.Containers[0].Image, spec.Containers[0].Command, spec.Containers[0].Args)
	}
	if s := spec.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 {
		t.Error("the check runs as root")
	}
	if job.Spec.BackoffLimit == nil || *job.Spec.BackoffLimit != 0 || job.Spec.ActiveDeadlineSeconds == nil {
		t.Error("a check that fails is tried again, or never ends")
	}
	for _, o := range install(t, newest(), "uninstall: {force: true}").objects {
		if o.Annotations()["helm.sh/hook"] != "" {
			t.Errorf("uninstall.force=true leaves %s", o)
		}
	}
	var rules []rbacv1.PolicyRule
	for _, o := range r.objects {
		if o.Kind() == "rbac.authorization.k8s.io/v1/ClusterRole" && o.Name() == "portcullis-uninstall-check" {
			rules = append(rules, decode[rbacv1.ClusterRole](t, render.Object{File: o.File, Fields: o.Fields}).Rules...)
		}
	}
	if diff := cmp.Diff([]rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}}, rules); diff != "" {
		t.Errorf("rights of the check (-want +got):\n%s", diff)
	}
}
