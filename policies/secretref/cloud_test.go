package secretref_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// delivery is what a provider does for one file: what it asks its backend for,
// and the file that it returns.
type delivery struct {
	Fetch string
	File  string
	Mode  string // octal, "" if the class asks for none
}

// oracle is a provider's own way to read its parameters. It returns an error
// where the provider does, which then delivers nothing.
type oracle struct {
	name    string
	deliver func(parameters map[string]string) ([]delivery, error)
}

// cloud is one of the cloud providers, with what stands for the provider's code.
type cloud struct {
	provider string
	list     string
	oracles  []oracle
	// fetch is what the provider would ask its backend for to get this secret.
	fetch func(id secretref.ID) string
	base  map[string]string // parameters that are read
	// credential is a list in which %s is part of a name.
	credential string
}

func clouds() []cloud { return []cloud{awsCloud(), azureCloud(), gcpCloud()} }

func paramsOf(provider string, parameters map[string]string) secretref.Params {
	return secretref.Params{Provider: provider, Parameters: parameters, Digest: digest}
}

// with returns the base parameters with some changed.
func (c cloud) with(changes ...string) map[string]string {
	m := map[string]string{}
	for name, value := range c.base {
		m[name] = value
	}
	for i := 0; i+1 < len(changes); i += 2 {
		m[changes[i]] = changes[i+1]
	}
	return m
}

func (c cloud) read(parameters map[string]string) secretref.Reading {
	return secretref.For(c.provider).Read(paramsOf(c.provider, parameters))
}

// disagreement says which oracle would deliver something else than the reading
// says, if it says anything.
func (c cloud) disagreement(parameters map[string]string) string {
	requests := c.read(parameters).Requests
	if requests[0].ParseError != "" {
		return ""
	}
	got := make([]delivery, len(requests))
	for i, r := range requests {
		id, err := secretref.Parse(r.Secret)
		if err != nil || !policies.ValidSecret(r.Secret) {
			return fmt.Sprintf("secret %q: %v, want one that a grant can name", r.Secret, err)
		}
		got[i] = delivery{Fetch: c.fetch(id), File: r.File}
		if r.Mode != nil {
			got[i].Mode = fmt.Sprintf("%04o", *r.Mode)
		}
	}
	for _, o := range c.oracles {
		want, err := o.deliver(parameters)
		if err != nil {
			continue
		}
		if diff := gocmp.Diff(sorted(want), sorted(got)); diff != "" {
			return fmt.Sprintf("%s delivers something else (-delivered +read):\n%s", o.name, diff)
		}
	}
	return ""
}

func sorted(d []delivery) []delivery {
	d = slices.Clone(d)
	slices.SortFunc(d, func(a, b delivery) int { return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Fetch, b.Fetch)) })
	return d
}

// checkTexts compares hostile texts with every oracle, and wants some of them
// to be read, since refusing everything would agree with everybody.
func (c cloud) checkTexts(t *testing.T, formats []string, minimum int) {
	t.Helper()
	read := 0
	for _, format := range formats {
		for _, scalar := range scalars() {
			parameters := c.with(c.list, strings.ReplaceAll(format, "%s", scalar))
			if diff := c.disagreement(parameters); diff != "" {
				t.Errorf("Read(%q): %s", parameters[c.list], diff)
			}
			if c.read(parameters).Requests[0].ParseError == "" {
				read++
			}
		}
	}
	if read < minimum {
		t.Errorf("%d texts were read, want at least %d", read, minimum)
	}
}

// checkFuzzed holds for whatever a class says.
func (c cloud) checkFuzzed(t *testing.T, parameters map[string]string) {
	t.Helper()
	start := time.Now()
	reading := c.read(parameters)
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("Read(%q) took %v", parameters, d)
	}
	if diff := gocmp.Diff(reading, c.read(parameters)); diff != "" {
		t.Errorf("Read(%q) twice differs:\n%s", parameters, diff)
	}
	checkInvariants(t, c.provider, reading.Requests)
	if diff := c.disagreement(parameters); diff != "" {
		t.Errorf("Read(%q): %s", parameters, diff)
	}
}

// The published examples are what the oracles are right about.
func TestCloudExamplesAgree(t *testing.T) {
	agreed := map[string]int{}
	for path, e := range examples(t) {
		for _, c := range clouds() {
			if c.provider != e.Spec.Provider {
				continue
			}
			if diff := c.disagreement(e.Spec.Parameters); diff != "" {
				t.Errorf("%s: %s", path, diff)
			}
			if c.read(e.Spec.Parameters).Requests[0].ParseError != "" {
				continue
			}
			for _, o := range c.oracles {
				if _, err := o.deliver(e.Spec.Parameters); err != nil {
					t.Errorf("%s: %s delivers nothing: %v", path, o.name, err)
				}
			}
			agreed[c.provider]++
		}
	}
	for _, c := range clouds() {
		if agreed[c.provider] < 6 {
			t.Errorf("%d examples of %s were read, want at least 6", agreed[c.provider], c.provider)
		}
	}
}

// What a grant must list is seen, whatever it is set to.
func TestCloudScopingIsSeen(t *testing.T) {
	for _, c := range clouds() {
		for _, name := range syntaxOf(t, c.provider).Scoping {
			for _, value := range []string{"one", "two", "true", "<id>"} {
				got := c.read(c.with(name, value)).Scoping
				if got[name] != value {
					t.Errorf("Read(%s, %s: %q).Scoping = %v, want the value", c.provider, name, value, got)
				}
			}
			if _, ok := c.read(c.with(name, "")).Scoping[name]; ok {
				t.Errorf("Read(%s, %s: nothing).Scoping has it, want it left out: no grant can list it", c.provider, name)
			}
		}
	}
}

func syntaxOf(t *testing.T, provider string) secretref.Syntax {
	t.Helper()
	for _, s := range secretref.Syntaxes() {
		if s.Provider == provider {
			return s
		}
	}
	t.Fatalf("no syntax of %q", provider)
	return secretref.Syntax{}
}

// The provider may read tomorrow what it does not read today.
func TestCloudRefusesUnknownParameters(t *testing.T) {
	for _, c := range clouds() {
		for _, name := range []string{"roleArn", "Region", "KeyvaultName", "Objects", "Secrets", "Auth", "endpoint", "x"} {
			checkUnparsed(t, c.read(c.with(name, "x")).Requests, "not known for this provider")
		}
	}
}

// Nobody wrote these into a class: kubelet and the driver add them.
func TestCloudIgnoresWhatTheDriverAdds(t *testing.T) {
	for _, c := range clouds() {
		want := c.read(c.base)
		if want.Requests[0].ParseError != "" {
			t.Fatalf("Read(%s) = %+v, want it read", c.provider, want.Requests)
		}
		got := c.read(c.with("secretProviderClass", "x", "csi.storage.k8s.io/pod.name", "x", "csi.storage.k8s.io/serviceAccount.tokens", `{"a":{"token":"x"}}`))
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("Read(%s) differs with the driver's own (-without +with):\n%s", c.provider, diff)
		}
	}
}

// No value of a literal credential leaves, in whichever parameter it stands.
func TestCloudReadingsHoldNoCredential(t *testing.T) {
	const canary = "Xcanary7"
	for _, c := range clouds() {
		s := syntaxOf(t, c.provider)
		cases := map[string]map[string]string{
			"unknown": c.with("clientSecret", canary),
			"field":   c.with(c.list, "- objectName: a\n  password: "+canary),
			"name":    c.with(c.list, fmt.Sprintf(c.credential, "https://user:"+canary+"@x")),
		}
		for _, name := range s.Scoping {
			cases[name] = c.with(name, "https://user:"+canary+"@host")
		}
		for name, parameters := range cases {
			reading := c.read(parameters)
			text, err := json.Marshal(reading)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), canary) {
				t.Errorf("Read(%s, %s) = %s, want no %s", c.provider, name, text, canary)
			}
			if len(reading.LiteralCredentials) != 1 {
				t.Errorf("Read(%s, %s).LiteralCredentials = %v, want one", c.provider, name, reading.LiteralCredentials)
			}
			for _, safe := range reading.Safe {
				if strings.Contains(parameters[safe], canary) {
					t.Errorf("Read(%s, %s).Safe has %s, whose value is a credential", c.provider, name, safe)
				}
			}
		}
	}
}

// Legitimate parameters must not be taken for credentials, which would deny
// what providers publish.
func TestCloudParametersAreNoCredentials(t *testing.T) {
	for _, c := range clouds() {
		for _, name := range append(syntaxOf(t, c.provider).Scoping, "pathTranslation", "resourceGroup", "subscriptionId") {
			if got := c.read(c.with(name, "value")).LiteralCredentials; got != nil {
				t.Errorf("Read(%s, %s).LiteralCredentials = %v, want none", c.provider, name, got)
			}
		}
	}
	for path, e := range examples(t) {
		if !slices.Contains([]string{"aws", "azure", "gcp"}, e.Spec.Provider) {
			continue
		}
		if got := secretref.For(e.Spec.Provider).Read(e.params()).LiteralCredentials; got != nil {
			t.Errorf("Read(%s).LiteralCredentials = %v, want none", path, got)
		}
	}
}

func TestCloudStaysFastOnHostileText(t *testing.T) {
	for _, c := range clouds() {
		for name, text := range map[string]string{
			"flow":    strings.Repeat("[", 60<<10),
			"dashes":  strings.Repeat("- ", 30<<10),
			"aliases": "- &a [x]\n" + strings.Repeat("- [*a, *a]\n", 5<<10),
			"array":   "array:\n" + strings.Repeat("- |\n  [[[[\n", 4<<10),
			"nested":  "array:\n- |\n" + strings.Repeat("  a: b\n", 8<<10),
		} {
			start := time.Now()
			checkUnparsed(t, c.read(c.with(c.list, text)).Requests, "")
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("Read(%s, %s) took %v", c.provider, name, d)
			}
		}
	}
}
