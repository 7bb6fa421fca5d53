package chart_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"

	"github.com/portcullis-csi/portcullis/test/chart/render"
)

func (r release) webhooks(t *testing.T) map[string]admissionv1.ValidatingWebhook {
	t.Helper()
	o := r.object(t, "admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration", "portcullis")
	found := map[string]admissionv1.ValidatingWebhook{}
	for _, w := range decode[admissionv1.ValidatingWebhookConfiguration](t, o).Webhooks {
		found[w.Name] = w
	}
	return found
}

func (r release) statefulSet(t *testing.T) appsv1.StatefulSet {
	t.Helper()
	return decode[appsv1.StatefulSet](t, r.object(t, "apps/v1/StatefulSet", "portcullis-webhook"))
}

// What a value must not change is that pods fail closed, that no namespace is exempt
// and that a dry run leaves no trace.
func TestWebhookConfigurationIsWhatTheServerExpects(t *testing.T) {
	for values, classes := range map[string]admissionv1.FailurePolicyType{
		"webhook: {enabled: true}": admissionv1.Ignore,
		"webhook: {enabled: true, failurePolicy: {classes: Fail}, timeoutSeconds: 9}":      admissionv1.Fail,
		"webhook: {enabled: true, certManager: {enabled: true}}\ncommonLabels: {a: other}": admissionv1.Ignore,
	} {
		r := install(t, newest(), values)
		found := r.webhooks(t)
		want := map[string]admissionv1.FailurePolicyType{"pods": admissionv1.Fail, "templates": admissionv1.Ignore, "classes": classes}
		if len(found) != len(want) {
			t.Errorf("%d webhooks, want %d", len(found), len(want))
		}
		for name, policy := range want {
			w, ok := found[name+".admission.portcullis.dev"]
			if !ok {
				t.Fatalf("no webhook %s", name)
			}
			if w.FailurePolicy == nil || *w.FailurePolicy != policy {
				t.Errorf("%s: failurePolicy %v, want %s", name, w.FailurePolicy, policy)
			}
			if w.NamespaceSelector != nil || w.ObjectSelector != nil {
				t.Errorf("%s leaves somebody out", name)
			}
			if w.SideEffects == nil || *w.SideEffects != admissionv1.SideEffectClassNoneOnDryRun || *w.MatchPolicy != admissionv1.Equivalent {
				t.Errorf("%s: sideEffects %v, matchPolicy %v", name, w.SideEffects, w.MatchPolicy)
			}
			s := w.ClientConfig.Service
			if s == nil || s.Name != "portcullis-webhook" || s.Namespace != "kube-system" || s.Path == nil || *s.Path != "/"+name || w.ClientConfig.URL != nil {
				t.Errorf("%s is at %+v", name, s)
			}
			if len(w.ClientConfig.CABundle) > 0 {
				t.Errorf("%s has a caBundle, which an upgrade would bring back", name)
			}
			if len(w.MatchConditions) == 0 {
				t.Errorf("%s is asked about everything", name)
			}
			// What may be missing is asked for with a default: an error would refuse.
			for _, c := range w.MatchConditions {
				if m := regexp.MustCompile(`(object|oldObject|request)\.(spec|metadata|subResource)`).FindString(c.Expression); m != "" {
					t.Errorf("%s: condition %s takes %s for there", name, c.Name, m)
				}
			}
		}
	}
	off := install(t, newest(), "")
	for _, o := range off.objects {
		if strings.Contains(o.Name(), "webhook") || strings.HasSuffix(o.Kind(), "ValidatingWebhookConfiguration") {
			t.Errorf("without the webhook there is %s", o)
		}
	}
}

// While the configuration is there and its servers are not, no pod with secrets is
// made: it comes last and goes first, in both versions of Helm (whose orders are one).
func TestWebhookConfigurationComesLastAndGoesFirst(t *testing.T) {
	position := func(order releaseutil.KindSortOrder, kind string) int {
		i := slices.Index(order, kind)
		if i < 0 {
			t.Fatalf("Helm has no place for %s", kind)
		}
		return i
	}
	for _, kind := range []string{"Service", "StatefulSet", "Secret", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"} {
		if position(releaseutil.InstallOrder, "ValidatingWebhookConfiguration") < position(releaseutil.InstallOrder, kind) {
			t.Errorf("the configuration is there before %s", kind)
		}
		if position(releaseutil.UninstallOrder, "ValidatingWebhookConfiguration") > position(releaseutil.UninstallOrder, kind) {
			t.Errorf("the configuration goes after %s", kind)
		}
	}
}

// The annotations that a change of is a question are those that secretref reads.
func TestWebhookIsAskedAboutEveryAnnotationThatProvidersRead(t *testing.T) {
	files, err := filepath.Glob(repository + "/policies/secretref/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			text.WriteString(read(t, file))
		}
	}
	var annotations []string
	for _, m := range regexp.MustCompile(`PodAnnotations\[(\w+|"[^"]+")\]`).FindAllStringSubmatch(text.String(), -1) {
		name := strings.Trim(m[1], `"`)
		if m[1] == name {
			constant := regexp.MustCompile(`\b` + name + `\s*=\s*"([^"]+)"`).FindStringSubmatch(text.String())
			if constant == nil {
				t.Fatalf("secretref reads the annotation %s, and no constant says which that is", name)
			}
			name = constant[1]
		}
		annotations = append(annotations, name)
	}
	slices.Sort(annotations)
	var asked []string
	for _, c := range install(t, newest(), "webhook: {enabled: true}").webhooks(t)["pods.admission.portcullis.dev"].MatchConditions {
		for _, m := range regexp.MustCompile(`\[\?'([^']+)'\]`).FindAllStringSubmatch(c.Expression, -1) {
			asked = append(asked, m[1])
		}
	}
	slices.Sort(asked)
	if diff := cmp.Diff(slices.Compact(annotations), slices.Compact(asked)); diff != "" || len(asked) == 0 {
		t.Errorf("annotations (-read +asked about):\n%s", diff)
	}
	uses := regexp.MustCompile(`PodAnnotations\b`).FindAllStringIndex(text.String(), -1)
	if len(uses) != len(annotations)+2 { // its field and the comment above it
		t.Errorf("PodAnnotations is used %d times in secretref and read %d times by a name: this test does not see the others", len(uses), len(annotations))
	}
}

// It runs as nobody, on nothing of the node, and its log outlives its pod.
func TestWebhookPod(t *testing.T) {
	set := install(t, newest(), "webhook: {enabled: true}").statefulSet(t)
	spec := set.Spec.Template.Spec
	if s := spec.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser != 65532 || *s.RunAsGroup != 65532 || *s.FSGroup != 65532 {
		t.Errorf("security context %+v, want user and groups 65532", s)
	}
	c := spec.Containers[0]
	if c.SecurityContext.Privileged != nil || len(c.SecurityContext.Capabilities.Add) > 0 {
		t.Errorf("security context %+v, want no capability", c.SecurityContext)
	}
	for _, v := range spec.Volumes {
		if v.CSI != nil || v.HostPath != nil {
			t.Errorf("volume %s: the webhook would wait for itself, or see the node", v.Name)
		}
	}
	if len(set.Spec.VolumeClaimTemplates) != 1 || set.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted != appsv1.RetainPersistentVolumeClaimRetentionPolicyType || !slices.Contains(c.Args, "--state-durable=true") {
		t.Errorf("the log is on %+v, flags %q", set.Spec.VolumeClaimTemplates, c.Args)
	}
	for _, constraint := range spec.TopologySpreadConstraints {
		if constraint.LabelSelector == nil || constraint.LabelSelector.MatchLabels["app"] != "portcullis-webhook" {
			t.Errorf("spread %+v selects nobody", constraint)
		}
	}
	loose := install(t, newest(), "webhook: {enabled: true, persistence: {enabled: false}}")
	set = loose.statefulSet(t)
	i := slices.IndexFunc(set.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == "state" && v.EmptyDir != nil })
	if len(set.Spec.VolumeClaimTemplates) > 0 || i < 0 || !slices.Contains(set.Spec.Template.Spec.Containers[0].Args, "--state-durable=false") {
		t.Error("without persistence the log is not in an emptyDir, or the webhook is not told")
	}
	if !strings.Contains(loose.files.Notes(), "only as durable as the sinks") {
		t.Errorf("the notes do not say what is lost without persistence:\n%s", loose.files.Notes())
	}
	for key, value := range set.Spec.Selector.MatchLabels {
		if set.Spec.Template.Labels[key] != value {
			t.Errorf("pods lack the label %s=%s", key, value)
		}
	}
}

const publicKey = "-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE%\\n-----END PUBLIC KEY-----\\n"

// key is the text of a key in values, different for each digit.
func key(digit string) string { return `"` + strings.Replace(publicKey, "%", digit, 1) + `"` }

// signed has every value about signed policy.
func signed() string {
	return `
clusterName: test
policy:
  source: oci://registry.example/security/policy:prod
  keys: [` + key("A") + `, ` + key("B") + `]
  breakGlassKeys: [` + key("C") + `]
  identities: [{issuer: https://issuer.example, subject: release@example.org}]
  trustedRoot: '{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'
  signatures: 3
  minSerial: 20261126
  floor: {enabled: true}
  fallback: {configMap: {name: policy-fallback}}
  registry: {secretName: registry, caConfigMap: registry-ca, signatureRepository: registry.example/security/signatures, plainHTTP: true}
  shadow: {configMap: {name: candidate, key: next.tar.gz}}
webhook: {enabled: true}
`
}

// Both gates decide by the same policy: what one is told about it, so is the other.
func TestBothDaemonsAreToldTheSameOfPolicy(t *testing.T) {
	about := func(c corev1.Container) []string {
		return slices.DeleteFunc(slices.Clone(c.Args), func(a string) bool {
			return !strings.HasPrefix(a, "--policy") && !strings.HasPrefix(a, "--allow-unsigned")
		})
	}
	insecure := "clusterName: test\npolicy: {allowUnsigned: true}\nlinux: {image: {repository: r.example/portcullis-node-insecure}}\nwebhook: {enabled: true, image: {repository: r.example/portcullis-webhook-insecure}}"
	for _, values := range []string{signed(), insecure, "clusterName: test\nwebhook: {enabled: true}"} {
		r := with(t, "signed", render.Config{Chart: chartDir, Kubernetes: newest(), Values: valuesOf(t, values)})
		webhook := r.statefulSet(t).Spec.Template.Spec.Containers[0]
		if diff := cmp.Diff(about(r.plugin(t)), about(webhook)); diff != "" {
			t.Errorf("flags about policy (-plugin +webhook):\n%s", diff)
		}
		for name, spec := range map[string]corev1.PodSpec{"plugin": r.daemonSet(t).Spec.Template.Spec, "webhook": r.statefulSet(t).Spec.Template.Spec} {
			mounted := map[string]bool{}
			for _, m := range spec.Containers[0].VolumeMounts {
				mounted[m.MountPath] = m.ReadOnly
			}
			for _, arg := range about(spec.Containers[0]) {
				_, value, _ := strings.Cut(arg, "=")
				if dir := filepath.Dir(value); strings.HasPrefix(value, "/policy") && !mounted[dir] {
					t.Errorf("%s: %s names a file of %s, which is not mounted read-only", name, arg, dir)
				}
			}
		}
	}
	r := with(t, "signed", render.Config{Chart: chartDir, Kubernetes: newest(), Values: valuesOf(t, signed())})
	data := decode[corev1.ConfigMap](t, r.object(t, "v1/ConfigMap", "portcullis-policy-trust")).Data
	for _, arg := range about(r.plugin(t)) {
		if file, ok := strings.CutPrefix(arg[strings.Index(arg, "=")+1:], "/policy-trust/"); ok && data[file] == "" {
			t.Errorf("%s names a file that the ConfigMap has not", arg)
		}
	}
	if !strings.Contains(strings.Join(about(r.plugin(t)), " "), "--policy-min-serial=20261126") {
		t.Errorf("flags %q, want the serial in full", about(r.plugin(t)))
	}
	before := r.daemonSet(t).Spec.Template.Annotations["portcullis.dev/policy-trust"]
	other := with(t, "other", render.Config{Chart: chartDir, Kubernetes: newest(), Values: valuesOf(t, strings.Replace(signed(), "QgAEA", "QgAEZ", 1))})
	if after := other.daemonSet(t).Spec.Template.Annotations["portcullis.dev/policy-trust"]; before == "" || after == before {
		t.Error("another key makes no new pods, which read keys at their start")
	}
	floor := decode[corev1.ConfigMap](t, r.object(t, "v1/ConfigMap", "portcullis-policy-floor"))
	if floor.Data != nil || floor.Annotations["helm.sh/resource-policy"] != "keep" {
		t.Errorf("the floor is %+v: an upgrade lowers it, or it goes with the release", floor)
	}
}

// A plugin that trusts nobody does not start, and one that does not start unmounts
// nothing: that is refused before the old one is replaced.
func TestReleaseWithoutSignerIsRefused(t *testing.T) {
	for values, want := range map[string]bool{
		"":                                   false,
		"policy: {keys: []}":                 false,
		"policy: {keys: [], identities: []}": false,
		"policy: {allowUnsigned: false}":     false,
		"policy: {source: 'oci://a.example/b:c'}":                                            false,
		"webhook: {enabled: true}":                                                           false,
		"policy: {keys: [" + key("A") + "]}":                                                 true,
		"policy: {identities: [{issuer: https://a.example, subject: b}], trustedRoot: '{}'}": true,
		"policy: {allowUnsigned: true}\nlinux: {image: {repository: ghcr.io/portcullis-csi/portcullis-node-insecure}}": true,
	} {
		c := render.Config{Chart: chartDir, Kubernetes: newest(), Values: valuesOf(t, "clusterName: test\n"+values)}
		for name, helm := range map[string]func(render.Config) (render.Files, error){"Helm 3": render.Helm3, "Helm 4": render.Helm4} {
			_, err := helm(c)
			if (err == nil) != want || err != nil && (!strings.Contains(err.Error(), "policy.keys and policy.identities are empty") || !strings.Contains(err.Error(), "hint:")) {
				t.Errorf("%s with %q: %v, want that it is taken: %v", name, values, err, want)
			}
		}
	}
}

func TestWrongValuesOfSignedPolicyAreRefusedByName(t *testing.T) {
	for values, want := range map[string][]string{
		"policy: {keys: [x]}": {"keys"},
		"policy: {keys: ['-----BEGIN PRIVATE KEY-----\n\nAAAA\n-----END PRIVATE KEY-----']}":                                {"keys"},
		"policy: {keys: [" + key("A") + "," + key("A") + "]}":                                                               {"policy.keys", "twice", "hint:"},
		"policy: {keys: [" + key("A") + "], breakGlassKeys: [" + key("A") + "]}":                                            {"policy.breakGlassKeys", "hint:"},
		"policy: {breakGlassKeys: [" + key("A") + "]}":                                                                      {"policy.breakGlassKeys", "policy.keys", "hint:"},
		"policy: {keys: [" + key("A") + "], signatures: 2}":                                                                 {"policy.signatures", "hint:"},
		"policy: {signatures: 0}":                                                                                           {"signatures"},
		"policy: {identities: [{issuer: https://a.example, subject: b}]}":                                                   {"policy.trustedRoot", "hint:"},
		"policy: {identities: [{issuer: https://a.example, subject: 'b c'}], trustedRoot: '{}'}":                            {"subject"},
		"policy: {trustedRoot: '{}'}":                                                                                       {"policy.identities", "hint:"},
		"policy: {floor: {enabled: true}}":                                                                                  {"policy.floor.enabled", "webhook.enabled", "hint:"},
		"policy: {source: https://registry.example/policy}":                                                                 {"source"},
		"policy: {registry: {plainHTTP: true}}":                                                                             {"policy.registry.plainHTTP", "policy.source", "hint:"},
		"policy: {shadow: {source: 'oci://a.example/b:c', configMap: {name: d}}}":                                           {"policy.shadow", "hint:"},
		"policy: {minSerial: -1}":                                                                                           {"minSerial"},
		"policy: {allowUnsigned: true}\nlinux: {image: {repository: r/portcullis-node-insecure}}\nwebhook: {enabled: true}": {"webhook.image.repository", "hint:"},
		"webhook: {failurePolicy: {pods: Ignore}}":                                                                          {"pods"},
		"webhook: {failurePolicy: {classes: Warn}}":                                                                         {"classes"},
		"webhook: {timeoutSeconds: 31}":                                                                                     {"timeoutSeconds"},
		"webhook: {replicas: 0}":                                                                                            {"replicas"},
		"webhook: {enabled: true, persistence: {size: 512Mi}}":                                                              {"webhook.persistence.size", "hint:"},
		"webhook: {enabled: true, audit: {epochBytes: 1Ki}}":                                                                {"webhook.audit.epochBytes"},
		"webhook: {enabled: true, extraArgs: ['--listen=:1']}":                                                              {"webhook.extraArgs", "--listen", "hint:"},
		"webhook: {enabled: true, extraArgs: ['--policy-key=/x']}":                                                          {"webhook.extraArgs", "--policy-key", "hint:"},
		"extraArgs: ['--policy-key=/x']":                                                                                    {"extraArgs", "--policy-key", "hint:"},
		"webhook: {enabled: true, certManager: {enabled: true, issuerRef: {kind: Issuer}}}":                                 {"webhook.certManager.issuerRef", "hint:"},
		"webhook: {enabled: true, topologySpread: [{topologyKey: a, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, labelSelector: {}}, {topologyKey: a, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {a: b}}}]}": {"webhook.topologySpread", "hint:"},
	} {
		got := refusal(t, valuesOf(t, "clusterName: test\n"+values))
		if got == "" {
			t.Errorf("%s is taken", values)
		}
		for _, text := range want {
			if !strings.Contains(got, text) {
				t.Errorf("%s: refusal %q does not say %q", values, got, text)
			}
		}
	}
}

// The registry is open only to those who pull from it.
func TestNetworkPolicyOpensTheRegistryWhereItIsUsed(t *testing.T) {
	for values, want := range map[string]int{
		"": 1, "policy: {source: 'oci://a.example/b:c'}": 3, "policy: {shadow: {source: 'oci://a.example/b:c'}}": 3,
	} {
		r := install(t, newest(), "networkPolicy: {enabled: true}\n"+values)
		spec, _ := r.object(t, "networking.k8s.io/v1/NetworkPolicy", "csi-secrets-store").Fields["spec"].(map[string]any)
		if out, _ := spec["egress"].([]any); len(out) != want {
			text, _ := yaml.Marshal(spec)
			t.Errorf("with %q there are %d ways out, want %d:\n%s", values, len(out), want, text)
		}
	}
}
