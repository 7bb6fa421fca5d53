package policies_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func TestEffectTellsMonitoredAllowsFromOthers(t *testing.T) {
	monitored := policiestest.Engine(t, "", policiestest.WithConfig("monitor: {until: 2026-02-01, rules: [\"*\"]}\n"))
	tests := []struct {
		decision policies.Decision
		want     policies.Effect
		allows   bool
	}{
		{policiestest.Allow(t), policies.EffectAllow, true},
		{monitored.Decide(t.Context(), policiestest.Input()), policies.EffectAllowedMonitored, true},
		{policiestest.Deny(t), policies.EffectDeny, false},
		{policiestest.Undecided(t), policies.EffectUndecided, false},
		{policies.Decision{}, policies.EffectUndecided, false},
	}
	for _, tt := range tests {
		if got := tt.decision.Effect(); got != tt.want || got.Allows() != tt.allows {
			t.Errorf("Effect() = %q, which allows: %v; want %q, %v", got, got.Allows(), tt.want, tt.allows)
		}
	}
}

// What Owners reads is what Contents copies, for bundles of both forms.
func TestOwnersAreThoseOfTheGrants(t *testing.T) {
	more := policiestest.Grants + `
- {id: G-2, owner: team-shop, expiry: 2126-12-31, namespaces: [shop], serviceAccounts: ["*"], provider: local, secrets: ["local://node/shop/x", "local://node/shop/y"]}
`
	b, err := bundle.LoadFS(policiestest.Files(more))
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/bundle.tar.gz"
	if err := bundle.WriteFile(path, b, false); err != nil {
		t.Fatal(err)
	}
	archived, err := bundle.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	want := policies.Owners{"G-1": "team-payments", "G-2": "team-shop"}
	for _, b := range []policies.Bundle{b, archived} {
		if diff := cmp.Diff(want, b.Owners()); diff != "" {
			t.Errorf("Owners() differs (-want +got):\n%s", diff)
		}
		if got := b.Owners().Owner("G-9"); got != "" {
			t.Errorf("Owner(G-9) = %q, want none", got)
		}
	}
	if got := (policies.Bundle{}).Owners(); len(got) != 0 {
		t.Errorf("Owners() of no bundle = %v, want none", got)
	}
}
