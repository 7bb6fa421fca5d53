package policies_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const classGrants = `
- {id: G-1, owner: o, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api, job], provider: local, secrets: ["local://node/payments/*"]}
- {id: G-2, owner: o, expiry: 2126-12-31, namespaces: [shop], serviceAccounts: [api], provider: local, secrets: ["local://node/payments/*"]}
- {id: G-3, owner: o, expiry: 2126-12-31, namespaceSelector: {team: red}, serviceAccounts: ["*"], provider: local, secrets: ["local://node/payments/db"]}
`

func TestGrantsInANamespace(t *testing.T) {
	e := policiestest.Engine(t, classGrants, policiestest.WithConfig("namespace_label_keys: [team]\n"))
	got, err := e.GrantsIn(t.Context(), "payments", map[string]string{"team": "red"}, []string{"local://node/payments/db", "local://node/other"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]policies.NamedGrant{
		"local://node/payments/db": {{ID: "G-1", ServiceAccount: "api"}, {ID: "G-1", ServiceAccount: "job"}, {ID: "G-3", ServiceAccount: "*"}},
		"local://node/other":       nil,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("GrantsIn() differs (-want +got):\n%s", diff)
	}
	if got, err := e.GrantsIn(t.Context(), "payments", map[string]string{"team": "blue"}, []string{"local://node/payments/db"}); err != nil || len(got["local://node/payments/db"]) != 2 {
		t.Errorf("GrantsIn() with another label = %v, %v, want those of G-1 alone", got, err)
	}
	if got, err := (*policies.Engine)(nil).GrantsIn(t.Context(), "payments", nil, []string{"x"}); err != nil || len(got["x"]) > 0 {
		t.Errorf("GrantsIn() without a bundle = %v, %v, want none", got, err)
	}
}

func TestMonitorEnd(t *testing.T) {
	e := policiestest.Engine(t, "", policiestest.WithConfig("monitor: {until: 2026-02-01, rules: [\"*\"]}\n"))
	if want := time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC); !e.MonitorEnd().Equal(want) {
		t.Errorf("MonitorEnd() = %v, want %v: the last day is included", e.MonitorEnd(), want)
	}
	if got := policiestest.Engine(t, "").MonitorEnd(); !got.IsZero() {
		t.Errorf("MonitorEnd() without monitor mode = %v, want zero", got)
	}
}
