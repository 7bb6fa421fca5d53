package audit

import (
	"bytes"
	_ "embed" // for schema.json
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

//go:embed schema.json
var schema string

// Schema returns the JSON Schema of events.
func Schema() string { return schema }

// encode returns the bytes that are stored. HTML escapes would only make the
// ids of secrets harder to search for.
func encode(e Event) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Parse reads a stored event. Fields of a later release of v1 are left out, so
// what is read is for looking at, never for storing again.
func Parse(leaf []byte) (Event, error) {
	if len(leaf) > MaxEventBytes {
		return Event{}, fmt.Errorf("parse event: longer than %d bytes", MaxEventBytes)
	}
	var e Event
	if err := json.Unmarshal(leaf, &e); err != nil {
		return Event{}, fmt.Errorf("parse event: %w", err)
	}
	if e.Schema != SchemaID {
		return Event{}, fmt.Errorf("parse event: schema is %q, want %q", e.Schema, SchemaID)
	}
	return e, nil
}

// jsonName returns a field's name in JSON, and whether it is left out when empty.
func jsonName(f reflect.StructField) (name string, omit bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name, strings.Contains(options, "omitempty")
}
