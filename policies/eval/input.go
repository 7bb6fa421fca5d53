package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/portcullis-csi/portcullis/policies"
)

// maxInputBytes leaves room for white space around what the engine takes.
const maxInputBytes = 1 << 20

// InputError says which field of an input is wrong.
type InputError struct {
	Field   string // "pod.containers[0].kind", "" for the whole
	Problem string
	Remedy  string
}

// Error names field, problem and remedy.
func (e *InputError) Error() string {
	field := e.Field
	if field == "" {
		field = "(all)"
	}
	return fmt.Sprintf("input field %s: %s; hint: %s", field, e.Problem, e.Remedy)
}

// Schema checks inputs against the JSON Schema of the contract.
type Schema struct{ compiled *jsonschema.Schema }

// NewSchema compiles the schema.
func NewSchema() (*Schema, error) {
	const name = "input.schema.json"
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(policies.InputSchema()))
	if err != nil {
		return nil, fmt.Errorf("read schema of inputs: %w", err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(name, document); err != nil {
		return nil, fmt.Errorf("read schema of inputs: %w", err)
	}
	compiled, err := c.Compile(name)
	if err != nil {
		return nil, fmt.Errorf("compile schema of inputs: %w", err)
	}
	return &Schema{compiled}, nil
}

// Clock is when an input is decided on.
type Clock struct {
	Given   time.Time // replaces the input's own time; zero: nobody asked for that
	Present time.Time // of inputs that tell none; zero: such an input is refused
}

// Read reads one input. One that people wrote may leave out phase, which is then
// ci, and now_ns.
func (s *Schema) Read(from io.Reader, at Clock) (policies.Input, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxInputBytes+1))
	if err != nil {
		return policies.Input{}, fmt.Errorf("read input: %w", err)
	}
	if len(text) > maxInputBytes {
		return policies.Input{}, &InputError{"", "is larger than 1 MiB", "an input is one object of 128 KiB at most; for recorded decisions give --recorded"}
	}
	return s.Parse(text, at)
}

// Parse is Read of a text.
func (s *Schema) Parse(text []byte, at Clock) (policies.Input, error) {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return policies.Input{}, &InputError{"", "is not one JSON value", "an input is one JSON object; for recorded decisions give --recorded"}
	}
	added := complete(value, at)
	if err := s.compiled.Validate(value); err != nil {
		return policies.Input{}, schemaError(err)
	}
	var in policies.Input
	if err := policies.DecodeStrictly(text, &in); err != nil {
		return policies.Input{}, &InputError{"", err.Error(), "docs/POLICIES.md lists the fields of inputs"}
	}
	if in.Phase == "" {
		in.Phase = policies.PhaseCI
	}
	switch {
	case !at.Given.IsZero():
		in.NowNS = at.Given.UnixNano()
	case added != 0:
		in.NowNS = added
	}
	if in.NowNS == 0 {
		return policies.Input{}, &InputError{"now_ns", "is zero, as in inputs that a log has kept", "give the time of the decision with --now"}
	}
	if err := in.Validate(); err != nil {
		if e, ok := errors.AsType[*policies.InputError](err); ok {
			return policies.Input{}, &InputError{e.Field, e.Limit, e.Remedy}
		}
		return policies.Input{}, err
	}
	return in, nil
}

// complete adds to a JSON value what people leave out, and returns the time that it
// added. What is there and wrong stays for the schema to refuse.
func complete(value any, at Clock) (added int64) {
	object, ok := value.(map[string]any)
	if !ok {
		return 0
	}
	if _, there := object["phase"]; !there {
		object["phase"] = string(policies.PhaseCI)
	}
	now := at.Given
	if now.IsZero() {
		now = at.Present
	}
	if _, there := object["now_ns"]; !there && !now.IsZero() {
		added = now.UnixNano()
		object["now_ns"] = json.Number(strconv.FormatInt(added, 10))
	}
	return added
}

// schemaError is what the schema says of the first field that does not fit.
func schemaError(err error) error {
	e, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return &InputError{"", "does not fit the schema", "docs/POLICIES.md lists the fields of inputs"}
	}
	var leaves []*InputError
	collect(e, &leaves)
	return slices.MinFunc(leaves, func(a, b *InputError) int {
		return strings.Compare(a.Field+a.Problem, b.Field+b.Problem)
	})
}

func collect(e *jsonschema.ValidationError, into *[]*InputError) {
	if len(e.Causes) == 0 {
		*into = append(*into, leaf(e))
	}
	for _, cause := range e.Causes {
		collect(cause, into)
	}
}

func leaf(e *jsonschema.ValidationError) *InputError {
	at := fieldPath(e.InstanceLocation)
	found := &InputError{Field: at, Remedy: "docs/POLICIES.md lists the fields of inputs"}
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		slices.Sort(k.Missing)
		found.Field, found.Problem, found.Remedy = join(at, k.Missing[0]), "is missing", "add it"
	case *kind.AdditionalProperties:
		slices.Sort(k.Properties)
		found.Field, found.Problem = join(at, k.Properties[0]), "is no field of the contract"
	case *kind.Type:
		found.Problem = fmt.Sprintf("is a JSON %s, not %s", k.Got, strings.Join(k.Want, " or "))
	case *kind.Enum:
		found.Problem = fmt.Sprintf("is none of %v", k.Want)
	case *kind.Const:
		found.Problem = fmt.Sprintf("is not %v", k.Want)
	default:
		found.Problem = "does not fit the schema (" + strings.Join(e.ErrorKind.KeywordPath(), "/") + ")"
	}
	return found
}

// fieldPath writes a location as POLICIES.md does.
func fieldPath(location []string) string {
	path := ""
	for _, part := range location {
		if part != "" && strings.Trim(part, "0123456789") == "" {
			path += "[" + part + "]"
			continue
		}
		path = join(path, part)
	}
	return path
}

// join quotes names that are no words: whoever wrote the input chose them.
func join(path, name string) string {
	if strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" || len(name) > 64 {
		name = fmt.Sprintf("%+q", name[:min(len(name), 64)])
	}
	if path == "" {
		return name
	}
	return path + "." + name
}
