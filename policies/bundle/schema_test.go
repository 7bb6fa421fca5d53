package bundle_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

var update = flag.Bool("update", false, "rewrite the JSON Schemas in schema/")

// generated makes the schema of a type and of the tags that its reader goes by.
func generated(t *testing.T, name, title string, of any) []byte {
	t.Helper()
	r := &jsonschema.Reflector{DoNotReference: true, RequiredFromJSONSchemaTags: true, Anonymous: true}
	s := r.Reflect(of)
	s.ID = jsonschema.ID("https://portcullis.dev/schemas/policy/" + name + ".json")
	s.Title = title
	describe(t, s, reflect.TypeOf(of), "")
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

// describe adds to a schema what the tags of its type say.
func describe(t *testing.T, s *jsonschema.Schema, typ reflect.Type, tag reflect.StructTag) {
	t.Helper()
	if doc := tag.Get("doc"); doc != "" {
		s.Description = doc
	}
	need, needed := tag.Lookup("need")
	if needed && need == "" {
		t.Errorf("%s: a field that is needed says nothing about the remedy", typ)
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ == reflect.TypeFor[time.Time]():
	case typ.Kind() == reflect.Struct:
		describeFields(t, s, typ)
	case typ.Kind() == reflect.Slice:
		if tag.Get("empty") != "ok" && tag != "" {
			s.MinItems = new(uint64(1))
		}
		describe(t, s.Items, typ.Elem(), reflect.StructTag(strings.ReplaceAll(string(tag), "doc:", "none:")))
	case typ.Kind() == reflect.Map && typ.Elem().Kind() == reflect.String:
		s.PropertyNames = &jsonschema.Schema{Pattern: bundle.FormOf(tag.Get("keys"))}
		s.AdditionalProperties = &jsonschema.Schema{Type: "string", Pattern: bundle.FormOf(tag.Get("form"))}
		if s.PropertyNames.Pattern == "" {
			s.PropertyNames = nil
		}
	case typ.Kind() == reflect.String:
		s.Pattern = bundle.FormOf(tag.Get("form"))
		if tag.Get("form") == "date" {
			s.Format = "date"
		}
	case tag.Get("form") == "one":
		s.Minimum, s.Maximum = "1", "1"
	case tag.Get("form") == "uid":
		s.Minimum, s.Maximum = "0", "4294967294"
	}
}

func describeFields(t *testing.T, s *jsonschema.Schema, typ reflect.Type) {
	t.Helper()
	for f := range typ.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		p, ok := s.Properties.Get(name)
		if !ok || f.Tag.Get("doc") == "" {
			t.Fatalf("%s.%s is not in the schema, or is not described", typ, f.Name)
		}
		describe(t, p, f.Type, f.Tag)
		if _, needed := f.Tag.Lookup("need"); needed {
			s.Required = append(s.Required, name)
		} else if f.Type.Kind() == reflect.String && p.Pattern != "" {
			// The reader takes an empty text for one that is not there.
			p.Pattern = "^$|" + p.Pattern
		}
	}
}

func TestSchemasAreCurrent(t *testing.T) {
	for name, of := range map[string]struct {
		title string
		value any
	}{
		"grants":   {"Grants of a Portcullis policy: portcullis/grants/*.yaml", []bundle.Grant{}},
		"waivers":  {"Waivers of a Portcullis policy: portcullis/waivers/*.yaml", []bundle.Waiver{}},
		"config":   {"Configuration of a Portcullis policy: portcullis/config/data.yaml", policies.Config{}},
		"manifest": {"Manifest of a Portcullis policy: .manifest", bundle.Manifest{}},
	} {
		text, path := generated(t, name, of.title, of.value), filepath.Join("schema", name+".json")
		if *update {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := bundle.Schema(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(got), string(text)); diff != "" {
			t.Errorf("%s mismatch (-file +types), -update rewrites it:\n%s", path, diff)
		}
	}
}

func TestSchemaNames(t *testing.T) {
	for _, name := range bundle.SchemaNames() {
		if compiledSchema(t, name) == nil {
			t.Errorf("Schema(%q) does not compile", name)
		}
	}
	for _, name := range []string{"", "grant", "../schema/grants", "grants.json"} {
		if text, err := bundle.Schema(name); err == nil || !strings.Contains(err.Error(), "grants, input") {
			t.Errorf("Schema(%q) = %q, %v, want an error that lists the names", name, text, err)
		}
	}
}

func compiledSchema(t *testing.T, name string) *validator.Schema {
	t.Helper()
	text, err := bundle.Schema(name)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := validator.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name+".json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}
