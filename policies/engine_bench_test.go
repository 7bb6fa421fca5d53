package policies_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// engineOf compiles the check of the starter policy with n grants, one of
// which covers what tenRequests asks for.
func engineOf(tb testing.TB, n int) *policies.Engine {
	tb.Helper()
	grants := make([]bundle.Grant, 0, n)
	for i := range n {
		team := fmt.Sprintf("team-%d", i)
		grants = append(grants, bundle.Grant{
			ID: fmt.Sprintf("G-%d", i), Owner: team, Expiry: "2126-12-31", Namespaces: []string{team},
			ServiceAccounts: []string{"api"}, Provider: "local", MaxFileMode: new("0440"),
			Secrets: []string{fmt.Sprintf("local://node/%s/*", team)},
		})
	}
	index, err := bundle.IndexGrants(grants, nil)
	if err != nil {
		tb.Fatal(err)
	}
	b := policies.Bundle{
		Modules:  map[string]string{"portcullis/checks/tier/tier.rego": tierCheck},
		Manifest: policies.Manifest{Contract: policies.Contract, Serial: 1},
		Digest:   "sha256:" + policiestest.Digest,
		Data: map[string]any{"portcullis": map[string]any{
			"config": map[string]any{"required_checks": []string{"tier"}, "obligations": map[string]any{"ttl_seconds": 3600}},
			"grants": map[string]any{"by_subject": index},
		}},
	}
	e, err := policies.Compile(tb.Context(), b, policies.Options{Budget: 30 * time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

const tierCheck = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.tier

deny contains finding if {
	some container in input.pod.containers
	container.privileged
	finding := {"id": "PR-300", "severity": "high", "message": "privileged"}
}

obligations := {"audit_level": 1}
`

// tenRequests is an input that asks for ten secrets in four containers.
func tenRequests(in *policies.Input) {
	in.Subject.Namespace = "team-7"
	in.Requests = nil
	for i := range 10 {
		in.Requests = append(in.Requests, policies.Request{
			Secret: fmt.Sprintf("local://node/team-7/app/db/secret-%d#password", i), File: fmt.Sprintf("secret-%d", i),
		})
	}
	for i := range 3 {
		c := in.Pod.Containers[0]
		c.Name = fmt.Sprintf("sidecar-%d", i)
		in.Pod.Containers = append(in.Pod.Containers, c)
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e, in := engineOf(b, n), policiestest.Input(tenRequests)
			b.ReportAllocs()
			for b.Loop() {
				if d := e.Decide(b.Context(), in); d.Verdict() != policies.VerdictAllow {
					b.Fatalf("Decide() = %v %v %v, want allow", d.Verdict(), d.Deny, d.Cause())
				}
			}
		})
	}
}

// BenchmarkCompile is what a reload costs a node.
func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{10, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				engineOf(b, n)
			}
		})
	}
}

// TestDecideCostsTheSameForAnyNumberOfGrants compares allocations, which the
// load of the machine does not change.
func TestDecideCostsTheSameForAnyNumberOfGrants(t *testing.T) {
	in := policiestest.Input(tenRequests)
	allocations := func(n int) float64 {
		e := engineOf(t, n)
		return testing.AllocsPerRun(20, func() {
			if d := e.Decide(t.Context(), in); d.Verdict() != policies.VerdictAllow {
				t.Fatalf("Decide() = %v (%v, %v), want allow", d.Verdict(), d.Deny, d.Cause())
			}
		})
	}
	few, many := allocations(10), allocations(10000)
	if many > few*1.02 || many < few*0.98 {
		t.Errorf("Decide() allocates %v times at 10 grants and %v times at 10000, want the same", few, many)
	}
	if few > 9000 {
		t.Errorf("Decide() allocates %v times for ten secrets, want at most 9000", few)
	}
}
