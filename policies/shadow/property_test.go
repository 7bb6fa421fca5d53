package shadow_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

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
