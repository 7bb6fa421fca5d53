package chart_test

import (
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"

	"github.com/portcullis-csi/portcullis/test/chart/render"
)

// paths of all values, those that hold others too.
func paths(values map[string]any, above ...string) [][]string {
	var found [][]string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		path := append(slices.Clone(above), name)
		found = append(found, path)
		if below, ok := values[name].(map[string]any); ok {
			found = append(found, paths(below, path...)...)
		}
	}
	return found
}

// A key with nothing behind it, as is left when all below it is commented out,
// is null to Helm, which takes the default away. Either the chart does without,
// or it says which key is missing, and not what went wrong inside a template.
func TestNullIsDoneWithoutOrRefusedByName(t *testing.T) {
	all := paths(valuesOf(t, read(t, chartDir+"/values.yaml")))
	taken := 0
	for _, path := range all {
		values := map[string]any{"clusterName": "test"}
		at := values
		for _, name := range path[:len(path)-1] {
			below := map[string]any{}
			at[name] = below
			at = below
		}
		name := path[len(path)-1]
		at[name] = nil
		c := render.Config{Chart: chartDir, Kubernetes: newest(), Values: values}
		if got := refusal(t, values); got != "" {
			if !strings.Contains(got, name) || strings.Contains(got, "nil pointer") || strings.Contains(got, "interface") {
				t.Errorf("%s: null is refused with %q, want that %s is missing", strings.Join(path, "."), got, name)
			}
			continue
		}
		taken++
		for file, text := range with(t, strings.Join(path, "."), c).files {
			if strings.Contains(text, "<nil>") || strings.Contains(text, "%!") || strings.Contains(text, "<no value>") {
				t.Errorf("%s: null comes into %s:\n%s", strings.Join(path, "."), file, text)
			}
		}
	}
	if taken < 30 || taken > len(all)-30 {
		t.Errorf("null is taken for %d of %d values, want some and not all", taken, len(all))
	}
	for _, harmless := range []string{"linux: {nodeSelector: }", "linux: {podLabels: }", "linux: {podAnnotations: }", "linux: {affinity: }", "linux: {tolerations: }", "commonLabels: "} {
		if got := refusal(t, valuesOf(t, "clusterName: test\n"+harmless)); got != "" {
			t.Errorf("%s is refused: %s", harmless, got)
		}
	}
}

// Names that Kubernetes takes and YAML has another meaning for.
func TestNamesAreTextWhateverTheyLookLike(t *testing.T) {
	for _, name := range []string{"123", "0x1f", "true", "null"} {
		c := render.Config{Chart: chartDir, Kubernetes: newest(), Namespace: name, Values: valuesOf(t, `
clusterName: test
policy: {configMap: {name: "`+name+`"}}
linux: {priorityClassName: "`+name+`"}
localProvider: {enabled: true}
openshift: {enabled: true}
podMonitor: {enabled: true}
networkPolicy: {enabled: true}
`)}
		r := with(t, name, c)
		for _, o := range r.objects {
			if !clusterScoped(o) && o.Namespace() != name {
				t.Errorf("%s in the namespace %s: its own is %v", o, name, o.Fields["metadata"])
			}
		}
		for workload, spec := range r.podSpecs(t) { // which decodes them
			if spec.PriorityClassName != name {
				t.Errorf("%s has the priority class %q, want %q", workload, spec.PriorityClassName, name)
			}
		}
		spec := r.daemonSet(t).Spec.Template.Spec
		if i := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == "policy" }); i < 0 || spec.Volumes[i].ConfigMap.Name != name {
			t.Errorf("volumes %+v, want the ConfigMap %q", spec.Volumes, name)
		}
		c.Values["priorityClass"] = map[string]any{"create": true, "name": name}
		if class := decode[schedulingv1.PriorityClass](t, with(t, name, c).object(t, "scheduling.k8s.io/v1/PriorityClass", name)); class.Value == 0 {
			t.Errorf("priority class %+v, want a value", class)
		}
	}
}

// The hook must come to run wherever the plugin does, or nothing can be
// uninstalled: with a class that a quota allows in the namespace, on a node that
// has a kubelet, and not on one that is down.
func TestUninstallCheckIsScheduledWhereItCanRun(t *testing.T) {
	pod := func(values string) corev1.PodSpec {
		r := install(t, newest(), values)
		return decode[batchv1.Job](t, r.object(t, "batch/v1/Job", "portcullis-uninstall-check")).Spec.Template.Spec
	}
	for values, want := range map[string]string{
		"": "system-node-critical", "priorityClass: {create: true}": "portcullis-node", "linux: {priorityClassName: own}": "own", "linux: {priorityClassName: ''}": "",
	} {
		if got := pod(values).PriorityClassName; got != want {
			t.Errorf("with %q the priority class is %q, want the plugin's, %q", values, got, want)
		}
	}
	spec := pod("linux: {tolerations: [{operator: Exists}, {key: '', operator: Exists, effect: NoSchedule}, {key: dedicated, operator: Exists}]}")
	dedicated := corev1.Taint{Key: "dedicated", Value: "x", Effect: corev1.TaintEffectNoSchedule}
	for taint, want := range map[corev1.Taint]bool{
		dedicated: true,
		{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}: true,
		{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule}:             false,
		{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}:                false,
		{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}:           false,
	} {
		tolerated := slices.ContainsFunc(spec.Tolerations, func(x corev1.Toleration) bool {
			return (x.Key == "" || x.Key == taint.Key) && x.Operator == corev1.TolerationOpExists && (x.Effect == "" || x.Effect == taint.Effect)
		})
		if tolerated != want {
			t.Errorf("the check tolerates %s: %v, want %v", taint.ToString(), tolerated, want)
		}
	}
	plugin := install(t, newest(), "").daemonSet(t).Spec.Template.Spec
	if spec.Affinity == nil || spec.Affinity.String() != plugin.Affinity.String() {
		t.Errorf("affinity %v, want the plugin's: virtual nodes cannot run it", spec.Affinity)
	}
}

// The tag of a release names both, and the chart's images are those of appVersion.
func TestVersionsOfChartAndProgramsAreOne(t *testing.T) {
	chart := valuesOf(t, read(t, chartDir+"/Chart.yaml"))
	if version, app := chart["version"], chart["appVersion"]; version == nil || version != app {
		t.Errorf("Chart.yaml: version %v, appVersion %v, want them equal", version, app)
	}
}

// Who copies the line from the notes must be told of this release and not of one
// that is as the program expects.
func TestNotesTellDoctorWhatTheValuesSay(t *testing.T) {
	lines := func(namespace, values string) []string {
		c := render.Config{Chart: chartDir, Kubernetes: newest(), Namespace: namespace, Values: valuesOf(t, "clusterName: test\n"+values)}
		var found []string
		for line := range strings.Lines(with(t, namespace, c).files.Notes()) {
			if _, flags, ok := strings.Cut(line, "portcullis doctor"); ok {
				found = append(found, strings.TrimSuffix(flags, "\n"))
			}
		}
		return found
	}
	if got := lines("kube-system", ""); !slices.Equal(got, []string{"", ""}) {
		t.Errorf("flags for doctor are %q, want none: all is as it expects", got)
	}
	got := lines("secret-delivery", `
stateDir: /srv/state
providerUIDs: [1000, 1001]
policy: {configMap: {key: p.tgz}}
livenessProbe: {port: 9900}
linux: {kubeletRootDir: /data/kubelet, providersDir: /run/p, additionalProvidersDirs: []}`)
	want := []string{
		"--namespace=secret-delivery", "--kubelet-root=/data/kubelet", "--state-dir=/srv/state", "--provider-dirs=/run/p", "--provider-uid=1000,1001",
		"--policy=/policy/p.tgz", "--health-addr=127.0.0.1:9900",
	}
	for _, flags := range got {
		if !slices.Equal(strings.Fields(flags), want) {
			t.Errorf("flags for doctor are %q, want %q", flags, want)
		}
		out, err := exec.CommandContext(t.Context(), program(t, "portcullis", ""), append([]string{"doctor", "--help"}, strings.Fields(flags)...)...).CombinedOutput()
		if err != nil {
			t.Errorf("doctor does not take %q: %v\n%s", flags, err, out)
		}
	}
	if len(got) != 2 {
		t.Errorf("the notes have doctor %d times, want 2", len(got))
	}
}

// A plugin that does not start unmounts nothing: names that it refuses are to be
// refused before it is replaced.
func TestClusterNamesAreThoseThatThePluginTakes(t *testing.T) {
	file := program(t, "portcullis-node", "insecure")
	args := install(t, newest(), "").plugin(t).Args
	longest := strings.Repeat("x", 253)
	for name, want := range map[string]bool{
		"prod-eu1": true, "Prod.EU_1": true, "1": true, longest: true,
		longest + "x": false, "arn:aws:eks:eu-west-1:123456789012:cluster/prod": false, "projects/p/locations/l": false, "a+b": false, "a b": false,
		"a\u00a0b": false, "caf\u00e9": false, "-a": false, "a.": false, `a"b`: false, "{{x}}": false, "a\n": false,
	} {
		got := refusal(t, map[string]any{"clusterName": name})
		if (got == "") != want || !want && (!strings.Contains(got, "clusterName") || !strings.Contains(got, "hint:")) {
			t.Errorf("the chart says %q of clusterName %q, want that it takes it: %v", got, name, want)
		}
		if got := refusedArgs(t, file, append(slices.Clone(args), "--cluster-name="+name)); (got == "") != want {
			t.Errorf("the plugin says %q of the name %q, want that it takes it: %v", got, name, want)
		}
	}
}
