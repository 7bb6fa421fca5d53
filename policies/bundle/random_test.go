// The race detector sees no more in hundreds of bundles that one goroutine reads
// than in a few, and takes some twenty times as long.

//go:build !race

package bundle_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// changed returns a document with one value at random in place of another, without
// one, or with a key more. Values are of the kinds that authors mix up.
func (a author) changed(document any) any {
	if a.IntN(9) == 0 {
		return a.value()
	}
	switch v := document.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		object := maps.Clone(v)
		switch key := a.some(append(keys, "")...); {
		case key == "":
			object[a.some("ownr", "id", "Owner", "scoping", "pods", "secrets", "maxFileMode", "monitor", "revision", "serial", "checks", "obligations")] = a.value()
		case a.IntN(4) == 0:
			delete(object, key)
		default:
			object[key] = a.changed(object[key])
		}
		return object
	case []any:
		list := slices.Clone(v)
		if i := a.IntN(len(list) + 1); i < len(list) {
			list[i] = a.changed(list[i])
			return list
		}
		return append(list, a.value())
	}
	return a.value()
}

func (a author) value() any {
	texts := []any{
		"", "a", "*", "a*", "api-*", "A", "0440", "0640", "2026-02-01", "2026-02-30", "PR-200", "PR-001", "PR-2", "keep", "maybe", "local", "local://node/a",
		"local://node/a/*", "local://", "unparsed:" + digest, "a b", "portcullis", "portcullis/v1", "true", "7", strings.Repeat("x", 64), strings.Repeat("x", 1001), "a\x1b[8m",
	}
	others := []any{0, 1, 7, -1, 288, 4294967295, true, false, []any{}, map[string]any{}, []any{"a"}, map[string]any{"tier": "prod"}, []any{[]any{}}, nil, 1.5}
	if a.IntN(3) > 0 {
		return texts[a.IntN(len(texts))]
	}
	return others[a.IntN(len(others))]
}

// TestSchemasAgreeAtRandom: no document that the reader takes is refused by its
// schema, so that an editor never marks what a node would run; and most of what the
// schema refuses is refused by form, in which the two agree.
func TestSchemasAgreeAtRandom(t *testing.T) {
	bases := map[string][]string{}
	for _, s := range append(grantSamples(), otherSamples()...) {
		if s.readerOK {
			bases[s.schema] = append(bases[s.schema], s.text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(bases)) {
		t.Run(name, func(t *testing.T) {
			a, schema, taken, refused, both := newAuthor(3), compiledSchema(t, name), 0, 0, 0
			for range 400 {
				var document any
				if err := yaml.Unmarshal([]byte(a.some(bases[name]...)), &document); err != nil {
					t.Fatal(err)
				}
				text, err := json.Marshal(a.changed(plain(document)))
				if err != nil {
					t.Fatal(err)
				}
				var value any
				if err := json.Unmarshal(text, &value); err != nil {
					t.Fatal(err)
				}
				bySchema, byReader := schema.Validate(value), byLoader(sample{schema: name, text: string(text)})
				if byReader == nil && bySchema != nil {
					// The last word is the compiler's, which takes longer.
					byReader = compiles(t, sample{schema: name, text: string(text)})
				}
				switch {
				case byReader == nil && bySchema != nil:
					t.Errorf("the reader of %s takes %s, and its schema does not: %v", name, text, bySchema)
				case byReader == nil:
					taken++
				case bySchema != nil:
					both++
				default:
					refused++
				}
			}
			t.Logf("%d taken, %d refused by both, %d by the reader alone", taken, both, refused)
			if taken < 15 || both < 150 {
				t.Errorf("%d documents were taken and %d refused by both, want at least 15 and 150: the test shows little", taken, both)
			}
		})
	}
}

// plain turns dates, which the library makes times of, back into text.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		object := map[string]any{}
		for key, value := range v {
			object[key] = plain(value)
		}
		return object
	case []any:
		list := make([]any, 0, len(v))
		for _, item := range v {
			list = append(list, plain(item))
		}
		return list
	case fmt.Stringer:
		return strings.TrimSuffix(v.String(), " 00:00:00 +0000 UTC")
	}
	return v
}
