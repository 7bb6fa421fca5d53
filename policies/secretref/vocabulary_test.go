package secretref_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// vocabularies are complete classes of the providers that know their parameters.
func vocabularies() map[string]secretref.Params {
	return map[string]secretref.Params{
		"akeyless": akeyless("- secretPath: /a\n  fileName: b\n", "akeylessAzureObjectID", "o", "akeylessGCPAudience", "g", "vaultKubernetesMountPath", "m"),
		"conjur":   conjur("- a: x"),
	}
}

// with returns p with one parameter changed.
func with(p secretref.Params, name, value string) secretref.Params {
	p.Parameters = maps.Clone(p.Parameters)
	p.Parameters[name] = value
	return p
}

// Whoever changes with whom, where or how a provider asks changes what a grant
// has to say. An empty parameter is to both providers what an absent one is.
func TestScopingParametersAreScoping(t *testing.T) {
	for provider, p := range vocabularies() {
		reading := secretref.For(provider).Read(p)
		for _, name := range syntaxOf(t, provider).Scoping {
			if reading.Scoping[name] != p.Parameters[name] || reading.Scoping[name] == "" {
				t.Errorf("Read(%s) scoping %s = %q, want %q", provider, name, reading.Scoping[name], p.Parameters[name])
			}
			for _, value := range []string{p.Parameters[name] + "x", "other", " ", ""} {
				got := secretref.For(provider).Read(with(p, name, value))
				if cmp.Equal(got.Scoping, reading.Scoping) && cmp.Equal(got.Requests, reading.Requests) {
					t.Errorf("Read(%s, %s=%q) = the scoping and requests of another value", provider, name, value)
				}
				if _, ok := got.Scoping[name]; ok != (value != "") {
					t.Errorf("Read(%s, %s=%q) scoping has it: %v, want %v", provider, name, value, ok, value != "")
				}
			}
		}
	}
}

// Whatever a credential is written into, its value goes nowhere, and a parameter
// that holds one is not shown.
func TestCredentialsGoNowhere(t *testing.T) {
	const canary = "Xcanary7"
	values := []string{
		"https://user:" + canary + "@host.example", "-----BEGIN EC PRIVATE KEY-----\n" + canary, "- a: \"-----BEGIN PRIVATE KEY-----" + canary + "\"\n",
		"- secretPath: /a\n  fileName: \"-----BEGIN PRIVATE KEY-----" + canary + "\"\n", "- secretPath: /a\n  fileName: b\n  secretArgs: {password: " + canary + "}\n",
	}
	all := vocabularies()
	all["conjur 0.1.0"] = conjur("", "conjur.org/configurationVersion", "0.1.0", "secrets", "- a: x")
	for name, p := range all {
		provider, _, _ := strings.Cut(name, " ")
		s := syntaxOf(t, provider)
		names := slices.Concat(s.Scoping, s.Credentials, []string{s.List, "password", "conjur.org/secrets"})
		for _, name := range names {
			for _, value := range append(values, canary) {
				changed := with(p, name, value)
				if name == "conjur.org/secrets" {
					changed = p
					changed.PodAnnotations = map[string]string{name: value}
				}
				checkNoCredential(t, secretref.For(provider).Read(changed), provider+" "+name+"="+value, canary)
			}
		}
	}
}

func checkNoCredential(t *testing.T, got secretref.Reading, about, canary string) {
	t.Helper()
	if len(got.LiteralCredentials) == 0 {
		return
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if printed := fmt.Sprintf("%+v", got); strings.Contains(printed, canary) || strings.Contains(string(text), canary) {
		t.Errorf("Read(%s) = %s, want no %s", about, printed, canary)
	}
	for _, name := range got.LiteralCredentials {
		if slices.Contains(got.Safe, name) {
			t.Errorf("Read(%s) shows %s, which holds a credential", about, name)
		}
	}
}

// A problem reaches policy and events: it names fields in our words and never in
// the author's.
func TestProblemsDoNotRepeatTheAuthor(t *testing.T) {
	const canary = "Xcanary7"
	for name, r := range map[string]secretref.Reading{
		"file":     readConjur(conjur("- " + canary + ": 0440")),
		"variable": readConjur(conjur("- a: \"" + canary + ":x\"")),
		"version":  readConjur(conjur("- a: x", "conjur.org/configurationVersion", canary)),
		"unknown":  readConjur(conjur("- a: x", canary, "x")),
		"field":    readAkeyless(akeyless("- " + canary + ": x")),
		"argument": readAkeyless(akeyless("- secretPath: /a\n  fileName: b\n  secretArgs: {" + canary + ": 0440}")),
		"gateway":  readAkeyless(akeyless("- secretPath: /a\n  fileName: b", "akeylessGatewayURL", canary)),
	} {
		if problem := r.Requests[0].ParseError; problem == "" || strings.Contains(problem, canary) {
			t.Errorf("Read(%s) = problem %q, want one without %s", name, problem, canary)
		}
	}
}

func TestCredentialsByName(t *testing.T) {
	for _, name := range syntaxOf(t, "akeyless").Credentials {
		for _, value := range []string{"x", "true", " "} {
			if got := readAkeyless(with(akeyless("- secretPath: /a\n  fileName: b"), name, value)).LiteralCredentials; !slices.Equal(got, []string{name}) {
				t.Errorf("Read(%s=%q) credentials = %q, want it", name, value, got)
			}
		}
	}
	for name, p := range map[string]secretref.Params{
		"in arguments": akeyless("- secretPath: /a\n  fileName: b\n  secretArgs: {password: x}"),
		"in no field":  akeyless("- secretPath: /a\n  token: x"),
	} {
		if got := readAkeyless(p).LiteralCredentials; !slices.Equal(got, []string{"objects"}) {
			t.Errorf("Read(%s) credentials = %q, want objects", name, got)
		}
	}
	const pem = "- a: \"-----BEGIN PRIVATE KEY-----\""
	if got := readConjur(conjur(pem)); !slices.Equal(got.LiteralCredentials, []string{"conjur.org/secrets"}) || got.Requests[0].ParseError == "" {
		t.Errorf("Read(key in the annotation) = %+v, want it unparsed and named", got)
	}
	if got := readConjur(conjur("- a: x", "sslCertificate", "-----BEGIN RSA PRIVATE KEY-----")).LiteralCredentials; !slices.Equal(got, []string{"sslCertificate"}) {
		t.Errorf("Read(key as certificate) credentials = %q, want it", got)
	}
}

// Two addresses have one backend only if they are certainly the same.
func TestBackendsOfAddresses(t *testing.T) {
	backend := func(address string) string {
		r := readAkeyless(akeyless("- secretPath: /a\n  fileName: b", "akeylessGatewayURL", address)).Requests[0]
		if r.ParseError != "" {
			return ""
		}
		id, err := secretref.Parse(r.Secret)
		if err != nil {
			t.Fatal(err)
		}
		return id.Backend
	}
	for _, test := range []struct{ address, want string }{
		{"https://h", "h"}, {"https://h:443", "h"}, {"https://h:80", "h:80"}, {"http://h", "http://h"}, {"http://h:80", "http://h"},
		{"http://h:443", "http://h:443"}, {"https://h/", "h/"}, {"https://h/a", "h/a"}, {"https://h/a/", "h/a/"}, {"https://H.Example", "h.example"},
		{"https://h.example.", "h.example."}, {"https://[::1]", "[::1]"}, {"https://[0:0::1]:443", "[::1]"}, {"https://[::1]:8443/v2", "[::1]:8443/v2"},
		{"https://10.0.0.1:8443", "10.0.0.1:8443"},
	} {
		if got := backend(test.address); got != test.want {
			t.Errorf("backend of %q = %q, want %q", test.address, got, test.want)
		}
	}
	for _, address := range []string{
		"h", "//h", "ftp://h", "https:h", "https:/h", "https://", "https://:443", "https://h:", "https://h:0443", "https://h:x", "https://h:123456", "https://u@h",
		"https://u:p@h", "https://h?", "https://h?a=b", "https://h#", "https://h#a", "https://h//", "https://h//a", "https://h/a/../b", "https://h/./a", "https://h/%61",
		"https://h/a%2Fb", "https://h/a b", "https://h\\a", "https://h,x", "https://h@", " https://h", "https://h ", "https://h\n", "https://h_ö", "https://\u212A", "https://[::1%25eth0]",
		"https://[::ffff:1.2.3.4", "https://[1.2.3.4]", "https://h;x", "https://-h", "https://h/a;b", "https://h/a,b", "unix:///x", "https://h/a:b",
	} {
		if got := backend(address); got != "" {
			t.Errorf("backend of %q = %q, want it unparsed", address, got)
		}
	}
}
