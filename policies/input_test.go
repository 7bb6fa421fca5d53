package policies_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func TestValidate(t *testing.T) {
	big := map[string]string{"k": strings.Repeat("x", policies.MaxMapBytes)}
	tests := []struct {
		name   string
		change mutate
		field  string // of the error, "" for none
	}{
		{"as it is", nil, ""},
		{"contract", func(in *policies.Input) { in.Contract = "" }, "contract"},
		{"no time", func(in *policies.Input) { in.NowNS = 0 }, "now_ns"},
		{"no cluster", func(in *policies.Input) { in.Cluster = "" }, "cluster"},
		{"phase", func(in *policies.Input) { in.Phase = "audit" }, "phase"},
		{"no namespace", func(in *policies.Input) { in.Subject.Namespace = "" }, "subject.namespace"},
		{"namespace with a slash", func(in *policies.Input) { in.Subject.Namespace = "payments/api" }, "subject.namespace"},
		{"namespace that is a key", func(in *policies.Input) { in.Subject.Namespace = "label:a=b" }, "subject.namespace"},
		{"namespace with a newline", func(in *policies.Input) { in.Subject.Namespace = "payments\n" }, "subject.namespace"},
		{"service account *", func(in *policies.Input) { in.Subject.ServiceAccount = "*" }, "subject.serviceAccount"},
		{"generated pod name", func(in *policies.Input) { in.Subject.PodName = "" }, ""},
		{"pod name", func(in *policies.Input) { in.Subject.PodName = "a b" }, "subject.podName"},
		{"node", func(in *policies.Input) { in.Subject.Node = strings.Repeat("n", 254) }, "subject"},
		{"namespace labels", func(in *policies.Input) { in.Subject.NamespaceLabels = big }, "subject.namespaceLabels"},
		{"annotations", func(in *policies.Input) { in.Subject.ServiceAccountAnnotations = big }, "subject.serviceAccountAnnotations"},
		{"pod labels", func(in *policies.Input) { in.Pod.Labels = big }, "pod.labels"},
		{"container kind", func(in *policies.Input) { in.Pod.Containers[0].Kind = "sidecar" }, "pod.containers[0].kind"},
		{"provider", func(in *policies.Input) { in.SPC.Provider = "../x" }, "spc.provider"},
		{"digest", func(in *policies.Input) { in.SPC.ParametersSHA256 = strings.Repeat("A", 64) }, "spc.parametersSha256"},
		{"class", func(in *policies.Input) { in.SPC.Name = "" }, "spc.name"},
		{"parameters", func(in *policies.Input) {
			in.SPC.Parameters = map[string]string{"k": strings.Repeat("x", policies.MaxParameterBytes)}
		}, "spc.parameters"},
		{"scoping counts too", func(in *policies.Input) {
			in.SPC.Parameters = map[string]string{"k": strings.Repeat("x", policies.MaxParameterBytes/2)}
			in.SPC.Scoping = in.SPC.Parameters
		}, "spc.parameters"},
		{"more overrides than a decision can list", func(in *policies.Input) { in.Volume.Overrides = make([]string, policies.MaxOverrides+1) }, "volume.overrides"},
		{"volume", func(in *policies.Input) { in.Volume.Name = "" }, "volume.name"},
		{"group -1", func(in *policies.Input) { in.Volume.VolumeMountGroup = new(int64(-1)) }, "volume.volumeMountGroup"},
		{"group 2^32-1", func(in *policies.Input) { in.Volume.VolumeMountGroup = new(int64(1<<32 - 1)) }, "volume.volumeMountGroup"},
		{"64 requests", func(in *policies.Input) { in.Requests = slices.Repeat(in.Requests, 64) }, ""},
		{"65 requests", func(in *policies.Input) { in.Requests = slices.Repeat(in.Requests, 65) }, "requests"},
		{"no requests", func(in *policies.Input) { in.Requests = nil }, ""},
		{"64 copies", request(func(r *policies.Request) { r.Sync = copies(64) }), ""},
		{"65 copies", request(func(r *policies.Request) { r.Sync = copies(65) }), "spec.secretObjects"},
		{"256 copies in all", func(in *policies.Input) { in.Requests = copied(4) }, ""},
		{"320 copies in all", func(in *policies.Input) { in.Requests = copied(5) }, "spec.secretObjects"},
		{"owner 2^32-1", request(func(r *policies.Request) { r.UID = new(int64(1<<32 - 1)) }), "requests[0]"},
		{"no file", request(func(r *policies.Request) { r.File = "" }), "requests[0]"},
		{"long file", request(func(r *policies.Request) { r.File = strings.Repeat("f", 4097) }), "requests[0]"},
		{"128 KiB", func(in *policies.Input) { in.Pod.HostPaths = slices.Repeat([]string{strings.Repeat("p", 1024)}, 128) }, "(all)"},
		{"not UTF-8", func(in *policies.Input) { in.Pod.HostPaths = []string{"\xff"} }, "(all)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := policiestest.Input()
			if tt.change != nil {
				tt.change(&in)
			}
			err := in.Validate()
			bad, ok := errors.AsType[*policies.InputError](err)
			if (tt.field != "") != ok || ok && bad.Field != tt.field {
				t.Fatalf("Validate(%s) = %v, want an error about %q", tt.name, err, tt.field)
			}
			if ok && (bad.Limit == "" || bad.Remedy == "" || !strings.Contains(bad.Error(), tt.field)) {
				t.Errorf("Validate(%s) = %q, want field, limit and remedy", tt.name, err)
			}
		})
	}
}

// TestInputBoundsAreExact: what an input may hold, it may hold to the last byte.
func TestInputBoundsAreExact(t *testing.T) {
	sized := func(n int) map[string]string { return map[string]string{"k": strings.Repeat("x", n-1)} }
	encoded := policiestest.Input(func(in *policies.Input) { in.NowNS, in.Pod.HostPaths = 0, []string{""} })
	text, err := json.Marshal(encoded)
	if err != nil {
		t.Fatal(err)
	}
	for name, bound := range map[string]struct {
		limit int
		set   func(in *policies.Input, n int)
	}{
		"parameters":       {policies.MaxParameterBytes, func(in *policies.Input, n int) { in.SPC.Parameters = sized(n) }},
		"namespace labels": {policies.MaxMapBytes, func(in *policies.Input, n int) { in.Subject.NamespaceLabels = sized(n) }},
		"annotations":      {policies.MaxMapBytes, func(in *policies.Input, n int) { in.Subject.ServiceAccountAnnotations = sized(n) }},
		"pod labels":       {policies.MaxMapBytes, func(in *policies.Input, n int) { in.Pod.Labels = sized(n) }},
		"overrides":        {policies.MaxOverrides, func(in *policies.Input, n int) { in.Volume.Overrides = make([]string, n) }},
		"all": {policies.MaxInputBytes, func(in *policies.Input, n int) {
			in.Pod.HostPaths = []string{strings.Repeat("p", n-len(text))}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for n, want := range map[int]bool{bound.limit: true, bound.limit + 1: false} {
				in := policiestest.Input(func(in *policies.Input) { bound.set(in, n) })
				if err := in.Validate(); (err == nil) != want {
					t.Errorf("Validate(%s of %d) = %v, want valid: %t", name, n, err, want)
				}
			}
		})
	}
}

// copies returns n targets in Secret objects.
func copies(n int) []policies.Sync {
	targets := make([]policies.Sync, n)
	for i := range targets {
		targets[i] = policies.Sync{Name: fmt.Sprintf("db-%03d", i), Type: "Opaque", Key: "password"}
	}
	return targets
}

// copied returns n requests with as many copies as one may have.
func copied(n int) []policies.Request {
	requests := make([]policies.Request, n)
	for i := range requests {
		requests[i] = policies.Request{
			Secret: fmt.Sprintf("%s-%d", policiestest.Secret, i), File: fmt.Sprint(i), Sync: copies(policies.MaxSyncPerRequest),
		}
	}
	return requests
}

// TestValidateSecret: an id with two readings would be granted by the one and
// fetched by the other.
func TestValidateSecret(t *testing.T) {
	tests := map[string]bool{
		"local://node/a":                            true,
		"local://node/a/b#key@3":                    true,
		"local://node/a@3":                          true,
		"local://node/a%23b":                        true,
		"local://node//prod/a":                      true,
		"local://node/a/":                           false,
		"local://node/a/#key":                       false,
		"local://node/a/@3":                         false,
		"local://node//":                            false,
		"local://node/a..b/.hidden":                 true,
		"local://node:8200/a":                       true,
		"unparsed:" + policiestest.Digest:           true,
		"unparsed:" + strings.Repeat("0", 64):       false,
		"unparsed:" + policiestest.Digest + "/":     false,
		"":                                          false,
		"local://node/":                             false,
		"local://node":                              false,
		"local:///a":                                false,
		"local:a":                                   false,
		"vault://node/a":                            false,
		"local://node/a b":                          false,
		"local://node/a\n":                          false,
		"local://node/a\x00":                        false,
		"local://node/a#b#c":                        false,
		"local://node/a@1@2":                        false,
		"local://node/a@1#b":                        false,
		"local://node/a#":                           false,
		"local://no#de/a":                           false,
		"local://node/payments/../orders/a":         false,
		"local://node/payments/%2e%2E/orders/a":     false,
		"local://node/./a":                          false,
		"local://node/a/.":                          false,
		"local://../a":                              false,
		"local://node" + strings.Repeat("/a", 62):   true,
		"local://node" + strings.Repeat("/a", 63):   false,
		"local://node/" + strings.Repeat("a", 2048): false,
	}
	for id, want := range tests {
		t.Run(id, func(t *testing.T) {
			if err := policiestest.Input(secret(id)).Validate(); (err == nil) != want {
				t.Errorf("Validate(secret %q) = %v, want valid: %v", id, err, want)
			}
		})
	}
}

// TestValidSecretKey: what grants and waivers name is spelt as ids are, else it
// would be accepted and never apply.
func TestValidSecretKey(t *testing.T) {
	tests := map[string]struct{ key, secret bool }{
		"local://node/a":                        {true, true},
		"local://node/a#k%2Fx@%40":              {true, true},
		"local://b%2Fc/a%2Ab":                   {true, true},
		"local://node//prod":                    {true, true},
		"unparsed:" + policiestest.Digest:       {true, true},
		"local://node/":                         {true, false},
		"local://node/a/":                       {true, false},
		"local://node//":                        {true, false},
		"local://node/a#":                       {true, false},
		"":                                      {false, false},
		"#":                                     {false, false},
		"unparsed:" + policiestest.Digest + "#": {false, false},
		"local://node/a//":                      {false, false},
		"local://node/a/#":                      {false, false},
		"local://node/a/#k":                     {false, false},
		"local://node/%61":                      {false, false},
		"local://node/%61/":                     {false, false},
		"local://node/a%2ab":                    {false, false},
		"local://node/a%2Fb":                    {false, false},
		"local://node/a%2":                      {false, false},
		"local://node/a%GG":                     {false, false},
		"local://node/a*":                       {false, false},
		"local://node/\u00fc":                   {false, false},
		"local://node/a#k/x":                    {false, false},
		"local://node/a@3/x":                    {false, false},
	}
	for id, want := range tests {
		if got := policies.ValidSecretKey(id); got != want.key {
			t.Errorf("ValidSecretKey(%q) = %v, want %v", id, got, want.key)
		}
		if got := policies.ValidSecret(id); got != want.secret {
			t.Errorf("ValidSecret(%q) = %v, want %v", id, got, want.secret)
		}
	}
}

func TestInputErrorHidesTheValue(t *testing.T) {
	err := policiestest.Input(secret("local://node/s3cr3t value")).Validate()
	if err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("Validate() = %v, want an error without the value", err)
	}
}

// node is the part of a JSON Schema that describes fields.
type node struct {
	Type                 string           `json:"type"`
	Description          string           `json:"description"`
	Properties           map[string]*node `json:"properties"`
	Required             []string         `json:"required"`
	AdditionalProperties any              `json:"additionalProperties"`
	Items                *node            `json:"items"`
}

// TestSchemaMatchesInput walks the Go type and the schema together: policy
// authors see exactly the fields that the engine fills.
func TestSchemaMatchesInput(t *testing.T) {
	var root node
	if err := json.Unmarshal(policies.InputSchema(), &root); err != nil {
		t.Fatal(err)
	}
	compareSchema(t, "input", reflect.TypeFor[policies.Input](), &root)
}

func compareSchema(t *testing.T, path string, typ reflect.Type, n *node) {
	t.Helper()
	switch typ.Kind() {
	case reflect.Pointer:
		compareSchema(t, path, typ.Elem(), n)
	case reflect.Struct:
		compareObject(t, path, typ, n)
	case reflect.Slice:
		if n.Type != "array" || n.Items == nil {
			t.Errorf("schema of %s has type %q, want array", path, n.Type)
			return
		}
		compareSchema(t, path+"[]", typ.Elem(), n.Items)
	case reflect.Map:
		want := map[string]any{"type": "string"}
		if diff := cmp.Diff(any(want), n.AdditionalProperties); n.Type != "object" || diff != "" {
			t.Errorf("schema of %s is no map of strings: %s", path, diff)
		}
	default:
		kinds := map[reflect.Kind]string{
			reflect.String: "string", reflect.Bool: "boolean", reflect.Int64: "integer", reflect.Uint32: "integer",
		}
		if want := kinds[typ.Kind()]; n.Type != want || want == "" {
			t.Errorf("schema of %s has type %q, want %q", path, n.Type, want)
		}
	}
}

func compareObject(t *testing.T, path string, typ reflect.Type, n *node) {
	t.Helper()
	if n.AdditionalProperties != false {
		t.Errorf("schema of %s has additionalProperties %v, want false", path, n.AdditionalProperties)
	}
	var names, required []string
	for f := range typ.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
		if options != "omitempty" {
			required = append(required, name)
		}
		if child := n.Properties[name]; child != nil {
			if child.Description == "" {
				t.Errorf("schema of %s.%s has no description", path, name)
			}
			compareSchema(t, path+"."+name, f.Type, child)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(n.Properties))); diff != "" {
		t.Errorf("schema of %s has other fields (-Go +schema):\n%s", path, diff)
	}
	slices.Sort(required)
	slices.Sort(n.Required)
	if diff := cmp.Diff(required, n.Required); diff != "" {
		t.Errorf("schema of %s requires other fields (-Go +schema):\n%s", path, diff)
	}
}

func TestSchemaIsACopy(t *testing.T) {
	policies.InputSchema()[0] = 'x'
	if got := policies.InputSchema()[0]; got != '{' {
		t.Errorf("InputSchema()[0] = %q after a caller changed its copy, want '{'", got)
	}
}

// TestAbsentFieldsAreAbsent: null would make a rule that tests for a field
// take it for present.
func TestAbsentFieldsAreAbsent(t *testing.T) {
	in := policies.Input{Contract: policies.Contract}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"tokens", "requester", "owner", "fsGroup", "volumeMountGroup", "tokenVerified", "scoping"} {
		if strings.Contains(string(text), fmt.Sprintf("%q", field)) {
			t.Errorf("Marshal(empty input) = %s, want no %s", text, field)
		}
	}
}

// TestNamesOfClusterAndDriver: what is taken is what Kubernetes takes of a CSIDriver
// object, and what a decision takes of its input.
func TestNamesOfClusterAndDriver(t *testing.T) {
	long := strings.Repeat("a", 64)
	names := []string{"", "a", "A", "1", "-", "a-", "-a", "a.b", "a..b", ".a", "a.", "a_b", "_a", "a b", "a/b", "a\n", "caf\u00e9", "\u212a", "secrets-store.csi.k8s.io", long[:63], long, strings.Repeat("a", 253), strings.Repeat("a", 254)}
	for _, name := range names {
		lower := strings.ToLower(name)
		if want := len(name) <= 63 && len(lower) == len(name) && len(validation.IsDNS1123Subdomain(lower)) == 0; policies.ValidDriverName(name) != want {
			t.Errorf("ValidDriverName(%q) = %v, want %v", name, !want, want)
		}
		err := policiestest.Input(func(in *policies.Input) { in.Cluster = name }).Validate()
		if got := policies.ValidClusterName(name); got != (err == nil) {
			t.Errorf("ValidClusterName(%q) = %v, and an input of it: %v", name, got, err)
		}
	}
}
