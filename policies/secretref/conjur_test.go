package secretref_test

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// conjur is a class of the current version that asks for annotation, with the
// given changes; "" removes a parameter.
func conjur(annotation string, changes ...string) secretref.Params {
	p := secretref.Params{Provider: "conjur", Digest: digest, Parameters: map[string]string{
		"conjur.org/configurationVersion": "0.2.0", "account": "acme", "applianceUrl": "https://conjur.example",
		"authnId": "authn-jwt/kube", "identity": "host/api", "sslCertificate": "-----BEGIN CERTIFICATE-----",
	}}
	if annotation != "" {
		p.PodAnnotations = map[string]string{"conjur.org/secrets": annotation}
	}
	for i := 0; i+1 < len(changes); i += 2 {
		if p.Parameters[changes[i]] = changes[i+1]; changes[i+1] == "" {
			delete(p.Parameters, changes[i])
		}
	}
	return p
}

func readConjur(p secretref.Params) secretref.Reading { return secretref.For("conjur").Read(p) }

func TestReadConjur(t *testing.T) {
	const base = "conjur://conjur.example,acme/"
	for _, test := range []struct {
		name string
		p    secretref.Params
		want []policies.Request
	}{
		{"from the pod", conjur(`- "db/url": "prod/db-url"`), []policies.Request{ask(base+"prod/db-url", "db/url")}},
		{"from the class", conjur("", "conjur.org/configurationVersion", "0.1.0", "secrets", "- url: prod/db-url"), []policies.Request{ask(base+"prod/db-url", "url")}},
		{"from the class, whatever the pod says", conjur("- b: other", "conjur.org/configurationVersion", "0.1.0", "secrets", "- a: x"),
			[]policies.Request{ask(base+"x", "a")}},
		{"from the pod, whatever the class says", conjur("- a: x", "secrets", "- b: other"), []policies.Request{ask(base+"x", "a")}},
		{"from the pod by default", conjur("- a: x", "conjur.org/configurationVersion", ""), []policies.Request{ask(base+"x", "a")}},
		{"no version, class only", conjur("", "conjur.org/configurationVersion", "", "secrets", "- a: x"), []policies.Request{ask(base+"x", "a")}},
		{"several in one map, in order", conjur("- b: x\n  a: w\n- c: z"), []policies.Request{ask(base+"x", "b"), ask(base+"w", "a"), ask(base+"z", "c")}},
		{"a file named like a credential", conjur("- password: prod/password"), []policies.Request{ask(base+"prod/password", "password")}},
		{"flow", conjur(`[{"a": "x"}, {"b": "y"}]`), []policies.Request{ask(base+"x", "a"), ask(base+"y", "b")}},
		{"characters of variables", conjur(`- a: "prod/db #1@x*"`), []policies.Request{ask(base+"prod/db%20%231%40x%2A", "a")}},
		{"port", conjur("- a: x", "applianceUrl", "https://conjur.example:8443"), []policies.Request{ask("conjur://conjur.example:8443,acme/x", "a")}},
		{"one spelling", conjur("- a: x", "applianceUrl", "HTTPS://Conjur.EXAMPLE:443/"), []policies.Request{ask(base+"x", "a")}},
		{"path", conjur("- a: x", "applianceUrl", "https://t.secretsmgr.example/api/"), []policies.Request{ask("conjur://t.secretsmgr.example%2Fapi,acme/x", "a")}},
		{"without TLS", conjur("- a: x", "applianceUrl", "http://conjur.example:80"), []policies.Request{ask("conjur://http:%2F%2Fconjur.example,acme/x", "a")}},
		{"another account", conjur("- a: x", "account", "other"), []policies.Request{ask("conjur://conjur.example,other/x", "a")}},
		{"identity of the token", conjur("- a: x", "identity", ""), []policies.Request{ask(base+"x", "a")}},
		{"keys of the driver", conjur("- a: x", "csi.storage.k8s.io/pod.name", "p", "secretProviderClass", "c"), []policies.Request{ask(base+"x", "a")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := readConjur(test.p)
			if diff := cmp.Diff(test.want, got.Requests); diff != "" {
				t.Errorf("Read(%v) differs (-want +got):\n%s", test.p, diff)
			}
			if got.TooMany || len(got.LiteralCredentials) > 0 || len(got.ObjectIDs) != len(got.Requests) {
				t.Errorf("Read(%v) = %+v, want no credentials and an id for each request", test.p, got)
			}
		})
	}
}

func TestReadConjurIsUnparsed(t *testing.T) {
	for _, test := range []struct {
		name    string
		p       secretref.Params
		problem string
	}{
		{"nothing", secretref.Params{Provider: "conjur", Digest: digest}, "annotation"},
		{"no annotation", conjur(""), "annotation conjur.org/secrets is missing or empty"},
		{"annotation not in the pod but in the class", conjur("", "secrets", "- a: x"), "annotation conjur.org/secrets is missing or empty"},
		{"no list in the class", conjur("- a: x", "conjur.org/configurationVersion", "0.1.0"), "secrets is missing or empty"},
		{"two lists without a version", conjur("- a: x", "conjur.org/configurationVersion", "", "secrets", "- a: x"), "set conjur.org/configurationVersion"},
		{"another version", conjur("- a: x", "conjur.org/configurationVersion", "0.3.0"), "0.1.0 or 0.2.0"},
		{"version with a space", conjur("- a: x", "conjur.org/configurationVersion", "0.2.0 "), "0.1.0 or 0.2.0"},
		{"unknown parameter", conjur("- a: x", "retrieveAll", "true"), "not known"},
		{"other case", conjur("- a: x", "applianceURL", "https://conjur.example"), "not known"},
		{"no account", conjur("- a: x", "account", ""), "account"},
		{"account that is a path", conjur("- a: x", "account", "a/../b"), "account"},
		{"account with a kind", conjur("- a: x", "account", "a:variable"), "account"},
		{"account with the separator", conjur("- a: x", "account", "a,b"), "account"},
		{"no address", conjur("- a: x", "applianceUrl", ""), "applianceUrl"},
		{"strings", conjur("- a"), "plain map"},
		{"a map", conjur("a: x"), "plain list"},
		{"empty map", conjur("- {}"), "names no file"},
		{"empty map beside another", conjur("- a: x\n- {}"), "names no file"},
		{"file twice", conjur("- a: x\n- a: w"), "same file"},
		{"file twice in a map", conjur("- a: x\n  a: y"), "twice"},
		{"variable twice", conjur("- a: x\n- b: x"), "variable twice"},
		{"directory of the other", conjur("- a: x\n- a/b: w"), "directory"},
		{"merge key", conjur("- &m {a: x}\n- <<: *m"), "plain map"},
		{"null", conjur("- a:"), "in quotes"},
		{"number", conjur("- a: 0440"), "in quotes"},
		{"number as a file", conjur("- 0440: x"), "no string"},
		{"list of variables", conjur("- a: [x]"), "in quotes"},
		{"empty variable", conjur(`- a: ""`), "another one"},
		{"another account's", conjur(`- a: "other:variable:x"`), "another one"},
		{"another kind", conjur(`- a: "host:x"`), "another one"},
		{"two in one", conjur(`- a: "x,other:variable:y"`), "another one"},
		{"climbs", conjur("- a: x/../y"), "another one"},
		{"encoded", conjur("- a: x%2Fy"), "another one"},
		{"absolute", conjur("- a: /x"), "another one"},
		{"space at the end", conjur(`- a: "x "`), "another one"},
		{"absolute file", conjur("- /etc/a: x"), "relative path"},
		{"climbing file", conjur("- ../a: x"), "relative path"},
		{"empty file", conjur(`- "": x`), "relative path"},
		{"too long", conjur("- a: " + strings.Repeat("ü", 256) + "\n- b: " + strings.Repeat("x", 513)), "too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := readConjur(test.p)
			checkUnparsed(t, got.Requests, test.problem)
			// What the pod lists can change after the decision, so that nothing
			// which the provider reports was decided on.
			fromPod := test.p.Parameters["conjur.org/configurationVersion"] != "0.1.0"
			if len(got.ObjectIDs) > 0 || (got.ObjectIDs != nil) != fromPod {
				t.Errorf("Read(%v) = object ids %#v, want an empty list: %v", test.p, got.ObjectIDs, fromPod)
			}
		})
	}
}

func TestConjurTooMany(t *testing.T) {
	var b strings.Builder
	for i := range secretref.MaxObjects + 1 {
		fmt.Fprintf(&b, "- f%d: v%d\n", i, i)
	}
	lists := map[string]string{"entries": b.String(), "one map": "- " + strings.ReplaceAll(b.String()[2:], "\n- ", "\n  ")}
	for name, list := range lists {
		if got := readConjur(conjur(list)); !got.TooMany {
			t.Errorf("Read(%s of 65) = %+v, want too many", name, got)
		}
		list = list[:strings.LastIndex(strings.TrimSuffix(list, "\n"), "\n")+1]
		if got := readConjur(conjur(list)); got.TooMany || len(got.Requests) != secretref.MaxObjects {
			t.Errorf("Read(%s of 64) = %d requests, want 64", name, len(got.Requests))
		}
	}
}

// The list identifies what is asked for where it stands in the pod, and only
// there.
func TestConjurAnnotationsThatWereRead(t *testing.T) {
	for _, test := range []struct {
		name string
		p    secretref.Params
		want map[string]string
	}{
		{"read", conjur("- a: x"), map[string]string{"conjur.org/secrets": "- a: x"}},
		{"not readable", conjur("- a"), map[string]string{"conjur.org/secrets": "- a"}},
		{"two lists", conjur("- a: x", "conjur.org/configurationVersion", "", "secrets", "- a: y"), map[string]string{"conjur.org/secrets": "- a: x"}},
		{"from the class", conjur("- a: x", "conjur.org/configurationVersion", "0.1.0", "secrets", "- a: y"), nil},
		{"none", conjur(""), nil},
	} {
		test.p.PodAnnotations = maps.Clone(test.p.PodAnnotations)
		if test.p.PodAnnotations != nil {
			test.p.PodAnnotations["other"] = "x"
		}
		if diff := cmp.Diff(test.want, readConjur(test.p).Annotations); diff != "" {
			t.Errorf("Read(%s) annotations differ (-want +got):\n%s", test.name, diff)
		}
	}
}

// fetched is one variable that a provider would fetch, and its file.
type fetched struct{ url, account, variable, file string }

// conjurOracle does what a version of the provider does up to its request and
// with the reply: nil if it refuses.
func conjurOracle(p secretref.Params, current bool) []fetched {
	text := p.Parameters["secrets"]
	switch v := p.Parameters["conjur.org/configurationVersion"]; {
	case v == "0.1.0", v == "" && !current:
	case current && (v == "" || v == "0.2.0"):
		text = p.PodAnnotations["conjur.org/secrets"]
	default:
		return nil
	}
	account, address := p.Parameters["account"], strings.TrimSuffix(p.Parameters["applianceUrl"], "/")
	var list []map[string]string
	if err := yamlv3.Unmarshal([]byte(text), &list); err != nil || text == "" || account == "" || address == "" {
		return nil
	}
	files := map[string]string{}
	for _, m := range list {
		for file, variable := range m {
			files[variable] = file
		}
	}
	var full []string
	for variable := range files {
		full = append(full, fullID(account, variable))
	}
	query, err := url.QueryUnescape(url.QueryEscape(strings.Join(full, ",")))
	if err != nil {
		return nil
	}
	var got []fetched
	for id := range strings.SplitSeq(query, ",") { // as the server takes it apart
		part := append(strings.SplitN(id, ":", 3), "", "")
		got = append(got, fetched{address, part[0], part[2], files[strings.TrimPrefix(id, account+":variable:")]})
	}
	return got
}

// fullID is conjur-api-go's makeFullId.
func fullID(account, variable string) string {
	part := strings.SplitN(variable, ":", 3)
	switch len(part) {
	case 1:
		part = []string{account, "variable", variable}
	case 2:
		part = []string{account, part[0], part[1]}
	}
	return strings.Join(part, ":")
}

// conjurDisagreement says which version of the provider delivers something else
// than we read, if we read it at all.
func conjurDisagreement(p secretref.Params) string {
	requests := readConjur(p).Requests
	if requests[0].ParseError != "" {
		return ""
	}
	for _, current := range []bool{true, false} {
		want := conjurOracle(p, current)
		if want == nil {
			continue
		}
		var got []fetched
		for _, r := range requests {
			id, err := secretref.Parse(r.Secret)
			if err != nil || id.Key != "" || id.Version != "" {
				return "an id that is not one: " + r.Secret
			}
			at := strings.LastIndexByte(id.Backend, ',')
			got = append(got, fetched{sameAddress(id.Backend[:at], want[0].url), id.Backend[at+1:], id.Path, r.File})
		}
		order := func(a, b fetched) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }
		slices.SortFunc(got, order)
		slices.SortFunc(want, order)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(fetched{})); diff != "" {
			return fmt.Sprintf("current %v: (-provider +ours)\n%s", current, diff)
		}
	}
	return ""
}

// sameAddress returns the address that a provider calls if the backend of an id
// is certainly that one.
func sameAddress(backend, called string) string {
	ours := backend
	if !strings.HasPrefix(ours, "http://") {
		ours = "https://" + ours
	}
	a, errA := url.Parse(ours)
	b, errB := url.Parse(called)
	port := func(u *url.URL) string {
		if u.Port() == "" {
			return map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		return u.Port()
	}
	if errA == nil && errB == nil && a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b) &&
		a.EscapedPath() == b.EscapedPath() && b.RawQuery+b.Fragment == "" && b.User == nil {
		return called
	}
	return "not " + called + " but " + ours
}

// hostileLists are texts that could be read in two ways, as lists of files.
func hostileLists() []string {
	var lists []string
	for _, s := range scalars() {
		for _, format := range []string{"- a: %s\n", "- %s: x\n", "- %s\n", "- {a: %s}\n", "- {%s: x}\n", "- a: x\n  %s: y\n", "- a: x\n- b: %s\n", "%s\n- a: x\n", "- a: x\n%s\n", "- a:\n    %s\n", "- a: x%s\n", "- a: \"x%s\"\n"} {
			lists = append(lists, fmt.Sprintf(format, s))
		}
	}
	return lists
}

func TestConjurDeliversWhatWasRead(t *testing.T) {
	read := 0
	for _, list := range hostileLists() {
		for _, p := range []secretref.Params{conjur(list), conjur(list, "conjur.org/configurationVersion", ""), conjur("", "conjur.org/configurationVersion", "0.1.0", "secrets", list), conjur("- b: y", "conjur.org/configurationVersion", "", "secrets", list)} {
			if diff := conjurDisagreement(p); diff != "" {
				t.Errorf("Read(%v, %v): %s", p.Parameters, p.PodAnnotations, diff)
			}
			if readConjur(p).Requests[0].ParseError == "" {
				read++
			}
		}
	}
	if read < 400 {
		t.Errorf("%d texts were read, want at least 400", read)
	}
}

// The control: without the rules the provider does fetch something else.
func TestConjurOracleDisagrees(t *testing.T) {
	for _, list := range []string{`- a: "other:variable:x"`, `- a: "x,other:variable:y"`, "- a: x\n- b: x"} {
		got := conjurOracle(conjur(list), true)
		naive := []fetched{{"https://conjur.example", "acme", "x", "a"}}
		if cmp.Equal(got, naive, cmp.AllowUnexported(fetched{})) {
			t.Errorf("the provider fetches %v for %q: it need not be refused", got, list)
		}
	}
}

func FuzzReadConjur(f *testing.F) {
	for _, e := range examples(f) {
		if p := e.Spec.Parameters; e.Spec.Provider == "conjur" {
			f.Add(p["conjur.org/configurationVersion"], p["applianceUrl"], p["account"], p["secrets"], e.Metadata.Annotations["conjur.org/secrets"])
		}
	}
	f.Add("0.2.0", "https://[::1]:8443/api/", "a", "", "- {a: x, 'b': \"y\"}\n-\n  c: z # d\n")
	f.Add("", "http://h", "a-b", "- a: b\n   c\n", "")
	f.Add("0.2.0", "https://u@h:443?x=y#z", "a", "", "- &a {a: x}\n- <<: *a\n  b: y\n")
	f.Add("0.2.0", "https://h", "a", "", `- a: "x,a:variable:y"`)
	f.Fuzz(func(t *testing.T, version, address, account, class, pod string) {
		p := conjur(pod, "conjur.org/configurationVersion", version, "applianceUrl", address, "account", account, "secrets", class)
		got := readConjur(p)
		if diff := cmp.Diff(got, readConjur(p)); diff != "" {
			t.Errorf("Read(%v) twice differs:\n%s", p, diff)
		}
		checkInvariants(t, "conjur", got.Requests)
		if diff := conjurDisagreement(p); diff != "" {
			t.Errorf("Read(%v): %s", p, diff)
		}
	})
}
