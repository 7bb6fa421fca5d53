package policies_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func bundleOf(t *testing.T, grants string, options ...policiestest.Option) policies.Bundle {
	t.Helper()
	b, err := bundle.LoadFS(policiestest.Files(grants, options...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestContentsAreThoseOfTheBundle(t *testing.T) {
	c, err := bundleOf(t, policiestest.Grants, policiestest.WithConfig("namespace_label_keys: [team]\n")).Contents()
	if err != nil {
		t.Fatal(err)
	}
	records := c.Grants["payments/api"]["local://node/payments/"]
	if len(records) != 1 || records[0].ID != "G-1" || records[0].Owner != "team-payments" {
		t.Errorf("Contents().Grants = %v, want G-1 of team-payments below its subject and prefix", c.Grants)
	}
	if diff := cmp.Diff([]string{"team"}, c.NamespaceLabelKeys); diff != "" {
		t.Errorf("NamespaceLabelKeys differ (-want +got):\n%s", diff)
	}
}

func TestContentsRefusesWhatNothingReads(t *testing.T) {
	for name, data := range map[string]map[string]any{
		"unknown key": {"portcullis": map[string]any{"secrets": 1}},
		"no JSON":     {"portcullis": func() {}},
	} {
		if c, err := (policies.Bundle{Data: data}).Contents(); err == nil {
			t.Errorf("%s: Contents() = %v, nil, want an error", name, c)
		}
	}
}

// The library looks grants up by these keys; explanations by the same.
func TestSecretKeysAreTheLibrarys(t *testing.T) {
	const digest = policiestest.Digest
	ids := []string{
		"local://node/payments/db", "local://node/payments/db#user", "local://node/payments/db#user@3", "local://node/payments/db@3",
		"local://node/payments/db/x", "local://node/a", "unparsed:" + digest,
	}
	for _, pattern := range []string{
		"local://node/*", "local://node/payments/*", "local://node/payments/db", "local://node/payments/db#*",
		"local://node/payments/db#user", "local://node/payments/db@3", "local://node/payments/db#user@3", "unparsed:" + digest,
	} {
		grants := "- {id: G-1, owner: x, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: local, secrets: [\"" + pattern + "\"]}\n"
		e := policiestest.Engine(t, grants)
		c, err := bundleOf(t, grants).Contents()
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			d := e.Decide(t.Context(), policiestest.Input(func(in *policies.Input) {
				in.Requests = []policies.Request{{Secret: id, File: "f"}}
			}))
			filed := slices.ContainsFunc(policies.SecretKeys(id), func(key string) bool { return c.Grants["payments/api"][key] != nil })
			if allowed := d.Verdict() == policies.VerdictAllow; allowed != filed {
				t.Errorf("grant %s, secret %s: the library allows %t (%v), SecretKeys() says %t", pattern, id, allowed, d.Deny, filed)
			}
		}
	}
}
