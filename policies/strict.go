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
func DecodeStrictly(text []byte, into any) error { return decode(text, into, true) }

// decodeOwn is DecodeStrictly for what the engine wrote, which has no key twice:
// each decision takes this way.
func decodeOwn(text []byte, into any) error { return decode(text, into, false) }

func decode(text []byte, into any, once bool) error {
	if err := checkValue(text); err != nil {
		return err
	}
	k := keys{text: text, once: once, types: map[reflect.Type]*keysOf{}}
	if err := k.value(reflect.TypeOf(into)); err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return shorten(err)
	}
	return nil
}

func shorten(err error) error { return errors.New(strings.TrimPrefix(err.Error(), "json: ")) }

// checkValue refuses what is not exactly one JSON value, and says why.
func checkValue(text []byte) error {
	if json.Valid(text) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	var value json.RawMessage
	if err := d.Decode(&value); err != nil {
		return shorten(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return errors.New("not JSON")
}

// keys walks over the keys of a text along the type that it is going to fill. The
// text is known to be valid, so that a byte tells what follows: an index of a
// hundred thousand grants is walked over at each load, and decoding it into
// anything else first would cost more than all other checks of it together.
type keys struct {
	text  []byte
	at    int
	once  bool // refuse a key that is written twice
	types map[reflect.Type]*keysOf
}

// keysOf are the keys that a struct has.
type keysOf struct {
	types map[string]reflect.Type
	any   bool // it reads its text itself
}

// value walks over one value. A nil type stands for any.
func (k *keys) value(typ reflect.Type) error {
	for typ != nil && typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	k.space()
	switch k.text[k.at] {
	case '{':
		return k.object(typ)
	case '[':
		return k.list(typ)
	case '"':
		k.word()
	default:
		k.plain()
	}
	return nil
}

// plain passes a number, true, false or null.
func (k *keys) plain() {
	for k.at < len(k.text) {
		switch k.text[k.at] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return
		}
		k.at++
	}
}

func (k *keys) space() {
	for k.at < len(k.text) {
		switch k.text[k.at] {
		case ' ', '\t', '\r', '\n':
			k.at++
		default:
			return
		}
	}
}

// ends reports whether an object or a list ends here, and passes what ends it or
// what stands between its members.
func (k *keys) ends() bool {
	k.space()
	c := k.text[k.at]
	if c == ',' || c == '}' || c == ']' {
		k.at++
		k.space()
	}
	return c == '}' || c == ']'
}

// word passes a string and returns it with its quotes.
func (k *keys) word() []byte {
	begin := k.at
	for k.at++; k.text[k.at] != '"'; k.at++ {
		if k.text[k.at] == '\\' {
			k.at++
		}
	}
	k.at++
	return k.text[begin:k.at]
}

func (k *keys) list(typ reflect.Type) error {
	var of reflect.Type
	if typ != nil && typ.Kind() == reflect.Slice {
		of = typ.Elem()
	}
	k.at++
	for i := 0; !k.ends(); i++ {
		if err := k.value(of); err != nil {
			return below(fmt.Sprintf("[%d]", i), err)
		}
	}
	return nil
}

func (k *keys) object(typ reflect.Type) error {
	var seen names
	k.at++
	for !k.ends() {
		name, err := unquoted(k.word())
		if err != nil {
			return err
		}
		if k.once && !seen.add(name) {
			return fmt.Errorf("field %q is written twice", name)
		}
		of, err := k.element(typ, name)
		if err != nil {
			return err
		}
		k.space()
		k.at++ // the colon
		if err := k.value(of); err != nil {
			return below("."+name, err)
		}
	}
	return nil
}

// element returns the type of what a key holds, nil for any.
func (k *keys) element(typ reflect.Type, name string) (reflect.Type, error) {
	switch {
	case typ == nil:
		return nil, nil
	case typ.Kind() == reflect.Map:
		return typ.Elem(), nil
	case typ.Kind() != reflect.Struct:
		return nil, nil
	}
	known := k.types[typ]
	if known == nil {
		known = fieldsOf(typ)
		k.types[typ] = known
	}
	of, ok := known.types[name]
	if !ok && !known.any {
		return nil, &unknownFieldError{"." + name}
	}
	return of, nil
}

// fieldsOf returns the types of a struct's fields by their JSON names, exactly.
func fieldsOf(typ reflect.Type) *keysOf {
	if reflect.PointerTo(typ).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return &keysOf{any: true}
	}
	known := &keysOf{types: map[string]reflect.Type{}}
	for f := range typ.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			known.types[name] = f.Type
		}
	}
	return known
}

// unquoted returns what a string of JSON says, as encoding/json reads it.
func unquoted(word []byte) (string, error) {
	inner := word[1 : len(word)-1]
	for _, c := range inner {
		if c == '\\' || c >= 0x80 {
			var name string
			if err := json.Unmarshal(word, &name); err != nil {
				return "", shorten(err)
			}
			return name, nil
		}
	}
	return string(inner), nil
}

// unknownFieldError is about a key that nothing reads. Its path grows on the way
// out, since hardly any value has one to tell of.
type unknownFieldError struct{ path string }

func (e *unknownFieldError) Error() string {
	return fmt.Sprintf("unknown field %q", strings.TrimPrefix(e.path, "."))
}

func below(path string, err error) error {
	if e, ok := errors.AsType[*unknownFieldError](err); ok {
		e.path = path + e.path
	}
	return err
}

// names are the keys of one object: most have a few.
type names struct {
	few  []string
	many map[string]bool
}

const fewNames = 16

// add reports whether the name is not among them yet.
func (n *names) add(name string) bool {
	if n.many != nil {
		if n.many[name] {
			return false
		}
		n.many[name] = true
		return true
	}
	for _, have := range n.few {
		if have == name {
			return false
		}
	}
	if n.few = append(n.few, name); len(n.few) > fewNames {
		n.many = make(map[string]bool, 2*len(n.few))
		for _, have := range n.few {
			n.many[have] = true
		}
	}
	return true
}
