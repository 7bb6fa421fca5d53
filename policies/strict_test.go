package policies_test

import (
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
