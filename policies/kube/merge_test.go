package kube_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies/kube"
)

func merge(t *testing.T, parameters, volumeAttributes map[string]string) (kube.Effective, []string) {
	t.Helper()
	c := class()
	c.Spec.Parameters = parameters
	e, overrides, err := kube.Merge(c, volumeAttributes)
	if err != nil {
		t.Fatalf("Merge(%v, %v) = %v, want no error", parameters, volumeAttributes, err)
	}
	return e, overrides
}

// As upstream's maps.Copy does: the volume's attributes win.
func TestMerge(t *testing.T) {
	for _, test := range []struct {
		name              string
		parameters, attrs map[string]string
		want              map[string]string
		overrides         []string
	}{
		{"nothing but the class", map[string]string{"objects": "a"}, attributes(),
			map[string]string{"objects": "a", "secretProviderClass": "db"}, nil},
		{"changed", map[string]string{"objects": "a", "role": "r"}, attributes("objects", "b"),
			map[string]string{"objects": "b", "role": "r", "secretProviderClass": "db"}, []string{"objects"}},
		{"added", map[string]string{"objects": "a"}, attributes("role", "root"),
			map[string]string{"objects": "a", "role": "root", "secretProviderClass": "db"}, []string{"role"}},
		{"emptied", map[string]string{"objects": "a", "role": "r"}, attributes("role", ""),
			map[string]string{"objects": "a", "role": "", "secretProviderClass": "db"}, []string{"role"}},
		{"added empty", map[string]string{"objects": "a"}, attributes("role", ""),
			map[string]string{"objects": "a", "role": "", "secretProviderClass": "db"}, []string{"role"}},
		{"the same value", map[string]string{"objects": "a", "role": "r"}, attributes("role", "r"),
			map[string]string{"objects": "a", "role": "r", "secretProviderClass": "db"}, nil},
		{"other case is another name", map[string]string{"objects": "a"}, attributes("Objects", "b"),
			map[string]string{"objects": "a", "Objects": "b", "secretProviderClass": "db"}, []string{"Objects"}},
		{"sorted", map[string]string{"objects": "a"}, attributes("z", "1", "a", "2", "m", "3"),
			map[string]string{"objects": "a", "z": "1", "a": "2", "m": "3", "secretProviderClass": "db"}, []string{"a", "m", "z"}},
		{"class's own secretProviderClass loses", map[string]string{"objects": "a", "secretProviderClass": "x"}, attributes(),
			map[string]string{"objects": "a", "secretProviderClass": "db"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, overrides := merge(t, test.parameters, test.attrs)
			if diff := cmp.Diff(test.want, e.Attributes(nil)); diff != "" {
				t.Errorf("Merge(...) differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.overrides, overrides); diff != "" {
				t.Errorf("overrides differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMergeChangesNoObject(t *testing.T) {
	c, attrs := class(), attributes("objects", "b")
	before := c.DeepCopy()
	e, _, err := kube.Merge(c, attrs)
	if err != nil {
		t.Fatalf("Merge(...) = %v, want no error", err)
	}
	e.Attributes(nil)["objects"] = "changed"
	if diff := cmp.Diff(before, c); diff != "" {
		t.Errorf("Merge changed the class:\n%s", diff)
	}
	if got := e.Attributes(nil)["objects"]; got != "b" {
		t.Errorf("Attributes after a change = %q, want b", got)
	}
	attrs["objects"] = "changed"
	c.Spec.Parameters["objects"] = "changed"
	if got := e.Attributes(nil)["objects"]; got != "b" {
		t.Errorf("Attributes after a change of the objects = %q, want b", got)
	}
}

// What a pod's or a class's author must not be able to say.
func TestMergeRefuses(t *testing.T) {
	const ok = "- objectName: a"
	for _, test := range []struct {
		name              string
		provider          string
		parameters, attrs map[string]string
		field             string
		spoof             bool
	}{
		{"provider missing", "", map[string]string{"objects": ok}, attributes(), "spec.provider", false},
		{"provider is a path", "../x", map[string]string{"objects": ok}, attributes(), "spec.provider", false},
		{"provider too long", strings.Repeat("p", 31), map[string]string{"objects": ok}, attributes(), "spec.provider", false},
		{"provider with a newline", "local\n", map[string]string{"objects": ok}, attributes(), "spec.provider", false},
		{"no parameters", "local", nil, attributes(), "spec.parameters", false},
		{"no class", "local", map[string]string{"objects": ok}, map[string]string{"x": "y"}, `csi.volumeAttributes["secretProviderClass"]`, false},
		{"other class", "local", map[string]string{"objects": ok}, map[string]string{"secretProviderClass": "other"}, `csi.volumeAttributes["secretProviderClass"]`, false},
		{"mock provider", "local", map[string]string{"objects": ok}, attributes("providerName", "mock_provider"), `csi.volumeAttributes["providerName"]`, false},
		{"own provider", "local", map[string]string{"objects": ok}, attributes("providerName", "local"), `csi.volumeAttributes["providerName"]`, false},
		{"tokens by the pod", "local", map[string]string{"objects": ok}, attributes("csi.storage.k8s.io/serviceAccount.tokens", "{}"),
			`csi.volumeAttributes["csi.storage.k8s.io/serviceAccount.tokens"]`, true},
		{"pod name by the pod", "local", map[string]string{"objects": ok}, attributes("csi.storage.k8s.io/pod.name", "x"),
			`csi.volumeAttributes["csi.storage.k8s.io/pod.name"]`, true},
		{"unknown key of kubelet's", "local", map[string]string{"objects": ok}, attributes("csi.storage.k8s.io/x", "x"),
			`csi.volumeAttributes["csi.storage.k8s.io/x"]`, true},
		{"other case", "local", map[string]string{"objects": ok}, attributes("CSI.storage.k8s.io/pod.name", "x"),
			`csi.volumeAttributes["CSI.storage.k8s.io/pod.name"]`, true},
		{"tokens by the class", "local", map[string]string{"objects": ok, "csi.storage.k8s.io/serviceAccount.tokens": "{}"}, attributes(),
			`spec.parameters["csi.storage.k8s.io/serviceAccount.tokens"]`, true},
		{"name with an escape sequence", "local", map[string]string{"objects": ok}, attributes("\x1b[31mred", "x"), `csi.volumeAttributes["\x1b[31mred"]`, false},
		{"empty name", "local", map[string]string{"objects": ok}, attributes("", "x"), `csi.volumeAttributes[""]`, false},
		{"long name", "local", map[string]string{"objects": ok}, attributes(strings.Repeat("n", 254), "x"),
			`csi.volumeAttributes["` + strings.Repeat("n", 64) + `..."]`, false},
		{"value is not UTF-8", "local", map[string]string{"objects": ok}, attributes("x", "\xff"), `csi.volumeAttributes["x"]`, false},
		{"class's value is not UTF-8", "local", map[string]string{"objects": "\xff"}, attributes(), `spec.parameters["objects"]`, false},
		{"too large", "local", map[string]string{"objects": ok, "x": strings.Repeat("x", 64<<10)}, attributes(), "spec.parameters", false},
		{"too large together", "local", map[string]string{"objects": strings.Repeat("x", 40<<10)}, attributes("y", strings.Repeat("x", 40<<10)), "spec.parameters", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := class()
			c.Spec.Provider, c.Spec.Parameters = spcProvider(test.provider), test.parameters
			e, overrides, err := kube.Merge(c, test.attrs)
			field, ok := errors.AsType[*kube.FieldError](err)
			if !ok {
				t.Fatalf("Merge(...) = %v, want a *FieldError", err)
			}
			if field.Field != test.field || field.Remedy == "" || field.Problem == "" {
				t.Errorf("Merge(...) = field %q, problem %q, remedy %q, want field %q", field.Field, field.Problem, field.Remedy, test.field)
			}
			if _, spoof := errors.AsType[*kube.SpoofError](err); spoof != test.spoof {
				t.Errorf("Merge(...) = %T, want a *SpoofError: %t", err, test.spoof)
			}
			if e.Digest() != "" || len(e.Attributes(nil)) != 0 || overrides != nil {
				t.Errorf("Merge(...) = %v, %v besides an error, want zero values", e, overrides)
			}
		})
	}
}

// Every byte that the provider gets is in the digest, but for credentials.
func TestDigest(t *testing.T) {
	base := map[string]string{"objects": "- objectName: a", "role": "r"}
	seen := map[string]string{}
	for _, test := range []struct {
		name              string
		parameters, attrs map[string]string
	}{
		{"base", base, attributes()},
		{"other value", map[string]string{"objects": "- objectName: a", "role": "s"}, attributes()},
		{"other name", map[string]string{"objects": "- objectName: a", "rolf": "r"}, attributes()},
		{"white space", map[string]string{"objects": "- objectName:  a", "role": "r"}, attributes()},
		{"one more", map[string]string{"objects": "- objectName: a", "role": "r", "x": ""}, attributes()},
		{"moved border", map[string]string{"objects": "- objectName: a", "role": `r","x":"`}, attributes()},
		{"override", base, attributes("role", "t")},
		{"with a credential", map[string]string{"objects": "- objectName: a", "role": "r", "token": "1"}, attributes()},
	} {
		e, _ := merge(t, test.parameters, test.attrs)
		if other, ok := seen[e.Digest()]; ok {
			t.Errorf("Digest of %q = that of %q, want another", test.name, other)
		}
		seen[e.Digest()] = test.name
	}
	e, _ := merge(t, base, attributes())
	if same, _ := merge(t, maps.Clone(base), attributes("role", "r")); same.Digest() != e.Digest() {
		t.Errorf("Digest() of an equal map = %q, want %q", same.Digest(), e.Digest())
	}
}

// Grants for unparsed parameters and stored records hold digests, so the
// canonical form must not change.
func TestDigestIsStable(t *testing.T) {
	e, _ := merge(t, map[string]string{"b": "<&>\u2028ü", "a": "1"}, attributes())
	sum := sha256.Sum256([]byte(`{"a":"1","b":"\u003c\u0026\u003e\u2028ü","secretProviderClass":"db"}`))
	if want := hex.EncodeToString(sum[:]); e.Digest() != want {
		t.Errorf("Digest() = %q, want %q", e.Digest(), want)
	}
}

// Not even a digest of a literal credential leaves.
func TestDigestHidesCredentials(t *testing.T) {
	for _, provider := range []string{"local", "acme"} {
		with := func(password string) string {
			c := class()
			c.Spec.Provider = spcProvider(provider)
			c.Spec.Parameters["dbPassword"] = password
			e, _, err := kube.Merge(c, attributes())
			if err != nil {
				t.Fatalf("Merge(...) = %v, want no error", err)
			}
			return e.Digest()
		}
		if with("hunter2") != with("hunter3") {
			t.Errorf("Digest() of provider %s tells two passwords apart", provider)
		}
	}
}

// What was decided goes before what is rebuilt.
// A credential that stands behind another mistake is redacted all the same.
func TestDigestHidesCredentialsInObjects(t *testing.T) {
	for _, format := range []string{
		"- objectName: x\n  foo: y\n- objectName: z\n  password: %s\n",
		"- objectName: x\n\tpassword: %s\n",
		"array:\n- |\n  password: %s\n",
	} {
		digest := func(password string) string {
			e, _ := merge(t, map[string]string{"objects": fmt.Sprintf(format, password)}, attributes())
			return e.Digest()
		}
		if a, b := digest("hunter2"), digest("hunter3"); a != b {
			t.Errorf("Digest(%q) = %q with one password, %q with another, want the same", format, a, b)
		}
	}
}

func TestAttributes(t *testing.T) {
	e, _ := merge(t, map[string]string{"objects": "a"}, attributes())
	got := e.Attributes(map[string]string{"csi.storage.k8s.io/pod.name": "api-0", "objects": "other", "secretProviderClass": "other"})
	want := map[string]string{"objects": "a", "secretProviderClass": "db", "csi.storage.k8s.io/pod.name": "api-0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Attributes(...) differs (-want +got):\n%s", diff)
	}
}

func TestEffectiveIsOpaque(t *testing.T) {
	const canary = "Xcanary7"
	e, _ := merge(t, map[string]string{"objects": canary, canary: canary}, attributes("x", canary))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T%v"} {
		text := fmt.Sprintf(verb, e, e)
		if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
			t.Errorf("Sprintf(%q) = %s, want no %s", verb, text, canary)
		}
	}
	nested, err := json.Marshal(struct{ E kube.Effective }{e})
	if err != nil || strings.Contains(string(nested), canary) || !strings.Contains(string(nested), e.Digest()) {
		t.Errorf("Marshal(...) = %s, %v, want provider and digest only", nested, err)
	}
	var text, lines bytes.Buffer
	slog.New(slog.NewJSONHandler(&lines, nil)).Info("x", "effective", e)
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "effective", e)
	for _, log := range []string{text.String(), lines.String()} {
		if strings.Contains(log, canary) || !strings.Contains(log, e.Digest()) {
			t.Errorf("log = %s, want provider and digest only", log)
		}
	}
	if got := e.String(); got != "parameters of provider local, sha256 "+e.Digest() {
		t.Errorf("String() = %q, want provider and digest", got)
	}
}

func TestZeroEffective(t *testing.T) {
	var e kube.Effective
	if e.Digest() != "" || e.Provider() != "" || len(e.Attributes(nil)) != 0 {
		t.Errorf("zero Effective = %v with attributes %v, want nothing", e, e.Attributes(nil))
	}
}

func FuzzMerge(f *testing.F) {
	f.Add("local", "objects", "- objectName: a", "objects", "- objectName: b")
	f.Add("acme", "role", "x", "csi.storage.k8s.io/pod.name", "y")
	f.Add("acme", "password", "x", "providerName", "mock_provider")
	f.Add("", "\xff", "\xff", "secretProviderClass", "other")
	f.Add("acme", "csi.storage.k8s.io/serviceAccount.tokens", "{}", "CSI.STORAGE.K8S.IO/x", "y")
	f.Add("acme", "objects", "- objectName: a\n  password: b", "clientSecret", "x")
	f.Add("local\n", "a b", "x", "\x1b[2J", "y")
	f.Add("l\u043ecal", "objects", "", "", "")
	f.Fuzz(func(t *testing.T, provider, name, value, attr, attrValue string) {
		c := class()
		c.Spec.Provider = spcProvider(provider)
		c.Spec.Parameters = map[string]string{name: value}
		attrs := attributes(attr, attrValue)
		e, overrides, err := kube.Merge(c, attrs)
		if err != nil {
			if _, ok := errors.AsType[*kube.FieldError](err); !ok || e.Digest() != "" {
				t.Fatalf("Merge(...) = %v, %v, want a *FieldError and nothing else", e, err)
			}
			return
		}
		got := e.Attributes(nil)
		want := map[string]string{name: value}
		maps.Copy(want, attrs)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Merge(...) differs from maps.Copy (-want +got):\n%s", diff)
		}
		for k := range got {
			if strings.HasPrefix(strings.ToLower(k), "csi.storage.k8s.io/") || k == "providerName" && k == attr {
				t.Errorf("Merge(...) let %q through", k)
			}
			changed := k != "secretProviderClass" && (k != name || got[k] != value)
			if changed != contains(overrides, k) {
				t.Errorf("Merge(...) overrides = %q, want %q in it: %t", overrides, k, changed)
			}
		}
	})
}
