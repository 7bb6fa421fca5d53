package secretref_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// akeyless is a class that asks for objects, with the given changes; "" leaves
// a parameter empty.
func akeyless(objects string, changes ...string) secretref.Params {
	p := secretref.Params{Provider: "akeyless", Digest: digest, Parameters: map[string]string{
		"akeylessGatewayURL": "https://gw.example", "akeylessAccessID": "p-1", "akeylessAccessType": "k8s",
		"akeylessK8sAuthConfigName": "prod", "objects": objects,
	}}
	for i := 0; i+1 < len(changes); i += 2 {
		p.Parameters[changes[i]] = changes[i+1]
	}
	return p
}

func readAkeyless(p secretref.Params) secretref.Reading { return secretref.For("akeyless").Read(p) }

func TestReadAkeyless(t *testing.T) {
	const base, one = "akeyless://gw.example/", "- secretPath: /prod/db\n  fileName: db\n"
	args := func(text string) string {
		return readAkeyless(akeyless(one + "  secretArgs: " + text)).Requests[0].Secret
	}
	for _, test := range []struct {
		name string
		p    secretref.Params
		want []policies.Request
	}{
		{"one", akeyless(one), []policies.Request{ask(base+"prod/db", "db")}},
		{"in a directory", akeyless("- secretPath: /db\n  fileName: a/b"), []policies.Request{ask(base+"db", "a/b")}},
		{"two", akeyless(one + "- {secretPath: /x, fileName: w}"), []policies.Request{ask(base+"prod/db", "db"), ask(base+"x", "w")}},
		{"JSON", akeyless(`[{"secretPath":"/x","fileName":"y"}]`), []policies.Request{ask(base+"x", "y")}},
		{"ignored type", akeyless(one + "  secretType: StaticSecret"), []policies.Request{ask(base+"prod/db", "db")}},
		{"no arguments", akeyless(one + "  secretArgs: {}"), []policies.Request{ask(base+"prod/db", "db")}},
		{"gateway of the provider", akeyless(one, "akeylessGatewayURL", ""), []policies.Request{ask("akeyless://default/prod/db", "db")}},
		{"one spelling", akeyless(one, "akeylessGatewayURL", "https://GW.example:443"), []policies.Request{ask(base+"prod/db", "db")}},
		{"API below a path", akeyless(one, "akeylessGatewayURL", "https://gw.example:8080/v2"), []policies.Request{ask("akeyless://gw.example:8080%2Fv2/prod/db", "db")}},
		{"slash at the end, which is another path to the provider", akeyless(one, "akeylessGatewayURL", "https://gw.example/"),
			[]policies.Request{ask("akeyless://gw.example%2F/prod/db", "db")}},
		{"without TLS", akeyless(one, "akeylessGatewayURL", "http://gw.example"), []policies.Request{ask("akeyless://http:%2F%2Fgw.example/prod/db", "db")}},
		{"keys of the driver", akeyless(one, "csi.storage.k8s.io/pod.name", "p", "secretProviderClass", "c"), []policies.Request{ask(base+"prod/db", "db")}},
		{"arguments", akeyless(one + "  secretArgs: {a: b, c: d}"), []policies.Request{ask(args(`{"c": "d", 'a': 'b'}`), "db")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := readAkeyless(test.p)
			if diff := cmp.Diff(test.want, got.Requests); diff != "" {
				t.Errorf("Read(%v) differs (-want +got):\n%s", test.p, diff)
			}
			if got.TooMany || len(got.LiteralCredentials) > 0 || len(got.ObjectIDs) != len(got.Requests) {
				t.Errorf("Read(%v) = %+v, want no credentials and an id for each request", test.p, got)
			}
		})
	}
	seen := []string{base + "prod/db"}
	for _, text := range []string{"{a: b}", "{a: c}", "{b: b}", "{a: b, c: d}", `{a: "b\",\"c\":\"d"}`} {
		id := args(text)
		if slices.Contains(seen, id) || !strings.HasPrefix(id, base+"prod/db#args-") {
			t.Errorf("Read(secretArgs %s) = %q, want a key of its own; seen %q", text, id, seen)
		}
		seen = append(seen, id)
	}
}

func TestReadAkeylessIsUnparsed(t *testing.T) {
	const one = "- secretPath: /prod/db\n  fileName: db\n"
	for _, test := range []struct {
		name    string
		p       secretref.Params
		problem string
	}{
		{"nothing", secretref.Params{Provider: "akeyless", Digest: digest}, "missing or empty"},
		{"no list", akeyless(""), "missing or empty"},
		{"unknown parameter", akeyless(one, "akeylessGatewayUrl", "https://gw.example"), "not known"},
		{"older version's address", akeyless(one, "vaultAddress", "https://gw.example"), "not known"},
		{"older version's TLS", akeyless(one, "vaultSkipTLSVerify", "true"), "not known"},
		{"older version's file", akeyless("- secretPath: /a\n  objectName: b"), "not known"},
		{"both files", akeyless(one + "  objectName: b"), "not known"},
		{"other case", akeyless("- secretpath: /a\n  fileName: b"), "not known"},
		{"no file", akeyless("- secretPath: /a"), "fileName"},
		{"empty file", akeyless("- secretPath: /a\n  fileName: \"\""), "fileName"},
		{"absolute file", akeyless("- secretPath: /a\n  fileName: /b"), "fileName"},
		{"climbing file", akeyless("- secretPath: /a\n  fileName: ../b"), "fileName"},
		{"no path", akeyless("- fileName: b"), "secretPath"},
		{"relative path", akeyless("- secretPath: a\n  fileName: b"), "secretPath"},
		{"climbs", akeyless("- secretPath: /a/../c\n  fileName: b"), "secretPath"},
		{"only a slash", akeyless("- secretPath: /\n  fileName: b"), "secretPath"},
		{"two slashes", akeyless("- secretPath: //a\n  fileName: b"), "secretPath"},
		{"slash at the end", akeyless("- secretPath: /a/\n  fileName: b"), "secretPath"},
		{"number", akeyless("- secretPath: /a\n  fileName: 0440"), "fileName"},
		{"secret twice", akeyless(one + "- {secretPath: /prod/db, fileName: other}"), "twice"},
		{"file twice", akeyless(one + "- {secretPath: /x, fileName: db}"), "same file"},
		{"type that is no string", akeyless(one + "  secretType: 1"), "secretType"},
		{"arguments that are no strings", akeyless(one + "  secretArgs: {a: 1}"), "secretArgs"},
		{"nested arguments", akeyless(one + "  secretArgs: {a: {b: c}}"), "secretArgs"},
		{"list of arguments", akeyless(one + "  secretArgs: [a]"), "secretArgs"},
		{"argument twice", akeyless(one + "  secretArgs: {a: b, a: c}"), "twice"},
		{"gateway called default", akeyless(one, "akeylessGatewayURL", "https://default"), "default"},
		{"gateway without scheme", akeyless(one, "akeylessGatewayURL", "gw.example"), "akeylessGatewayURL"},
		{"gateway with a query", akeyless(one, "akeylessGatewayURL", "https://gw.example?x="), "akeylessGatewayURL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := readAkeyless(test.p)
			checkUnparsed(t, got.Requests, test.problem)
			if got.ObjectIDs != nil {
				t.Errorf("Read(%v) = object ids %q, want none", test.p, got.ObjectIDs)
			}
		})
	}
	if got := readAkeyless(akeyless(strings.Repeat("- secretPath: /a\n", 65))); !got.TooMany {
		t.Errorf("Read(65 objects) = %+v, want too many", got)
	}
}

// akeylessEntry is what the current provider decodes an object into.
type akeylessEntry struct {
	FileName   string         `yaml:"fileName,omitempty"`
	SecretPath string         `yaml:"secretPath,omitempty"`
	SecretType string         `yaml:"secretType,omitempty"`
	SecretArgs map[string]any `yaml:"secretArgs,omitempty"`
}

// akeylessDelivery is one secret as the provider fetches it.
type akeylessDelivery struct{ gateway, path, args, file string }

// akeylessOracle does what the provider does: it keeps one file for each path,
// and asks its own gateway where the class names none. nil: it refuses.
func akeylessOracle(parameters map[string]string) []akeylessDelivery {
	var list []akeylessEntry
	if err := yamlv3.Unmarshal([]byte(parameters["objects"]), &list); err != nil {
		return nil
	}
	files := map[string]akeylessDelivery{}
	for _, e := range list {
		if _, ok := files[e.SecretPath]; !ok {
			args := ""
			if len(e.SecretArgs) > 0 {
				args = fmt.Sprint(e.SecretArgs) // maps print sorted
			}
			files[e.SecretPath] = akeylessDelivery{parameters["akeylessGatewayURL"], e.SecretPath, args, e.FileName}
		}
	}
	var all []akeylessDelivery
	for _, e := range files {
		all = append(all, e)
	}
	return all
}

func akeylessDisagreement(p secretref.Params) string {
	requests := readAkeyless(p).Requests
	want := akeylessOracle(p.Parameters)
	if requests[0].ParseError != "" || want == nil {
		return ""
	}
	if len(requests) != len(want) {
		return fmt.Sprintf("the provider delivers %v, we read %v", want, requests)
	}
	byPath := map[string]akeylessDelivery{}
	for _, w := range want {
		byPath[w.path] = w
	}
	for _, r := range requests {
		id, err := secretref.Parse(r.Secret)
		w, ok := byPath["/"+id.Path]
		switch {
		case err != nil || !ok || w.file != r.File || id.Version != "" || (w.args != "") != (id.Key != ""):
			return fmt.Sprintf("the provider delivers %v, we read %+v", want, r)
		case w.gateway == "" && id.Backend != "default", w.gateway != "" && sameAddress(id.Backend, w.gateway) != w.gateway:
			return fmt.Sprintf("the provider asks %q, we read %q", w.gateway, id.Backend)
		}
	}
	return ""
}

func TestAkeylessDeliversWhatWasRead(t *testing.T) {
	read := 0
	for _, s := range scalars() {
		for _, format := range []string{
			"- secretPath: /%s\n  fileName: a\n", "- secretPath: %s\n  fileName: a\n", "- secretPath: /a\n  fileName: %s\n",
			"- secretPath: \"/%s\"\n  fileName: a\n", "- {secretPath: /a, fileName: %s}\n", "- {secretPath: '/%s', fileName: b}\n",
			"- secretPath: /a\n  fileName: b\n  %s: c\n", "- secretPath: /a\n  fileName: b\n  secretArgs: {%s: c}\n", "- secretPath: /a\n  fileName: b\n  secretArgs:\n    c: %s\n",
			"- secretPath: /a\n  fileName: b\n  secretType: %s\n", "%s\n- secretPath: /a\n  fileName: b\n", "- secretPath: /a\n  fileName: b\n%s\n",
		} {
			p := akeyless(fmt.Sprintf(format, s))
			if diff := akeylessDisagreement(p); diff != "" {
				t.Errorf("Read(%q): %s", p.Parameters["objects"], diff)
			}
			if readAkeyless(p).Requests[0].ParseError == "" {
				read++
			}
		}
	}
	if read < 150 {
		t.Errorf("%d texts were read, want at least 150", read)
	}
}

func FuzzReadAkeyless(f *testing.F) {
	for _, e := range examples(f) {
		if p := e.Spec.Parameters; e.Spec.Provider == "akeyless" {
			f.Add(p["akeylessGatewayURL"], p["objects"])
		}
	}
	f.Add("https://[2001:DB8::1]:8080/v2", "- {secretPath: /a, fileName: b, secretArgs: {c: d}}")
	f.Add("http://h:80/", "- &a\n  secretPath: /a\n  fileName: b\n- *a\n")
	f.Add("https://h", "- secretPath: /a\n  fileName: b\n- secretPath: /a\n  fileName: c\n")
	f.Fuzz(func(t *testing.T, gateway, objects string) {
		p := akeyless(objects, "akeylessGatewayURL", gateway)
		got := readAkeyless(p)
		if diff := cmp.Diff(got, readAkeyless(p)); diff != "" {
			t.Errorf("Read(%v) twice differs:\n%s", p, diff)
		}
		checkInvariants(t, "akeyless", got.Requests)
		if diff := akeylessDisagreement(p); diff != "" {
			t.Errorf("Read(%v): %s", p, diff)
		}
	})
}
