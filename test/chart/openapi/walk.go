package openapi

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// walk goes down an object and its schema together.
type walk struct {
	spec  *Spec
	found []string
}

func (w *walk) refuse(at, format string, args ...any) {
	if at == "" {
		at = "."
	}
	w.found = append(w.found, at+": "+fmt.Sprintf(format, args...))
}

// value checks one value. A null is refused: the API server drops it, so the
// field is not what the author thinks it is.
func (w *walk) value(at string, d *schema, v any) {
	for d.Ref != "" {
		d = w.spec.definitions[strings.TrimPrefix(d.Ref, prefix)]
	}
	if v == nil {
		w.refuse(at, "is null; leave it out")
		return
	}
	if len(d.Enum) > 0 && !slices.Contains(d.Enum, v) {
		w.refuse(at, "is %#v, want one of %v", v, d.Enum)
	}
	switch d.Type {
	case "object":
		w.object(at, d, v)
	case "array":
		w.array(at, d, v)
	case "string":
		w.text(at, d, v)
	case "integer", "number":
		w.number(at, d, v)
	case "boolean":
		if _, ok := v.(bool); !ok {
			w.refuse(at, "is %#v, want true or false", v)
		}
	}
}

func (w *walk) object(at string, d *schema, v any) {
	m, ok := v.(map[string]any)
	if !ok {
		w.refuse(at, "is %#v, want an object", v)
		return
	}
	for _, key := range d.Required {
		if _, ok := m[key]; !ok {
			w.refuse(at, "has no %s", key)
		}
	}
	free := len(d.Properties) == 0 && d.Additional == nil // RawExtension, FieldsV1
	for _, key := range slices.Sorted(maps.Keys(m)) {
		switch property := d.Properties[key]; {
		case property != nil:
			w.value(at+"."+key, property, m[key])
		case d.Additional != nil:
			w.value(at+"."+key, d.Additional, m[key])
		case !free:
			w.refuse(at, "has the unknown field %q", key)
		}
	}
}

func (w *walk) array(at string, d *schema, v any) {
	list, ok := v.([]any)
	if !ok {
		w.refuse(at, "is %#v, want a list", v)
		return
	}
	seen := map[string]bool{}
	for i, item := range list {
		w.value(fmt.Sprintf("%s[%d]", at, i), d.Items, item)
		key, ok := entryKey(d, item)
		if ok && seen[key] {
			w.refuse(at, "has the entry %s twice", key)
		}
		seen[key] = true
	}
}

// entryKey is what may be in a list once only.
func entryKey(d *schema, item any) (string, bool) {
	switch d.ListType {
	case "set":
		return fmt.Sprint(item), true
	case "map":
		m, ok := item.(map[string]any)
		var key []string
		for _, name := range d.ListKeys {
			value, there := m[name]
			if !there && name == "protocol" {
				value = "TCP" // the one key with a default that a manifest leaves out
			}
			key = append(key, fmt.Sprintf("%s=%v", name, value))
		}
		return strings.Join(key, ","), ok
	}
	return "", false
}

func (w *walk) text(at string, d *schema, v any) {
	_, isInt := v.(int)
	s, isString := v.(string)
	switch {
	case d.Format == "int-or-string" && (isInt || isString):
	case strings.HasSuffix(d.name, ".resource.Quantity"):
		// A bare number is taken as well, but only text says what is meant.
		if _, err := resource.ParseQuantity(s); !isString || err != nil {
			w.refuse(at, "is %#v, want a quantity such as \"128Mi\"", v)
		}
	case !isString:
		w.refuse(at, "is %#v, want text", v)
	case d.Format == "byte":
		if _, err := base64.StdEncoding.DecodeString(s); err != nil {
			w.refuse(at, "is not base64: %v", err)
		}
	case d.Format == "date-time":
		if _, err := time.Parse(time.RFC3339, s); err != nil {
			w.refuse(at, "is no time: %v", err)
		}
	}
}

func (w *walk) number(at string, d *schema, v any) {
	n, isInt := v.(int)
	if _, isFloat := v.(float64); isFloat && d.Type == "number" {
		return
	}
	if !isInt {
		w.refuse(at, "is %#v, want a number", v)
	} else if d.Format == "int32" && (n > math.MaxInt32 || n < math.MinInt32) {
		w.refuse(at, "is %d, which does not fit into 32 bits", n)
	}
}
