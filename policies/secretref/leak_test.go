package secretref_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// A literal credential is found where a provider's syntax hides it, and nothing
// of the reading holds it, nor a digest of it in an id.
func TestHiddenCredentials(t *testing.T) {
	const canary = "Xcanary7"
	const azureClass, akeylessObject = "array:\n- %q\n", "- secretPath: /a\n  fileName: b\n  secretArgs: {x: %s}\n"
	for _, test := range []struct {
		name, provider string
		changed, value string // parameter
	}{
		{"JSON in an argument", "vault", "objects", vaultEntry("secretPath: a", `secretArgs: {x: '{"password":"`+canary+`"}'}`)},
		{"a form in an argument", "vault", "objects", vaultEntry("secretPath: a", "secretArgs: {x: 'user=a&password="+canary+"'}")},
		{"a connection string in an argument", "vault", "objects", vaultEntry("secretPath: a", "secretArgs: {x: [{y: 'host=a; Password="+canary+"'}]}")},
		{"a header in an argument", "vault", "objects", vaultEntry("secretPath: a", "secretArgs: {x: 'Authorization: Bearer "+canary+"'}")},
		{"JSON in a query", "openbao", "objects", vaultEntry(`secretPath: 'a?x={"password":"` + canary + `"}'`)},
		{"a form in a query", "openbao", "objects", vaultEntry("secretPath: a?x=password%3D" + canary)},
		{"JSON in an argument", "akeyless", "objects", fmt.Sprintf(akeylessObject, `'{"password":"`+canary+`"}'`)},
		{"a form in an argument", "akeyless", "objects", fmt.Sprintf(akeylessObject, "password="+canary)},
		{"user of an address", "vault", "vaultAddress", "https://" + canary + "@vault.example"},
		{"password with a slash", "vault", "vaultAddress", "https://u:x/" + canary + "@vault.example"},
		{"address without a scheme", "openbao", "openbaoAddress", "u:" + canary + "@vault.example"},
		{"user of an address", "akeyless", "akeylessGatewayURL", "https://" + canary + "@gw.example"},
		{"user of an address", "conjur", "applianceUrl", "https://" + canary + "@conjur.example"},
		{"entry of one line", "azure", "objects", fmt.Sprintf(azureClass, "{objectName: a, objectType: secret, clientSecret: "+canary+"}")},
		{"version", "local", "objects", "- objectName: a\n  objectVersion: https://u:" + canary + "@h\n"},
		{"version", "acme", "objects", "- objectName: a\n  objectVersion: '-----BEGIN PRIVATE KEY-----" + canary + "'\n"},
	} {
		t.Run(test.provider+" "+test.name, func(t *testing.T) {
			p := map[string]secretref.Params{
				"vault": paramsOf("vault", vaultParameters(vaultObject)), "openbao": paramsOf("openbao", vaultParameters(vaultObject)),
				"akeyless": akeyless("- secretPath: /a\n  fileName: b"), "conjur": conjur("- a: x"), "azure": paramsOf("azure", azureCloud().with()),
				"local": paramsOf("local", map[string]string{"objects": ""}), "acme": paramsOf("acme", map[string]string{"objects": ""}),
			}[test.provider]
			got := secretref.For(test.provider).Read(with(p, test.changed, test.value))
			if !slices.Equal(got.LiteralCredentials, []string{test.changed}) || slices.Contains(got.Safe, test.changed) {
				t.Errorf("Read(%q) = credentials %q, safe %q, want %s as a credential only", test.value, got.LiteralCredentials, got.Safe, test.changed)
			}
			checkUnparsed(t, got.Requests, "")
			if text := fmt.Sprintf("%+v", got); strings.Contains(text, canary) {
				t.Errorf("Read(%q) = %s, want no %s", test.value, text, canary)
			}
		})
	}
}

// What only looks like a credential is not denied as one.
func TestNoHiddenCredentials(t *testing.T) {
	for _, p := range []secretref.Params{
		paramsOf("acme", map[string]string{"objects": "- objectName: a\n", "config": `{"url":"https://a.example:8200","mail":"x@y"}`}),
		paramsOf("vault", vaultParameters(vaultEntry("secretPath: pki/issue/web", "method: PUT", "secretArgs: {common_name: token.example, alt_names: 'a.example,b.example', uri_sans: 'spiffe://a/b', ttl: 24h}"))),
		paramsOf("vault", vaultParameters(vaultEntry("secretPath: db/creds/a?x=token&y=https://a:8200/b"))),
		akeyless("- secretPath: /a\n  fileName: b\n  secretArgs: {x: 'user: a', z: 'a=b'}\n"),
		paramsOf("azure", azureCloud().with("objects", azureEntry("objectName: password", "objectType: secret", "objectAlias: token"))),
	} {
		if got := secretref.For(p.Provider).Read(p); len(got.LiteralCredentials) > 0 || got.Requests[0].ParseError != "" {
			t.Errorf("Read(%q) = %+v, want it read and without credentials", p.Parameters, got)
		}
	}
}

// A value that would be shown cannot be displayed as another one: its class is
// not read.
func TestHiddenCharactersAreNotShown(t *testing.T) {
	classes := vocabularies()
	classes["vault"] = paramsOf("vault", vaultParameters(vaultObject))
	classes["aws"] = paramsOf("aws", awsCloud().with("region", "us-east-1", "preferredAddressType", "ipv4"))
	classes["azure"] = paramsOf("azure", azureCloud().with("clientID", "c"))
	classes["gcp"] = paramsOf("gcp", gcpCloud().with("auth", "pod-adc"))
	for provider, p := range classes {
		whole := secretref.For(provider).Read(p)
		if whole.Requests[0].ParseError != "" || len(whole.Safe) == 0 {
			t.Errorf("Read(%s) = %+v, want it read and something shown", provider, whole)
		}
		for _, name := range whole.Safe {
			got := secretref.For(provider).Read(with(p, name, "a\u202eb"))
			checkUnparsed(t, got.Requests, "")
			if _, scoped := got.Scoping[name]; scoped || slices.Contains(got.Safe, name) {
				t.Errorf("Read(%s, %s) = scoping %q, safe %q, want it in neither", provider, name, got.Scoping, got.Safe)
			}
		}
	}
}

// Both gates come to the same problem, whichever of several they could name.
func TestAkeylessProblemsAreDeterministic(t *testing.T) {
	p := akeyless("- secretPath: /a\n  fileName: b\n  secretArgs: {a: 1.5, b: \"x\\u202e\", c: [], d: \"w\\u202e\"}\n")
	want := readAkeyless(p)
	for range 50 {
		if diff := cmp.Diff(want, readAkeyless(p)); diff != "" {
			t.Fatalf("Read(%q) again differs (-want +got):\n%s", p.Parameters, diff)
		}
	}
}
