package secretref_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	yamlv2 "go.yaml.in/yaml/v2"
	yamlv3 "go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// entry is what a provider declares to decode its objects into.
type entry struct {
	ObjectName     string `json:"objectName"     yaml:"objectName"`
	ObjectAlias    string `json:"objectAlias"    yaml:"objectAlias"`
	ObjectVersion  string `json:"objectVersion"  yaml:"objectVersion"`
	FilePermission string `json:"filePermission" yaml:"filePermission"`
}

// library is one way in which providers read their objects.
type library struct {
	name   string
	decode func(text string) ([]entry, error)
}

// libraries are those that providers use: typed and untyped, YAML 1.1 and 1.2.
// Where one refuses a text that we read, it delivers nothing: no harm.
func libraries() []library {
	typed := func(unmarshal func([]byte, any) error) func(string) ([]entry, error) {
		return func(text string) ([]entry, error) {
			var list []entry
			err := unmarshal([]byte(text), &list)
			return list, err
		}
	}
	untyped := func(unmarshal func([]byte, any) error) func(string) ([]entry, error) {
		return func(text string) ([]entry, error) {
			var list []map[string]any
			if err := unmarshal([]byte(text), &list); err != nil {
				return nil, err
			}
			return fromMaps(list), nil
		}
	}
	return []library{
		{"yaml v2", typed(yamlv2.Unmarshal)},
		{"yaml v2, untyped", untyped(yamlv2.Unmarshal)},
		{"yaml v3", typed(yamlv3.Unmarshal)},
		{"yaml v3, untyped", untyped(yamlv3.Unmarshal)},
		{"sigs.k8s.io/yaml", typed(func(b []byte, v any) error { return sigsyaml.Unmarshal(b, v) })},
		{"sigs.k8s.io/yaml, untyped", untyped(func(b []byte, v any) error { return sigsyaml.Unmarshal(b, v) })},
		{"JSON", typed(json.Unmarshal)},
	}
}

// fromMaps formats whatever was found, as code does that does not look at types.
func fromMaps(list []map[string]any) []entry {
	text := func(m map[string]any, key string) string {
		if m[key] == nil {
			return ""
		}
		return fmt.Sprint(m[key])
	}
	entries := make([]entry, len(list))
	for i, m := range list {
		entries[i] = entry{text(m, "objectName"), text(m, "objectAlias"), text(m, "objectVersion"), text(m, "filePermission")}
	}
	return entries
}

// disagreement says which library reads a text as other secrets or files than
// we do, if we read it at all.
func disagreement(text string) string {
	requests := read("acme", text).Requests
	if requests[0].ParseError != "" {
		return ""
	}
	for _, l := range libraries() {
		entries, err := l.decode(text)
		if err != nil {
			continue
		}
		if got := asked(entries); !slices.EqualFunc(requests, got, same) {
			return fmt.Sprintf("%s reads %+v, we read %+v", l.name, got, requests)
		}
	}
	return ""
}

func asked(entries []entry) []policies.Request {
	requests := make([]policies.Request, len(entries))
	for i, e := range entries {
		file := e.ObjectAlias
		if file == "" {
			file = e.ObjectName
		}
		id := secretref.ID{Provider: "acme", Backend: "default", Path: e.ObjectName, Version: e.ObjectVersion}
		requests[i] = policies.Request{Secret: id.String(), File: file}
		if e.FilePermission != "" {
			var m uint32
			if _, err := fmt.Sscanf(e.FilePermission, "%o", &m); err != nil {
				m = 1 << 31 // no mode that we read
			}
			requests[i].Mode = &m
		}
	}
	return requests
}

func same(a, b policies.Request) bool {
	sameMode := a.Mode == nil && b.Mode == nil || a.Mode != nil && b.Mode != nil && *a.Mode == *b.Mode
	return a.Secret == b.Secret && a.File == b.File && sameMode
}

// scalars are texts on which YAML versions, libraries or people disagree.
func scalars() []string {
	return []string{
		"a", "a b", "a  b", "yes", "No", "y", "on", "true", "TRUE", "null", "~", "Null", "nUll", "tRue", "yEs",
		"0", "00", "0440", "440", "0o440", "0x1f", "0b101", "1_000", "1e3", "1E3", "1.", ".1", "+1", "-1", "+.inf", ".NAN",
		"1:30", "190:20:30", "190:20:30.15", "2001-01-01", "2001-1-1", "2001-12-15T02:59:43.1Z", "2001-12-14 21:59:43.10 -5",
		"=", "<<", "<", "!a", "!!str a", "&a b", "*a", "@a", "`a", "%a", "?a", "? a", "-a", "- a", "-", "--", "---", "...", "..a", ".a",
		"a#b", "a #b", "#a", "a:b", "a: b", "a:", ":a", ":", "::", "a,b", "[a", "a]", "{a", "a}", "a{b}", "|", ">", "|-", "'", "\"",
		"'a'", "'a''b'", "\"a\"", "\"a\\\"b\"", "\"\\x41\"", "\"\\u0041\"", "\"\\/\"", "\"\\e\"", "\"\\_\"", "\"\\N\"", "'a' # b", "\"a\" b",
		"0xG", "0o8", "08", "09", "0b2", "1__0", "_1", "1_", "0x", "0o", "e1", "1e", "1e+", "infinity", ".inf1", "nan", "NaN", "Inf",
		"12345678901234567890", "0.0", "1.2.3", "1-2", "1+2", "1 2", "0 1", "é", "ａ", "yes ", " yes",
	}
}

func TestEveryLibraryAgrees(t *testing.T) {
	read := 0
	for _, s := range scalars() {
		for _, format := range []string{
			"- objectName: %s\n",
			"- objectName: a\n  objectAlias: %s\n",
			"- objectName: a\n  objectVersion: %s\n",
			"- objectName: a\n  filePermission: %s\n",
			"- {objectName: %s}\n",
			"[{objectName: a, objectAlias: %s}]\n",
			"- %s: a\n",
			"- objectName: a\n  %s: b\n",
			"%s\n- objectName: a\n",
			"- objectName: a\n%s\n",
			"- objectName: a\n  objectAlias: b\n  %s\n",
			"- objectName: a\n    %s\n",
		} {
			text := fmt.Sprintf(format, s)
			if diff := disagreement(text); diff != "" {
				t.Errorf("Read(%q): %s", text, diff)
			}
			if requestsOf(text)[0].ParseError == "" {
				read++
			}
		}
	}
	// Refusing everything would agree with everybody.
	if read < 200 {
		t.Errorf("%d texts were read, want at least 200", read)
	}
}

func requestsOf(text string) []policies.Request { return read("acme", text).Requests }

// The control: without the rules for scalars, libraries do disagree.
func TestLibrariesDisagree(t *testing.T) {
	for _, scalar := range []string{"0440", "yes", "0o440", "1_000", "2001-01-01", "190:20:30"} {
		found := map[string]bool{}
		for _, l := range libraries() {
			entries, err := l.decode("- objectName: " + scalar)
			found[fmt.Sprint(entries, err != nil)] = true
		}
		if len(found) < 2 {
			t.Errorf("libraries all read %q as %v: it need not be refused", scalar, found)
		}
	}
}

func FuzzEveryLibraryAgrees(f *testing.F) {
	for _, s := range scalars() {
		f.Add("- objectName: " + s)
	}
	f.Add("- objectName: a\n  objectAlias: b\n  objectVersion: \"1\"\n  filePermission: \"0440\"\n- {objectName: 'c', objectAlias: \"d\"}\n")
	f.Add("- \"objectName\": a\n  'objectAlias': b # c\n\n-   objectName:   c\n")
	f.Add("- objectName: a\n   b\n   c\n")
	f.Add("-\n objectName:\n  a\n")
	for _, u := range unreadable() {
		if len(u.objects) < 1000 {
			f.Add(u.objects)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "ownerUID") {
			return // ours alone: no library of a provider declares it
		}
		if diff := disagreement(text); diff != "" {
			t.Errorf("Read(%q): %s", text, diff)
		}
	})
}
