package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// maxDepth is how deep objects and lists may nest; Kubernetes' claims are
// three deep.
const maxDepth = 8

var errJSON = errors.New("not an object in JSON with each name once")

// decodeObject reads a JSON object into maps, lists, strings, json.Number,
// bool and nil. encoding/json's own decoding into structs takes the last of two
// equal names, and "Kubernetes.io" for "kubernetes.io" (RFC 7519 section 4 has
// names unique and compared as they stand): two readers of one token could then
// read two identities. The error says nothing of the text.
func decodeObject(text []byte) (map[string]any, error) {
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, errJSON
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := decodeValue(d, 0)
	if err != nil {
		return nil, errJSON
	}
	object, ok := v.(map[string]any)
	if _, end := d.Token(); !ok || !errors.Is(end, io.EOF) {
		return nil, errJSON
	}
	return object, nil
}

func decodeValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch {
	case t != json.Delim('{') && t != json.Delim('['):
		return t, nil
	case depth == maxDepth:
		return nil, errJSON
	case t == json.Delim('['):
		return decodeList(d, depth+1)
	default:
		return decodeMembers(d, depth+1)
	}
}

func decodeList(d *json.Decoder, depth int) ([]any, error) {
	list := []any{}
	for d.More() {
		v, err := decodeValue(d, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token() // ]
	return list, err
}

func decodeMembers(d *json.Decoder, depth int) (map[string]any, error) {
	members := map[string]any{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, ok := name.(string)
		if _, twice := members[key]; !ok || twice {
			return nil, errJSON
		}
		if members[key], err = decodeValue(d, depth); err != nil {
			return nil, err
		}
	}
	_, err := d.Token() // }
	return members, err
}
