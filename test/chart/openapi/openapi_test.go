package openapi_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/test/chart/openapi"
)

func load(t *testing.T) map[string]*openapi.Spec {
	t.Helper()
	specs := map[string]*openapi.Spec{}
	for _, v := range openapi.Versions() {
		spec, err := openapi.Load(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		specs[v.Tag] = spec
	}
	return specs
}

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := yaml.Unmarshal([]byte(text), &fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

const pod = `
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {a: b}, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  containers:
  - name: c
    image: i
    imagePullPolicy: IfNotPresent
    env: [{name: A, value: "1"}, {name: B, value: "2"}]
    ports: [{containerPort: 53}, {containerPort: 53, protocol: UDP}]
    resources: {limits: {memory: 128Mi}}
    livenessProbe: {httpGet: {port: http, path: /}}
    readinessProbe: {httpGet: {port: 80}}
    securityContext: {runAsUser: 0, privileged: true}
`

func TestValidate(t *testing.T) {
	cases := []struct{ name, old, new, want string }{
		{"nothing wrong", "image: i", "image: j", ""},
		{"unknown field", "image: i", "imag: i", `.spec.containers[0]: has the unknown field "imag"`},
		{"unknown field below a reference", "runAsUser: 0", "runAsUsr: 0", `.spec.containers[0].securityContext: has the unknown field "runAsUsr"`},
		{"required field", "- name: c\n    image: i", "- image: i", ".spec.containers[0]: has no name"},
		{"no spec field that is required", "spec:\n  containers:", "spec:\n  initContainers:", ".spec: has no containers"},
		{"text for a number", "runAsUser: 0", `runAsUser: "0"`, `.spec.containers[0].securityContext.runAsUser: is "0", want a number`},
		{"number for text", `value: "1"`, "value: 1", ".spec.containers[0].env[0].value: is 1, want text"},
		{"label that is no text", "{a: b}", "{a: true}", ".metadata.labels.a: is true, want text"},
		{"text for a boolean", "privileged: true", `privileged: "true"`, `.spec.containers[0].securityContext.privileged: is "true", want true or false`},
		{"object for a list", "env: [{name: A, value: \"1\"}, {name: B, value: \"2\"}]", "env: {A: b}", "containers[0].env: is"},
		{"list for an object", "{limits: {memory: 128Mi}}", "[128Mi]", "containers[0].resources: is"},
		{"null", "image: i", "image:", ".spec.containers[0].image: is null"},
		{"no quantity", "128Mi", "128mib", ".spec.containers[0].resources.limits.memory: is \"128mib\", want a quantity"},
		{"number as a quantity", "128Mi", "128", "want a quantity"},
		{"entry twice", "{name: B", "{name: A", ".spec.containers[0].env: has the entry name=A twice"},
		{"port twice by its default", "protocol: UDP", "protocol: TCP", "has the entry containerPort=53,protocol=TCP twice"},
		{"time", "2026-01-01T00:00:00Z", "yesterday", ".metadata.creationTimestamp: is no time"},
		{"too large", "runAsUser: 0", "runAsUser: 9223372036854775807", ""},
		{"too large for 32 bits", "containerPort: 53}, ", "containerPort: 4294967296}, ", "does not fit into 32 bits"},
		{"port by a list", "port: http", "port: [http]", "livenessProbe.httpGet.port: is"},
		{"kind of another time", "kind: Pod", "kind: PodPreset", "has no kind v1/PodPreset"},
		{"version that is gone", "apiVersion: v1", "apiVersion: v1beta1", "has no kind v1beta1/Pod"},
	}
	specs := load(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(pod, c.old, c.new, 1)
			if text == pod {
				t.Fatalf("%q is not in the pod", c.old)
			}
			for tag, spec := range specs {
				got := strings.Join(spec.Validate(object(t, text)), "\n")
				if c.want == "" && got != "" || !strings.Contains(got, c.want) {
					t.Errorf("Validate for %s = %q, want %q", tag, got, c.want)
				}
			}
		})
	}
}

// The three documents must differ, or the check is one check done three times.
func TestVersionsDiffer(t *testing.T) {
	digests := map[string]bool{}
	for _, v := range openapi.Versions() {
		digests[v.SHA256] = true
	}
	if len(digests) != 3 {
		t.Errorf("%d documents, want 3", len(digests))
	}
	enum := object(t, strings.Replace(pod, "IfNotPresent", "Sometimes", 1))
	for tag, spec := range load(t) {
		t.Logf("%s on a wrong imagePullPolicy: %q", tag, spec.Validate(enum))
	}
}

const definition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec:
  group: example.org
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          apiVersion: {type: string}
          kind: {type: string}
          metadata: {type: object}
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, maximum: 3}
`

func TestDefine(t *testing.T) {
	spec, err := openapi.Load(t.Context(), openapi.Versions()[0])
	if err != nil {
		t.Fatal(err)
	}
	widget := func(fields string) map[string]any {
		return object(t, "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w}\nspec: "+fields)
	}
	if got := spec.Validate(widget("{size: 1}")); !slices.Contains(got, "Kubernetes v1.35.4 has no kind example.org/v1/Widget") {
		t.Errorf("Validate before Define = %q, want that there is no such kind", got)
	}
	if err := spec.Define(object(t, definition)); err != nil {
		t.Fatal(err)
	}
	for fields, want := range map[string]string{
		"{size: 1}":           "",
		"{}":                  "spec.size: Required value",
		"{size: 4}":           "should be less than or equal to 3",
		"{size: large}":       "must be of type integer",
		"{size: 1, sise: 2}":  "has the unknown field spec.sise",
		"{size: 1, more: {}}": "has the unknown field spec.more",
	} {
		got := strings.Join(spec.Validate(widget(fields)), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("Validate(%s) = %q, want %q", fields, got, want)
		}
	}
	for change, want := range map[string][2]string{
		"no definition":     {"scope: Namespaced", "scop: Namespaced"},
		"no structure":      {"            type: object\n            required", "            required"},
		"no type of a part": {"size: {type: integer, maximum: 3}", "size: {maximum: 3}"},
	} {
		text := strings.Replace(definition, want[0], want[1], 1)
		if text == definition {
			t.Fatalf("%s: %q is not there", change, want[0])
		}
		if err := spec.Define(object(t, text)); err == nil {
			t.Errorf("Define with %s succeeded", change)
		}
	}
}

func TestFetchKeepsOneSmallFileAndChecksIt(t *testing.T) {
	v := openapi.Versions()[2]
	from, err := v.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("PORTCULLIS_OPENAPI", dir)
	kept := filepath.Join(dir, v.Tag+".json")
	if err := os.WriteFile(kept, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("no network and no go command for what is there", func(t *testing.T) {
		t.Setenv("PATH", "")
		if got, err := v.Fetch(t.Context()); err != nil || got != kept {
			t.Errorf("Fetch = %q, %v, want %q", got, err, kept)
		}
	})
	t.Run("a document that was changed is not used", func(t *testing.T) {
		if err := os.WriteFile(kept, append(text, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", "")
		if got, err := v.Fetch(t.Context()); err == nil {
			t.Errorf("Fetch = %q, want an error: the file is not the pinned one and there is no go command", got)
		}
	})
	t.Run("a digest that is not the document's is told", func(t *testing.T) {
		v.SHA256 = strings.Repeat("0", 64)
		if _, err := v.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "want 0000") {
			t.Errorf("Fetch = %v, want that the digest differs", err)
		}
		left, err := filepath.Glob(filepath.Join(dir, ".*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	})
}
