package secretref_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// fetch is one file as a Vault provider makes it: the request that it sends,
// and what it does with the response.
type fetch struct {
	URL, Namespace, Method, Body string
	Key, File                    string
	Mode                         uint32
}

// vaultSecret is the struct that both providers decode an object into
// (internal/config/config.go), with os.FileMode as the number that it is.
type vaultSecret struct {
	ObjectName     string         `yaml:"objectName,omitempty"`
	SecretPath     string         `yaml:"secretPath,omitempty"`
	SecretKey      string         `yaml:"secretKey,omitempty"`
	Method         string         `yaml:"method,omitempty"`
	SecretArgs     map[string]any `yaml:"secretArgs,omitempty"`
	FilePermission uint32         `yaml:"filePermission,omitempty"`
	Encoding       string         `yaml:"encoding,omitempty"`
}

// vaultFetches is what the provider does with these parameters. It follows
// internal/config/config.go, internal/client/client.go and
// internal/provider/provider.go of hashicorp/vault-csi-provider (commits
// 0dfb877a, 738282a8 and 05999a2b) and openbao/openbao-csi-provider (a941a5e6,
// 54fafb5c, 410c4ddf and config_test.go of 2.0), and NewRequest of their clients.
func vaultFetches(provider string, parameters map[string]string) ([]fetch, error) {
	var secrets []vaultSecret
	if err := yaml.Unmarshal([]byte(parameters["objects"]), &secrets); err != nil {
		return nil, err
	}
	setting := func(name string) string {
		if provider == "openbao" {
			for _, prefix := range []string{"bao", "openbao"} {
				if value := parameters[prefix+name]; value != "" {
					return value
				}
			}
		}
		return parameters["vault"+name]
	}
	if len(secrets) == 0 || parameters["roleName"] == "" && (provider == "vault" || setting("RoleName") == "") {
		return nil, errors.New("no secrets or no role")
	}
	address, err := url.Parse(setting("Address"))
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	responses := map[[2]string]fetch{} // the provider's cache of one mount
	fetches := make([]fetch, len(secrets))
	for i, s := range secrets {
		if names[s.ObjectName] {
			return nil, errors.New("objectName twice")
		}
		names[s.ObjectName] = true
		source := [2]string{s.SecretPath, s.Method}
		response, cached := responses[source]
		if !cached {
			if response, err = vaultRequest(address, s); err != nil {
				return nil, err
			}
			response.Namespace = setting("Namespace")
			responses[source] = response
		}
		response.Key, response.File, response.Mode = s.SecretKey, s.ObjectName, s.FilePermission
		fetches[i] = response
	}
	return fetches, nil
}

func vaultRequest(address *url.URL, s vaultSecret) (fetch, error) {
	text := s.SecretPath
	switch {
	case strings.HasPrefix(text, "/v1/"):
	case strings.HasPrefix(text, "v1/"):
		text = "/" + text
	case strings.HasPrefix(text, "/"):
		text = "/v1" + text
	default:
		text = "/v1/" + text
	}
	text, query, _ := strings.Cut(text, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return fetch{}, err
	}
	method := s.Method
	if method == "" {
		method = "GET"
	}
	body := ""
	if s.SecretArgs != nil {
		b, err := json.Marshal(s.SecretArgs)
		if err != nil {
			return fetch{}, err
		}
		body = string(b)
	}
	u := url.URL{Scheme: address.Scheme, Host: address.Host, User: address.User, Path: path.Join(address.Path, text), RawQuery: values.Encode()}
	return fetch{URL: u.String(), Method: method, Body: body}, nil
}

// claimed reads a request of ours back: what its id says is fetched. An id that
// cannot be read back does not say it.
func claimed(t *testing.T, r policies.Request) fetch {
	t.Helper()
	id, err := secretref.Parse(r.Secret)
	if err != nil {
		t.Fatalf("Parse(%q): %v", r.Secret, err)
	}
	attributes := strings.Split(id.Backend, ",")
	f := fetch{Key: id.Key, File: r.File, Method: "GET"}
	if r.Mode != nil {
		f.Mode = *r.Mode
	}
	scheme := "https"
	for _, a := range attributes[1:] {
		name, value, _ := strings.Cut(a, "=")
		switch name {
		case "scheme":
			scheme = value
		case "namespace":
			f.Namespace = value
		case "method":
			f.Method = value
		default:
			t.Fatalf("id %q has the attribute %q", r.Secret, a)
		}
	}
	u := url.URL{Scheme: scheme}
	host, prefix, _ := strings.Cut(attributes[0], "/")
	if u.Host = host; host == "default" {
		u.Scheme, u.Host = "", ""
	}
	text, arguments, _ := strings.Cut(id.Path, "?/")
	query, body, found := strings.Cut(arguments, "{")
	if found {
		f.Body = "{" + body
	}
	if u.RawQuery = query; id.Version != "" {
		u.RawQuery = "version=" + id.Version
	}
	u.Path = path.Join("/", prefix, "v1", text)
	f.URL = u.String()
	return f
}

// normal makes two spellings of one request equal, where they certainly are:
// letters of the host, the default port, a slash after the namespace, and
// escapes in JSON.
func normal(t *testing.T, f fetch) fetch {
	t.Helper()
	u, err := url.Parse(f.URL)
	if err != nil {
		t.Fatalf("Parse(%q): %v", f.URL, err)
	}
	u.Host = strings.ToLower(u.Host)
	if u.Scheme == "https" {
		u.Host = strings.TrimSuffix(u.Host, ":443")
	}
	if u.Scheme == "http" {
		u.Host = strings.TrimSuffix(u.Host, ":80")
	}
	f.URL, f.Namespace = u.String(), strings.TrimSuffix(f.Namespace, "/")
	if f.Body != "" {
		var value any
		d := json.NewDecoder(strings.NewReader(f.Body))
		d.UseNumber()
		if err := d.Decode(&value); err != nil {
			t.Fatalf("Decode(%q): %v", f.Body, err)
		}
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		f.Body = string(bytes.TrimSpace(b))
	}
	return f
}

// checkVault compares our reading with what the provider does, and reports
// whether the parameters were read.
func checkVault(t *testing.T, provider string, parameters map[string]string) bool {
	t.Helper()
	reading := readAll(provider, parameters)
	checkInvariants(t, provider, reading.Requests)
	if diff := cmp.Diff(reading, readAll(provider, parameters)); diff != "" {
		t.Errorf("Read(%q) twice differs:\n%s", parameters, diff)
	}
	if reading.Requests[0].ParseError != "" {
		return false
	}
	want, err := vaultFetches(provider, parameters)
	if err != nil {
		t.Errorf("Read(%q) = %+v, but the provider refuses: %v", parameters, reading.Requests, err)
		return true
	}
	got := make([]fetch, len(reading.Requests))
	for i, r := range reading.Requests {
		if !policies.ValidSecret(r.Secret) {
			t.Errorf("Read(%q) = %q, which no grant can name", parameters, r.Secret)
		}
		got[i] = normal(t, claimed(t, r))
	}
	for i := range want {
		want[i] = normal(t, want[i])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read(%q) differs from what the provider fetches (-want +got):\n%s", parameters, diff)
	}
	return true
}

// vaultValues are texts for every field of an object, quoted or not.
func vaultValues() []string {
	return append(scalars(),
		"/v1/a/b", "v1/a", "/v1", "v1", "/v1/v1/a", "//a", "/v1//a", "a//b", "a/", "/", "a/./b", "a/../b", "/v1/../sys/x", "../a", "a/..",
		"a?version=3", "a?version=03", "a?version=0", "a?version=", "a?version=1&version=2", "a?x=1", "a?x=1&a=2", "a?a=2&x=1", "a?x=b&x=a", "a?",
		"a?x", "a?x=%41", "a?x=%zz", "a?x;y", "a?x=/../b", "a??x=1", "a?list=true", "a?LIST=1", "a?help=1", "a?version=3#x", "a?x={", "a?x=%0a",
		"a%2e", "a%", `a\b`, "'a b'", "a/?", "'a/{\"b\":1}'", "'a,method=PUT'", "'a@1'", "'a#b@2'", "a;b", "a/*", "*", "'\u202e'", "a\u00a0",
		"GET", "get", "PUT", "POST", "LIST", "PATCH", "DELETE", "base64", "BASE64", "utf-8", "hex", "'h\u0065x'", "0644", "0624", "420", "0o644", "'0644'",
		"0x1a4", "08", "00", "0000", "00644", "4_20", "4755", "-1", "99999", "{}", "[]", "{a: 1}", "{a: [1, true, x]}", "{a: {b: c}}", "{b: 1, a: 2}",
		"{a: 1.5}", "{a: 1e3}", "{a: null}", "{a: }", "{1: a}", "{a: yes}", "{a: 'x/y'}", "{a: '<&>'}", "{a: 010}", "{a: 12345678901234567890}",
		"{a: 2001-01-01}", "{a: 'true'}", "{a: '1'}", "{a: {}}", "{a: []}", "{a: -5}", "{a: -0}", "{a: +5}", "{a: \"\\u2028\"}", "{? a : b}", "!!map {a: b}", "&x {a: b}",
		"\n    a: 1\n    b: x", "\n    a: |\n      true", "\n    a: >-\n      5", "\n    a: >-\n      true", "\n    - a", "\n    a:\n    - b\n    - c: d")
}

func TestVaultAgrees(t *testing.T) {
	read := 0
	for _, provider := range []string{"vault", "openbao"} {
		for _, v := range vaultValues() {
			for _, format := range []string{
				"- objectName: f\n  secretPath: %s\n",
				"- objectName: %s\n  secretPath: a\n",
				"- objectName: f\n  secretPath: a\n  secretKey: %s\n",
				"- objectName: f\n  secretPath: a\n  method: %s\n",
				"- objectName: f\n  secretPath: a\n  encoding: %s\n",
				"- objectName: f\n  secretPath: a\n  filePermission: %s\n",
				"- objectName: f\n  secretPath: a\n  secretArgs: %s\n",
				"- objectName: f\n  secretPath: a?x=1\n  method: PUT\n  secretArgs: %s\n",
				"- objectName: f\n  secretPath: a\n  secretArgs: {a: %s}\n",
				"- objectName: f\n  secretPath: a\n  secretArgs:\n    a: %s\n",
				"- objectName: f\n  secretPath: a\n  secretArgs:\n    %s: a\n",
				"- objectName: f\n  secretPath: a\n- objectName: g\n  secretPath: %s\n",
				"- objectName: f\n  secretPath: a\n- objectName: g\n  secretPath: a\n  secretArgs: %s\n",
				"- {objectName: f, secretPath: %s}\n",
				"- {objectName: f, secretPath: a, filePermission: %s}\n",
				"- objectName: f\n  %s: x\n  secretPath: a\n",
				"%s\n- objectName: f\n  secretPath: a\n",
			} {
				if checkVault(t, provider, map[string]string{"roleName": "r", "objects": fmt.Sprintf(format, v)}) {
					read++
				}
			}
		}
	}
	if read < 1200 {
		t.Errorf("%d texts were read, want at least 1200", read)
	}
}

func FuzzReadVault(f *testing.F) {
	for _, e := range examples(f) {
		p := e.Spec.Parameters
		switch e.Spec.Provider {
		case "vault":
			f.Add(false, p["objects"], p["vaultAddress"], p["vaultNamespace"], "audience", p["audience"])
		case "openbao":
			f.Add(true, p["objects"], p["baoAddress"], p["baoNamespace"], "openbaoAddress", p["openbaoAddress"])
		}
	}
	for i, v := range vaultValues() {
		f.Add(i%2 == 0, "- objectName: f\n  secretPath: "+v+"\n  secretKey: k\n", "http://h:80/p/", "a/b/", "vaultSkipTLSVerify", "T")
		f.Add(i%2 == 0, "- objectName: f\n  secretPath: a?x=y\n  method: PUT\n  secretArgs: "+v+"\n", "https://H:443", "", "", "")
	}
	f.Fuzz(func(t *testing.T, bao bool, objects, address, namespace, name, value string) {
		provider, prefix := "vault", "vault"
		if bao {
			provider, prefix = "openbao", "bao"
		}
		parameters := map[string]string{"roleName": "r", "objects": objects}
		if address != "" {
			parameters[prefix+"Address"] = address
		}
		if namespace != "" {
			parameters[prefix+"Namespace"] = namespace
		}
		if name != "" {
			parameters[name] = value
		}
		checkVault(t, provider, parameters)
	})
}

// Two requests that differ in anything that the server or the file sees have two
// ids; vaultFetches says whether they do.
func FuzzVaultTwoRequestsTwoSecrets(f *testing.F) {
	f.Add("a", "k", "GET", "x", "1", "https://h", "n", "a", "k", "PUT", "x", "1", "https://h", "n")
	f.Add("a?x=1", "", "", "", "", "https://h:443", "n/", "a/?x=1", "", "", "", "", "https://H", "n")
	f.Add("a", "", "PUT", "x", "y/z", "http://h", "n,method=PUT", "a", "", "", "x", "y/z", "http://h", "n")
	f.Add("a?version=1", "k@1", "", "", "", "", "", "a", "k@1", "", "", "", "https://default", "")
	f.Add("a{", "k", "", "b", "}", "https://h/v1", "", "v1/a{", "k", "", "b", "}", "https://h", "")
	f.Fuzz(func(t *testing.T, p1, k1, m1, n1, v1, a1, ns1, p2, k2, m2, n2, v2, a2, ns2 string) {
		one := vaultQuoted(p1, k1, m1, n1, v1, a1, ns1)
		two := vaultQuoted(p2, k2, m2, n2, v2, a2, ns2)
		if !checkVault(t, "vault", one) || !checkVault(t, "vault", two) {
			return
		}
		first, err1 := vaultFetches("vault", one)
		second, err2 := vaultFetches("vault", two)
		if err1 != nil || err2 != nil {
			return // reported by checkVault
		}
		same := normal(t, first[0]) == normal(t, second[0])
		ids := [2]string{readAll("vault", one).Requests[0].Secret, readAll("vault", two).Requests[0].Secret}
		if (ids[0] == ids[1]) != same {
			t.Errorf("ids of %q and %q = %q, want them equal only if the requests are", one, two, ids)
		}
	})
}

// vaultQuoted are parameters with one object, all of whose fields are in quotes.
func vaultQuoted(path, key, method, name, value, address, namespace string) map[string]string {
	objects := fmt.Sprintf("- objectName: f\n  secretPath: %s\n  secretKey: %s\n  method: %s\n",
		strconv.Quote(path), strconv.Quote(key), strconv.Quote(method))
	if name != "" {
		objects += fmt.Sprintf("  secretArgs: {%s: %s}\n", strconv.Quote(name), strconv.Quote(value))
	}
	parameters := vaultParameters(objects, "vaultAddress", address, "vaultNamespace", namespace)
	maps.DeleteFunc(parameters, func(_, value string) bool { return value == "" })
	return parameters
}
