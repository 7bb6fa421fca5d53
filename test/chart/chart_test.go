package chart_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-csi/portcullis/test/chart/openapi"
	"github.com/portcullis-csi/portcullis/test/chart/render"
)

const (
	repository = "../.."
	chartDir   = repository + "/deploy/chart"
	driverName = "secrets-store.csi.k8s.io"
)

// release is one rendering: a file of values and a version of Kubernetes.
type release struct {
	name    string
	config  render.Config
	files   render.Files
	objects []render.Object
}

// newest is the version that tests of what depends on no version use.
func newest() string { return openapi.Versions()[len(openapi.Versions())-1].Tag }

func valuesOf(t *testing.T, text string) map[string]any {
	t.Helper()
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	return values
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// install renders the chart with values, of which clusterName is always there.
func install(t *testing.T, kubernetes, values string) release {
	t.Helper()
	c := render.Config{Chart: chartDir, Kubernetes: kubernetes, Values: valuesOf(t, "clusterName: test\n"+values)}
	return with(t, "inline", c)
}

func with(t *testing.T, name string, c render.Config) release {
	t.Helper()
	c.Values = withSigner(t, c.Values)
	files, err := render.Helm4(c)
	if err != nil {
		t.Fatalf("render %s: %v", name, err)
	}
	objects, err := files.Objects()
	if err != nil {
		t.Fatal(err)
	}
	return release{name, c, files, objects}
}

// withSigner returns values with a key, where they say nothing of who signs policy:
// the chart takes no others.
func withSigner(t *testing.T, values map[string]any) map[string]any {
	t.Helper()
	policy, ok := values["policy"].(map[string]any)
	if _, given := values["policy"]; given && !ok {
		return values
	}
	for _, name := range []string{"keys", "identities", "breakGlassKeys", "allowUnsigned"} {
		if value, ok := policy[name]; ok && (value != nil || name == "keys") {
			return values
		}
	}
	values, policy = maps.Clone(values), maps.Clone(policy)
	if policy == nil {
		policy = map[string]any{}
	}
	policy["keys"] = valuesOf(t, "keys: ["+key("A")+"]")["keys"]
	values["policy"] = policy
	return values
}

// refusal returns why the chart is not rendered with these values.
func refusal(t *testing.T, values map[string]any) string {
	t.Helper()
	c := render.Config{Chart: chartDir, Kubernetes: newest(), Values: withSigner(t, values)}
	_, err := render.Helm4(c)
	if err == nil {
		return ""
	}
	if _, err := render.Helm3(c); err == nil {
		t.Errorf("Helm 3 takes the values %v, Helm 4 does not", values)
	}
	return err.Error()
}

// forEach runs a check on every file of values, with the newest Kubernetes.
func forEach(t *testing.T, check func(t *testing.T, r release)) {
	t.Helper()
	names, err := filepath.Glob("testdata/values/*.yaml")
	if err != nil || len(names) < 8 {
		t.Fatalf("found the values %q, %v", names, err)
	}
	for _, name := range names {
		c := render.Config{Chart: chartDir, Kubernetes: newest(), Values: valuesOf(t, read(t, name))}
		name = strings.TrimSuffix(filepath.Base(name), ".yaml")
		t.Run(name, func(t *testing.T) { check(t, with(t, name, c)) })
	}
}

// object returns the one object of a kind and name.
func (r release) object(t *testing.T, kind, name string) render.Object {
	t.Helper()
	i := slices.IndexFunc(r.objects, func(o render.Object) bool { return o.Kind() == kind && o.Name() == name })
	if i < 0 {
		t.Fatalf("%s has no %s %s", r.name, kind, name)
	}
	return r.objects[i]
}

// decode reads an object into its type, and refuses fields that the type has not.
func decode[T any](t *testing.T, o render.Object) T {
	t.Helper()
	var typed T
	text, err := yaml.Marshal(o.Fields)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &typed); err != nil {
		t.Fatalf("%s: %v", o, err)
	}
	return typed
}

func (r release) daemonSet(t *testing.T) appsv1.DaemonSet {
	t.Helper()
	return decode[appsv1.DaemonSet](t, r.object(t, "apps/v1/DaemonSet", "csi-secrets-store"))
}

// plugin is the one container of the node plugin.
func (r release) plugin(t *testing.T) corev1.Container {
	t.Helper()
	spec := r.daemonSet(t).Spec.Template.Spec
	if len(spec.Containers) != 1 || len(spec.InitContainers) != 0 {
		t.Fatalf("the plugin's pod has %d containers and %d before them, want 1 and 0", len(spec.Containers), len(spec.InitContainers))
	}
	return spec.Containers[0]
}

// podSpecs returns the pods of all workloads, by the object that makes them.
func (r release) podSpecs(t *testing.T) map[string]corev1.PodSpec {
	t.Helper()
	specs := map[string]corev1.PodSpec{}
	for _, o := range r.objects {
		spec, ok := o.Fields["spec"].(map[string]any)
		template, isWorkload := spec["template"].(map[string]any)
		if !ok || !isWorkload {
			continue
		}
		specs[o.String()] = decode[corev1.PodTemplateSpec](t, render.Object{File: o.File, Fields: template}).Spec
	}
	if len(specs) == 0 {
		t.Fatal("no workload: the search is broken")
	}
	return specs
}

// Both versions of Helm are supported: what one of them made of the chart would
// otherwise be nobody's business until a user has it.
func TestHelm3AndHelm4RenderTheSame(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		for _, upgrade := range []bool{false, true} {
			r.config.Upgrade = upgrade
			four, err := render.Helm4(r.config)
			if err != nil {
				t.Fatal(err)
			}
			three, err := render.Helm3(r.config)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(three, four); diff != "" {
				t.Errorf("upgrade=%v (-Helm 3 +Helm 4):\n%s", upgrade, diff)
			}
		}
	})
}

// Rendering has no memory and no clock: whoever keeps rendered manifests in Git
// sees a difference only where there is one.
func TestRenderingIsRepeatable(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		again := with(t, r.name, r.config)
		if diff := cmp.Diff(r.files, again.files); diff != "" {
			t.Errorf("second rendering differs:\n%s", diff)
		}
	})
}

func TestOldKubernetesIsRefused(t *testing.T) {
	c := render.Config{Chart: chartDir, Kubernetes: "v1.29.9", Values: valuesOf(t, "clusterName: test")}
	for name, helm := range map[string]func(render.Config) (render.Files, error){"Helm 3": render.Helm3, "Helm 4": render.Helm4} {
		if _, err := helm(c); err == nil || !strings.Contains(err.Error(), "kubeVersion") {
			t.Errorf("%s on Kubernetes %s: %v, want that the version is refused", name, c.Kubernetes, err)
		}
	}
}
