package signature

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// maxDepth is well above what a manifest, a payload or a bundle of Sigstore nests.
const maxDepth = 24

// checkJSON refuses what two readers of JSON could read as two different things:
// keys written twice, text after the value, bytes that are not UTF-8. It also
// bounds the depth, since readers are recursive.
func checkJSON(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := checkValue(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

func checkValue(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	delimiter, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	if depth == maxDepth {
		return fmt.Errorf("JSON nested deeper than %d levels", maxDepth)
	}
	seen := map[string]bool{}
	for d.More() {
		if delimiter == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name, ok := key.(string)
			if !ok || seen[name] {
				return fmt.Errorf("JSON key %q is there twice", name)
			}
			seen[name] = true
		}
		if err := checkValue(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// object reads the members of an object. Names are compared exactly, unlike by
// encoding/json, to which Layers and layers are the same.
func object(text []byte, allowed ...string) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, err
	}
	if members == nil {
		return nil, errors.New("null instead of a JSON object")
	}
	for name := range members {
		if !slices.Contains(allowed, name) {
			return nil, fmt.Errorf("unexpected JSON key %q", name)
		}
	}
	return members, nil
}

// text reads a member that is a string; a missing one is empty.
func text(members map[string]json.RawMessage, name string) (string, error) {
	raw, ok := members[name]
	if !ok {
		return "", nil
	}
	var value *string
	if err := json.Unmarshal(raw, &value); err != nil || value == nil {
		return "", fmt.Errorf("JSON key %q is not a string", name)
	}
	return *value, nil
}
