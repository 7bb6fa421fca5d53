package bundle_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const wrongGrants = `# A comment, so that lines count.
- id: G-1
  owner: team-payments
  expiry: 2026-02-30
  namespaces: [payments, "pay ments"]
  serviceAccounts: [api]
  provider: local
  secrets:
    - local://node/payments/*
    - local://node/../*
  maxFileMode: "0640"
- id: G-1
  ownr: team-payments
  expiry: 2026-12-31
  namespaceSelector: {tier: prod}
  serviceAccounts: [api]
  provider: local
  secrets: ["local://node/a"]
`

const wrongWaivers = `- id: W-1
  finding: PR-001
  namespace: payments
  serviceAccount: api
  reason: r
  ticket: T
  approvedBy: a
  expiry: 2026-03-01
- {id: W-2, finding: PR-200}
`

// places returns the lines of an error as "place: path".
func places(t *testing.T, err error) []string {
	t.Helper()
	list, ok := errors.AsType[policies.FileErrors](err)
	if !ok {
		t.Fatalf("LoadFS() = %v, want a FileErrors", err)
	}
	var found []string
	for _, e := range list {
		found = append(found, e.Place.String()+" "+e.Path)
		if e.Problem == "" || e.Hint == "" && !strings.HasPrefix(e.Problem, "has to be") {
			t.Errorf("%v has no problem or no hint", e)
		}
	}
	return found
}

// TestEveryMistakeHasItsPlace: all of them are reported at once, each with file,
// line, column and field.
func TestEveryMistakeHasItsPlace(t *testing.T) {
	_, err := bundle.LoadFS(policiestest.Files("",
		policiestest.WithFile("portcullis/grants/payments.yaml", strings.Replace(wrongGrants, "ownr", "owner", 1)),
		policiestest.WithWaivers(wrongWaivers),
		policiestest.WithConfig("obligations:\n  max_file_mod: 288\nmass_revoke: maybe\n"),
		policiestest.WithFile(".manifest", "{\n  \"revision\": 7,\n  \"metadata\": {\"contract\": \"portcullis/v2\", \"serail\": 1}\n}")))
	want := []string{
		".manifest:2:15 revision",
		`.manifest:3:45 metadata`,
		"portcullis/config/data.yaml:2:3 obligations",
		"portcullis/config/data.yaml:3:14 mass_revoke",
		"portcullis/grants/payments.yaml:4:11 grant G-1: expiry",
		"portcullis/grants/payments.yaml:5:26 grant G-1: namespaces[1]",
		"portcullis/grants/payments.yaml:10:7 grant G-1: secrets[1]",
		"portcullis/grants/payments.yaml:11:16 grant G-1: maxFileMode",
		"portcullis/grants/payments.yaml:12:7 grant G-1: id",
		"portcullis/waivers/test.yaml:2:12 waiver W-1: finding",
		"portcullis/waivers/test.yaml:9:3 waiver W-2: namespace",
		"portcullis/waivers/test.yaml:9:3 waiver W-2: serviceAccount",
		"portcullis/waivers/test.yaml:9:3 waiver W-2: reason",
		"portcullis/waivers/test.yaml:9:3 waiver W-2: ticket",
		"portcullis/waivers/test.yaml:9:3 waiver W-2: approvedBy",
		"portcullis/waivers/test.yaml:9:3 waiver W-2: expiry",
	}
	if diff := cmp.Diff(want, places(t, err)); diff != "" {
		t.Errorf("LoadFS() reports other places (-want +got):\n%s\n%v", diff, err)
	}
	for _, text := range []string{
		`did you mean "serial"?`, `did you mean "max_file_mode"?`,
		"the other one is at portcullis/grants/payments.yaml:2:7", "PR-001 cannot be waived",
		`portcullis/grants/payments.yaml:11:16: grant G-1: maxFileMode: "0640" is not an octal mode of read bits; hint: use read bits only`,
	} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("LoadFS() = %v, want it to say %q", err, text)
		}
	}
}

// TestMistakesOfForm stop the checks of what a file means: it cannot be told.
func TestMistakesOfForm(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"unknown key":  {wrongGrants, `a.yaml:13:3: [1]: unknown key "ownr"; hint: did you mean "owner"?`},
		"far from any": {"- {id: G, colour: red}", `a.yaml:1:11: [0]: unknown key "colour"; hint: known keys are audiences, expiry, id,`},
		"key twice":    {"- id: G\n  owner: a\n  owner: b\n", `a.yaml:3:3: [0]: key "owner" is written twice`},
		"anchor":       {"- id: G\n  owner: &x a\n", "a.yaml:2:10: [0].owner: anchors and aliases"},
		"tag":          {"- id: !!str G\n", "a.yaml:1:7: [0].id: tags"},
		"octal":        {"- id: G\n  maxFileMode: 0440\n", `a.yaml:2:16: [0].maxFileMode: "0440" is not a decimal number; hint: put a mode in quotes`},
		"list":         {"- id: G\n  secrets: a\n", "a.yaml:2:12: [0].secrets: has to be a list"},
		"object":       {"- [a]\n", "a.yaml:1:3: [0]: has to be an object"},
		"syntax":       {"- id: G\n  owner: \"a\n", "a.yaml:2: parse YAML:"},
		"tab":          {"- id: G\n\towner: a\n", "a.yaml:2: parse YAML:"},
		"documents":    {"[]\n---\n[]\n", "a.yaml:2:1: file holds more than one document"},
		"hidden":       {"- id: G\n  # a\u202eb\n", "a.yaml:2:6: character U+202E cannot be seen"},
		"empty":        {"", "a.yaml: file is empty"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := bundle.LoadFS(policiestest.Files("", policiestest.WithFile("portcullis/grants/a.yaml", tt.text)))
			if err == nil || !strings.HasPrefix(err.Error(), "portcullis/grants/"+tt.want) && !strings.Contains(err.Error(), "\nportcullis/grants/"+tt.want) {
				t.Errorf("LoadFS(%q) = %v, want an error that begins with %q", tt.text, err, "portcullis/grants/"+tt.want)
			}
		})
	}
}

// TestMistakesInJSON have places as those in YAML have.
func TestMistakesInJSON(t *testing.T) {
	for text, want := range map[string]string{
		"{\n \"mass_revoke\": 1\n}":                           `data.json:2:17: mass_revoke: has to be true or false`,
		"{\n \"mass_revoke\": true,\n \"mass_revoke\": true}": `data.json:3:2: key "mass_revoke" is written twice`,
		"{\"checks\": {\"a\": 1.5}}":                          `data.json:1:18: checks.a: "1.5" is not text, a whole number`,
		"{\"checks\": {\"a\": null}}":                         `data.json:1:18: checks.a: "null" is not text`,
		"{\"checks\": {\"a\": 1e3}}":                          `data.json:1:18: checks.a: "1e3" is not text`,
		"{\n\"mass_revoke\": true\n":                          "data.json:3:1: parse JSON: text ends too early",
		"{\n\"mass_revoke\": tru}":                            "data.json:2:15: parse JSON: invalid character '}'",
		"{} {}":                                               "data.json:1:5: parse JSON: more than one value",
		"mass_revoke: true":                                   "data.json:1:1: parse JSON: invalid character 'm'",
		",":                                                   "data.json:1:1: parse JSON: invalid character ','",
		"":                                                    "data.json:1:1: parse JSON: text ends too early",
		strings.Repeat("[", 100):                              "data.json:1:18: parse JSON: nested deeper than 16 levels",
	} {
		_, err := bundle.LoadFS(policiestest.Files("", policiestest.WithFile("portcullis/config/data.json", text)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("LoadFS(%q) = %v, want %q", text, err, want)
		}
	}
}

// TestMistakesOfTimeHavePlaces: what only the compiler knows is told with the
// line that it stands in.
func TestMistakesOfTimeHavePlaces(t *testing.T) {
	b, err := bundle.LoadFS(policiestest.Files("",
		policiestest.WithWaivers(waiver),
		policiestest.WithConfig("monitor:\n  until: 2027-01-01\n  rules: [PR-001, \"*\"]\nobligations: {audit_level: 7}\nrequired_checks:\n- lost\n"),
	))
	if err != nil {
		t.Fatal(err)
	}
	_, err = policies.Compile(t.Context(), b, policies.Options{Clock: now})
	want := []string{
		"portcullis/config/data.yaml:2:10 config monitor.until",
		"portcullis/config/data.yaml:3:19 config monitor.rules[1]",
		"portcullis/config/data.yaml:4:14 config obligations",
		"portcullis/waivers/test.yaml:10:11 waiver W-1: expiry",
	}
	if diff := cmp.Diff(want, places(t, err)); diff != "" {
		t.Errorf("Compile() reports other places (-want +got):\n%s", diff)
	}
	if _, ok := errors.AsType[*policies.BundleError](err); !ok {
		t.Errorf("Compile() = %v, want a *BundleError in it", err)
	}
	b, err = bundle.LoadFS(policiestest.Files("", policiestest.WithConfig("required_checks:\n- lost\n- gone\n"),
		policiestest.WithFile(".manifest", "{\"metadata\":\n{\"contract\":\"portcullis/v1\",\n\"not_after\":\"2027-01-01T00:00:00Z\"}}")))
	if err != nil {
		t.Fatal(err)
	}
	_, err = policies.Compile(t.Context(), b, policies.Options{Clock: now})
	if diff := cmp.Diff([]string{".manifest:3:13 manifest metadata.not_after"}, places(t, err)); diff != "" {
		t.Errorf("Compile() reports other places (-want +got):\n%s", diff)
	}
	b.Manifest.NotAfter = now()
	_, err = policies.Compile(t.Context(), b, policies.Options{Clock: now})
	if diff := cmp.Diff([]string{"portcullis/config/data.yaml:2:3 config required_checks[0]", "portcullis/config/data.yaml:3:3 config required_checks[1]"}, places(t, err)); diff != "" {
		t.Errorf("Compile() reports other places (-want +got):\n%s", diff)
	}
}

// TestErrorsAreBounded: twenty are listed, the others counted.
func TestErrorsAreBounded(t *testing.T) {
	var text strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&text, "- {id: G-%d, colour: red}\n", i)
	}
	_, err := bundle.LoadFS(policiestest.Files("", policiestest.WithFile("portcullis/grants/a.yaml", text.String())))
	if lines := strings.Count(err.Error(), "\n") + 1; lines != 21 || !strings.HasSuffix(err.Error(), "more errors are not listed; hint: correct those above first") {
		t.Errorf("LoadFS(2000 mistakes) has %d lines, want 20 and one that counts the others:\n%v", lines, err)
	}
}

// TestErrorsShowNothingHidden: what a file holds is quoted in errors.
func TestErrorsShowNothingHidden(t *testing.T) {
	for _, text := range []string{
		`- {id: "a\e[8mb"}`, `- {"a\e[8mb": 1}`, `- {id: G, owner: "\e]0;x\a"}`, `- {id: G, scoping: {"\e[8m": "\e[8m", a: 1}}`,
		`- {id: G, namespaceSelector: {"\e[8m": "\e[8m"}}`, `- {id: G, secrets: ["\e[8m"]}`, `- {id: G, provider: "\e[8m", secrets: ["local://a/b"]}`,
	} {
		_, err := bundle.LoadFS(policiestest.Files("", policiestest.WithFile("portcullis/grants/a.yaml", text)))
		if err == nil || strings.ContainsAny(err.Error(), "\x1b\a") {
			t.Errorf("LoadFS(%s) = %q, want an error without escape sequences", text, err)
		}
	}
}

// TestTestsDirectoryIsNoPartOfABundle: fixtures lie beside a policy.
func TestTestsDirectoryIsNoPartOfABundle(t *testing.T) {
	want := digestOf(t)
	if got := digestOf(t, policiestest.WithFile("tests/a.yaml", "anything: [")); got != want {
		t.Errorf("LoadFS(with tests/) = digest %q, want %q", got, want)
	}
	for _, name := range []string{"tests", "portcullis/tests/a.yaml", "test/a.yaml"} {
		if _, err := bundle.LoadFS(policiestest.Files("", policiestest.WithFile(name, ""))); err == nil || !strings.Contains(err.Error(), "no place") {
			t.Errorf("LoadFS(with %s) = %v, want a refusal", name, err)
		}
	}
}
