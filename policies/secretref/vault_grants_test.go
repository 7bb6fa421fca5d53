package secretref_test

import (
	"testing"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const vaultGrants = `
- {id: G-1, owner: a, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: vault,
   secrets: ["vault://v/kv/data/team/*"], scoping: {roleName: r, vaultAddress: "https://v"}}
- {id: G-2, owner: a, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: vault,
   secrets: ["vault://v,method=PUT/pki/issue/web%3F/*"], scoping: {roleName: r, vaultAddress: "https://v"}}
- {id: G-3, owner: a, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: vault,
   secrets: ["vault://v/one/a"], scoping: {roleName: r, vaultAddress: "https://v"}}
`

// What the patterns of grants cover of a Vault server, as the engine decides it.
func TestVaultGrants(t *testing.T) {
	engine := policiestest.Engine(t, vaultGrants)
	for _, test := range []struct {
		name, objects string
		want          policies.Verdict
	}{
		{"below", vaultEntry("secretPath: kv/data/team/db", "secretKey: k"), policies.VerdictAllow},
		{"below, with a query", vaultEntry("secretPath: kv/data/team/db?x=1"), policies.VerdictAllow},
		{"below, as a version", vaultEntry("secretPath: kv/data/team/db?version=2"), policies.VerdictAllow},
		{"the path itself", vaultEntry("secretPath: kv/data/team"), policies.VerdictDeny},
		{"the path itself with a query that is ignored", vaultEntry("secretPath: kv/data/team?x=1"), policies.VerdictDeny},
		{"the path itself with a version and more", vaultEntry("secretPath: kv/data/team?version=1&x=1"), policies.VerdictDeny},
		{"the path itself with arguments that are ignored", vaultEntry("secretPath: kv/data/team", "secretArgs: {x: 1}"), policies.VerdictDeny},
		{"beside", vaultEntry("secretPath: kv/data/team2"), policies.VerdictDeny},
		{"writing below", vaultEntry("secretPath: kv/data/team/db", "method: PUT"), policies.VerdictDeny},
		{"any arguments", vaultEntry("secretPath: pki/issue/web", "method: PUT", "secretArgs: {common_name: x}"), policies.VerdictAllow},
		{"arguments of another role", vaultEntry("secretPath: pki/issue/web2", "method: PUT", "secretArgs: {common_name: x}"), policies.VerdictDeny},
		{"below a role", vaultEntry("secretPath: pki/issue/web/x", "method: PUT", "secretArgs: {common_name: x}"), policies.VerdictDeny},
		{"one secret with a version", vaultEntry("secretPath: one/a?version=2"), policies.VerdictAllow},
		{"one secret with a query", vaultEntry("secretPath: one/a?x=1"), policies.VerdictDeny},
		{"one secret with a key", vaultEntry("secretPath: one/a", "secretKey: k"), policies.VerdictDeny},
	} {
		t.Run(test.name, func(t *testing.T) {
			reading := readAll("vault", vaultParameters(test.objects, "vaultAddress", "https://v"))
			d := engine.Decide(t.Context(), policiestest.Input(func(in *policies.Input) {
				in.SPC.Provider, in.SPC.Scoping, in.Requests = "vault", reading.Scoping, reading.Requests
			}))
			if d.Verdict() != test.want {
				t.Errorf("Decide(%+v, scoping %v) = %v (%v), want %v", reading.Requests, reading.Scoping, d.Verdict(), d.Undecided, test.want)
			}
		})
	}
}
