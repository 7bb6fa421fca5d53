package secretref_test

import (
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	yamlv2 "go.yaml.in/yaml/v2"
	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// gcpEntry is what the provider decodes an entry of secrets into.
type gcpEntry struct {
	ResourceName   string `yaml:"resourceName"`
	FileName       string `yaml:"fileName"`
	Path           string `yaml:"path"`
	Mode           *int32 `yaml:"mode"`
	ExtractJSONKey string `yaml:"extractJSONKey"`
	ExtractYAMLKey string `yaml:"extractYAMLKey"`
	DecodeBase64   bool   `yaml:"decodeBase64"`
}

const gcpName = "projects/p1/secrets/a/versions/1"

func gcpCloud() cloud {
	return cloud{
		provider: "gcp", list: "secrets",
		oracles: []oracle{
			{"yaml v2", func(p map[string]string) ([]delivery, error) { return deliverGCP(p, yamlv2.Unmarshal) }},
			{"yaml v3", func(p map[string]string) ([]delivery, error) { return deliverGCP(p, yamlv3.Unmarshal) }},
		},
		fetch: func(id secretref.ID) string {
			return fmt.Sprintf("access %q", "projects/"+id.Backend+"/"+id.Path+"/versions/"+id.Version)
		},
		base:       map[string]string{"secrets": "- resourceName: " + gcpName + "\n  path: f\n"},
		credential: "- resourceName: " + gcpName + "\n  path: \"%s\"\n",
	}
}

// deliverGCP does as the provider does: the resource's name goes to the API as it
// stands.
func deliverGCP(p map[string]string, unmarshal func([]byte, any) error) ([]delivery, error) {
	var entries []*gcpEntry
	if err := unmarshal([]byte(p["secrets"]), &entries); err != nil {
		return nil, err
	}
	out := make([]delivery, len(entries))
	for i, e := range entries {
		if e == nil || e.ExtractJSONKey != "" && e.ExtractYAMLKey != "" {
			return nil, errRefused
		}
		out[i] = delivery{Fetch: fmt.Sprintf("access %q", e.ResourceName), File: e.Path}
		if e.Path == "" {
			out[i].File = e.FileName
		}
		if e.Mode != nil {
			out[i].Mode = fmt.Sprintf("%04o", *e.Mode)
		}
	}
	return out, nil
}

func TestGCP(t *testing.T) {
	entry := func(name string) string { return "- resourceName: " + name + "\n  path: f" }
	for _, test := range []struct {
		name, secrets string
		want          policies.Request
	}{
		{"secret", entry(gcpName), ask("gcp://p1/secrets/a@1", "f")},
		{"latest", entry("projects/p1/secrets/a/versions/latest"), ask("gcp://p1/secrets/a@latest", "f")},
		{"project by number", entry("projects/123456/secrets/a/versions/1"), ask("gcp://123456/secrets/a@1", "f")},
		{"project of a domain", entry("projects/example.com:p1/secrets/a/versions/1"), ask("gcp://example.com:p1/secrets/a@1", "f")},
		{"region", entry("projects/p1/locations/europe-west3/secrets/a/versions/1"), ask("gcp://p1/locations/europe-west3/secrets/a@1", "f")},
		{"parameter", entry("projects/p1/locations/global/parameters/a/versions/v1"), ask("gcp://p1/locations/global/parameters/a@v1", "f")},
		{"file name", "- resourceName: " + gcpName + "\n  fileName: f", ask("gcp://p1/secrets/a@1", "f")},
		{"path goes before file name", "- resourceName: " + gcpName + "\n  fileName: f\n  path: g/h", ask("gcp://p1/secrets/a@1", "g/h")},
		{"path that looks like a number", "- resourceName: " + gcpName + "\n  path: 0440", ask("gcp://p1/secrets/a@1", "0440")},
		{"octal mode", entry(gcpName) + "\n  mode: 0440", ask("gcp://p1/secrets/a@1", "f", mode(0o440))},
		{"decimal mode", entry(gcpName) + "\n  mode: 288", ask("gcp://p1/secrets/a@1", "f", mode(0o440))},
		{"a key of it is all of it", entry(gcpName) + "\n  extractJSONKey: user", ask("gcp://p1/secrets/a@1", "f")},
		{"decoded", entry(gcpName) + "\n  decodeBase64: true", ask("gcp://p1/secrets/a@1", "f")},
	} {
		t.Run(test.name, func(t *testing.T) {
			parameters := gcpCloud().with("secrets", test.secrets)
			if diff := gocmp.Diff([]policies.Request{test.want}, gcpCloud().read(parameters).Requests); diff != "" {
				t.Errorf("Read(%q) differs (-want +got):\n%s", parameters, diff)
			}
			if diff := gcpCloud().disagreement(parameters); diff != "" {
				t.Errorf("Read(%q): %s", parameters, diff)
			}
		})
	}
}

func TestGCPIsUnparsed(t *testing.T) {
	entry := func(name string) string { return "- resourceName: " + name + "\n  path: f" }
	for _, test := range []struct{ name, secrets, problem string }{
		{"nothing", "", "missing or empty"},
		{"no name", "- path: f", "resourceName"},
		{"something before the name", entry("x/" + gcpName), "resourceName"},
		{"full name", entry("//secretmanager.googleapis.com/" + gcpName), "resourceName"},
		{"something after the name", entry(gcpName + "/x"), "resourceName"},
		{"no version", entry("projects/p1/secrets/a"), "resourceName"},
		{"any project", entry("projects/-/secrets/a/versions/1"), "resourceName"},
		{"project in upper case", entry("projects/P1/secrets/a/versions/1"), "resourceName"},
		{"any location", entry("projects/p1/locations/-/secrets/a/versions/1"), "resourceName"},
		{"location too long", entry("projects/p1/locations/" + strings.Repeat("l", 31) + "/secrets/a/versions/1"), "resourceName"},
		{"escaped name", entry("projects/p1/secrets/a%2fb/versions/1"), "resourceName"},
		{"parent", entry("projects/p1/secrets/../versions/1"), "resourceName"},
		{"parameter without a location", entry("projects/p1/parameters/a/versions/1"), "resourceName"},
		{"white space", entry("' " + gcpName + "'"), "resourceName"},
		{"no file", "- resourceName: " + gcpName, "file name"},
		{"file outside", "- resourceName: " + gcpName + "\n  path: ../f", "file name"},
		{"two secrets in one file", entry(gcpName) + "\n" + entry("projects/p1/secrets/b/versions/1"), "same file"},
		{"name in another case", "- resourcename: " + gcpName + "\n  path: f", "not known"},
		{"key in an older spelling", entry(gcpName) + "\n  extractJsonKey: user", "not known"},
		{"two keys", entry(gcpName) + "\n  extractJSONKey: a\n  extractYAMLKey: b", "extractYAMLKey"},
		{"mode in quotes", entry(gcpName) + "\n  mode: \"0440\"", "mode"},
		{"mode of YAML 1.2", entry(gcpName) + "\n  mode: 0o440", "mode"},
		{"mode of zero", entry(gcpName) + "\n  mode: 0", "mode"},
		{"mode of nine", entry(gcpName) + "\n  mode: 0900", "mode"},
		{"mode too large", entry(gcpName) + "\n  mode: 512", "mode"},
		{"mode of two digits", entry(gcpName) + "\n  mode: 040", "mode"},
		{"signed mode", entry(gcpName) + "\n  mode: -1", "mode"},
		{"hexadecimal mode", entry(gcpName) + "\n  mode: 0x1ff", "mode"},
		{"mode that is a float", entry(gcpName) + "\n  mode: 4.0", "mode"},
		{"decoded in quotes", entry(gcpName) + "\n  decodeBase64: \"true\"", "decodeBase64"},
		{"decoded by YAML 1.1", entry(gcpName) + "\n  decodeBase64: yes", "decodeBase64"},
		{"plain path that begins with a sign of YAML 1.1", "- resourceName: " + gcpName + "\n  path: =", "quotes"},
		{"plain path in a flow collection", "[{resourceName: " + gcpName + ", path: a#b}]", "quotes"},
		{"null path", "- resourceName: " + gcpName + "\n  path: ~", "quotes"},
		{"too many", strings.Repeat(entry(gcpName)+"\n", 65), "more than 64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			checkUnparsed(t, gcpCloud().read(gcpCloud().with("secrets", test.secrets)).Requests, test.problem)
		})
	}
}

func gcpFormats() []string {
	const name = "- resourceName: " + gcpName + "\n"
	return []string{
		"- resourceName: projects/p1/secrets/%s/versions/1\n  path: f\n",
		"- resourceName: %s\n  path: f\n",
		name + "  path: %s\n",
		name + "  fileName: %s\n",
		name + "  path: f\n  mode: %s\n",
		name + "  path: f\n  extractJSONKey: %s\n",
		name + "  path: f\n  decodeBase64: %s\n",
		"- {resourceName: \"" + gcpName + "\", path: %s}\n",
		name + "  path: f\n  %s: b\n",
		name + "  path: f\n%s\n",
		name + "  path: f\n  %s\n",
		"%s\n" + name + "  path: f\n",
	}
}

func TestGCPAgreesWithTheProvider(t *testing.T) { gcpCloud().checkTexts(t, gcpFormats(), 250) }

func FuzzReadGCP(f *testing.F) {
	for _, e := range examples(f) {
		if e.Spec.Provider == "gcp" {
			f.Add(e.Spec.Parameters["secrets"], e.Spec.Parameters["auth"])
		}
	}
	for _, format := range gcpFormats() {
		f.Add(strings.ReplaceAll(format, "%s", "0440"), "pod-adc")
	}
	f.Fuzz(func(t *testing.T, secrets, auth string) {
		gcpCloud().checkFuzzed(t, map[string]string{"secrets": secrets, "auth": auth})
	})
}
