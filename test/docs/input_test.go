package docs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

// TestPoliciesShowsTheInput: the table of the input is its schema, in the
// schema's order, with the origins that package kube promises.
func TestPoliciesShowsTheInput(t *testing.T) {
	var schema yaml.Node // which keeps the order of JSON's objects
	if err := yaml.Unmarshal(policies.InputSchema(), &schema); err != nil {
		t.Fatal(err)
	}
	origins := map[string]kube.FieldOrigin{}
	for _, o := range kube.Origins() {
		origins[o.Field] = o
	}
	var b strings.Builder
	b.WriteString("| field | type | | meaning | admission | mount, rotate, sync | ci |\n|---|---|---|---|---|---|---|\n")
	for _, f := range schemaFields("", schema.Content[0]) {
		o, known := origins[f.path]
		if known == f.group {
			t.Errorf("field %s is in the table of origins: %v, and groups others: %v", f.path, known, f.group)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", f.path, f.kind, f.optional, f.meaning, o.Admission, o.Node, o.CI)
	}
	checkBlock(t, "docs/POLICIES.md", "input", b.String())
}

// schemaField is one property of the schema.
type schemaField struct {
	path, kind, optional, meaning string
	group                         bool // it holds fields, not a value
}

func schemaFields(path string, object *yaml.Node) []schemaField {
	var required []string
	if r := property(object, "required"); r != nil {
		for _, name := range r.Content {
			required = append(required, name.Value)
		}
	}
	properties := property(object, "properties")
	if properties == nil {
		return nil
	}
	var fields []schemaField
	for i := 0; i < len(properties.Content); i += 2 {
		name, n := properties.Content[i].Value, properties.Content[i+1]
		f := schemaField{path: strings.TrimPrefix(path+"."+name, "."), kind: kindOf(n), meaning: property(n, "description").Value}
		if !slices.Contains(required, name) {
			f.optional = "optional"
		}
		below := schemaFields(f.path, n)
		if items := property(n, "items"); items != nil {
			below = append(below, schemaFields(f.path+"[]", items)...)
		}
		f.group = len(below) > 0
		fields = append(append(fields, f), below...)
	}
	return fields
}

// property returns the value of a key, nil if there is none.
func property(object *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(object.Content); i += 2 {
		if object.Content[i].Value == key {
			return object.Content[i+1]
		}
	}
	return nil
}

// kindOf says what a field holds, in words.
func kindOf(n *yaml.Node) string {
	plural := map[string]string{"text": "text", "number": "numbers", "object": "objects"}
	switch kind := property(n, "type").Value; kind {
	case "string":
		return "text"
	case "integer":
		return "number"
	case "array":
		return "list of " + plural[kindOf(property(n, "items"))]
	case "object":
		if property(n, "properties") == nil {
			return "map of text"
		}
		return "object"
	default:
		return kind
	}
}
