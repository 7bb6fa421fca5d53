package secretref_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// vaultParameters are those of a class with one role and these objects.
func vaultParameters(objects string, others ...string) map[string]string {
	parameters := map[string]string{"roleName": "r", "objects": objects}
	for i := 0; i+1 < len(others); i += 2 {
		parameters[others[i]] = others[i+1]
	}
	return parameters
}

const vaultObject = "- objectName: f\n  secretPath: secret/data/db\n  secretKey: k\n"

// vaultEntry is an object that becomes the file f.
func vaultEntry(lines ...string) string { return "- objectName: f\n  " + strings.Join(lines, "\n  ") }

func TestVaultRequests(t *testing.T) {
	for _, test := range []struct {
		name, objects string
		want          policies.Request
	}{
		{"whole response", vaultEntry("secretPath: secret/data/db"), ask("vault://default/secret/data/db", "f")},
		{"key", vaultEntry("secretPath: secret/data/db", "secretKey: password"), ask("vault://default/secret/data/db#password", "f")},
		{"odd key", vaultEntry("secretPath: a", "secretKey: 'tls.crt/#@ *'"), ask("vault://default/a#tls.crt%2F%23%40%20%2A", "f")},
		{"leading slash", vaultEntry("secretPath: /secret/db"), ask("vault://default/secret/db", "f")},
		{"API prefix", vaultEntry("secretPath: v1/secret/db"), ask("vault://default/secret/db", "f")},
		{"absolute API prefix", vaultEntry("secretPath: /v1/secret/db"), ask("vault://default/secret/db", "f")},
		{"mount called v1", vaultEntry("secretPath: v1/v1/db"), ask("vault://default/v1/db", "f")},
		{"version", vaultEntry("secretPath: secret/data/db?version=3", "secretKey: k"), ask("vault://default/secret/data/db#k@3", "f")},
		{"version with more", vaultEntry("secretPath: a?version=3&x=1"), ask("vault://default/a%3F/version=3%26x=1", "f")},
		{"version for another method", vaultEntry("secretPath: a?version=3", "method: PUT"), ask("vault://default,method=PUT/a%3F/version=3", "f")},
		{"version with a body", vaultEntry("secretPath: a?version=3", "secretArgs: {b: 1}"), ask("vault://default/a%3F/version=3%7B%22b%22:1%7D", "f")},
		{"two versions", vaultEntry("secretPath: a?version=2&version=1"), ask("vault://default/a%3F/version=2%26version=1", "f")},
		{"query", vaultEntry("secretPath: a?z=1&b=2&z=0"), ask("vault://default/a%3F/b=2%26z=1%26z=0", "f")},
		{"GET", vaultEntry("secretPath: a", "method: GET"), ask("vault://default/a", "f")},
		{"PUT", vaultEntry("secretPath: a", "method: PUT"), ask("vault://default,method=PUT/a", "f")},
		{"POST", vaultEntry("secretPath: a", "method: \"POST\""), ask("vault://default,method=POST/a", "f")},
		{"LIST", vaultEntry("secretPath: a", "method: LIST"), ask("vault://default,method=LIST/a", "f")},
		{"arguments", vaultEntry("secretPath: a", "method: PUT", "secretArgs: {ttl: 24h, common_name: x.example, count: 5, flag: true}"),
			ask("vault://default,method=PUT/a%3F/%7B%22common_name%22:%22x.example%22,%22count%22:5,%22flag%22:true,%22ttl%22:%2224h%22%7D", "f")},
		{"nested arguments", vaultEntry("secretPath: a", "secretArgs:", "  list:", "  - x/y", "  - {b: \"1\"}"),
			ask("vault://default/a%3F/%7B%22list%22:%5B%22x%5Cu002fy%22,%7B%22b%22:%221%22%7D%5D%7D", "f")},
		{"octal mode", vaultEntry("secretPath: a", "filePermission: 0440"), ask("vault://default/a", "f", mode(0o440))},
		{"decimal mode", vaultEntry("secretPath: a", "filePermission: 288"), ask("vault://default/a", "f", mode(0o440))},
		{"decimal that was meant octal", vaultEntry("secretPath: a", "filePermission: 644"), ask("vault://default/a", "f", mode(0o1204))},
		{"encoding", vaultEntry("secretPath: a", "encoding: Base64"), ask("vault://default/a", "f")},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := readAll("vault", vaultParameters(test.objects))
			if diff := cmp.Diff([]policies.Request{test.want}, got.Requests); diff != "" {
				t.Errorf("Read(%q) differs (-want +got):\n%s", test.objects, diff)
			}
			checkVault(t, "vault", vaultParameters(test.objects))
			checkVault(t, "openbao", vaultParameters(test.objects))
		})
	}
}

func TestVaultBackends(t *testing.T) {
	for _, test := range []struct{ address, namespace, want string }{
		{"", "", "default"},
		{"", "team-a/sub", "default,namespace=team-a%2Fsub"},
		{"https://vault.example:8200", "", "vault.example:8200"},
		{"HTTPS://Vault.Example:8200/", "", "vault.example:8200"},
		{"https://vault.example", "", "vault.example"},
		{"https://vault.example:443", "", "vault.example"},
		{"https://vault.example:80", "", "vault.example:80"},
		{"http://vault.example:8200", "", "vault.example:8200,scheme=http"},
		{"http://vault.example:80", "", "vault.example,scheme=http"},
		{"http://vault.example:443", "", "vault.example:443,scheme=http"},
		{"https://gw.example/vault/", "", "gw.example%2Fvault"},
		{"https://gw.example/Vault", "ns", "gw.example%2FVault,namespace=ns"},
		{"https://[2001:DB8::1]:8200", "", "%5B2001:db8::1%5D:8200"},
		{"https://vault.example:8200", "team-a/", "vault.example:8200,namespace=team-a"},

		{"vault.example:8200", "", ""}, {"//vault.example", "", ""}, {"unix:///run/agent.sock", "", ""}, {"ftp://vault.example", "", ""},
		{"https://", "", ""}, {"https://:8200", "", ""}, {"https://vault.example:", "", ""}, {"https://vault.example:08200", "", ""},
		{"https://user@vault.example", "", ""}, {"https://vault.example?x=1", "", ""}, {"https://vault.example#x", "", ""},
		{"https://gw.example/a/../b", "", ""}, {"https://gw.example/a//b", "", ""}, {"https://gw.example/%2e%2e", "", ""},
		{"https://vault.example//", "", ""}, {" https://vault.example", "", ""}, {"https://vault.example\n", "", ""},
		{"https://vault,scheme=http", "", ""}, {"https://väult.example", "", ""}, {"https://vault.example\\@evil.example", "", ""},
		// Else it would be the id of the provider's own setting.
		{"https://default", "", ""}, {"https://default:443", "", ""}, {"https://DEFAULT:8200", "", ""},
		{"", "/team-a", ""}, {"", "a//b", ""}, {"", "a/../b", ""}, {"", ".", ""}, {"", "a,method=PUT", ""}, {"", "a b", ""}, {"", "/", ""},
		{"", "a=b", ""}, {"", strings.Repeat("a", 257), ""}, {"https://" + strings.Repeat("a", 257), "", ""},
	} {
		for _, provider := range []string{"vault", "openbao"} {
			parameters := vaultParameters("- objectName: f\n  secretPath: a\n", "vaultAddress", test.address, "vaultNamespace", test.namespace)
			got := readAll(provider, parameters).Requests
			if test.want == "" {
				checkUnparsed(t, got, "")
				continue
			}
			if want := provider + "://" + test.want + "/a"; got[0].Secret != want {
				t.Errorf("Read(%q, %q) = %q, want %q", test.address, test.namespace, got[0].Secret, want)
			}
			checkVault(t, provider, parameters)
		}
	}
}

func TestVaultUnparsed(t *testing.T) {
	const object = "- objectName: f\n  secretPath: a\n"
	long := strings.Repeat("a", 500)
	for _, test := range []struct{ objects, problem string }{
		{"- objectName: f\n", "secretPath"}, {"- secretPath: a\n", "objectName"}, {"- objectName: ''\n  secretPath: a\n", "objectName"},
		{"- objectName: ../f\n  secretPath: a\n", "objectName"}, {"- objectName: /f\n  secretPath: a\n", "objectName"},
		{object + object, "same file"}, {object + "- objectName: f/g\n  secretPath: a\n", "directory"},
		{object + "  objectVersion: '1'\n", "not known"}, {object + "  objectname: g\n", "not known"}, {object + "  secretKey: k\n  secretKey: l\n", "twice"},
		{object + "  filePermission: \"0440\"\n", "quotes"}, {object + "  filePermission: 0o440\n", "quotes"}, {object + "  filePermission: 00\n", "quotes"},
		{object + "  filePermission: 0000\n", "zero"}, {object + "  filePermission: 0x120\n", "quotes"}, {object + "  filePermission: 4_40\n", "quotes"},
		{object + "  filePermission: 0888\n", "quotes"}, {object + "  filePermission: !!int 0440\n", "tag"},
		{object + "  method: get\n", "method"}, {object + "  method: DELETE\n", "method"}, {object + "  encoding: rot13\n", "encoding"},
		{object + "  secretArgs: {}\n", "empty"}, {object + "  secretArgs: []\n", "map"}, {object + "  secretArgs: x\n", "map"}, {object + "  secretArgs:\n", "map"},
		{object + "  secretArgs: {a: {b: {c: {d: {e: 1}}}}}\n", "deep"}, {object + "  secretArgs:\n   a:\n    b:\n     c:\n      d:\n       e: 1\n", "deep"},
		{object + "  secretArgs: {a: 1, a: 2}\n", "twice"}, {object + "  secretArgs: {a: 1.5}\n", "string"}, {object + "  secretArgs: {a: ~}\n", "string"},
		{object + "- objectName: g\n  secretPath: a\n  secretArgs: {b: 1}\n", "only the first"},
		{"- objectName: f\n  secretPath: a\n  secretArgs: {b: 1}\n- objectName: g\n  secretPath: a\n  secretArgs: {b: '1'}\n", "only the first"},
		{"- objectName: f\n  secretPath: " + long + "/" + long + "\n", "too long"},
		{"- objectName: f\n  secretPath: '" + strings.Repeat("ü", 250) + "'\n", "too long"},
		{"- objectName: f\n  secretPath: a?list=true\n", "LIST"}, {"- objectName: f\n  secretPath: a?x=1&Scan=1\n", "LIST"},
		{"- objectName: f\n  secretPath: a?version=0\n", "version"}, {"- objectName: f\n  secretPath: a?version=03\n", "version"},
		{"- objectName: f\n  secretPath: a?\n", "query"}, {"- objectName: f\n  secretPath: a?x=%0a\n", "printed"},
		{"- objectName: f\n  secretPath: a?%0a=x\n", "printed"}, {object + "  secretArgs: {\"a\\u202eb\": 1}\n", "printed"},
		{"- objectName: f\n  secretPath: //a\n", "secretPath"}, {"- objectName: f\n  secretPath: /v1//a\n", "secretPath"},
		{"- objectName: f\n  secretPath: a/\n", "secretPath"}, {"- objectName: f\n  secretPath: a%2e\n", "secretPath"},
		{"", "missing"}, {"[]", "empty"}, {"array:\n- |\n  objectName: f\n", "list"},
	} {
		for _, provider := range []string{"vault", "openbao"} {
			checkUnparsed(t, readAll(provider, vaultParameters(test.objects)).Requests, test.problem)
		}
	}
	var many strings.Builder
	for i := range secretref.MaxObjects + 1 {
		fmt.Fprintf(&many, "- objectName: f%d\n  secretPath: a\n", i)
	}
	if got := readAll("vault", vaultParameters(many.String())); !got.TooMany {
		t.Errorf("Read(%d objects) = %+v, want too many", secretref.MaxObjects+1, got)
	}
}

// The same request from equal spellings of a path is one secret in two files.
func TestVaultRequestsMayRepeat(t *testing.T) {
	objects := "- objectName: f\n  secretPath: a\n  secretArgs: {b: 1, c: 2}\n- objectName: g\n  secretPath: a\n  secretArgs: {c: 2, b: 1}\n- objectName: h\n  secretPath: /v1/a\n  secretArgs: {b: 1, c: 2}\n"
	got := readAll("vault", vaultParameters(objects)).Requests
	if len(got) != 3 || got[0].Secret != got[1].Secret || got[0].Secret != got[2].Secret || got[0].ParseError != "" {
		t.Errorf("Read(%q) = %+v, want one secret in three files", objects, got)
	}
}

// Both gates come to the same problem, whichever of several they could name.
func TestVaultProblemsAreDeterministic(t *testing.T) {
	parameters := vaultParameters(vaultObject + "  secretArgs: {a: 1.5, b: [], c: {}, \"d\\u202e\": 1, e: ~, token: x}\n")
	want := readAll("vault", parameters)
	for range 50 {
		if diff := cmp.Diff(want, readAll("vault", parameters)); diff != "" {
			t.Fatalf("Read(%q) again differs (-want +got):\n%s", parameters, diff)
		}
	}
}

// vaultScopes are the scoping parameters of each provider.
func vaultScopes(t *testing.T, provider string) []string {
	t.Helper()
	for _, s := range secretref.Syntaxes() {
		if s.Provider == provider {
			return s.Scoping
		}
	}
	t.Fatalf("Syntaxes() has no %q", provider)
	return nil
}

func TestVaultScoping(t *testing.T) {
	values := func(name string) (string, string) {
		switch {
		case strings.HasSuffix(name, "SkipTLSVerify"):
			return "false", "true"
		case strings.HasSuffix(name, "Address"):
			return "https://a.example", "https://b.example"
		default:
			return "one", "two"
		}
	}
	for provider, count := range map[string]int{"vault": 12, "openbao": 34} {
		scopes := vaultScopes(t, provider)
		if len(scopes) != count {
			t.Errorf("%s has %d scoping parameters, want %d: %q", provider, len(scopes), count, scopes)
		}
		for _, name := range scopes {
			one, two := values(name)
			with := func(value string) secretref.Reading {
				parameters := vaultParameters(vaultObject, name, value)
				if strings.HasSuffix(name, "RoleName") {
					delete(parameters, "roleName")
				}
				return readAll(provider, parameters)
			}
			a, b := with(one), with(two)
			if a.Requests[0].ParseError != "" || b.Requests[0].ParseError != "" {
				t.Errorf("Read(%s=%q) = %+v, %+v, want both read", name, one, a.Requests, b.Requests)
			}
			if a.Scoping[name] != one || b.Scoping[name] != two || !slices.Contains(a.Safe, name) {
				t.Errorf("Read(%s) = scoping %q, then %q, safe %q, want the values %q and %q", name, a.Scoping, b.Scoping, a.Safe, one, two)
			}
			if len(a.LiteralCredentials) != 0 {
				t.Errorf("Read(%s) has literal credentials %q, want none", name, a.LiteralCredentials)
			}
			empty := with("")
			if _, ok := empty.Scoping[name]; ok {
				t.Errorf("Read(%s empty) = scoping %q, want it absent as it is to the provider", name, empty.Scoping)
			}
		}
	}
}

// A rule about TLS sees one spelling, whatever the provider would take.
func TestVaultSkipVerifyHasOneSpelling(t *testing.T) {
	for _, name := range []string{"vaultSkipTLSVerify", "baoSkipTLSVerify", "openbaoSkipTLSVerify"} {
		for text, want := range map[string]string{"true": "true", "T": "true", "1": "true", "TRUE": "true", "0": "false", "F": "false"} {
			got := readAll("openbao", vaultParameters(vaultObject, name, text))
			if got.Scoping[name] != want || got.Requests[0].ParseError != "" {
				t.Errorf("Read(%s=%s) = %+v, want scoping %s", name, text, got, want)
			}
		}
		for _, text := range []string{"", "yes", "on", "tRUE", " true", "2"} {
			checkUnparsed(t, readAll("openbao", vaultParameters(vaultObject, name, text)).Requests, "switch")
		}
	}
}

func TestVaultParameters(t *testing.T) {
	for _, test := range []struct {
		provider, problem string
		others            []string
	}{
		{"vault", "known", []string{"auth", "type: jwt"}}, {"vault", "known", []string{"VaultAddress", "https://a.example"}},
		{"vault", "known", []string{"baoAddress", "https://a.example"}}, {"vault", "known", []string{"openbaoAddress", "https://a.example"}},
		{"vault", "known", []string{"vaultRoleName", "r"}}, {"vault", "known", []string{"Csi.storage.k8s.io/pod.name", "p"}},
		{"openbao", "known", []string{"baoRoleName", "r"}}, {"openbao", "known", []string{"vaultCAPem", "x"}},
		{"vault", "roleName", []string{"roleName", ""}}, {"openbao", "same setting", []string{"vaultRoleName", "other"}},
		{"vault", "same setting", []string{"vaultAuthMountPath", "a", "vaultKubernetesMountPath", "a"}},
		{"vault", "same setting", []string{"vaultAuthMountPath", "", "vaultKubernetesMountPath", "a"}},
		{"openbao", "same setting", []string{"baoAuthMountPath", "a", "vaultKubernetesMountPath", "b"}},
		{"openbao", "same setting", []string{"baoAddress", "https://a.example", "openbaoAddress", "https://b.example"}},
		{"openbao", "same setting", []string{"baoAddress", "", "vaultAddress", "https://b.example"}},
		{"openbao", "same setting", []string{"baoSkipTLSVerify", "false", "vaultSkipTLSVerify", "true"}},
		{"vault", "printed", []string{"vaultAuthMountPath", "a\u202eb"}},
	} {
		got := readAll(test.provider, vaultParameters(vaultObject, test.others...))
		checkUnparsed(t, got.Requests, test.problem)
		for name, value := range got.Scoping {
			if strings.ContainsRune(value, '\u202e') {
				t.Errorf("Read(%q) = scoping %s=%q, want no hidden characters", test.others, name, value)
			}
		}
	}
	want := readAll("vault", vaultParameters(vaultObject))
	got := readAll("vault", vaultParameters(vaultObject, "csi.storage.k8s.io/pod.name", "p", "secretProviderClass", "c",
		"vaultCAPem", "-----BEGIN CERTIFICATE-----\n", "kubernetesServiceAccountPath", "/x"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read(with what the driver adds and the provider ignores) differs (-want +got):\n%s", diff)
	}
}

// No literal credential leaves, wherever it stands, and no id is made of it.
func TestVaultLiteralCredentials(t *testing.T) {
	const canary = "Xcanary7"
	const object = "- objectName: f\n  secretPath: a\n"
	for name, objects := range map[string]string{
		"argument":                object + "  secretArgs: {password: %s}\n",
		"argument called as ours": object + "  secretKey: k\n  secretArgs: {secretKey: %s}\n",
		"nested argument":         object + "  secretArgs:\n    a:\n    - {secret_id: %s}\n",
		"list of credentials":     object + "  secretArgs: {tokens: [x], token: [%s]}\n",
		"behind another problem":  object + "  secretArgs: {a: 1.5, b: {token: %s}}\n",
		"ours, no text":           object + "  foo: bar\n  secretArgs:\n    secretKey: %s\n",
		"not YAML":                object + "\tx\n  secretArgs:\n    secretKey: %s\n",
		"password in a URL":       object + "  secretArgs: {a: \"x:\\x2f/u:%s@h\"}\n",
		"password in a key":       object + "  secretKey: \"x:\\x2f/u:%s@h\"\n",
		"private key":             object + "  secretArgs: {a: \"PRIVATE\\x20KEY-----%s\"}\n",
		"query":                   "- objectName: f\n  secretPath: a?db_password=%s\n",
		"escaped query":           "- objectName: f\n  secretPath: a?x=1&passw%%6Frd=%s\n",
		"query behind a problem":  object + "  foo: bar\n- objectName: g\n  secretPath: a?token=%s\n",
		"escaped, and behind one": object + "  foo: bar\n- objectName: g\n  secretPath: a?passw%%6Frd=%s\n",
		"query with a URL":        "- objectName: f\n  secretPath: a?x=y%%3A//u:%s@h\n",
		"key of a map":            object + "  secretKey: {a: b, apiKey: %s}\n",
		"map called as ours":      object + "  secretKey: {secretKey: %s}\n",
		"comment":                 object + "  # https://u:%s@h\n",
		"unknown field":           object + "  password: %s\n",
	} {
		for _, provider := range []string{"vault", "openbao"} {
			got := readAll(provider, vaultParameters(fmt.Sprintf(objects, canary)))
			if !slices.Equal(got.LiteralCredentials, []string{"objects"}) {
				t.Errorf("%s: Read(%q) credentials = %q, want objects", name, objects, got.LiteralCredentials)
			}
			checkUnparsed(t, got.Requests, "")
			if text := fmt.Sprintf("%+v", got); strings.Contains(text, canary) {
				t.Errorf("%s: Read = %s, want no %s", name, text, canary)
			}
		}
	}
	got := readAll("vault", vaultParameters(vaultObject, "vaultAddress", "https://u:"+canary+"@vault.example", "vaultToken", canary))
	if !slices.Equal(got.LiteralCredentials, []string{"vaultAddress", "vaultToken"}) || strings.Contains(fmt.Sprintf("%+v", got), canary) || slices.Contains(got.Safe, "vaultAddress") {
		t.Errorf("Read(credentials in parameters) = %+v, want both named, not shown, and no %s", got, canary)
	}
}

// What has no credential is not denied as if it had one, read or not.
func TestVaultNoLiteralCredentials(t *testing.T) {
	for _, objects := range []string{
		vaultObject, vaultObject + "  foo: bar\n", "- objectName: f\n  secretPath: [\n  secretKey: password\n", "- secretKey: password\n\tx\n",
		vaultObject + "  method: PUT\n  secretArgs: {common_name: a, private_key_format: pkcs8}\n  foo: bar\n",
		vaultObject + "  method: PUT\n  secretArgs: {generate_password: true}\n", "- objectName: f\n  secretPath: secret/data/token?version=x\n",
	} {
		if got := readAll("vault", vaultParameters(objects)).LiteralCredentials; len(got) != 0 {
			t.Errorf("Read(%q) credentials = %q, want none", objects, got)
		}
	}
}

// A grant for everything below a path is for reading there at that server, with
// TLS, in that namespace: not for writing.
func TestVaultGrantedDirectoryHolds(t *testing.T) {
	engine := policiestest.Engine(t, `
- id: G-1
  owner: team-a
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: vault
  secrets: ["vault://vault.example:8200/secret/data/team-a/*"]
  scoping: {roleName: r}
`)
	const address = "https://vault.example:8200"
	for _, test := range []struct {
		name, object, address, namespace string
		want                             bool
	}{
		{"below", "secretPath: secret/data/team-a/x", address, "", true},
		{"below, with the API's prefix", "secretPath: /v1/secret/data/team-a/x/y", address, "", true},
		{"version", "secretPath: secret/data/team-a/x?version=2", address, "", true},
		{"key", "secretPath: secret/data/team-a/x\n  secretKey: k", address, "", true},
		{"query", "secretPath: secret/data/team-a/x?y=1", address, "", true},
		{"directory", "secretPath: secret/data/team-a", address, "", false},
		{"beside", "secretPath: secret/data/team-b/x", address, "", false},
		{"out of it", "secretPath: secret/data/team-a/../team-b", address, "", false},
		{"write", "secretPath: secret/data/team-a/x\n  method: PUT", address, "", false},
		{"list", "secretPath: secret/data/team-a/x\n  method: LIST", address, "", false},
		{"list by query", "secretPath: secret/data/team-a/x?list=1", address, "", false},
		{"no TLS", "secretPath: secret/data/team-a/x", "http://vault.example:8200", "", false},
		{"other server", "secretPath: secret/data/team-a/x", "https://evil.example", "", false},
		{"own setting", "secretPath: secret/data/team-a/x", "", "", false},
		{"namespace", "secretPath: secret/data/team-a/x", address, "ns", false},
	} {
		reading := readAll("vault", vaultParameters("- objectName: f\n  "+test.object+"\n", "vaultAddress", test.address, "vaultNamespace", test.namespace))
		for i := range reading.Requests {
			reading.Requests[i].Secret = strings.Replace(reading.Requests[i].Secret, digest, policiestest.Digest, 1)
		}
		d := engine.Decide(t.Context(), policiestest.Input(func(in *policies.Input) {
			in.SPC.Provider, in.Requests = "vault", reading.Requests
			in.SPC.Scoping = map[string]string{"roleName": "r"} // the id alone must do
		}))
		if got := d.Verdict(); (got == policies.VerdictAllow) != test.want || got == policies.VerdictError {
			t.Errorf("%s: Decide(%q) = %s, want allowed %t", test.name, reading.Requests[0].Secret, got, test.want)
		}
	}
}
