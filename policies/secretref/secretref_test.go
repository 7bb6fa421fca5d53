package secretref_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

func readAll(provider string, parameters map[string]string) secretref.Reading {
	return secretref.For(provider).Read(secretref.Params{Provider: provider, Parameters: parameters, Digest: digest})
}

func TestLocalKnowsObjectsOnly(t *testing.T) {
	for _, name := range []string{"backend", "Objects", "root", "objects2"} {
		got := readAll("local", map[string]string{"objects": "- objectName: a", name: "x"})
		checkUnparsed(t, got.Requests, "no parameter but objects")
	}
	checkUnparsed(t, readAll("local", nil).Requests, "missing or empty")
}

// The local reader's secrets are files of every node: whatever another provider
// calls itself, it must not be able to name them.
func TestOnlyLocalIsLocal(t *testing.T) {
	for _, provider := range []string{"Local", "LOCAL", "local-", "node", "Vault"} {
		got := read(provider, "- objectName: a").Requests
		want := []policies.Request{ask(provider+"://default/a", "a")}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Read(%q) differs (-want +got):\n%s", provider, diff)
		}
	}
}

func TestGenericNames(t *testing.T) {
	for _, test := range []struct {
		name, objects string
		want          policies.Request
	}{
		{"path", "- objectName: prod/db", ask("acme://default/prod/db", "prod/db")},
		{"absolute path needs an alias", "- objectName: /prod/db\n  objectAlias: db", ask("acme://default//prod/db", "db")},
		{"ARN", "- objectName: arn:acme:eu:db\n  objectAlias: db", ask("acme://default/arn:acme:eu:db", "db")},
		{"fragment", "- objectName: a#b\n  objectAlias: x", ask("acme://default/a%23b", "x")},
		{"version", "- objectName: a\n  objectVersion: v1@2", ask("acme://default/a@v1%402", "a")},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff([]policies.Request{test.want}, read("acme", test.objects).Requests); diff != "" {
				t.Errorf("Read(%q) differs (-want +got):\n%s", test.objects, diff)
			}
		})
	}
}

// A provider that builds a URL from the name must not be led out of the path
// that policy saw.
func TestGenericRefusesNamesThatCouldBeOtherPaths(t *testing.T) {
	for _, name := range []string{"a/../b", "..", "a/./b", ".", "a/..;/b", "a/%2e%2e/b", "a?x=/b", `a\..\b`, "a/...", "%00", "a/", "a//b", "/", "//a", "/a/", "/a//b"} {
		checkUnparsed(t, read("acme", "- objectName: '"+name+"'\n  objectAlias: x").Requests, "another path")
	}
	checkUnparsed(t, read("acme", "- objectName: /prod/db").Requests, "file name")
	long := strings.Repeat("ü", 250)
	checkUnparsed(t, read("acme", "- objectName: "+long+"\n  objectVersion: "+long+"\n  objectAlias: a").Requests, "too long")
}

// What we cannot interpret is part of the identity.
func TestGenericBackend(t *testing.T) {
	const objects = "- objectName: a"
	seen := map[string]string{}
	for _, test := range []struct {
		name       string
		parameters map[string]string
	}{
		{"none", map[string]string{"objects": objects}},
		{"one", map[string]string{"objects": objects, "url": "https://a.example"}},
		{"another value", map[string]string{"objects": objects, "url": "https://b.example"}},
		{"another name", map[string]string{"objects": objects, "uri": "https://a.example"}},
		{"two", map[string]string{"objects": objects, "url": "https://a.example", "role": "x"}},
		{"moved bytes", map[string]string{"objects": objects, "url": "https://a.example\",\"role\":\"x"}},
		{"empty value", map[string]string{"objects": objects, "url": ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := readAll("acme", test.parameters).Requests[0].Secret
			if other, ok := seen[got]; ok {
				t.Errorf("Read(%q) = %q, the id of %q", test.name, got, other)
			}
			seen[got] = test.name
			if again := readAll("acme", test.parameters).Requests[0].Secret; again != got {
				t.Errorf("Read(%q) again = %q, want %q", test.name, again, got)
			}
			if test.name != "none" && !strings.HasPrefix(got, "acme://p-") {
				t.Errorf("Read(%q) = %q, want a backend p-<digest>", test.name, got)
			}
		})
	}
}

// Other objects are other paths, not another backend: a grant names them.
func TestGenericBackendLeavesOutObjects(t *testing.T) {
	a := readAll("acme", map[string]string{"objects": "- objectName: a", "url": "x"}).Requests[0].Secret
	b := readAll("acme", map[string]string{"objects": "- objectName: b", "url": "x"}).Requests[0].Secret
	if strings.TrimSuffix(a, "/a") != strings.TrimSuffix(b, "/b") {
		t.Errorf("Read(a) = %q and Read(b) = %q, want one backend", a, b)
	}
}

func TestLiteralCredentials(t *testing.T) {
	const pem = "-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----"
	for _, test := range []struct {
		name, value string
		want        bool
	}{
		{"password", "x", true}, {"dbPassword", "x", true}, {"DB_PASSWORD", "x", true}, {"db-password", "x", true},
		{"vaultToken", "x", true}, {"token", "x", true}, {"clientSecret", "x", true}, {"client_secret", "x", true},
		{"CLIENTSECRET", "x", true}, {"apiKey", "x", true}, {"api-key", "x", true}, {"privateKey", "x", true},
		{"secretKey", "x", true}, {"AKEYLESS_ACCESS_KEY", "x", true}, {"akeylessAccessKey", "x", true},
		{"secret", "x", true}, {"jwt", "x", true}, {"pwd", "x", true}, {"secretID", "x", true},
		{"connectionString", "x", true}, {"sslCertificate", pem, true}, {"anything", pem, true},
		{"url", "https://user:hunter2@vault.example", true}, {"dsn", "postgres://:hunter2@db/x", true},

		{"password", "", false}, {"password", "  ", false}, {"useToken", "true", false}, {"useToken", "false", false},
		{"tokenPath", "x", false}, {"passwordFile", "x", false}, {"secretName", "x", false}, {"secrets", "x", false},
		{"roleName", "x", false}, {"vaultAddress", "https://vault.example:8200", false}, {"url", "https://user@host/a:b", false},
		{"sslCertificate", "-----BEGIN CERTIFICATE-----", false}, {"tenantId", "x", false}, {"keyvaultName", "x", false},
		{"userAssignedIdentityID", "x", false}, {"usePodIdentity", "true", false}, {"auth", "provider-adc", false},
	} {
		t.Run(test.name+"="+test.value, func(t *testing.T) {
			got := readAll("acme", map[string]string{"objects": "- objectName: a", test.name: test.value}).LiteralCredentials
			want := []string(nil)
			if test.want {
				want = []string{test.name}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Read(%q) credentials differ (-want +got):\n%s", test.name, diff)
			}
		})
	}
}

func TestLiteralCredentialsAreSortedAndNamesOnly(t *testing.T) {
	const canary = "Xcanary7"
	parameters := map[string]string{"token": canary, "password": canary, "apiKey": canary, "objects": "- objectName: a\n  password: " + canary}
	for _, provider := range []string{"local", "acme"} {
		got := readAll(provider, parameters)
		if diff := cmp.Diff([]string{"apiKey", "objects", "password", "token"}, got.LiteralCredentials); diff != "" {
			t.Errorf("Read(%q) credentials differ (-want +got):\n%s", provider, diff)
		}
		if text := fmt.Sprintf("%+v", got); strings.Contains(text, canary) {
			t.Errorf("Read(%q) = %s, want no %s", provider, text, canary)
		}
	}
}

// Not even a digest of a literal credential leaves: two passwords give the
// same ids.
func TestGenericBackendHidesCredentials(t *testing.T) {
	with := func(password string) string {
		return readAll("acme", map[string]string{"objects": "- objectName: a", "password": password}).Requests[0].Secret
	}
	if a, b := with("hunter2"), with("hunter3"); a != b {
		t.Errorf("Read(hunter2) = %q, Read(hunter3) = %q, want the same", a, b)
	}
}

// fieldsOfCredentials are objects with one, %s, that is not the only thing
// wrong with them.
func fieldsOfCredentials() map[string]string {
	return map[string]string{
		"only":                     "- objectName: x\n  password: %s\n",
		"behind an unknown field":  "- objectName: x\n  foo: y\n  password: %s\n",
		"in another entry":         "- objectName: x\n  foo: y\n- objectName: z\n  db-password: %s\n",
		"behind a field twice":     "- objectName: x\n  objectName: x\n  password: %s\n",
		"nested":                   "- objectName: x\n  meta:\n    more: [{password: %s}]\n",
		"below a map":              "array:\n- objectName: x\n  password: %s\n",
		"no list":                  "password: %s\n",
		"in a text of a list":      "array:\n- |\n  objectName: x\n  password: %s\n",
		"in a quoted text":         "- \"objectName: x\\npassword: %s\"\n",
		"quoted key":               "- objectName: x\n  foo: y\n  'pass-word': \"%s\"\n",
		"escaped key":              "- objectName: x\n  \"pass\\u0077ord\": %s\n",
		"flow":                     "[{objectName: x, meta: {vault_token: %s}}]",
		"JSON":                     `[{"objectName":"x","clientSecret":"%s"}]`,
		"tagged key":               "- objectName: x\n  !!str password: %s\n",
		"anchor":                   "- objectName: &a x\n  password: %s\n",
		"tab":                      "- objectName: x\n\tpassword: %s\n",
		"tab and quotes":           "- objectName: x\n\t\"password\"\t: %s\n",
		"tab in another line":      "- objectName: x\t\n- password: %s\n",
		"invalid":                  "- objectName: [\n  password: %s\n",
		"no space":                 "- objectName: [\n  password:%s\n",
		"two documents":            "- objectName: x\n---\npassword: %s\n",
		"directive":                "%%YAML 1.1\n---\n- password: %s\n",
		"complex key":              "- objectName: x\n  ? password\n  : %s\n",
		"Windows line ends":        "- objectName: [\r\n  password: %s\r\n",
		"line separator":           "- objectName: x\u2028  password: %s\n",
		"deep":                     "[[[[[{password: %s}]]]]]",
		"deep dashes":              "- - - - password: %s\n",
		"tag in what is not valid": "- [\n  !!str &a password: %s\n",
		"PEM in a field":           "- objectName: x\n  foo: |\n    -----BEGIN PRIVATE KEY-----\n    %s\n",
		"not UTF-8":                "- objectName: \xff\n  password: %s\n",
	}
}

// The first thing that is wrong with objects must not hide a credential that
// stands behind it: neither its text nor a digest of it leaves.
func TestLiteralCredentialsInObjectsThatAreNotRead(t *testing.T) {
	for name, format := range fieldsOfCredentials() {
		t.Run(name, func(t *testing.T) {
			got := read("acme", fmt.Sprintf(format, "hunter2"))
			if diff := cmp.Diff([]string{"objects"}, got.LiteralCredentials); diff != "" {
				t.Errorf("Read(%q) credentials differ (-want +got):\n%s", format, diff)
			}
			checkUnparsed(t, got.Requests, "")
		})
	}
}

// What cannot be read and holds no credential can still be granted in full.
func TestNoLiteralCredentialsInObjectsThatAreNotRead(t *testing.T) {
	for _, objects := range []string{
		"array:\n- |\n  objectName: db-password\n  objectType: secret\n  objectVersion: \"\"\n",
		"- objectName: db-password\n  objectType: secret\n",
		"- objectName: [\n  objectAlias: token\n",
		"- token\n- password\n",
		"- objectName: x\n\ttokenPath: y\n",
		"- objectName: x\t# password\n",
		"- objectName: x\n  secretPath: secret/data/password\n  secretKey.path: y\n",
		"- secretPath: kv/db\n  secretName: password\n",
		"", "null", "[]",
	} {
		if got := read("acme", objects).LiteralCredentials; len(got) != 0 {
			t.Errorf("Read(%q) credentials = %q, want none", objects, got)
		}
	}
}

func TestRedact(t *testing.T) {
	original := map[string]string{"a": "1", "b": "2"}
	got := secretref.Redact(original, []string{"b", "absent"})
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "[literal credential]"}, got); diff != "" {
		t.Errorf("Redact(...) differs (-want +got):\n%s", diff)
	}
	if original["b"] != "2" {
		t.Errorf("Redact changed its argument to %v", original)
	}
}

// Nothing that an unknown provider gets is known to be harmless.
func TestNothingIsShown(t *testing.T) {
	for _, provider := range []string{"local", "acme"} {
		got := readAll(provider, map[string]string{"objects": "- objectName: a", "url": "x"})
		if len(got.Safe) != 0 || len(got.Scoping) != 0 {
			t.Errorf("Read(%q) = safe %v, scoping %v, want none", provider, got.Safe, got.Scoping)
		}
	}
}

func FuzzReadObjects(f *testing.F) {
	for _, s := range []string{
		"- objectName: a\n  objectAlias: b\n  filePermission: \"0440\"\n  ownerUID: 7\n", `[{"objectName":"a"}]`,
		"- &a {objectName: a}\n- *a", "- objectName: yes", "array:\n- |\n  objectName: a", "- ? a\n  : b", "---\n--- \n", "- objectName: \"\\u202e\"",
	} {
		f.Add("local", s, "")
		f.Add("acme", s, "https://x")
	}
	for _, u := range unreadable() {
		if len(u.objects) < 1000 {
			f.Add("local", u.objects, "")
		}
	}
	f.Fuzz(func(t *testing.T, provider, objects, other string) {
		p := secretref.Params{Provider: provider, Parameters: map[string]string{"objects": objects}, Digest: digest}
		if other != "" {
			p.Parameters["other"] = other
		}
		got := secretref.For(provider).Read(p)
		if diff := cmp.Diff(got, secretref.For(provider).Read(p)); diff != "" {
			t.Errorf("Read(%q) twice differs:\n%s", objects, diff)
		}
		checkInvariants(t, provider, got.Requests)
	})
}

// checkInvariants holds for every text: there is a request, and it is either
// unparsed or has a canonical id of this provider and a file that stays below
// the volume and collides with no other.
func checkInvariants(t *testing.T, provider string, requests []policies.Request) {
	t.Helper()
	if len(requests) == 0 || len(requests) > secretref.MaxObjects {
		t.Fatalf("Read(...) = %d requests, want 1 to %d", len(requests), secretref.MaxObjects)
	}
	files := map[string]bool{}
	for _, r := range requests {
		if r.ParseError != "" {
			if r.Secret != "unparsed:"+digest || len(requests) != 1 {
				t.Errorf("Read(...) = %+v, want one unparsed request", requests)
			}
			continue
		}
		if !strings.HasPrefix(r.Secret, provider+"://") || strings.Contains(r.Secret, "/../") {
			t.Errorf("secret = %q, want an id of %q", r.Secret, provider)
		}
		for e := range strings.SplitSeq(r.File, "/") {
			if e == "" || e == "." || strings.HasPrefix(e, "..") {
				t.Errorf("file = %q, want a clean relative path", r.File)
			}
		}
		if files[r.File] {
			t.Errorf("file %q is there twice", r.File)
		}
		files[r.File] = true
	}
}

func BenchmarkRead(b *testing.B) {
	objects := ""
	for i := range 5 {
		objects += fmt.Sprintf("- objectName: payments/db-%d\n  objectAlias: file-%d\n  filePermission: \"0440\"\n", i, i)
	}
	for b.Loop() {
		if got := read("local", objects).Requests; len(got) != 5 {
			b.Fatalf("Read(...) = %d requests, want 5", len(got))
		}
	}
}
