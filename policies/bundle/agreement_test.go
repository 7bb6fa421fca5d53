// The race detector sees no more in hundreds of bundles that one goroutine reads
// than in a few, and takes some twenty times as long.

//go:build !race

package bundle_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"

	"go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// sample is a document for one schema. What is about form both refuse; what is
// about meaning only the reader does.
type sample struct {
	schema, name, text string
	schemaOK, readerOK bool
}

func good(schema, name, text string) sample    { return sample{schema, name, text, true, true} }
func badForm(schema, name, text string) sample { return sample{schema, name, text, false, false} }
func badSense(schema, name, text string) sample {
	return sample{schema, name, text, true, false}
}

func grantSamples() []sample {
	grant := policiestest.Grants
	return []sample{
		good("grants", "none", "[]"),
		good("grants", "usual", grant),
		good("grants", "every field", full),
		good("grants", "unparsed", line(grant, "local://node/payments/*", "unparsed:"+digest)),
		good("grants", "every account", line(grant, "[api]", `["*"]`)),
		good("grants", "each key", line(grant, "local://node/payments/*", "local://node/a%3F#*")),
		badForm("grants", "an object", "{}"),
		badForm("grants", "unknown key", grant+"  ownr: x\n"),
		badForm("grants", "no owner", line(grant, "  owner: team-payments\n", "")),
		badForm("grants", "empty owner", line(grant, "team-payments", `""`)),
		badForm("grants", "owner that hides", line(grant, "team-payments", `"a\e[8mb"`)),
		badForm("grants", "no expiry", line(grant, "  expiry: 2126-12-31\n", "")),
		badForm("grants", "no such day", line(grant, "2126-12-31", "2126-02-30")),
		badForm("grants", "no id", line(grant, "- id: G-1", `- id: ""`)),
		badForm("grants", "long id", line(grant, "G-1", strings.Repeat("g", 64))),
		badForm("grants", "namespace pattern", line(grant, "[payments]", `["pay*"]`)),
		badForm("grants", "no accounts", line(grant, "[api]", "[]")),
		badForm("grants", "account pattern", line(grant, "[api]", `["a*"]`)),
		badForm("grants", "no secrets", line(grant, `["local://node/payments/*"]`, "[]")),
		badForm("grants", "secret of no backend", line(grant, "local://node/payments/*", "*")),
		badForm("grants", "part of unparsed", line(grant, "local://node/payments/*", "unparsed:12")),
		badForm("grants", "text for a list", line(grant, "[api]", "api")),
		badForm("grants", "number for a text", line(grant, "team-payments", "7")),
		badForm("grants", "writable mode", grant+"  maxFileMode: \"0640\"\n"),
		badForm("grants", "mode 0", grant+"  maxFileMode: \"0000\"\n"),
		badForm("grants", "owner -1", grant+"  ownerUID: -1\n"),
		badForm("grants", "owner 2^32-1", grant+"  ownerUID: 4294967295\n"),
		badForm("grants", "no audience", grant+"  audiences: []\n"),
		badForm("grants", "pod pattern", grant+"  pods: {namePatterns: [\"*a\"]}\n"),
		badForm("grants", "unknown key of pods", grant+"  pods: {labels: [a]}\n"),
		badForm("grants", "label value", line(grant, "namespaces: [payments]", "namespaceSelector: {tier: a/b}")),
		badForm("grants", "label key", line(grant, "namespaces: [payments]", "namespaceSelector: {a b: c}")),
		badSense("grants", "no namespaces", line(grant, "  namespaces: [payments]\n", "")),
		badSense("grants", "label nobody trusts", line(grant, "namespaces: [payments]", "namespaceSelector: {tier: prod}")),
		badSense("grants", "other provider", line(grant, "provider: local", "provider: vault")),
		badSense("grants", "star and a name", line(grant, "[api]", `["*", api]`)),
		badSense("grants", "dots", line(grant, "payments/*", "payments/../*")),
		badSense("grants", "same id twice", grant+grant[1:]),
		badSense("grants", "pods of nothing", grant+"  pods: {}\n"),
	}
}

func otherSamples() []sample {
	const ok = `{"metadata":{"contract":"portcullis/v1","serial":1}}`
	return []sample{
		good("waivers", "none", "[]"),
		good("waivers", "usual", line(waiver, "2026-12-31", "2026-03-31")),
		badForm("waivers", "no ticket", line(waiver, "  ticket: SEC-1\n", "")),
		badForm("waivers", "finding", line(waiver, "PR-300", "PR-3")),
		badForm("waivers", "every namespace", line(waiver, "namespace: payments", `namespace: "*"`)),
		badForm("waivers", "pattern", line(waiver, "serviceAccount: api", `serviceAccount: "api-*"`)),
		badForm("waivers", "unknown key", waiver+"  owner: x\n"),
		badSense("waivers", "more than 90 days", waiver),
		badSense("waivers", "library's rule", line(waiver, "PR-300", "PR-001")),
		badSense("waivers", "prefix", line(waiver, "local://node/a", `"local://node/*"`)),
		good("config", "empty", "{}"),
		good("config", "every key", `{required_checks: [], obligations: {max_file_mode: 292, on_revoke: scrub, audiences: [a]}, allowed_overrides: [a],
namespace_label_keys: [tier], monitor: {until: 2026-02-01, rules: ["*"]}, mass_revoke: true, checks: {odd: {any: [1, {thing: true}]}}}`),
		badForm("config", "a list", "[]"),
		badForm("config", "unknown key", "masss_revoke: true"),
		badForm("config", "unknown obligation", "obligations: {shred: true}"),
		badForm("config", "monitor without end", `monitor: {rules: ["*"]}`),
		badForm("config", "monitor of nothing", "monitor: {until: 2026-02-01, rules: []}"),
		badForm("config", "monitor of no rule", "monitor: {until: 2026-02-01, rules: [PR-1]}"),
		badForm("config", "end set by itself", `monitor: {until: 2026-02-01, rules: ["*"], until_ns: 7}`),
		badForm("config", "keep or scrub", "obligations: {on_revoke: maybe}"),
		badForm("config", "yes", "mass_revoke: yes"),
		badSense("config", "lost check", "required_checks: [lost]"),
		badSense("config", "monitor for long", `monitor: {until: 2026-09-01, rules: ["*"]}`),
		badSense("config", "writable", "obligations: {max_file_mode: 511}"),
		good("manifest", "usual", ok),
		good("manifest", "every key", `{"revision":"r 1","roots":["portcullis"],"rego_version":1,"metadata":{"contract":"portcullis/v1","serial":2,"not_after":"2026-02-01T00:00:00Z","source_commit":"0a1b"}}`),
		good("manifest", "empty texts", `{"revision":"",`+line(ok, `"serial":1`, `"source_commit":""`)[1:]),
		badSense("config", "empty answers", `obligations: {on_revoke: "", on_expire: ""}`),
		badForm("manifest", "wasm", `{"wasm":[],`+ok[1:]),
		badForm("manifest", "roots", `{"roots":["a"],`+ok[1:]),
		badForm("manifest", "no roots", `{"roots":[],`+ok[1:]),
		badForm("manifest", "version 0", `{"rego_version":0,`+ok[1:]),
		badForm("manifest", "contract", line(ok, "v1", "v2")),
		badForm("manifest", "not_after", line(ok, `"serial":1`, `"not_after":"soon"`)),
		badForm("manifest", "revision that hides", `{"revision":"\u001b[8m",`+ok[1:]),
		badSense("manifest", "not_after far off", line(ok, `"serial":1`, `"not_after":"2027-02-01T00:00:00Z"`)),
	}
}

// TestSchemasAgreeWithTheReader: a schema may be laxer than the reader and never
// stricter, and what is about form is refused by both.
func TestSchemasAgreeWithTheReader(t *testing.T) {
	for _, s := range append(grantSamples(), otherSamples()...) {
		t.Run(s.schema+"/"+s.name, func(t *testing.T) {
			if strings.HasPrefix(s.text, "no such line") {
				t.Fatal(s.text)
			}
			if err := bySchema(t, s); (err == nil) != s.schemaOK {
				t.Errorf("schema of %s says of %s: %v, want accepted: %v", s.schema, s.text, err, s.schemaOK)
			}
			if err := byReader(t, s); (err == nil) != s.readerOK {
				t.Errorf("reader of %s says of %s: %v, want accepted: %v", s.schema, s.text, err, s.readerOK)
			}
		})
	}
}

func bySchema(t *testing.T, s sample) error {
	t.Helper()
	text := []byte(s.text)
	if s.schema != "manifest" {
		var document any
		if err := yaml.Unmarshal(text, &document); err != nil {
			t.Fatal(err)
		}
		// To an editor a date is text; the library makes a time of it.
		encoded, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.ReplaceAll(string(encoded), `T00:00:00Z"`, `"`))
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	return compiledSchema(t, s.schema).Validate(value)
}

func byReader(t *testing.T, s sample) error {
	t.Helper()
	if err := byLoader(s); err != nil {
		return err
	}
	return compiles(t, s)
}

func filesOfSample(s sample) fstest.MapFS {
	file := map[string]string{
		"grants": "portcullis/grants/a.yaml", "waivers": "portcullis/waivers/a.yaml", "config": "portcullis/config/data.yaml", "manifest": ".manifest",
	}[s.schema]
	return policiestest.Files("", policiestest.WithFile(file, s.text))
}

func byLoader(s sample) error {
	_, err := bundle.LoadFS(filesOfSample(s))
	return err
}

func compiles(t *testing.T, s sample) error {
	t.Helper()
	b, err := bundle.LoadFS(filesOfSample(s))
	if err == nil {
		_, err = policies.Compile(t.Context(), b, policies.Options{Clock: now})
	}
	return err
}
