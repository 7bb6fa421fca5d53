package shadow_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/diff"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/shadow"
)

// variety are bundles that differ in every way that a decision can.
func variety(t testing.TB) []policy {
	waivable := policiestest.WithCheck("host", `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.host

deny contains {"id": "PR-300", "severity": "high", "message": "no", "remediation": "remove it", "waivable": true} if input.pod.hostPID
`)
	waiver := policiestest.WithWaivers(`
- {id: W-1, finding: PR-300, namespace: payments, serviceAccount: api, reason: migration, ticket: T-1, approvedBy: security, expiry: 2026-02-01}
`)
	all := policiestest.Grants + shopGrant
	return []policy{
		load(t, policiestest.Grants, serial("1")), load(t, "", serial("2")), load(t, all, serial("3")), load(t, all, serial("4"), hostCheck()),
		load(t, all, serial("5"), waivable, waiver), load(t, "", serial("6"), policiestest.WithConfig(monitored)),
		load(t, all, serial("7"), policiestest.WithConfig("obligations: {ttl_seconds: 60}\n")),
	}
}

// various are inputs of a few workloads.
func various(random *rand.Rand, n int) []policies.Input {
	all := make([]policies.Input, 0, n)
	for range n {
		all = append(all, policiestest.Input(func(in *policies.Input) {
			in.Pod.Owner.Name = fmt.Sprint("app-", random.IntN(4))
			in.Pod.HostPID = random.IntN(3) == 0
			in.Subject.PodUID = fmt.Sprint("u-", random.IntN(9))
			in.Subject.ServiceAccount = []string{"api", "worker"}[random.IntN(2)]
			in.NowNS += int64(random.IntN(40)) * 24 * 3600 * 1e9 // past the end of the waiver
			switch random.IntN(4) {
			case 0:
				in.Requests[0].Secret = "local://node/shop/x"
			case 1:
				in.Requests = append(in.Requests, policies.Request{Secret: "local://node/shop/x", File: "x"})
			case 2:
				in.Cluster = []string{"test", "", "test"}[random.IntN(3)] // "" is out of bounds: neither decides
			}
		}))
	}
	return all
}

// What a shadow says of decisions as they come is what policy diff says of their
// recorded inputs: the same flips, word for word and number for number.
func TestAShadowAgreesWithDiff(t *testing.T) {
	all := variety(t)
	random := rand.New(rand.NewPCG(7, 11))
	flips := int64(0)
	for i, before := range all {
		for j, after := range all {
			if i == j {
				continue
			}
			inputs := various(random, 24)
			g := newGate(t, before, after)
			for _, in := range inputs {
				g.Observe(before.engine.Decide(t.Context(), in))
			}
			g.Drain(t.Context())
			got := g.Report()
			want, err := diff.Run(t.Context(), diff.Config{Old: side(before), New: side(after), Workers: 2}, func(_ context.Context, emit func(diff.Case) error) error {
				for _, in := range inputs {
					if err := emit(diff.Case{Input: in, Example: before.engine.Decide(t.Context(), in).ID}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprint("bundles ", i, " and ", j)
			if got.Compared != want.Decisions || got.Total() != want.Flips || got.Changes != want.Changes || got.Undecided != want.Undecided {
				t.Errorf("%s: %d compared, %d flips, %d changes, %d undecided; diff has %d, %d, %d, %d", name,
					got.Compared, got.Total(), got.Changes, got.Undecided, want.Decisions, want.Flips, want.Changes, want.Undecided)
			}
			for what, d := range map[string]string{
				"matrix": gocmp.Diff(want.Matrix, got.Matrix), "owners": gocmp.Diff(owners(want.Owners), got.Owners, cmpopts.EquateEmpty()),
				"flips": gocmp.Diff(want.Flipped, changes(got.Flipped), cmpopts.IgnoreUnexported(diff.Change{})),
			} {
				if d != "" {
					t.Errorf("%s: the %s differ (-diff +shadow):\n%s", name, what, d)
				}
			}
			flips += got.Total()
		}
	}
	if flips < 200 {
		t.Errorf("%d flips in all: the test is broken", flips)
	}
}

func side(p policy) diff.Side { return diff.Side{Engine: p.engine, Grants: p.bundle.Owners()} }

func owners(list []diff.OwnerCount) []shadow.Count {
	var counts []shadow.Count
	for _, o := range list {
		counts = append(counts, shadow.Count{Name: o.Owner, Decisions: o.Flips})
	}
	return counts
}

// changes are those of the groups, in the order of policy diff.
func changes(groups []shadow.Group) []diff.Change {
	list := make([]diff.Change, 0, len(groups))
	for _, g := range groups {
		list = append(list, g.Change)
	}
	slices.SortFunc(list, func(a, b diff.Change) int { return cmp.Compare(a.Key(), b.Key()) })
	return list
}
