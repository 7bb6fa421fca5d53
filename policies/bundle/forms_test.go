package bundle_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// words are texts at the edges of a form: what is on the inner side of each bound
// and what is just beyond it.
type words struct{ good, bad []string }

func forms() map[string]words {
	n := func(c string, n int) string { return strings.Repeat(c, n) }
	return map[string]words{
		"id":         {[]string{"a", "G-1", "9", "a.b_c-d", n("a", 63)}, []string{"", "-a", ".a", "_a", "a b", "a/b", "ä", "a\n", n("a", 64)}},
		"text":       {[]string{"a", " ", "Team: B", "日本", n("ä", 1000)}, []string{"", "a\x1b[8m", "a\u202eb", "a\u2028b", "a\nb", "a\u00adb", n("a", 1001)}},
		"account":    {[]string{"*", "a", "a.b-c", "0", n("a", 253)}, []string{"", "**", "a*", "A", "-a", "a-", "a.", "a/b", n("a", 254)}},
		"namespace":  {[]string{"a", "a-b", "0", n("a", 63)}, []string{"", "*", "a.b", "A", "-a", "a-", "a/b", "label:a", n("a", 64)}},
		"labelKey":   {[]string{"a", "A_b.c", "example.com/Team", n("a", 253) + "/" + n("b", 63)}, []string{"", "/a", "a/", "a//b", "-a", "a-", "EXAMPLE.com/a", "a=b", n("a", 64)}},
		"labelValue": {[]string{"a", "A_b.c", n("a", 63)}, []string{"", "-a", "a-", "a/b", "a=b", n("a", 64)}},
		"mode":       {[]string{"0400", "0440", "0444", "0404", "0044", "0004", "0040"}, []string{"", "0000", "0600", "0644", "0777", "0500", "4400", "400", "00400", "0o400", "0440 "}},
		"podName":    {[]string{"a", "api-*", "a.b-c", "0", n("a", 253), n("a", 252) + "*", n("a", 253) + "*"}, []string{"", "*", "a*b", "*a", "A", "-a", n("a", 254)}},
		"provider":   {[]string{"a", "A-b_9", n("a", 30)}, []string{"", "a.b", "a/b", "a:b", "a b", n("a", 31)}},
		"date":       {[]string{"2026-12-31", "2999-01-01"}, []string{"", "1999-12-31", "2026-1-1", "2026-12-31T00:00:00Z", "26-12-31", " 2026-12-31", "2026/12/31"}},
		"secret":     {[]string{"local://node/a", "l://b/", "unparsed:" + digest}, []string{"", "*", "local://", "local:///a", "local://node", "local://no de/a", "unparsed:", "unparsed:" + digest + "0", "unparsed:" + strings.ToUpper(digest)}},
		"rule":       {[]string{"PR-000", "PR-999"}, []string{"", "*", "PR-1", "PR-1000", "pr-100", "PR-100 ", "XPR-100"}},
		"monitored":  {[]string{"*", "PR-999"}, []string{"", "**", "PR-*", "PR-1"}},
		"check":      {[]string{"a", "_a", "A-b.c"}, []string{"", "-a", ".a", "a/b", "a b"}},
		"loss":       {[]string{"keep", "scrub"}, []string{"", "Keep", "keep ", "drop"}},
		"root":       {[]string{"portcullis"}, []string{"", "portcullis/x", "a"}},
		"contract":   {[]string{"portcullis/v1"}, []string{"", "portcullis/v10", "portcullis/v2"}},
		"revision":   {[]string{"a", "r 1", "~", n("a", 128)}, []string{"", " a", "a ", "ä", "a\tb", n("a", 129)}},
		"commit":     {[]string{"0a1b", "v1.2.3", "release/1", n("a", 128)}, []string{"", "-a", "a b", "ä", n("a", 129)}},
	}
}

// TestForms: each form takes what it should, and stops at its bounds. Patterns are
// anchored, also against a line end behind the text.
func TestForms(t *testing.T) {
	for name, w := range forms() {
		pattern, err := regexp.Compile(bundle.FormOf(name))
		if err != nil || bundle.FormOf(name) == "" {
			t.Fatalf("FormOf(%q) = %q, %v", name, bundle.FormOf(name), err)
		}
		for _, text := range w.good {
			if !pattern.MatchString(text) {
				t.Errorf("form %s refuses %.80q", name, text)
			}
			if strings.Trim(text, "*") != "" && name != "secret" && pattern.MatchString(text+"\n") {
				t.Errorf("form %s takes %.80q with a line end", name, text)
			}
		}
		for _, text := range w.bad {
			if pattern.MatchString(text) {
				t.Errorf("form %s takes %.80q", name, text)
			}
		}
	}
	for _, name := range []string{"", "uid", "one", "no such form"} {
		if bundle.FormOf(name) != "" {
			t.Errorf("FormOf(%q) = %q, want any text", name, bundle.FormOf(name))
		}
	}
}

// TestEveryFieldHasItsForm: each field of a grant and of a waiver takes the edges of
// its form and refuses what lies beyond them, at the place of the field.
func TestEveryFieldHasItsForm(t *testing.T) {
	tests := []struct{ field, form, old, place string }{
		{"id", "id", "id: G-1", "1:7"},
		{"owner", "text", "owner: team-payments", "2:10"},
		{"expiry", "date", "expiry: 2126-12-31", "3:11"},
		{"namespaces[0]", "namespace", "namespaces: [payments]", "4:16"},
		{"serviceAccounts[0]", "account", "serviceAccounts: [api]", "5:21"},
		{"audiences[0]", "text", "audiences: [vault]", "8:15"},
		{"maxFileMode", "mode", `maxFileMode: "0440"`, "9:16"},
		{"syncTargets[0]", "text", "syncTargets: [db]", "10:17"},
		{"imageSigners[0]", "text", "imageSigners: [key]", "11:18"},
		{"pods.namePatterns[0]", "podName", "namePatterns: [api]", "12:26"},
	}
	grant := strings.TrimPrefix(policiestest.Grants, "\n") +
		"  audiences: [vault]\n  maxFileMode: \"0440\"\n  syncTargets: [db]\n  imageSigners: [key]\n  pods: { namePatterns: [api] }\n"
	for _, tt := range tests {
		for _, text := range forms()[tt.form].bad {
			key, value, _ := strings.Cut(tt.old, ": ")
			changed := fmt.Sprintf("%q", text)
			if strings.HasPrefix(value, "[") {
				changed = "[" + changed + "]"
			}
			err := loadGrants(line(grant, tt.old, key+": "+changed))
			if err == nil || !strings.Contains(err.Error(), "portcullis/grants/a.yaml:") || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("LoadFS(%s: %.80s) = %v, want an error at %s", key, changed, err, tt.field)
				continue
			}
			if place := "a.yaml:" + tt.place + ": "; text != "" && !strings.Contains(err.Error(), place) {
				t.Errorf("LoadFS(%s: %.80s) = %v, want it at %s", key, changed, err, place)
			}
		}
		for _, text := range forms()[tt.form].good {
			if tt.form == "date" && text > "2200" {
				continue
			}
			key, value, _ := strings.Cut(tt.old, ": ")
			changed := fmt.Sprintf("%q", text)
			if strings.HasPrefix(value, "[") {
				changed = "[" + changed + "]"
			}
			if err := loadGrants(line(grant, tt.old, key+": "+changed)); err != nil {
				t.Errorf("LoadFS(%s: %.80s) = %v, want nil", key, changed, err)
			}
		}
	}
}

func loadGrants(text string) error {
	_, err := bundle.LoadFS(policiestest.Files("", policiestest.WithFile("portcullis/grants/a.yaml", text)))
	return err
}

// TestWaiverFields does the same for waivers.
func TestWaiverFields(t *testing.T) {
	const usual = "- id: W-1\n  finding: PR-200\n  namespace: a\n  serviceAccount: x\n  reason: r\n  ticket: T\n  approvedBy: p\n  expiry: 2026-03-01\n  secret: local://node/a\n"
	for old, form := range map[string]string{
		"id: W-1": "id", "finding: PR-200": "rule", "namespace: a": "namespace", "serviceAccount: x": "account", "reason: r": "text",
		"ticket: T": "text", "approvedBy: p": "text", "expiry: 2026-03-01": "date", "secret: local://node/a": "secret",
	} {
		key, _, _ := strings.Cut(old, ": ")
		for _, text := range forms()[form].bad {
			_, err := bundle.LoadFS(policiestest.Files("", policiestest.WithWaivers(line(usual, old, fmt.Sprintf("%s: %q", key, text)))))
			if err == nil || !strings.Contains(err.Error(), ": "+key+": ") {
				t.Errorf("LoadFS(%s: %.80q) = %v, want an error of it", key, text, err)
			}
		}
	}
	// What can be waived begins at PR-010 and goes on at PR-200.
	for rule, ok := range map[string]bool{"PR-001": false, "PR-009": false, "PR-010": true, "PR-011": false, "PR-120": false, "PR-199": false, "PR-200": true, "PR-999": true} {
		_, err := bundle.LoadFS(policiestest.Files("", policiestest.WithWaivers(line(usual, "PR-200", rule))))
		if (err == nil) != ok {
			t.Errorf("LoadFS(waiver of %s) = %v, want accepted: %v", rule, err, ok)
		}
	}
	// A pattern would waive nothing, and an id that is no id would hide it.
	for _, secret := range []string{"local://node/*", "local://node/a#*", "local://node/", "local://node/a/", "local://node/%7e", "local://node/../a"} {
		_, err := bundle.LoadFS(policiestest.Files("", policiestest.WithWaivers(line(usual, "local://node/a", secret))))
		if err == nil || !strings.Contains(err.Error(), "9:11: waiver W-1: secret: ") || !strings.Contains(err.Error(), "is not a secret id") {
			t.Errorf("LoadFS(waiver of %s) = %v, want a refusal of the secret at 9:11", secret, err)
		}
	}
}

// TestUserIDs: all but the one that chown takes for "leave it".
func TestUserIDs(t *testing.T) {
	for text, ok := range map[string]bool{"0": true, "1": true, "4294967294": true, "4294967295": false, "-1": false, "9223372036854775808": false, `"7"`: false, "7.0": false, "0x7": false, "07": false, "true": false} {
		if err := loadGrants(policiestest.Grants + "  ownerUID: " + text + "\n"); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "a.yaml:9:13: ") {
			t.Errorf("LoadFS(ownerUID: %s) = %v, want accepted: %v", text, err, ok)
		}
	}
}

// TestHintsNameTheKey: the nearest known key is offered where it is near, and the
// list of all where none is.
func TestHintsNameTheKey(t *testing.T) {
	for key, want := range map[string]string{
		"ownr": `did you mean "owner"?`, "OWNER": `did you mean "owner"?`, "expires": `did you mean "expiry"?`, "namespace": `did you mean "namespaces"?`,
		"secret": `did you mean "secrets"?`, "serviceAccount": `did you mean "serviceAccounts"?`, "ownerUid": `did you mean "ownerUID"?`,
		"colour": "known keys are audiences, expiry, id, ", "x": `did you mean "id"?`, "": `did you mean "id"?`, strings.Repeat("owner", 200): "known keys are",
	} {
		err := loadGrants(fmt.Sprintf("%s  %q: 1\n", policiestest.Grants, key))
		if err == nil || !strings.Contains(err.Error(), "unknown key") || !strings.Contains(err.Error(), want) || len(err.Error()) > 600 {
			t.Errorf("LoadFS(%.40q) = %.600v, want a hint with %q", key, err, want)
		}
	}
}

// TestMeaningOfGrants: what no form can say is refused with its place.
func TestMeaningOfGrants(t *testing.T) {
	tests := map[string]struct{ old, text, want string }{
		"no namespaces":       {"  namespaces: [payments]\n", "", "2:3: grant G-1: namespaces or namespaceSelector: exactly one of them is needed"},
		"both":                {"  namespaces: [payments]\n", "  namespaces: [payments]\n  namespaceSelector: {tier: a}\n", "2:3: grant G-1: namespaces or namespaceSelector"},
		"label nobody trusts": {"namespaces: [payments]", "namespaceSelector: {team: a}", `5:29: grant G-1: namespaceSelector.team: label "team" is not in namespace_label_keys`},
		"star beside names":   {"[api]", `[api, "*"]`, `6:26: grant G-1: serviceAccounts[1]: "*" stands beside names`},
		"other provider":      {"provider: local", "provider: vault", `8:13: grant G-1: secrets[0]: "local://node/payments/*" is not of provider "vault"`},
		"provider's prefix":   {"provider: local", "provider: loca", "is not of provider"},
		"prefix without star": {"payments/*", "payments/", "8:13: grant G-1: secrets[0]: "},
		"key without star":    {"payments/*", "payments#", "is not a secret id"},
		"star in the middle":  {"payments/*", "*/a", "is not a secret id"},
		"whole provider":      {"node/payments/*", "*", "is not a secret id"},
		"empty pods":          {"  provider", "  pods: {}\n  provider", "pods: is empty, so it narrows nothing"},
		"empty list of pods":  {"  provider", "  pods: {ownerNames: []}\n  provider", "pods.ownerNames: is empty"},
		"empty text in list":  {"[api]", `[""]`, "serviceAccounts[0]: is an empty text"},
		"day that is none":    {"2126-12-31", "2126-02-30", "4:11: grant G-1: expiry: "},
		"far day":             {"2126-12-31", "2201-01-01", "4:11: grant G-1: expiry: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := bundle.LoadFS(policiestest.Files("", policiestest.WithConfig("namespace_label_keys: [tier]"),
				policiestest.WithFile("portcullis/grants/a.yaml", line(policiestest.Grants, tt.old, tt.text))))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("LoadFS() = %v, want %q", err, tt.want)
			}
			for i, e := range places(t, err) {
				if !strings.HasPrefix(e, "portcullis/grants/a.yaml:") {
					t.Errorf("error %d has the place %q, want one in the file", i, e)
				}
			}
		})
	}
	if _, err := policies.EndOfDate("2200-12-31"); err != nil {
		t.Errorf("EndOfDate(the last day) = %v", err)
	}
}
