package chart_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/portcullis-csi/portcullis/test/chart/render"
)

// What tools and people look for by name is where the upstream driver has it.
func TestObjectsHaveUpstreamsNames(t *testing.T) {
	r := install(t, newest(), "")
	for _, want := range []string{
		"apps/v1/DaemonSet csi-secrets-store", "v1/ServiceAccount secrets-store-csi-driver",
		"storage.k8s.io/v1/CSIDriver secrets-store.csi.k8s.io",
		"rbac.authorization.k8s.io/v1/ClusterRole secretproviderclasses-role",
		"rbac.authorization.k8s.io/v1/ClusterRole secretproviderclasses-admin-role",
		"rbac.authorization.k8s.io/v1/ClusterRole secretproviderclasses-viewer-role",
		"rbac.authorization.k8s.io/v1/ClusterRole secretproviderclasspodstatuses-viewer-role",
		"rbac.authorization.k8s.io/v1/ClusterRoleBinding secretproviderclasses-rolebinding",
		"apiextensions.k8s.io/v1/CustomResourceDefinition secretproviderclasses.secrets-store.csi.x-k8s.io",
		"apiextensions.k8s.io/v1/CustomResourceDefinition secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io",
	} {
		kind, name, _ := strings.Cut(want, " ")
		r.object(t, kind, name)
	}
	ds := r.daemonSet(t)
	if got := ds.Spec.Template.Labels["app"]; got != "secrets-store-csi-driver" {
		t.Errorf("pods have the label app=%s, want secrets-store-csi-driver", got)
	}
	// It cannot be changed later: the API server refuses, and Helm with it.
	if diff := cmp.Diff(map[string]string{"app": "secrets-store-csi-driver"}, ds.Spec.Selector.MatchLabels); diff != "" {
		t.Errorf("selector (-want +got):\n%s", diff)
	}
	if got := r.plugin(t).Name; got != "secrets-store" {
		t.Errorf("the container is %s, want secrets-store", got)
	}
	if got := ds.Spec.Template.Spec.ServiceAccountName; got != "secrets-store-csi-driver" {
		t.Errorf("the account is %s, want secrets-store-csi-driver", got)
	}
}

// clusterScoped are the kinds of the chart that have no namespace.
func clusterScoped(o render.Object) bool {
	return slices.Contains([]string{"ClusterRole", "ClusterRoleBinding", "CSIDriver", "PriorityClass", "CustomResourceDefinition",
		"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration"}, o.Kind()[strings.LastIndex(o.Kind(), "/")+1:])
}

func TestEveryObjectHasLabelsAndTheNamespaceOfTheRelease(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		r.config.Release, r.config.Namespace = "front-door", "secret-delivery"
		for _, o := range with(t, r.name, r.config).objects {
			switch {
			case clusterScoped(o) && o.Namespace() != "":
				t.Errorf("%s has the namespace %q, which its kind has not", o, o.Namespace())
			case !clusterScoped(o) && o.Namespace() != "secret-delivery":
				t.Errorf("%s is in the namespace %q, want that of the release", o, o.Namespace())
			}
			if o.IsCRD() {
				continue // as upstream publishes them
			}
			labels := o.Labels()
			for key, want := range map[string]string{"app.kubernetes.io/name": "portcullis", "app.kubernetes.io/instance": "front-door", "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/version": "", "helm.sh/chart": ""} {
				if labels[key] == "" || want != "" && labels[key] != want {
					t.Errorf("%s has the label %s=%q, want %q", o, key, labels[key], want)
				}
			}
			common, _ := r.config.Values["commonLabels"].(map[string]any)
			for key, value := range common {
				if labels[key] != value {
					t.Errorf("%s has not the common label %s=%v", o, key, value)
				}
			}
			for key, value := range labels {
				if wrong := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(wrong) > 0 {
					t.Errorf("%s has the label %s=%s: %v", o, key, value, wrong)
				}
			}
			if wrong := validation.IsDNS1123Subdomain(o.Name()); len(wrong) > 0 {
				t.Errorf("%s: %v", o, wrong)
			}
		}
		for _, o := range with(t, r.name, r.config).objects {
			for _, kind := range []string{"ClusterRoleBinding", "RoleBinding"} {
				if strings.HasSuffix(o.Kind(), "/"+kind) {
					for _, s := range decode[rbacv1.ClusterRoleBinding](t, o).Subjects {
						if s.Kind != "ServiceAccount" || s.Namespace != "secret-delivery" {
							t.Errorf("%s gives rights to %+v", o, s)
						}
					}
				}
			}
		}
	})
}

func TestNoObjectIsThereTwice(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		seen := map[string]bool{}
		for _, o := range r.objects {
			key := o.Kind() + " " + o.Namespace() + "/" + o.Name()
			if seen[key] {
				t.Errorf("%s is there twice", key)
			}
			seen[key] = true
		}
	})
}

// A cluster has one plugin: the second release must meet the first one's objects
// and be refused by Helm, and not stand beside it on the same sockets.
func TestSecondReleaseClashesWithTheFirst(t *testing.T) {
	names := func(releaseName, namespace string) []string {
		c := render.Config{Chart: chartDir, Kubernetes: newest(), Values: valuesOf(t, "clusterName: test"), Release: releaseName, Namespace: namespace}
		var found []string
		for _, o := range with(t, releaseName, c).objects {
			if clusterScoped(o) && !o.IsCRD() {
				found = append(found, o.Kind()+" "+o.Name())
			}
		}
		return found
	}
	first, second := names("one", "kube-system"), names("two", "other")
	if diff := cmp.Diff(first, second); diff != "" || len(first) < 5 {
		t.Errorf("cluster-scoped objects of two releases (-first +second):\n%s", diff)
	}
}

func TestCSIDriverOfEachVersion(t *testing.T) {
	read := func(kubernetes, values string) (storagev1.CSIDriver, map[string]string) {
		o := install(t, kubernetes, values).object(t, "storage.k8s.io/v1/CSIDriver", driverName)
		return decode[storagev1.CSIDriver](t, o), o.Annotations()
	}
	for kubernetes, want := range map[string]bool{"v1.30.0": false, "v1.34.8": false, "v1.35.0-rc.1": true, "v1.35.0": true, "v1.37.2": true, "v1.35.4+k3s1": true, "v1.34.1-gke.100": false} {
		driver, annotations := read(kubernetes, "tokenRequests: [{audience: vault}]")
		spec := driver.Spec
		if got := spec.ServiceAccountTokenInSecrets != nil && *spec.ServiceAccountTokenInSecrets; got != want {
			t.Errorf("Kubernetes %s: serviceAccountTokenInSecrets is %v, want %v", kubernetes, got, want)
		}
		if annotations["helm.sh/resource-policy"] != "keep" {
			t.Errorf("Kubernetes %s: Helm deletes the CSIDriver of volumes that are mounted", kubernetes)
		}
		no := func(b *bool) bool { return b != nil && !*b }
		yes := func(b *bool) bool { return b != nil && *b }
		if !no(spec.AttachRequired) || !yes(spec.PodInfoOnMount) || !yes(spec.RequiresRepublish) || !no(spec.SELinuxMount) ||
			spec.FSGroupPolicy == nil || *spec.FSGroupPolicy != storagev1.NoneFSGroupPolicy || !slices.Equal(spec.VolumeLifecycleModes, []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral}) {
			t.Errorf("Kubernetes %s: %+v", kubernetes, spec)
		}
	}
	audiences := func(values string) []string {
		driver, _ := read(newest(), values)
		var found []string
		for _, r := range driver.Spec.TokenRequests {
			found = append(found, r.Audience)
		}
		return found
	}
	for values, want := range map[string][]string{
		"":                                   {"portcullis"},
		"tokenRequests: [{audience: vault}]": {"portcullis", "vault"},
		"tokenRequests: [{audience: ''}]":    {"portcullis", ""},
		"tokenRequests: [{audience: portcullis}, {audience: a}, {audience: a}]": {"portcullis", "a"}, // the API server refuses one twice
	} {
		if got := audiences(values); !slices.Equal(got, want) {
			t.Errorf("audiences with %q are %q, want %q", values, got, want)
		}
	}
	for values, want := range map[string]string{"": "restricted", "openshift: {csiEphemeralVolumeProfile: baseline}": "baseline", "openshift: {csiEphemeralVolumeProfile: ''}": ""} {
		driver, _ := read(newest(), values)
		if got := driver.Labels["security.openshift.io/csi-ephemeral-volume-profile"]; got != want {
			t.Errorf("OpenShift's profile with %q is %q, want %q", values, got, want)
		}
	}
}

// files/rbac is what test/rbac holds to the API server, verb by verb: the chart
// gives that and nothing else.
func TestRightsAreThoseOfThePlainManifests(t *testing.T) {
	plain := map[string][]rbacv1.PolicyRule{}
	names, err := filepath.Glob(chartDir + "/files/*/*role.yaml")
	if err != nil || len(names) < 7 {
		t.Fatalf("found the roles %q, %v", names, err)
	}
	for _, name := range names {
		objects, err := render.Parse(name, read(t, name))
		if err != nil || len(objects) != 1 {
			t.Fatalf("%s: %d objects, %v", name, len(objects), err)
		}
		plain[objects[0].Kind()+" "+objects[0].Name()] = decode[rbacv1.ClusterRole](t, objects[0]).Rules
	}
	// The hook runs only when the release goes, with an account of its own.
	plain["rbac.authorization.k8s.io/v1/ClusterRole portcullis-uninstall-check"] = []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}}
	forEach(t, func(t *testing.T, r release) {
		for _, o := range r.objects {
			if !strings.HasSuffix(o.Kind(), "Role") {
				continue
			}
			role := decode[rbacv1.ClusterRole](t, o)
			want, ok := plain[o.Kind()+" "+o.Name()]
			if !ok {
				t.Errorf("%s is a role that no plain manifest has", o)
			}
			if slices.ContainsFunc(r.objects, func(o render.Object) bool { return strings.HasSuffix(o.Kind(), "/Certificate") }) {
				want = withoutCertificates(want)
			}
			if diff := cmp.Diff(want, role.Rules); diff != "" {
				t.Errorf("%s (-plain +rendered):\n%s", o, diff)
			}
			for _, rule := range role.Rules {
				if o.Namespace() != "" && len(rule.ResourceNames) == 1 && !slices.Contains(rule.ResourceNames, "*") {
					continue // one object of ours, by its name
				}
				everything := slices.Concat(rule.Verbs, rule.Resources, rule.APIGroups, rule.NonResourceURLs)
				for _, never := range []string{"*", "secrets", "secrets/*", "escalate", "bind", "impersonate", "serviceaccounts/token", "pods/exec", "nodes/proxy"} {
					if slices.Contains(everything, never) {
						t.Errorf("%s gives %q", o, never)
					}
				}
			}
		}
	})
}

// withoutCertificates are the rules where cert-manager makes the webhook's.
func withoutCertificates(all []rbacv1.PolicyRule) (rules []rbacv1.PolicyRule) {
	for _, r := range all {
		if slices.Contains(r.Resources, "validatingwebhookconfigurations") {
			r.Verbs = []string{"get"}
		}
		if !slices.Contains(r.Resources, "secrets") {
			rules = append(rules, r)
		}
	}
	return rules
}

// bound returns the roles of an account, by the bindings of the release.
func bound(t *testing.T, r release) map[string][]string {
	t.Helper()
	roles := map[string][]string{}
	for _, o := range r.objects {
		if strings.HasSuffix(o.Kind(), "Binding") && strings.HasPrefix(o.Kind(), "rbac.") {
			binding := decode[rbacv1.ClusterRoleBinding](t, o)
			for _, s := range binding.Subjects {
				roles[s.Name] = append(roles[s.Name], binding.RoleRef.Name)
			}
		}
	}
	return roles
}

func TestAccountsHaveTheseRoles(t *testing.T) {
	plugin := map[string][]string{"secrets-store-csi-driver": {"secretproviderclasses-role"}}
	openshift := map[string][]string{
		"secrets-store-csi-driver":  {"system:openshift:scc:privileged", "secretproviderclasses-role"},
		"portcullis-provider-local": {"system:openshift:scc:privileged"},
	}
	webhook := map[string][]string{
		"secrets-store-csi-driver": {"secretproviderclasses-role"},
		"portcullis-webhook":       {"portcullis-webhook", "portcullis-webhook"},
	}
	floor := map[string][]string{
		"secrets-store-csi-driver": {"portcullis-policy-floor-reader", "secretproviderclasses-role"},
		"portcullis-webhook":       {"portcullis-webhook", "portcullis-webhook"},
	}
	want := map[string]map[string][]string{"signed-policy": floor, "webhook": webhook, "webhook-everything": webhook, "openshift": openshift, "everything-on": openshift, "everything-off": {}}
	forEach(t, func(t *testing.T, r release) {
		expected, ok := want[r.name]
		if !ok {
			expected = plugin
		}
		got := bound(t, r)
		delete(got, "portcullis-uninstall-check")
		for _, roles := range got {
			slices.Sort(roles)
		}
		for _, roles := range expected {
			slices.Sort(roles)
		}
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("roles by account (-want +got):\n%s", diff)
		}
	})
}

func TestRBACCanBeLeftToOthers(t *testing.T) {
	for _, o := range install(t, newest(), "rbac: {install: false}").objects {
		if hook := o.Annotations()["helm.sh/hook"]; hook == "" && (strings.HasPrefix(o.Kind(), "rbac.") || strings.HasSuffix(o.Kind(), "/ServiceAccount")) {
			t.Errorf("rbac.install=false makes %s", o)
		}
	}
}

func TestNetworkPolicyIsForThePluginOnly(t *testing.T) {
	off := slices.ContainsFunc(install(t, newest(), "").objects, func(o render.Object) bool { return strings.HasSuffix(o.Kind(), "/NetworkPolicy") })
	if off {
		t.Error("a NetworkPolicy by default: the address of the API server is not known")
	}
	o := install(t, newest(), "networkPolicy: {enabled: true}").object(t, "networking.k8s.io/v1/NetworkPolicy", "csi-secrets-store")
	spec, ok := o.Fields["spec"].(map[string]any)
	if !ok {
		t.Fatalf("the NetworkPolicy has no spec: %v", o.Fields)
	}
	if diff := cmp.Diff(map[string]any{"matchLabels": map[string]any{"app": "secrets-store-csi-driver"}}, spec["podSelector"]); diff != "" {
		t.Errorf("selector (-want +got):\n%s", diff)
	}
	out, _ := spec["egress"].([]any)
	if _, in := spec["ingress"]; in || len(out) != 1 {
		t.Errorf("by default somebody may come in, or the plugin may reach more than the API server: %v", slices.Sorted(maps.Keys(spec)))
	}
}
