package secretref_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	yamlv2 "go.yaml.in/yaml/v2"
	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// keyVaultObject is what the provider decodes an entry of array into.
type keyVaultObject struct {
	ObjectName           string `yaml:"objectName"`
	ObjectAlias          string `yaml:"objectAlias"`
	ObjectVersion        string `yaml:"objectVersion"`
	ObjectVersionHistory int32  `yaml:"objectVersionHistory"`
	ObjectType           string `yaml:"objectType"`
	ObjectFormat         string `yaml:"objectFormat"`
	ObjectEncoding       string `yaml:"objectEncoding"`
	FilePermission       string `yaml:"filePermission"`
}

func azureCloud() cloud {
	oracles := make([]oracle, 0, 4)
	for _, trim := range []func(string) string{strings.TrimSpace, func(s string) string { return s }} {
		for name, unmarshal := range map[string]func([]byte, any) error{"yaml v2": yamlv2.Unmarshal, "yaml v3": yamlv3.Unmarshal} {
			oracles = append(oracles, oracle{name, func(p map[string]string) ([]delivery, error) { return deliverAzure(p, trim, unmarshal) }})
		}
	}
	return cloud{
		provider: "azure", list: "objects", oracles: oracles, fetch: fetchAzure,
		base:       map[string]string{"keyvaultName": "kv1", "objects": "array:\n- |\n  objectName: a\n  objectType: secret\n"},
		credential: "array:\n- |\n  objectName: a\n  objectAlias: \"%s\"\n  objectType: secret\n",
	}
}

// deliverAzure does as the provider does with a vault that has three versions of
// everything. Older versions do not trim the list, and use yaml v2.
func deliverAzure(p map[string]string, trim func(string) string, unmarshal func([]byte, any) error) ([]delivery, error) {
	var list struct {
		Array []string `yaml:"array"`
	}
	if err := unmarshal([]byte(trim(p["objects"])), &list); err != nil {
		return nil, err
	}
	vault, cloudName := strings.TrimSpace(p["keyvaultName"]), strings.ToUpper(strings.TrimSpace(p["cloudName"]))
	if len(vault) < 3 || len(vault) > 24 || strings.Trim(vault, letters+"0123456789-") != "" {
		return nil, errRefused
	}
	if known := []string{"", "AZUREPUBLICCLOUD", "AZURECHINACLOUD", "AZUREGERMANCLOUD", "AZUREUSGOVERNMENTCLOUD", "AZURESTACKCLOUD"}; !slices.Contains(known, cloudName) {
		return nil, errRefused
	}
	if cloudName == "AZURESTACKCLOUD" {
		cloudName += " of " + strings.TrimSpace(p["cloudEnvFileName"])
	}
	var out []delivery
	for _, text := range list.Array {
		var o keyVaultObject
		if err := unmarshal([]byte(text), &o); err != nil {
			return nil, err
		}
		files, err := o.deliver(cloudName + " " + strings.ToLower(vault))
		if err != nil {
			return nil, err
		}
		out = append(out, files...)
	}
	return out, nil
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func (o keyVaultObject) deliver(vault string) ([]delivery, error) {
	for _, s := range []*string{&o.ObjectName, &o.ObjectAlias, &o.ObjectVersion, &o.ObjectType, &o.FilePermission} {
		*s = strings.TrimSpace(*s)
	}
	file := o.ObjectAlias
	if file == "" {
		file = o.ObjectName
	}
	mode := ""
	if o.FilePermission != "" {
		m, err := strconv.ParseInt(o.FilePermission, 8, 32)
		if err != nil {
			return nil, err
		}
		mode = fmt.Sprintf("%04o", m)
	}
	if !slices.Contains([]string{"secret", "key", "cert"}, o.ObjectType) || o.ObjectName == "" || strings.Contains(file, "..") {
		return nil, errRefused
	}
	get := func(version string) string {
		// Key Vault compares without regard to case.
		return fmt.Sprintf("%s GET %s/%q/%q", vault, o.ObjectType, strings.ToLower(o.ObjectName), strings.ToLower(version))
	}
	if o.ObjectVersionHistory <= 1 {
		return []delivery{{Fetch: get(o.ObjectVersion), File: file, Mode: mode}}, nil
	}
	var out []delivery
	for i := range min(int(o.ObjectVersionHistory)+1, 3) {
		out = append(out, delivery{Fetch: get(strconv.Itoa(i)), File: file + "/" + strconv.Itoa(i), Mode: mode})
	}
	return out, nil
}

func fetchAzure(id secretref.ID) string {
	name, rest, _ := strings.Cut(id.Backend, ":")
	vault, file, custom := strings.Cut(rest, ":")
	name = strings.ToUpper(strings.TrimPrefix(name, "default"))
	if custom {
		name += " of " + file
	}
	kind, object, _ := strings.Cut(id.Path, "/")
	return fmt.Sprintf("%s %s GET %s/%q/%q", name, vault, kind, object, id.Version)
}

// azureEntry is a list with one entry of these lines.
func azureEntry(lines ...string) string {
	return "array:\n- |\n  " + strings.Join(lines, "\n  ") + "\n"
}

func TestAzure(t *testing.T) {
	const version = "0123456789abcdef0123456789abcdef"
	for _, test := range []struct {
		name, objects string
		changes       []string
		want          policies.Request
	}{
		{"secret", azureEntry("objectName: a", "objectType: secret"), nil, ask("azure://default:kv1/secret/a", "a")},
		{"key", azureEntry("objectName: a", "objectType: key"), nil, ask("azure://default:kv1/key/a", "a")},
		{"certificate", azureEntry("objectName: a", "objectType: cert"), nil, ask("azure://default:kv1/cert/a", "a")},
		{"case is nothing to Key Vault", azureEntry("objectName: Ab-C", "objectType: secret"), []string{"keyvaultName", "KV1"}, ask("azure://default:kv1/secret/ab-c", "Ab-C")},
		{"cloud", azureEntry("objectName: a", "objectType: secret"), []string{"cloudName", " AzureUSGovernmentCloud "}, ask("azure://azureusgovernmentcloud:kv1/secret/a", "a")},
		{"cloud in another case", azureEntry("objectName: a", "objectType: secret"), []string{"cloudName", "AZURECHINACLOUD"}, ask("azure://azurechinacloud:kv1/secret/a", "a")},
		{"cloud of a file", azureEntry("objectName: a", "objectType: secret"), []string{"cloudName", "AzureStackCloud", "cloudEnvFileName", "/x:y"}, ask("azure://azurestackcloud:kv1:%2Fx:y/secret/a", "a")},
		{"version of digits without quotes", azureEntry("objectName: a", "objectType: secret", "objectVersion: "+version), nil, ask("azure://default:kv1/secret/a@"+version, "a")},
		{"version that looks like a number", azureEntry("objectName: a", "objectType: secret", "objectVersion: 1e3"), nil, ask("azure://default:kv1/secret/a@1e3", "a")},
		{"name that looks like a boolean", azureEntry("objectName: yes", "objectType: secret"), nil, ask("azure://default:kv1/secret/yes", "yes")},
		{"alias", azureEntry("objectName: a", "objectType: secret", "objectAlias: b/c"), nil, ask("azure://default:kv1/secret/a", "b/c")},
		{"nothing", azureEntry("objectName: a", "objectType: secret", "objectAlias:", "objectVersion: \"\"", "filePermission: ''"), nil, ask("azure://default:kv1/secret/a", "a")},
		{"mode without quotes", azureEntry("objectName: a", "objectType: secret", "filePermission: 0440"), nil, ask("azure://default:kv1/secret/a", "a", mode(0o440))},
		{"mode of three digits", azureEntry("objectName: a", "objectType: secret", "filePermission: 440"), nil, ask("azure://default:kv1/secret/a", "a", mode(0o440))},
		{"history of one", azureEntry("objectName: a", "objectType: secret", "objectVersionHistory: 1"), nil, ask("azure://default:kv1/secret/a", "a")},
		{"form", azureEntry("objectName: a", "objectType: secret", "objectFormat: pfx", "objectEncoding: base64"), nil, ask("azure://default:kv1/secret/a", "a")},
		{"entry in quotes", "array: [\"objectName: a\\nobjectType: secret\"]", nil, ask("azure://default:kv1/secret/a", "a")},
		{"block text without its end of line", "array:\n- |-\n  objectName: a\n  objectType: secret", nil, ask("azure://default:kv1/secret/a", "a")},
		{"blank lines", "\n\narray:\n\n  - |\n\n    objectName: a # x\n\n    objectType: secret\n\n", nil, ask("azure://default:kv1/secret/a", "a")},
	} {
		t.Run(test.name, func(t *testing.T) {
			parameters := azureCloud().with(append(test.changes, "objects", test.objects)...)
			if diff := gocmp.Diff([]policies.Request{test.want}, azureCloud().read(parameters).Requests); diff != "" {
				t.Errorf("Read(%q) differs (-want +got):\n%s", parameters, diff)
			}
			if diff := azureCloud().disagreement(parameters); diff != "" {
				t.Errorf("Read(%q): %s", parameters, diff)
			}
		})
	}
}

func TestAzureIsUnparsed(t *testing.T) {
	ok := azureEntry("objectName: a", "objectType: secret")
	for _, test := range []struct {
		name, objects, problem string
		changes                []string
	}{
		{"no vault", ok, "keyvaultName", []string{"keyvaultName", " "}},
		{"vault with a dot", ok, "keyvaultName", []string{"keyvaultName", "kv.evil"}},
		{"short vault", ok, "keyvaultName", []string{"keyvaultName", "kv"}},
		{"vault too long", ok, "keyvaultName", []string{"keyvaultName", strings.Repeat("k", 25)}},
		{"unknown cloud", ok, "cloudName", []string{"cloudName", "AzureGermanCloud2"}},
		{"cloud called default", ok, "cloudName", []string{"cloudName", "default"}},
		{"cloud beyond ASCII", ok, "cloudName", []string{"cloudName", "AzureStac\u212aCloud", "cloudEnvFileName", "/x"}},
		{"cloud of another class's file", ok, "another class", []string{"cloudName", "AzureStackCloud"}},
		{"list without array", "- objectName: a", "not a plain map", nil},
		{"other key beside array", "array:\n- |\n  objectName: a\n  objectType: secret\nother: b", "not known", nil},
		{"no array", "{}", "no array", nil},
		{"array that is a text", "array: |\n  - |\n    objectName: a\n", "not a plain list", nil},
		{"entry that is a map", "array:\n- objectName: a\n  objectType: secret", "neither a block text", nil},
		{"entry that is folded", "array:\n- >\n  objectName: a\n", "neither a block text", nil},
		{"entry without quotes", "array: [a]", "neither a block text", nil},
		{"entry with a tag", "array:\n- !!str |\n  objectName: a\n", "neither a block text", nil},
		{"empty entry", "array: ['']", "missing or empty", nil},
		{"entry that is a list", azureEntry("- objectName: a"), "not a plain map", nil},
		{"two documents in an entry", azureEntry("objectName: a", "objectType: secret", "---", "objectName: b"), "more than one", nil},
		{"name twice", azureEntry("objectName: a", "objectName: b", "objectType: secret"), "twice", nil},
		{"name in another case", azureEntry("objectname: a", "objectType: secret"), "not known", nil},
		{"newer field", azureEntry("objectName: a", "objectType: secret", "objectNotAfter: 2026-01-01T00:00:00Z"), "not known", nil},
		{"no type", azureEntry("objectName: a"), "objectType", nil},
		{"type in another case", azureEntry("objectName: a", "objectType: Secret"), "objectType", nil},
		{"no name", azureEntry("objectType: secret"), "objectName", nil},
		{"name with a slash", azureEntry("objectName: a/b", "objectType: secret"), "objectName", nil},
		{"version with a slash", azureEntry("objectName: a", "objectType: secret", "objectVersion: a/b"), "objectVersion", nil},
		{"null name", azureEntry("objectName: ~", "objectType: secret"), "quotes", nil},
		{"null version", azureEntry("objectName: a", "objectType: secret", "objectVersion: null"), "quotes", nil},
		{"white space that is trimmed", azureEntry("objectName: ' a'", "objectType: secret"), "white space", nil},
		{"history", azureEntry("objectName: a", "objectType: secret", "objectVersionHistory: 2"), "objectVersionHistory", nil},
		{"history in quotes", azureEntry("objectName: a", "objectType: secret", "objectVersionHistory: \"1\""), "objectVersionHistory", nil},
		{"history that is octal", azureEntry("objectName: a", "objectType: secret", "objectVersionHistory: 01"), "objectVersionHistory", nil},
		{"mode of nine", azureEntry("objectName: a", "objectType: secret", "filePermission: 0900"), "filePermission", nil},
		{"mode with a prefix", azureEntry("objectName: a", "objectType: secret", "filePermission: 0o440"), "filePermission", nil},
		{"mode of five digits", azureEntry("objectName: a", "objectType: secret", "filePermission: 00440"), "filePermission", nil},
		{"signed mode", azureEntry("objectName: a", "objectType: secret", "filePermission: -440"), "filePermission", nil},
		{"file outside", azureEntry("objectName: a", "objectType: secret", "objectAlias: ../b"), "file name", nil},
		{"one name as two types", azureEntry("objectName: a", "objectType: secret") + "- |\n  objectName: a\n  objectType: key\n", "same file", nil},
		{"indented first line", "  array:\n  - |\n    objectName: a\n    objectType: secret\n", "begins with a space", nil},
		{"too many", "array:\n" + strings.Repeat("- 'objectName: a'\n", 65), "more than 64", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			parameters := azureCloud().with(append(test.changes, "objects", test.objects)...)
			checkUnparsed(t, azureCloud().read(parameters).Requests, test.problem)
		})
	}
}

func azureFormats() []string {
	return []string{
		azureEntry("objectName: %s", "objectType: secret"),
		azureEntry("objectName: a", "objectType: secret", "objectAlias: %s"),
		azureEntry("objectName: a", "objectType: secret", "objectVersion: %s"),
		azureEntry("objectName: a", "objectType: secret", "filePermission: %s"),
		azureEntry("objectName: a", "objectType: secret", "objectVersionHistory: %s"),
		azureEntry("objectName: a", "objectType: secret", "objectFormat: %s"),
		azureEntry("objectName: a", "objectType: %s"),
		azureEntry("{objectName: %s, objectType: secret}"),
		azureEntry("objectName: a", "%s: b", "objectType: secret"),
		azureEntry("objectName: a", "objectType: secret", "%s"),
		azureEntry("%s", "objectName: a", "objectType: secret"),
		"array:\n- %s\n",
		"array:\n- |\n  objectName: a\n  objectType: secret\n%s\n",
		"%s\narray:\n- |\n  objectName: a\n  objectType: secret\n",
		"array:\n- |\n\n   objectName: a\n   objectType: secret\n%s",
		"array:\n- |2-\n  objectName: a\n  objectType: secret\n- \"%s\"\n",
	}
}

func TestAzureAgreesWithTheProvider(t *testing.T) { azureCloud().checkTexts(t, azureFormats(), 300) }

func FuzzReadAzure(f *testing.F) {
	for _, e := range examples(f) {
		if p := e.Spec.Parameters; e.Spec.Provider == "azure" {
			f.Add(p["objects"], p["keyvaultName"], p["cloudName"], p["cloudEnvFileName"])
		}
	}
	for _, format := range azureFormats() {
		f.Add(strings.ReplaceAll(format, "%s", "0440"), "kv1", "", "")
	}
	f.Add("array: ['objectName: a', \"objectType: secret\\nobjectName: b\"]", "KV-1", "AZUREPUBLICCLOUD", "")
	f.Add("array:\n- |+\n  objectName: a\n  objectType: key\n\n- |-\n  objectName: b\n  objectType: cert", " kv1", "AzureStackCloud", "/x")
	f.Fuzz(func(t *testing.T, objects, vault, name, file string) {
		azureCloud().checkFuzzed(t, map[string]string{
			"objects": objects, "keyvaultName": vault, "cloudName": name, "cloudEnvFileName": file,
		})
	})
}
