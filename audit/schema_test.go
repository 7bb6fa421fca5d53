package audit_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/portcullis-csi/portcullis/audit"
)

var update = flag.Bool("update", false, "rewrite schema.json, golden samples and the tables of AUDIT_EVENTS.md")

// golden compares a file byte for byte, or rewrites it.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s mismatch (-want +got), -update rewrites it:\n%s", path, diff)
	}
}

// eachField calls f for every field of the event's types, once for each type.
func eachField(f func(owner reflect.Type, field reflect.StructField)) {
	seen := map[reflect.Type]bool{reflect.TypeFor[time.Time](): true}
	var visit func(reflect.Type)
	visit = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || seen[t] {
			return
		}
		seen[t] = true
		for field := range t.Fields() {
			if !field.IsExported() {
				continue // and so is not encoded
			}
			f(t, field)
			visit(field.Type)
		}
	}
	visit(reflect.TypeFor[audit.Event]())
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// isText reports whether the field holds strings of its own.
func isText(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t.Kind() == reflect.String
}

// generated makes the schema of the structs and the rules of their tags.
func generated(t *testing.T) []byte {
	t.Helper()
	r := &jsonschema.Reflector{BaseSchemaID: "https://portcullis.dev/schemas"}
	s := r.Reflect(&audit.Event{})
	s.ID = "https://portcullis.dev/schemas/audit/v1.json"
	s.Title = audit.SchemaID
	eachField(func(owner reflect.Type, field reflect.StructField) {
		p, ok := s.Definitions[owner.Name()].Properties.Get(jsonName(field))
		if !ok {
			t.Fatalf("%s.%s is not in the schema", owner.Name(), field.Name)
		}
		tag, ok := field.Tag.Lookup("check")
		if !ok {
			return
		}
		if p.Items != nil {
			p = p.Items
		}
		words, pattern, longest, _ := audit.RuleOf(tag)
		p.Ref, p.Type = "", "string"
		for _, w := range words {
			p.Enum = append(p.Enum, w)
		}
		if pattern != nil {
			p.Pattern = pattern.String()
		}
		if longest > 0 {
			n := uint64(longest)
			p.MaxLength = &n
		}
	})
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

func TestSchemaIsCurrent(t *testing.T) {
	text := generated(t)
	golden(t, "schema.json", text)
	if !*update && audit.Schema() != string(text) {
		t.Error("Schema() is not schema.json")
	}
}

func compiled(t *testing.T) *validator.Schema {
	t.Helper()
	text, err := os.ReadFile("schema.json") // the embedded one is of before -update
	if err != nil {
		t.Fatal(err)
	}
	doc, err := validator.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("audit.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("audit.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func conforms(t *testing.T, s *validator.Schema, leaf []byte) error {
	t.Helper()
	doc, err := validator.UnmarshalJSON(bytes.NewReader(leaf))
	if err != nil {
		t.Fatalf("UnmarshalJSON(%s) = %v", leaf, err)
	}
	return s.Validate(doc)
}

func TestSchemaRefusesStrangers(t *testing.T) {
	s := compiled(t)
	base := `"schema":"portcullis.dev/audit/v1","id":"01939a6e-0000-7000-8000-000000000001","time":"2026-01-15T12:00:00Z",` +
		`"code":"PC0001I","type":"driver.start","outcome":"success","severity":"info","actor":{"kind":"System","name":"portcullis"},` +
		`"source":{"component":"driver","version":"v1","cluster":"test"}`
	tests := []struct {
		name  string
		event string
		valid bool
	}{
		{"as it is", "{" + base + "}", true},
		{"an unknown field", "{" + base + `,"secretValue":"hunter2"}`, false},
		{"an unknown field below", "{" + base + `,"files":[{"path":"a","mode":288,"uid":0,"size":1,"content":"hunter2"}]}`, false},
		{"an unknown type", "{" + strings.Replace(base, "driver.start", "driver.begin", 1) + "}", false},
		{"an unknown reason", "{" + base + `,"reason":"rpc error: code = Unknown desc = hunter2"}`, false},
		{"text for a secret", "{" + base + `,"secrets":[{"id":"the password is hunter2"}]}`, false},
		{"no id", "{" + strings.Replace(base, `"id":"01939a6e-0000-7000-8000-000000000001",`, "", 1) + "}", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := conforms(t, s, []byte(tt.event)); (err == nil) != tt.valid {
				t.Errorf("Validate(%s) = %v, want valid %v", tt.event, err, tt.valid)
			}
		})
	}
}

// TestP5EveryStringHasARule shows that no field can hold free text: each string
// is a word of a list or fits a pattern, and no type can hold anything at all.
func TestP5EveryStringHasARule(t *testing.T) {
	fields := 0
	eachField(func(owner reflect.Type, field reflect.StructField) {
		fields++
		name := owner.Name() + "." + field.Name
		tag, tagged := field.Tag.Lookup("check")
		switch base := field.Type; {
		case isText(base):
			if _, _, _, ok := audit.RuleOf(tag); !tagged || !ok {
				t.Errorf("%s has check tag %q, want the name of a rule", name, tag)
			}
		case base.Kind() == reflect.Interface, base.Kind() == reflect.Map, base.Kind() == reflect.Array,
			base.Kind() == reflect.Slice && base.Elem().Kind() == reflect.Uint8:
			t.Errorf("%s is a %s, which could hold anything", name, base)
		case tagged:
			t.Errorf("%s has a check tag and is a %s", name, base)
		}
		if jsonName(field) == "" || jsonName(field) == "-" {
			t.Errorf("%s has no JSON name", name)
		}
	})
	if fields < 60 {
		t.Errorf("eachField visited %d fields, want at least 60", fields)
	}
}

func TestP5RulesRefuseText(t *testing.T) {
	texts := []string{
		"the password is hunter2", "rpc error: code = Unknown desc = hunter2", "a\nb", "a\x1b[31m", "{\"a\":1}", "<script>", "a\"b", "päss",
	}
	eachField(func(owner reflect.Type, field reflect.StructField) {
		tag, ok := field.Tag.Lookup("check")
		if !ok {
			return
		}
		words, pattern, _, _ := audit.RuleOf(tag)
		for _, text := range texts {
			// A path may have spaces in it, as files may.
			if tag == "path" && !strings.ContainsAny(text, "\n\x1b\"<{ä") {
				continue
			}
			if pattern != nil && pattern.MatchString(text) {
				t.Errorf("rule %q of %s.%s matches %q", tag, owner.Name(), field.Name, text)
			}
			for _, w := range words {
				if w == text {
					t.Errorf("rule %q lists %q", tag, text)
				}
			}
		}
	})
}
