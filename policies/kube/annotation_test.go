package kube_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// conjurClass takes its list from the pod, unless it says another version.
func conjurClass(changes ...string) func(*kube.Facts) {
	return ofClass(func(s *spcv1.SecretProviderClassSpec) {
		s.Provider = "conjur"
		s.Parameters = map[string]string{"account": "acme", "applianceUrl": "https://conjur.example", "identity": "host/api"}
		for i := 0; i+1 < len(changes); i += 2 {
			s.Parameters[changes[i]] = changes[i+1]
		}
	})
}

func annotation(name, value string) func(*kube.Facts) {
	return func(f *kube.Facts) { f.Pod.Annotations = map[string]string{name: value} }
}

const conjurList = "conjur.org/secrets"

// What the pod says in place of the class is part of what is decided on: a grant
// of parameters in full must not be one of any annotation.
func TestP3AnnotationsOfTheListAreInTheDigest(t *testing.T) {
	seen := map[string]string{}
	for name, changes := range map[string][]func(*kube.Facts){
		"none":                 {conjurClass()},
		"one":                  {conjurClass(), annotation(conjurList, "- a: x")},
		"another":              {conjurClass(), annotation(conjurList, "- a: w")},
		"unreadable":           {conjurClass(), annotation(conjurList, "- a")},
		"unreadable too":       {conjurClass(), annotation(conjurList, "- b")},
		"from the class":       {conjurClass("conjur.org/configurationVersion", "0.1.0", "secrets", "- a: x"), annotation(conjurList, "- a: w")},
		"spelt as a parameter": {conjurClass(conjurList, "- a: x")},
	} {
		in := build(t, changes...)
		if other, ok := seen[in.SPC.ParametersSHA256]; ok {
			t.Errorf("digest of %q is that of %q", name, other)
		}
		seen[in.SPC.ParametersSHA256] = name
	}
	for name, changes := range map[string][]func(*kube.Facts){
		"none":           {conjurClass(), annotation("other", "- a: x")},
		"from the class": {conjurClass("conjur.org/configurationVersion", "0.1.0", "secrets", "- a: x"), annotation(conjurList, "- a: other")},
	} {
		if got := seen[build(t, changes...).SPC.ParametersSHA256]; got != name {
			t.Errorf("digest with an annotation that is not read = that of %q, want %q", got, name)
		}
	}
	_, _, err := kube.BuildInput(facts(conjurClass(), annotation(conjurList, "- a: \xff")))
	if bad, ok := errors.AsType[*kube.FieldError](err); !ok || bad.Field != `metadata.annotations["conjur.org/secrets"]` {
		t.Errorf("BuildInput(annotation that is not UTF-8) = %v, want a *FieldError of it", err)
	}
}

// The provider's own ids go along with the parameters, and only theirs.
func TestEffectiveKnowsTheProvidersIDs(t *testing.T) {
	for _, test := range []struct {
		name    string
		changes []func(*kube.Facts)
		want    []string
	}{
		{"conjur", []func(*kube.Facts){conjurClass(), annotation(conjurList, "- a: x\n- b: w")}, []string{"x", "w"}},
		{"unreadable", []func(*kube.Facts){conjurClass(), annotation(conjurList, "- a")}, []string{}},
		{"unreadable in the class", []func(*kube.Facts){conjurClass("conjur.org/configurationVersion", "0.1.0", "secrets", "- a")}, nil},
		{"provider with ids of its own", nil, nil},
	} {
		_, e, err := kube.BuildInput(facts(test.changes...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, e.ObjectIDs()); diff != "" {
			t.Errorf("ObjectIDs(%s) differs (-want +got):\n%s", test.name, diff)
		}
	}
}

// Grants for both providers, decided by a real engine.
func TestDecisionsAboutConjurAndAkeyless(t *testing.T) {
	const format = `
- id: G-%s
  owner: team-payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: %s
  secrets: [%q]
  scoping: %s
`
	engine := policiestest.Engine(t, fmt.Sprintf(format, "1", "conjur", "conjur://conjur.example,acme/prod/*",
		`{account: acme, applianceUrl: "https://conjur.example", identity: host/api}`)+
		fmt.Sprintf(format, "2", "conjur", "conjur://http:%2F%2Fconjur.example,acme/prod/*", `{account: acme, applianceUrl: "http://conjur.example", identity: host/api}`)+
		fmt.Sprintf(format, "3", "akeyless", "akeyless://gw.example:8081/prod/*", `{akeylessGatewayURL: "https://gw.example:8081", akeylessAccessType: k8s}`))
	akeyless := func(changes ...string) func(*kube.Facts) {
		return ofClass(func(s *spcv1.SecretProviderClassSpec) {
			s.Provider = "akeyless"
			s.Parameters = map[string]string{
				"akeylessGatewayURL": "https://gw.example:8081", "akeylessAccessType": "k8s", "objects": "- {secretPath: /prod/db, fileName: db}",
			}
			for i := 0; i+1 < len(changes); i += 2 {
				s.Parameters[changes[i]] = changes[i+1]
			}
		})
	}
	list := annotation(conjurList, "- db: prod/db")
	for _, test := range []struct {
		name    string
		changes []func(*kube.Facts)
		want    string // a rule that fires; "" for an allow
	}{
		{"conjur", []func(*kube.Facts){conjurClass(), list}, ""},
		{"conjur, without TLS", []func(*kube.Facts){conjurClass("applianceUrl", "http://conjur.example"), list}, ""},
		{"conjur, another variable", []func(*kube.Facts){conjurClass(), annotation(conjurList, "- db: admin/db")}, "PR-001"},
		{"conjur, another account", []func(*kube.Facts){conjurClass("account", "other"), list}, "PR-001"},
		{"conjur, another identity", []func(*kube.Facts){conjurClass("identity", "host/root"), list}, "PR-020"},
		{"conjur, no identity", []func(*kube.Facts){conjurClass("identity", ""), list}, "PR-020"},
		{"conjur, a certificate", []func(*kube.Facts){conjurClass("sslCertificate", "-----BEGIN CERTIFICATE-----"), list}, "PR-020"},
		{"conjur, unreadable", []func(*kube.Facts){conjurClass(), annotation(conjurList, "- db")}, "PR-013"},
		{"akeyless", []func(*kube.Facts){akeyless()}, ""},
		{"akeyless, another secret", []func(*kube.Facts){akeyless("objects", "- {secretPath: /admin/db, fileName: db}")}, "PR-001"},
		{"akeyless, the provider's own gateway", []func(*kube.Facts){akeyless("akeylessGatewayURL", "")}, "PR-001"},
		{"akeyless, another identity", []func(*kube.Facts){akeyless("akeylessAccessID", "p-1")}, "PR-020"},
		{"akeyless, an access key", []func(*kube.Facts){akeyless("akeylessAccessKey", "x")}, "PR-120"},
		{"akeyless, unknown parameter", []func(*kube.Facts){akeyless("vaultSkipTLSVerify", "true")}, "PR-013"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := engine.Decide(t.Context(), build(t, test.changes...))
			ids := policies.RuleIDs(d.Deny)
			if allowed := d.Verdict() == policies.VerdictAllow; allowed != (test.want == "") || !allowed && !contains(ids, test.want) {
				t.Errorf("Decide(%s) = %v with rules %q, want %q", test.name, d.Verdict(), ids, test.want)
			}
		})
	}
}
