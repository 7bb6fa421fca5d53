package bundle_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/fstest"

	"go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// hidden is a grant that nobody was meant to see.
const hidden = `- {id: G-evil, owner: o, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: local, secrets: ["local://node/*"]}`

// invisible are ways to hide something from whoever reviews a file.
func invisible() map[string]string {
	return map[string]string{
		"next line":              "# rotated by the platform team\u0085" + hidden + "\n",
		"line separator":         "# rotated by the platform team\u2028" + hidden + "\n",
		"paragraph separator":    "# rotated by the platform team\u2029" + hidden + "\n",
		"carriage return":        "# rotated by the platform team\r" + hidden + "\n",
		"vertical tab":           "# \v\n" + hidden + "\n",
		"form feed":              "# \f\n" + hidden + "\n",
		"escape sequence":        "# \x1b[8m\n" + hidden + "\n",
		"backspaces":             "# x\b\b\n" + hidden + "\n",
		"NUL":                    "# \x00\n" + hidden + "\n",
		"byte order mark":        "\ufeff" + hidden + "\n",
		"byte order mark inside": "# \ufeff\n" + hidden + "\n",
		"right to left":          "# \u202e\n" + hidden + "\n",
		"isolate":                "# \u2066 \u2069\n" + hidden + "\n",
		"right-to-left mark":     "# \u200f\n" + hidden + "\n",
		"zero width":             strings.Replace(hidden, "payments", "pay\u200bments", 1) + "\n",
		"joiner":                 strings.Replace(hidden, "team", "te\u200dam", 1) + "# \u200d\n",
		"soft hyphen":            "# \u00ad\n" + hidden + "\n",
		"tag characters":         "# \U000e0041\n" + hidden + "\n",
		"not UTF-8":              "# \xff\n" + hidden + "\n",
		"overlong":               "# \xc0\x8a\n" + hidden + "\n",
		"half a surrogate":       "# \xed\xa0\x80\n" + hidden + "\n",
		"UTF-16":                 "\xff\xfe-\x00 \x00",
	}
}

// TestInvisibleTextIsRefused in every file of a bundle, comments included.
func TestInvisibleTextIsRefused(t *testing.T) {
	for name, text := range invisible() {
		comment := "# " + strings.ReplaceAll(strings.TrimPrefix(text, "# "), hidden, "x")
		for file, whole := range map[string]string{
			"portcullis/grants/a.yaml":         text,
			"portcullis/waivers/a.yaml":        comment + "\n[]\n",
			"portcullis/config/data.yaml":      comment + "\n{}\n",
			"portcullis/config/data.json":      `{"checks": {"a": "` + comment + `"}}`,
			"portcullis/checks/odd/odd.rego":   check + comment + "\n",
			".manifest":                        `{"revision": "` + strings.ReplaceAll(comment, "\n", "") + `"}`,
			"portcullis/checks/odd/odd_2.yaml": "",
		} {
			t.Run(name+" in "+file, func(t *testing.T) {
				_, err := bundle.LoadFS(policiestest.Files(policiestest.Grants, policiestest.WithFile(file, whole)))
				if err == nil || !strings.Contains(err.Error(), file) {
					t.Errorf("LoadFS(%q) = %v, want an error that names the file", whole, err)
				}
				if file != "portcullis/checks/odd/odd_2.yaml" && !strings.Contains(err.Error(), "cannot be seen") && !strings.Contains(err.Error(), "not UTF-8") {
					t.Errorf("LoadFS(%q) = %v, want it to say that a character cannot be seen", whole, err)
				}
				if strings.ContainsAny(err.Error(), "\x1b\x00\u202e\u0085\u2028") {
					t.Errorf("LoadFS(%q) = %q: the error repeats the character", whole, err)
				}
			})
		}
	}
}

// TestControlCommentsHideGrants: the library that reads the YAML does end a
// comment where no editor does, so that the check above is what stops it.
func TestControlCommentsHideGrants(t *testing.T) {
	for _, name := range []string{"next line", "line separator", "paragraph separator", "carriage return"} {
		var grants []map[string]any
		if err := yaml.Unmarshal([]byte(invisible()[name]), &grants); err != nil || len(grants) != 1 || grants[0]["id"] != "G-evil" {
			t.Errorf("%s: yaml reads %v, %v, want the hidden grant: the test proves nothing", name, grants, err)
		}
	}
}

// TestVisibleTextIsRead: letters of every language, tabs, and the line ends of
// Windows are no tricks.
func TestVisibleTextIsRead(t *testing.T) {
	for _, text := range []string{
		strings.ReplaceAll(policiestest.Grants, "\n", "\r\n"),
		"# Zahlungsverkehr: Schlüssel, 支払い, оплата, 🔑\n" + policiestest.Grants,
		"# \tindented\n" + policiestest.Grants,
	} {
		if grants, err := bundle.ParseGrants([]byte(text)); err != nil || len(grants) != 1 {
			t.Errorf("ParseGrants(%q) = %v, %v, want one grant", text, grants, err)
		}
	}
	if _, err := bundle.ParseGrants([]byte(strings.Replace(hidden, "owner: o", `owner: "a\u202eb"`, 1))); err != nil {
		t.Errorf("ParseGrants(escape in quotes) = %v, want nil: everybody sees it", err)
	}
}

// yamlTricks change one line of a grant into something that readers of YAML
// could understand differently, or that is made to exhaust one.
func yamlTricks() map[string]string {
	const grant = policiestest.Grants
	line := func(from, to string) string {
		if !strings.Contains(grant, from) {
			return "no such line: " + from
		}
		return strings.Replace(grant, from, to, 1)
	}
	bomb := "- &a [x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("- &%c [%s]\n", 'b'+i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", 'a'+i), 9), ", "))
	}
	return map[string]string{
		"anchor":                  line("- id: G-1", "- &x\n  id: G-1"),
		"alias":                   line("serviceAccounts: [api]", "serviceAccounts: &x [api]") + "  syncTargets: *x\n",
		"aliased key":             line("owner: team-payments", "&x owner: team-payments"),
		"merge key":               line("owner: team-payments", "<<: {owner: team-payments}"),
		"merge of an alias":       "- &x {id: G-1, owner: o}\n- <<: *x\n  expiry: 2126-12-31\n",
		"key twice":               line("owner: team-payments", "owner: a\n  owner: b"),
		"key twice by an escape":  line("owner: team-payments", "owner: a\n  \"o\\u0077ner\": b"),
		"key in another case":     line("owner: team-payments", "owner: a\n  Owner: b"),
		"complex key":             line("owner: team-payments", "? owner\n  : a\n  ? [a]\n  : b"),
		"null key":                line("owner: team-payments", "owner: a\n  ~: b"),
		"boolean key":             line("owner: team-payments", "owner: a\n  true: b"),
		"yes for a name":          line("serviceAccounts: [api]", "serviceAccounts: [yes, ~]"),
		"boolean for a name":      line("serviceAccounts: [api]", "serviceAccounts: [true]"),
		"on for an owner":         line("owner: team-payments", "owner: true"),
		"octal mode":              grant + "  maxFileMode: 0440\n",
		"octal mode of YAML 1.2":  grant + "  maxFileMode: 0o440\n",
		"mode of all bits":        grant + "  maxFileMode: \"0777\"\n",
		"octal owner":             grant + "  ownerUID: 01750\n",
		"hexadecimal owner":       grant + "  ownerUID: 0x3e8\n",
		"binary owner":            grant + "  ownerUID: 0b11\n",
		"owner with underscores":  grant + "  ownerUID: 1_000\n",
		"sexagesimal owner":       grant + "  ownerUID: 16:40\n",
		"owner as a float":        grant + "  ownerUID: 1000.0\n",
		"owner beyond 64 bits":    grant + "  ownerUID: 18446744073709551616\n",
		"infinity":                grant + "  ownerUID: .inf\n",
		"tag":                     line("owner: team-payments", "owner: !!str team-payments"),
		"binary":                  line("owner: team-payments", "owner: !!binary dGVhbQ=="),
		"own tag":                 line("- id: G-1", "- !grant\n  id: G-1"),
		"set":                     line("namespaces: [payments]", "namespaces: !!set {payments}"),
		"two documents":           grant + "---\n[]\n",
		"two documents by an end": grant + "...\n[]\n",
		"directive":               "%TAG ! tag:example.com,2000:\n---\n" + line("owner: team", "owner: !x team"),
		"tab for indentation":     line("  owner: team-payments", "\towner: team-payments"),
		"list in place of a map":  "- [id, G-1]\n",
		"map in place of a list":  strings.ReplaceAll(strings.Replace(grant, "- id", "  id", 1), "\n  ", "\n"),
		"text in place of a list": line("secrets: [\"local://node/payments/*\"]", "secrets: \"local://node/payments/*\""),
		"deep flow":               strings.Repeat("[", 100_000),
		"deep maps":               strings.Repeat("{a: ", 50_000),
		"deep blocks":             strings.Repeat("- ", 50_000) + "a\n",
		"deep and closed":         strings.Repeat("[", 20) + strings.Repeat("]", 20) + "\n",
		"aliases that multiply":   bomb,
		"100 000 keys":            "- {" + strings.Repeat("id: G-1, ", 100_000) + "}\n",
		"wildcard for all":        line("local://node/payments/*", "*"),
		"wildcard inside":         line("local://node/payments/*", "local://node/*/password"),
		"wildcard for a backend":  line("local://node/payments/*", "local://*"),
		"dots":                    line("local://node/payments/*", "local://node/payments/../*"),
		"escaped dots":            line("local://node/payments/*", "local://node/payments/%2e%2e/*"),
		"another provider's":      line("local://node/payments/*", "vault://node/payments/*"),
	}
}

// TestYAMLTricksInGrants: a bundle with any of them is not loaded at all.
func TestYAMLTricksInGrants(t *testing.T) {
	for name, text := range yamlTricks() {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(text, "no such line") {
				t.Fatal(text)
			}
			b, err := bundle.LoadFS(policiestest.Files("", policiestest.WithFile("portcullis/grants/a.yaml", text)))
			if err == nil {
				t.Fatalf("LoadFS(%.200q) = %v, want an error", text, b.Data)
			}
			if !strings.Contains(err.Error(), "portcullis/grants/a.yaml") && !strings.Contains(err.Error(), "grant 1") || len(err.Error()) > 1000 {
				t.Errorf("LoadFS(%.200q) = %.1200s, want an error that names the place in a few words", text, err)
			}
		})
	}
	if _, err := bundle.LoadFS(policiestest.Files(policiestest.Grants)); err != nil {
		t.Errorf("LoadFS(the grant as it was) = %v, want nil: the tricks prove nothing", err)
	}
}

// TestYAMLTricksInConfiguration: what YAML 1.1 takes for true is not, and no
// key is read twice.
func TestYAMLTricksInConfiguration(t *testing.T) {
	for name, text := range map[string]string{
		"yes":                 "mass_revoke: yes\n",
		"on":                  "mass_revoke: on\n",
		"y":                   "mass_revoke: y\n",
		"True":                "mass_revoke: True\n",
		"1":                   "mass_revoke: 1\n",
		"quoted true":         "mass_revoke: \"true\"\n",
		"key twice":           "mass_revoke: false\nmass_revoke: true\n",
		"merge":               "<<: {mass_revoke: true}\n",
		"key in another case": "Mass_Revoke: true\n",
		"octal mode":          "obligations: {max_file_mode: 0440}\n",
		"sexagesimal time":    "obligations: {ttl_seconds: 1:00:00}\n",
		"time as a float":     "obligations: {ttl_seconds: 3600.5}\n",
		"time as an exponent": "obligations: {ttl_seconds: 1e3}\n",
		"monitor without end": "monitor: {rules: [\"*\"]}\n",
		"monitor for ever":    "monitor: {until: 9999-12-31, rules: [\"*\"]}\n",
		"monitor end as time": "monitor: {until: 2026-01-20T00:00:00Z, rules: [\"*\"]}\n",
		"monitor of no rule":  "monitor: {until: 2026-01-20, rules: []}\n",
		"end set by itself":   "monitor: {until_ns: 4102444800000000000, rules: [\"*\"]}\n",
		"null":                "mass_revoke: ~\nmonitor: ~\nobligations: {on_revoke: ~}\n",
	} {
		t.Run(name, func(t *testing.T) {
			b, err := bundle.LoadFS(policiestest.Files("", policiestest.WithConfig(text)))
			if err == nil {
				_, err = policies.Compile(t.Context(), b, policies.Options{Clock: now})
			}
			if name == "null" {
				return // whether it is refused or means nothing, it must not mean true
			}
			if err == nil {
				t.Errorf("LoadFS and Compile(%q) = nil, want an error", text)
			}
		})
	}
}

// TestManifestKeysAreUnique: the serial is what a rollback is told by.
func TestManifestKeysAreUnique(t *testing.T) {
	for _, text := range []string{
		`{"metadata":{"contract":"portcullis/v1","serial":1,"serial":99}}`,
		`{"metadata":{"contract":"portcullis/v1","serial":1},"metadata":{"contract":"portcullis/v1","serial":99}}`,
		`{"metadata":{"contract":"portcullis/v1","serial":1,"s\u0065rial":99}}`,
		`{"roots":["portcullis"],"roots":[""]}`,
	} {
		if _, err := bundle.LoadFS(policiestest.Files("", policiestest.WithFile(".manifest", text))); err == nil || !strings.Contains(err.Error(), "written twice") {
			t.Errorf("LoadFS(manifest %s) = %v, want an error about a key that is written twice", text, err)
		}
	}
	for _, text := range []string{"", "{", `{"metadata":`, `{"metadata":{}} {}`, "[]", "null", `{"metadata": null, "revision": 1}`} {
		_, err := bundle.LoadFS(policiestest.Files("", policiestest.WithFile(".manifest", text)))
		if text != "null" && (err == nil || errors.Is(err, io.EOF)) {
			t.Errorf("LoadFS(manifest %q) = %v, want an error of our own", text, err)
		}
	}
}

// FuzzWaivers: whatever the YAML, an index waives rules of subjects for whole
// secrets, and nothing without an end.
func FuzzWaivers(f *testing.F) {
	f.Add([]byte("- {id: W-1, finding: PR-200, namespace: payments, serviceAccount: api, reason: r, ticket: T, approvedBy: a, expiry: 2026-03-01}\n"))
	f.Add([]byte("- {id: W-1, finding: PR-200, namespace: a, serviceAccount: \"*\", secret: \"local://node/a\", reason: r, ticket: T, approvedBy: a, expiry: 2026-03-01}\n"))
	f.Add([]byte("- {id: W-1, secret: \"\"}\n- {id: W-1, secret: \"unparsed:*\"}\n"))
	for _, text := range yamlTricks() {
		if len(text) < 1000 {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		waivers, err := bundle.ParseWaivers(text)
		if err != nil {
			return
		}
		got, err := bundle.IndexWaivers(waivers)
		if err != nil {
			return
		}
		count := 0
		for finding, bySubject := range got {
			for subject, records := range bySubject {
				if finding == "" || strings.Count(subject, "/") != 1 {
					t.Errorf("IndexWaivers(%q) has %q for %q", text, finding, subject)
				}
				for _, w := range records {
					count++
					if w.NotAfterNS <= 0 || w.ID == "" || w.Reason == "" || w.Ticket == "" || w.ApprovedBy == "" || w.Secret != nil && !policies.ValidSecret(*w.Secret) {
						t.Errorf("IndexWaivers(%q) has record %+v", text, w)
					}
				}
			}
		}
		if count != len(waivers) {
			t.Errorf("IndexWaivers(%q) has %d records of %d waivers", text, count, len(waivers))
		}
	})
}

// FuzzBundleText: a text that is read holds nothing that cannot be seen.
func FuzzBundleText(f *testing.F) {
	for _, text := range invisible() {
		f.Add([]byte(text))
	}
	f.Add([]byte(policiestest.Grants))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, err := bundle.LoadFS(fstest.MapFS{
			".manifest":                      {Data: []byte(policiestest.Manifest)},
			"portcullis/checks/odd/odd.rego": {Data: text},
		})
		if err != nil {
			return
		}
		for _, line := range strings.SplitAfter(string(text), "\n") {
			line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
			if quoted := fmt.Sprintf("%q", line); strings.ContainsAny(quoted, "\ufeff") || strings.ContainsAny(line, "\r\x00\x1b\u0085\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\u200e\u200f") {
				t.Errorf("LoadFS reads %q", text)
			}
		}
	})
}
