package policies_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

type strictOuter struct {
	Expiry string                 `json:"expiry"`
	Inner  *strictInner           `json:"inner"`
	List   []strictInner          `json:"list,omitempty"`
	Named  map[string]strictInner `json:"named"`
	Free   map[string]any         `json:"free"`
	Time   time.Time              `json:"time"`
	Hidden string
}

type strictInner struct {
	ID string `json:"id"`
}

func TestDecodeStrictly(t *testing.T) {
	tests := []struct {
		name, text string
		want       string // in the error, "" for none
	}{
		{"every field", `{"expiry":"e","inner":{"id":"i"},"list":[{"id":"l"}],"named":{"x":{"id":"n"}},"free":{"Any":{"Thing":1}},"time":"2026-01-01T00:00:00Z"}`, ""},
		{"nothing", `{}`, ""},
		{"unknown", `{"other":1}`, `unknown field "other"`},
		{"other case", `{"Expiry":"e"}`, `unknown field "Expiry"`},
		{"both cases", `{"expiry":"e","EXPIRY":"f"}`, `unknown field "EXPIRY"`},
		{"field without a name", `{"Hidden":"x"}`, `unknown field "Hidden"`},
		{"empty name", `{"":"x"}`, "unknown field"},
		{"below a pointer", `{"inner":{"Id":"i"}}`, `unknown field "inner.Id"`},
		{"below a list", `{"list":[{"id":"a"},{"ID":"b"}]}`, `unknown field "list[1].ID"`},
		{"below a map", `{"named":{"x":{"id":"a","y":1}}}`, `unknown field "named.x.y"`},
		{"wrong type", `{"expiry":1}`, "cannot unmarshal"},
		{"list for an object", `{"inner":[]}`, "cannot unmarshal"},
		{"object for a list", `{"list":{"ID":1}}`, "cannot unmarshal"},
		{"object for a text", `{"expiry":{"x":1}}`, "cannot unmarshal"},
		{"twice", `{"expiry":"e","expiry":"e"}`, `field "expiry" is written twice`},
		{"twice, escaped", `{"expiry":"e","\u0065xpiry":"f"}`, `field "expiry" is written twice`},
		{"twice below", `{"list":[{"id":"a"},{"id":"b","id":"c"}]}`, `field "id" is written twice`},
		{"twice in a map", `{"named":{"x":{"id":"a"},"x":{}}}`, `field "x" is written twice`},
		{"twice where anything is", `{"free":{"a":[{"b":{"c":1,"c":2}}]}}`, `field "c" is written twice`},
		{"the same name elsewhere", `{"expiry":"e","free":{"expiry":1,"a":{"expiry":2},"b":[{"expiry":3},{"expiry":4}]}}`, ""},
		{"two values", `{} {}`, "more than one value"},
		{"rest", `{} x`, "more than one value"},
		{"no JSON", `{`, "EOF"},
		{"nothing at all", ``, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got strictOuter
			err := policies.DecodeStrictly([]byte(tt.text), &got)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("DecodeStrictly(%s) = %v, want an error with %q", tt.text, err, tt.want)
			}
		})
	}
}

// FuzzDecodeStrictly holds the reader to a slow one, which makes a tree of the text
// and asks of each key what the type says and whether it came before.
func FuzzDecodeStrictly(f *testing.F) {
	for _, text := range []string{
		`{"expiry":"e","inner":{"id":"i"},"list":[{"id":"l"},{}],"named":{"x":{"id":"n"},"y":{}},"free":{"Any":[1,-2.5e3,true,null,"\"]}"]}}`,
		" {\t\"list\" :\r\n[ ] , \"named\":{ } }\n", `{"Expiry":"e"}`, `{"list":[{"id":"a"},{"ID":"b"}]}`, `{"named":{"\u00e9":{"id":"a"},"é":{}}}`,
		`{"expiry":"\\","expiry":""}`, `{"free":{"a":{"b":1,"\u0062":2}}}`, "{\"free\":{\"\xff\":1,\"\ufffd\":2}}", `{"inner":null}`, `{"list":{"ID":1}}`,
		`{"time":"2026-01-01T00:00:00Z"}`, `{"time":{"x":1}}`, `[{"other":1}]`, `"text"`, `null`, `1`, `{} {}`, `{"a":`, ``,
		`{"free":{"0":0,"1":0,"2":0,"3":0,"4":0,"5":0,"6":0,"7":0,"8":0,"9":0,"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"0":0}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got, want strictOuter
		err := policies.DecodeStrictly(text, &got)
		if refused := slowly(text, &want); (err == nil) != (refused == nil) {
			t.Fatalf("DecodeStrictly(%q) = %v, and slowly %v", text, err, refused)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("DecodeStrictly(%q) = %+v, and slowly %+v", text, got, want)
		}
	})
}

// slowly reads one value token by token.
func slowly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if err := slowValue(d, reflect.TypeOf(into)); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more")
	}
	return json.Unmarshal(text, into)
}

func slowValue(d *json.Decoder, typ reflect.Type) error {
	for typ != nil && typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	token, err := d.Token()
	open, compound := token.(json.Delim)
	if err != nil || !compound {
		return err
	}
	seen := map[string]bool{}
	for d.More() {
		of := elementOf(typ, open)
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string)
			if seen[name] {
				return errors.New("twice")
			}
			seen[name] = true
			if typ == reflect.TypeFor[strictOuter]() || typ == reflect.TypeFor[strictInner]() {
				i := slices.IndexFunc(reflect.VisibleFields(typ), func(f reflect.StructField) bool {
					written, _, _ := strings.Cut(f.Tag.Get("json"), ",")
					return name != "" && written == name
				})
				if i < 0 {
					return errors.New("unknown")
				}
				of = typ.Field(i).Type
			}
		}
		if err := slowValue(d, of); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// elementOf is the type of what stands in a list or a map, nil for any.
func elementOf(typ reflect.Type, open json.Delim) reflect.Type {
	if typ != nil && (open == '[' && typ.Kind() == reflect.Slice || open == '{' && typ.Kind() == reflect.Map) {
		return typ.Elem()
	}
	return nil
}
