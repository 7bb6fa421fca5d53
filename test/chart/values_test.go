package chart_test

import (
	"encoding/json"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
)

// property is the part of values.schema.json that the tests look at.
type property struct {
	Type        any
	Description string
	Properties  map[string]*property
	Additional  any `json:"additionalProperties"`
	Items       *property
}

func schema(t *testing.T) *property {
	t.Helper()
	var root property
	if err := json.Unmarshal([]byte(read(t, chartDir+"/values.schema.json")), &root); err != nil {
		t.Fatal(err)
	}
	return &root
}

// compare walks values.yaml and the schema together.
func compare(t *testing.T, at string, p *property, values map[string]any) {
	t.Helper()
	keys := map[string]bool{}
	for key := range values {
		keys[key] = true
	}
	for key := range p.Properties {
		keys[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		path, known := at+key, p.Properties[key]
		value, there := values[key]
		switch {
		case known == nil:
			t.Errorf("values.yaml has %s, the schema has not", path)
		case !there && !strings.HasPrefix(known.Description, "Of the upstream chart; ") && known.Description != "Helm's own; nothing of it is read":
			t.Errorf("the schema has %s, values.yaml has not: nobody would find it", path)
		case !there:
		case known.Properties != nil:
			// What people fill with objects of Kubernetes may have what
			// Kubernetes knows; what is ours refuses a misspelt name.
			if known.Additional != false {
				t.Errorf("the schema takes anything below %s: a misspelt value would do nothing, without a word", path)
			}
			below, ok := value.(map[string]any)
			if ok && len(below) > 0 && known.Properties["requests"] == nil {
				compare(t, path+".", known, below)
			} else if !ok {
				t.Errorf("%s is %v in values.yaml, and a map in the schema", path, value)
			}
		case known.Type == nil:
			t.Errorf("the schema takes anything as %s", path)
		default:
			if _, isMap := value.(map[string]any); isMap && known.Additional == nil && !strings.HasSuffix(path, ".affinity") {
				t.Errorf("the schema takes anything below %s", path)
			}
		}
	}
}

func TestSchemaAndValuesNameTheSame(t *testing.T) {
	root := schema(t)
	if root.Additional != false {
		t.Error("the schema takes values that the chart does not have")
	}
	values := valuesOf(t, read(t, chartDir+"/values.yaml"))
	if len(values) < 20 {
		t.Fatalf("values.yaml has %d values: the search is broken", len(values))
	}
	// Where rollingUpdate is given, the other strategy's field is left out.
	delete(root.Properties["linux"].Properties["updateStrategy"].Properties["rollingUpdate"].Properties, "maxSurge")
	compare(t, "", root, values)
}

// Each wrong value is refused with its name: what Kubernetes would say later is
// about an object that the user has never written.
func TestWrongValuesAreRefusedByName(t *testing.T) {
	cases := []struct {
		values string
		want   []string
	}{
		{"clusterName: ''", []string{"clusterName", "hint:"}},
		{"clusterName: 7", []string{"clusterName"}},
		{"clusterName: a b", []string{"clusterName", "a b", "hint:"}},
		{"clustername: b", []string{"clustername"}},
		{"policy: {configMap: {key: ..}}", []string{"key"}},
		{"policy: {pollInterval: 0s}", []string{"pollInterval"}},
		{"rotationPollInterval: 0m", []string{"rotationPollInterval"}},
		{"providerHealthCheckInterval: 0.0s", []string{"providerHealthCheckInterval"}},
		{"linux: {imgae: {}}", []string{"linux", "imgae"}},
		{"linux: {image: {pullPolicy: Sometimes}}", []string{"pullPolicy", "IfNotPresent"}},
		{"linux: {image: {digest: 'sha256:12'}}", []string{"digest"}},
		{"linux: {image: {repository: ''}}", []string{"repository"}},
		{"linux: {kubeletRootDir: var/lib/kubelet}", []string{"kubeletRootDir"}},
		{"linux: {kubeletRootDir: /var/lib/kubelet/}", []string{"/var/lib/kubelet/", "hint:"}},
		{"linux: {kubeletRootDir: /var/../kubelet}", []string{"/var/../kubelet", "hint:"}},
		{"linux: {providersDir: /}", []string{"hint:"}},
		{"linux: {additionalProvidersDirs: [/var/run/secrets-store-csi-providers]}", []string{"additionalProvidersDirs", "different"}},
		{"linux: {metricsAddr: '8095'}", []string{"metricsAddr"}},
		{"linux: {metricsAddr: ':9808'}", []string{"metricsAddr", "livenessProbe.port", "hint:"}},
		{"linux: {metricsAddr: ':65536'}", []string{"metricsAddr", "65535"}},
		{"pprof: {enabled: true, port: 9808}", []string{"pprof.port", "livenessProbe.port", "hint:"}},
		{"pprof: {enabled: true, port: 8095}", []string{"pprof.port", "linux.metricsAddr", "hint:"}},
		{"stateDir: /var/run/secrets-store-csi-providers/state", []string{"stateDir", "providersDir", "overlap", "hint:"}},
		{"stateDir: /run/secrets-store-csi-providers", []string{"stateDir", "providersDir", "overlap"}}, // /var/run leads there
		{"stateDir: /var/lib/kubelet/pods/state", []string{"stateDir", "/var/lib/kubelet/pods", "overlap"}},
		{"stateDir: /var/lib", []string{"stateDir", "/var/lib/kubelet/pods", "overlap"}},
		{"stateDir: /policy/state", []string{"stateDir", "/policy", "overlap"}},
		{"linux: {providersDir: /etc}\nstateDir: /etc/portcullis", []string{"stateDir", "providersDir", "overlap"}},
		{"linux: {additionalProvidersDirs: [/var/lib/portcullis/providers]}", []string{"stateDir", "additionalProvidersDirs", "overlap"}},
		{"localProvider: {enabled: true, dir: /var/run/secrets-store-csi-providers/secrets}", []string{"localProvider.dir", "providersDir", "overlap"}},
		{"linux: {priorityClassName: \"a\\n      hostNetwork: true\"}", []string{"priorityClassName"}},
		{"policy: {configMap: {name: Policy_1}}", []string{"policy", "configMap", "name"}},
		{"linux: {image: {repository: 'registry.example/node:1.2'}}", []string{"repository"}},
		{"linux: {image: {repository: 'registry.example/node@sha256:12'}}", []string{"repository"}},
		{"linux: {driver: {resources: {requests: {memory: 1Gi}}}}", []string{"requests.memory", "1Gi", "limit", "hint:"}},
		{"linux: {driver: {resources: {requests: {memory: 300MB}}}}", []string{"requests.memory", "300MB", "hint:"}},
		{"windows: true", []string{"windows", "object"}},
		{"syncSecret: 'yes'", []string{"syncSecret", "object"}},
		{"linux: {updateStrategy: {type: Recreate}}", []string{"updateStrategy", "OnDelete"}},
		{"linux: {updateStrategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}}", []string{"maxSurge"}},
		{"linux: {tolerations: {operator: Exists}}", []string{"tolerations"}},
		{"linux: {nodeSelector: {pool: true}}", []string{"nodeSelector"}},
		{"linux: {env: [{value: x}]}", []string{"env", "name"}},
		{"linux: {env: [{name: NODE_NAME, value: x}]}", []string{"NODE_NAME", "hint:"}},
		{"linux: {driver: {resources: {limits: {memory: 1GB}}}}", []string{"linux.driver.resources.limits.memory", "1GB", "hint:"}},
		{"policy: {allowUnsigned: 'yes'}", []string{"allowUnsigned"}},
		{"policy: {allowUnsigned: true}", []string{"policy.allowUnsigned", "release image", "hint:"}},
		{"policy: {pollInterval: 30}", []string{"pollInterval"}},
		{"policy: {configMap: {name: ''}}", []string{"policy.configMap.name", "hint:"}},
		{"policy: {configMap: {key: ../x}}", []string{"key"}},
		{"rotationPollInterval: 2", []string{"rotationPollInterval"}},
		{"rotationPollInterval: soon", []string{"rotationPollInterval"}},
		{"logVerbosity: -1", []string{"logVerbosity"}},
		{"livenessProbe: {port: 70000}", []string{"port"}},
		{"maxNodeBytes: 128mb", []string{"maxNodeBytes", "128mb", "hint:"}},
		{"maxVolumeBytes: 256Mi", []string{"maxVolumeBytes", "maxNodeBytes", "hint:"}},
		{"audit: {epochBytes: 1Gi}", []string{"audit.epochBytes", "audit.retentionBytes"}},
		{"audit: {epochBytes: 1Ki}", []string{"audit.epochBytes"}},
		{"swapProtection: none", []string{"swapProtection", "noswap"}},
		{"providerUIDs: [0]", []string{"providerUIDs"}},
		{"providerUIDs: ['1000']", []string{"providerUIDs"}},
		{"tokenRequests: [{audience: a, expirationSeconds: 60}]", []string{"tokenRequests", "expirationSeconds"}},
		{"tokenRequests: [vault]", []string{"tokenRequests"}},
		{"apiAudiences: ['a,b']", []string{"apiAudiences"}},
		{"extraArgs: [state-dir=/x]", []string{"extraArgs"}},
		{"extraArgs: ['--state-dir=/x']", []string{"extraArgs", "--state-dir", "hint:"}},
		{"extraArgs: ['--allow-unsigned-policy']", []string{"extraArgs", "--allow-unsigned-policy"}},
		{"priorityClass: {value: 2000000000}", []string{"priorityClass", "value"}},
		{"openshift: {csiEphemeralVolumeProfile: none}", []string{"csiEphemeralVolumeProfile"}},
		{"networkPolicy: {apiServer: {ports: []}}", []string{"ports"}},
		{"localProvider: {dir: secrets}", []string{"dir"}},
		{"stateDir: ''", []string{"stateDir"}},
		{"admissionPolicies: {hostPaths: maybe}", []string{"hostPaths"}},
		{"admissionPolicies: {privileged: off}", []string{"privileged"}}, // YAML's false
		{"admissionPolicies: {hostpaths: deny}", []string{"hostpaths"}},
		{"admissionPolicies: {exemptNamespaces: kube-system}", []string{"exemptNamespaces"}},
		{"uninstall: {force: 'yes'}", []string{"force"}},
	}
	for _, c := range cases {
		t.Run(c.values, func(t *testing.T) {
			values := valuesOf(t, c.values)
			if _, ok := values["clusterName"]; !ok {
				values["clusterName"] = "test"
			}
			got := refusal(t, values)
			if got == "" {
				t.Fatal("it is taken")
			}
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("refusal %q does not say %q", got, want)
				}
			}
		})
	}
}

// upstreamValues is the values file of the upstream chart, of the version that
// the product is built against.
func upstreamValues(t *testing.T) map[string]any {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/secrets-store-csi-driver")
	cmd.Dir = repository
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -m: %v", err)
	}
	return valuesOf(t, read(t, filepath.Join(strings.TrimSpace(string(out)), "charts", "secrets-store-csi-driver", "values.yaml")))
}

// Who comes from upstream brings his file. Each thing in it that cannot be kept
// is refused with the reason, one after the other; the rest keeps its meaning.
func TestUpstreamsValuesFileIsTakenOrSaysWhatChanged(t *testing.T) {
	values := upstreamValues(t)
	linux, ok := values["linux"].(map[string]any)
	if !ok {
		t.Fatalf("upstream's values have no linux: %v", values)
	}
	steps := []struct {
		want string
		mend func()
	}{
		{"clusterName", func() { values["clusterName"] = "test" }},
		{"linux.image.repository", func() { delete(linux, "image") }},
		{"linux.driver.resources.limits.memory", func() { delete(linux, "driver") }},
	}
	for _, step := range steps {
		got := refusal(t, values)
		if !strings.Contains(got, step.want) || !strings.Contains(got, "hint:") {
			t.Fatalf("upstream's values: %q, want a refusal of %s with the remedy", got, step.want)
		}
		step.mend()
	}
	if got := refusal(t, values); got != "" {
		t.Fatalf("upstream's values without image and memory limit are refused: %s", got)
	}
	r := install(t, newest(), "")
	r.config.Values = values
	r = with(t, "upstream", r.config)
	spec := r.daemonSet(t).Spec
	if got := spec.UpdateStrategy.RollingUpdate.MaxUnavailable.String(); got != "1" {
		t.Errorf("maxUnavailable is %s, want upstream's 1", got)
	}
	if got := flag(t, r.plugin(t), "metrics-addr"); got != ":8095" {
		t.Errorf("--metrics-addr=%s, want upstream's", got)
	}
	notes := r.files.Notes()
	for _, ignored := range []string{"linux.registrarImage", "linux.livenessProbeImage", "linux.crds", "windows", "syncSecret", "rbac.pspEnabled"} {
		if !strings.Contains(notes, ignored) {
			t.Errorf("the notes do not say that %s has no meaning here:\n%s", ignored, notes)
		}
	}
	for values, want := range map[string]string{
		"windows: {enabled: true}":    "windows.enabled is true",
		"syncSecret: {enabled: true}": "syncSecret.enabled is true",
		"linux: {enabled: false}":     "linux.enabled is false",
	} {
		if got := refusal(t, valuesOf(t, "clusterName: test\n"+values)); !strings.Contains(got, want) || !strings.Contains(got, "hint:") {
			t.Errorf("%s: %q, want %q and the remedy", values, got, want)
		}
	}
}

func TestNotesSayWhatIsDangerous(t *testing.T) {
	insecure := "policy: {allowUnsigned: true}\nlinux: {image: {repository: ghcr.io/portcullis-csi/portcullis-node-insecure}}"
	cases := []struct {
		values, text string
		want         bool
	}{
		{insecure, "INSECURE", true},
		{"", "INSECURE", false},
		{"", "create configmap portcullis-policy", true},
		{"policy: {configMap: {name: own}}", "create configmap own", true},
		{"linux: {updateStrategy: {type: OnDelete}}", "canary", true},
		{"", "canary", false},
		{"rbac: {install: false}", "rbac.install is false", true},
		{"linux: {priorityClassName: ''}", "priorityClassName is empty", true},
		{"", "without meaning here", false},
	}
	for _, c := range cases {
		if got := install(t, newest(), c.values).files.Notes(); strings.Contains(got, c.text) != c.want {
			t.Errorf("notes with %q say %q: %v, want %v\n%s", c.values, c.text, !c.want, c.want, got)
		}
	}
}

func TestHelmLintFindsNothing(t *testing.T) {
	for _, m := range lint.RunAll(chartDir, withSigner(t, valuesOf(t, "clusterName: test")), "kube-system").Messages {
		// An icon is the one thing that helm lint only recommends.
		if m.Severity > support.InfoSev || !strings.Contains(m.Err.Error(), "icon is recommended") {
			t.Errorf("%s: %v", m.Path, m.Err)
		}
	}
}
