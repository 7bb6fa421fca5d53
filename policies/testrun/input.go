package testrun

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

//go:embed input.json
var defaultInput []byte

// DefaultInput returns the JSON that the input of a fixture is a patch of: a pod
// that asks for one secret and does nothing that a careful policy objects to.
func DefaultInput() []byte { return bytes.Clone(defaultInput) }

// build returns the input of a fixture in a phase, patched over base.
func build(base []byte, patch map[string]any, phase policies.Phase, now time.Time) (policies.Input, error) {
	var object any
	d := json.NewDecoder(bytes.NewReader(base))
	d.UseNumber()
	if err := d.Decode(&object); err != nil {
		return policies.Input{}, fmt.Errorf("read default input: %w", err)
	}
	if patch != nil {
		object = merge(object, patch)
	}
	text, err := json.Marshal(object)
	if err != nil {
		return policies.Input{}, fmt.Errorf("encode input: %w", err)
	}
	var in policies.Input
	if err := policies.DecodeStrictly(text, &in); err != nil {
		return policies.Input{}, err
	}
	in.Phase, in.NowNS = phase, now.UnixNano()
	return lacking(in), nil
}

// lacking takes from an input what its phase does not have: docs/POLICIES.md,
// "Input".
func lacking(in policies.Input) policies.Input {
	if in.Phase == policies.PhaseAdmission || in.Phase == policies.PhaseCI {
		in.Subject.Node, in.Subject.TokenVerified, in.Tokens = "", nil, nil
	} else if in.Subject.TokenVerified == nil {
		in.Subject.TokenVerified = new(false)
	}
	if in.Phase != policies.PhaseAdmission {
		in.Requester = nil
	}
	return in
}

// merge applies a JSON merge patch.
func merge(base any, change any) any {
	patch, ok := change.(map[string]any)
	if !ok {
		return change
	}
	object, ok := base.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for key, value := range patch {
		if value == nil {
			delete(object, key)
			continue
		}
		object[key] = merge(object[key], value)
	}
	return object
}
