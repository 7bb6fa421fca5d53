package policies

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// DecodeStrictly decodes one JSON value and refuses every key that the type does
// not have, also one that differs in case only: encoding/json would take
// "Expiry" for "expiry", and of the two use the one that comes last. A key that is
// written twice is refused as well: who reads the text might take the other.
func DecodeStrictly(text []byte, into any) error {
	if err := decodeOwn(text, into); err != nil {
		return err
	}
	return checkOnce(json.NewDecoder(bytes.NewReader(text)))
}

// decodeOwn is DecodeStrictly for what the engine wrote, which has no key twice:
// each decision takes this way.
func decodeOwn(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return shorten(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	if err := checkKeys(value, reflect.TypeOf(into), ""); err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return shorten(err)
	}
	return nil
}

func shorten(err error) error { return errors.New(strings.TrimPrefix(err.Error(), "json: ")) }

// checkOnce reads one value that is known to be JSON.
func checkOnce(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return shorten(err)
	}
	open, compound := token.(json.Delim)
	if !compound {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return shorten(err)
			}
			name, _ := key.(string)
			if seen[name] {
				return fmt.Errorf("field %q is written twice", name)
			}
			seen[name] = true
		}
		if err := checkOnce(d); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return shorten(err)
	}
	return nil
}

// checkKeys walks a value along the type that it is going to fill.
func checkKeys(value any, typ reflect.Type, path string) error {
	if typ.Kind() == reflect.Pointer {
		return checkKeys(value, typ.Elem(), path)
	}
	switch v := value.(type) {
	case []any:
		if typ.Kind() != reflect.Slice {
			return nil
		}
		for i, item := range v {
			if err := checkKeys(item, typ.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		return checkObject(v, typ, path)
	}
	return nil
}

func checkObject(object map[string]any, typ reflect.Type, path string) error {
	switch typ.Kind() {
	case reflect.Map:
		for key, item := range object {
			if err := checkKeys(item, typ.Elem(), path+"."+key); err != nil {
				return err
			}
		}
	case reflect.Struct:
		if reflect.PointerTo(typ).Implements(reflect.TypeFor[json.Unmarshaler]()) {
			return nil
		}
		for key, item := range object {
			field, ok := fieldOf(typ, key)
			if !ok {
				return fmt.Errorf("unknown field %q", strings.TrimPrefix(path+"."+key, "."))
			}
			if err := checkKeys(item, field, path+"."+key); err != nil {
				return err
			}
		}
	default:
	}
	return nil
}

// fieldOf returns the type of the field whose JSON name is exactly key.
func fieldOf(typ reflect.Type, key string) (reflect.Type, bool) {
	for f := range typ.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == key && key != "" {
			return f.Type, true
		}
	}
	return nil, false
}
