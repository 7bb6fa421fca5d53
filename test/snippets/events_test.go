package snippets_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/test/snippets"
)

// checkSamples holds every sample of a document against what it is said to be a
// sample of. One of a kind that nobody checks is an error.
func checkSamples(t *testing.T, name string, blocks []snippets.Block) {
	t.Helper()
	checks := map[string]func(string) error{"event": eventCheck(t)}
	for _, b := range blocks {
		if b.Kind != snippets.Sample {
			continue
		}
		check, ok := checks[b.Name]
		if !ok {
			t.Errorf("docs/%s: line %d: a sample of %q, which nobody checks", name, b.Line, b.Name)
			continue
		}
		if err := check(b.Text); err != nil {
			t.Errorf("docs/%s: line %d: the sample is no %s: %v", name, b.Line, b.Name, err)
		}
	}
}

// eventCheck returns an error for what is not one event as the log stores it:
// valid, of the schema, and the same when it is read and written again.
func eventCheck(t *testing.T) func(string) error {
	t.Helper()
	doc, err := validator.UnmarshalJSON(strings.NewReader(audit.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("audit.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("audit.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(text string) error {
		var stored bytes.Buffer
		if err := json.Compact(&stored, []byte(text)); err != nil {
			return err
		}
		value, err := validator.UnmarshalJSON(bytes.NewReader(stored.Bytes()))
		if err != nil {
			return err
		}
		if err := schema.Validate(value); err != nil {
			return err
		}
		e, err := audit.Parse(stored.Bytes())
		if err != nil {
			return err
		}
		again, err := json.Marshal(e)
		if err == nil {
			err = e.Validate()
		}
		if err == nil && !bytes.Equal(again, stored.Bytes()) {
			err = fmt.Errorf("read and written again it is %s", again)
		}
		return err
	}
}

func TestSamplesThatAreNone(t *testing.T) {
	check := eventCheck(t)
	good := `{"schema":"portcullis.dev/audit/v1","id":"019bc1d0-7c00-7000-8000-000000000002","time":"2026-01-15T12:00:00Z","code":"PC0001I",` +
		`"type":"driver.start","outcome":"success","severity":"info","actor":{"kind":"System","name":"portcullis"},` +
		`"source":{"component":"driver","version":"v1","cluster":"test"}}`
	if err := check(good); err != nil {
		t.Errorf("check(%s) = %v, want no error", good, err)
	}
	for _, change := range [][2]string{
		{"driver.start", "driver.begin"}, {"PC0001I", "PC0002I"}, {`"severity"`, `"more":1,"severity"`}, {`"schema":"portcullis.dev/audit/v1",`, ""}, {"}}", "}"},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if err := check(bad); err == nil {
			t.Errorf("check(%s) = nil, want an error", bad)
		}
	}
}

// What a test reads for the whole of a document must be where it is looked for.
func TestEverySampleOfAnEventIsInTheDocument(t *testing.T) {
	blocks := read(t, "AUDIT_EVENTS.md")
	n := len(slices.DeleteFunc(blocks, func(b snippets.Block) bool { return b.Name != "event" }))
	if n < 40 {
		t.Errorf("docs/AUDIT_EVENTS.md has %d samples of events, want at least 40", n)
	}
}
