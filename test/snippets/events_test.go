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

// event returns an error for what is not one event as the log stores it: valid,
// of the schema, and the same when it is read and written again.
func event(t *testing.T, text string) error {
	t.Helper()
	var stored bytes.Buffer
	if err := json.Compact(&stored, []byte(text)); err != nil {
		return err
	}
	value, err := validator.UnmarshalJSON(bytes.NewReader(stored.Bytes()))
	if err != nil {
		return err
	}
	if err := eventSchema(t).Validate(value); err != nil {
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

func eventSchema(t *testing.T) *validator.Schema {
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
	return schema
}

func TestEventsThatAreNone(t *testing.T) {
	good := `{"schema":"portcullis.dev/audit/v1","id":"019bc1d0-7c00-7000-8000-000000000002","time":"2026-01-15T12:00:00Z","code":"PC0001I",` +
		`"type":"driver.start","outcome":"success","severity":"info","actor":{"kind":"System","name":"portcullis"},` +
		`"source":{"component":"driver","version":"v1","cluster":"test"}}`
	if err := event(t, good); err != nil {
		t.Errorf("event(%s) = %v, want no error", good, err)
	}
	for _, change := range [][2]string{
		{"driver.start", "driver.begin"}, {"PC0001I", "PC0002I"}, {`"severity"`, `"more":1,"severity"`}, {`"schema":"portcullis.dev/audit/v1",`, ""}, {"}}", "}"},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if err := event(t, bad); err == nil {
			t.Errorf("event(%s) = nil, want an error", bad)
		}
	}
}

func TestAuditEventsHasASampleOfEveryState(t *testing.T) {
	_, blocks := read(t, "AUDIT_EVENTS.md")
	n := len(slices.DeleteFunc(blocks, func(b snippets.Block) bool { return b.Name != "event" }))
	if n < 40 {
		t.Errorf("docs/AUDIT_EVENTS.md has %d samples of events, want at least 40", n)
	}
}
