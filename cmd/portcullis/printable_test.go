package main_test

import (
	"encoding/json"
	"testing"

	portcullis "github.com/portcullis-csi/portcullis/cmd/portcullis"
)

// TestEventsAreShownSafely: what a terminal could obey or hide is written as an
// escape, and the JSON says what it said.
func TestEventsAreShownSafely(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"plain", `{"a":"é 日"}`, "{\n  \"a\": \"é 日\"\n}"},
		{"C1 control", "{\"a\":\"\u009b2J\"}", "{\n  \"a\": \"\\u009b2J\"\n}"},
		{"delete", "{\"a\":\"\u007f\"}", "{\n  \"a\": \"\\u007f\"\n}"},
		{"written backwards", "{\"a\":\"\u202ex\"}", "{\n  \"a\": \"\\u202ex\"\n}"},
		{"a tag", "{\"a\":\"\U000e0041\"}", "{\n  \"a\": \"\\udb40\\udc41\"\n}"},
		{"no JSON", "\x1b[2J", `"\x1b[2J"`},
	} {
		got := portcullis.Printable([]byte(tt.text))
		if got != tt.want {
			t.Errorf("printable(%s) = %q, want %q", tt.name, got, tt.want)
		}
		var before, after map[string]string
		if json.Unmarshal([]byte(tt.text), &before) == nil {
			if err := json.Unmarshal([]byte(got), &after); err != nil || after["a"] != before["a"] {
				t.Errorf("printable(%s) = %q, which says something else: %v", tt.name, got, err)
			}
		}
	}
}
