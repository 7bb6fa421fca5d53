package diff_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/diff"
	"github.com/portcullis-csi/portcullis/policies/explain"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// sides are bundles that differ in every way that a decision can.
func sides(t testing.TB) []diff.Side {
	t.Helper()
	check := func(text string) policiestest.Option { return policiestest.WithCheck("host", text) }
	shop := policiestest.Grants + "- {id: G-2, owner: team-shop, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [\"*\"], provider: local, secrets: [\"local://node/shop/x\"]}\n"
	waiver := policiestest.WithWaivers(`
- {id: W-1, finding: PR-300, namespace: payments, serviceAccount: api, reason: migration, ticket: T-1, approvedBy: security, expiry: 2026-02-01}
`)
	return []diff.Side{
		side(t, policiestest.Grants), side(t, ""), side(t, shop), side(t, shop, check(noHostPID)), side(t, shop, check(warns)), side(t, shop, check(breaks)),
		side(t, shop, check(strings.Replace(noHostPID, `"remove it"`, `"remove it", "waivable": true`, 1)), waiver), side(t, "", policiestest.WithConfig(monitored)),
		side(t, shop, policiestest.WithConfig("obligations: {ttl_seconds: 60}\n")),
	}
}

// weighted are inputs of a few workloads, with weights.
func weighted(random *rand.Rand, n int) []diff.Case {
	var all []diff.Case
	for i := range n {
		in := policiestest.Input(func(in *policies.Input) {
			in.Pod.Owner.Name = fmt.Sprint("app-", random.IntN(4))
			in.Pod.HostPID = random.IntN(3) == 0
			in.Subject.ServiceAccount = []string{"api", "worker"}[random.IntN(2)]
			switch random.IntN(4) {
			case 0:
				in.Requests[0].Secret = "local://node/shop/x"
			case 1:
				in.Requests = append(in.Requests, policies.Request{Secret: "local://node/shop/x", File: "x"})
			case 2:
				in.Cluster = []string{"test", "", "test"}[random.IntN(3)] // "" is out of bounds: neither decides
			}
		})
		all = append(all, diff.Case{Input: in, Weight: int64(random.IntN(4)), Example: fmt.Sprint("e-", i)})
	}
	return all
}

// counted is what a report has to say, by hand.
type counted struct {
	Cases, Decisions, Flips, Undecided int64
	Matrix                             map[string]int64
	ByWorkload                         map[string]int64 // decisions that flip
}

func countByHand(ctx context.Context, before, after diff.Side, cases []diff.Case) counted {
	c := counted{Matrix: map[string]int64{}, ByWorkload: map[string]int64{}}
	for _, k := range cases {
		from, to := explain.EffectOf(before.Engine.Decide(ctx, k.Input)), explain.EffectOf(after.Engine.Decide(ctx, k.Input))
		n := k.Weight
		if n == 0 {
			n = 1
		}
		c.Cases++
		c.Decisions += n
		c.Matrix[fmt.Sprintf("%s->%s", from, to)] += n
		if from != to {
			c.Flips += n
			c.ByWorkload[fmt.Sprintf("%s %s %s->%s", k.Input.Pod.Owner.Name, k.Input.Subject.ServiceAccount, from, to)] += n
		}
		if from == "error" && to == "error" {
			c.Undecided += n
		}
	}
	return c
}

// each hands over cases as they are.
func each(cases ...diff.Case) diff.Source {
	return func(_ context.Context, emit func(diff.Case) error) error {
		for _, k := range cases {
			if err := emit(k); err != nil {
				return err
			}
		}
		return nil
	}
}

// Weights come from files. Their sum stays what it is: very many, and never none.
func TestWeightsDoNotRunOver(t *testing.T) {
	in, shop := policiestest.Input(), policiestest.Input(func(in *policies.Input) { in.Pod.Owner.Name = "shop" })
	c := diff.Config{Old: side(t, policiestest.Grants), New: side(t, "")}
	for name, cases := range map[string][]diff.Case{
		"one workload":  {{Input: in, Weight: math.MaxInt64}, {Input: in, Weight: math.MaxInt64}, {Input: in, Weight: 2}},
		"two workloads": {{Input: in, Weight: math.MaxInt64}, {Input: shop, Weight: math.MaxInt64}},
		"just over":     {{Input: in, Weight: math.MaxInt64}, {Input: in}},
	} {
		r := run(t, c, each(cases...))
		for what, n := range map[string]int64{
			"flips": r.Flips, "decisions": r.Decisions, "of the owner": r.Owners[0].Flips, "in the matrix": r.Matrix["allow->deny"], "of the workload": r.Flipped[0].Count,
		} {
			if n != math.MaxInt64 {
				t.Errorf("%s: %d %s, want as many as can be counted", name, n, what)
			}
		}
	}
	r := run(t, c, each(diff.Case{Input: in, Weight: -5}, diff.Case{Input: in, Weight: math.MinInt64}))
	if r.Decisions != 2 || r.Flips != 2 || r.Flipped[0].Count != 2 {
		t.Errorf("Run() = %+v, want each case to count once", r)
	}
	c.New = side(t, policiestest.Grants, policiestest.WithConfig("obligations: {ttl_seconds: 60}\n"))
	r = run(t, c, each(diff.Case{Input: in, Weight: math.MaxInt64}, diff.Case{Input: in, Weight: 7}))
	if r.Changes != math.MaxInt64 || r.Flips != 0 {
		t.Errorf("Run() = %d changes, %d flips, want as many changes as can be counted", r.Changes, r.Flips)
	}
	broken := policiestest.Input(func(in *policies.Input) { in.Cluster = "" })
	if r = run(t, c, each(diff.Case{Input: broken, Weight: math.MaxInt64}, diff.Case{Input: broken, Weight: 7})); r.Undecided != math.MaxInt64 {
		t.Errorf("Run() = %d undecided, want as many as can be counted", r.Undecided)
	}
}

// Names of owners are anybody's. No name makes two workloads look like one.
func TestWorkloadsAreToldApart(t *testing.T) {
	named := func(kind, name string) diff.Case {
		return diff.Case{Input: policiestest.Input(func(in *policies.Input) { in.Pod.Owner = &policies.Owner{Kind: kind, Name: name} })}
	}
	c := diff.Config{Old: side(t, policiestest.Grants), New: side(t, "")}
	for name, cases := range map[string][]diff.Case{
		"a zero byte in the name": {named("A", "b\x00c"), named("A\x00b", "c")},
		"another kind":            {named("A", "b"), named("B", "b")},
		"a name of commas":        {named("A", "b,c"), named("A", "b")},
	} {
		if r := run(t, c, each(cases...)); len(r.Flipped) != 2 || r.Flips != 2 {
			t.Errorf("%s: %d workloads, want two", name, len(r.Flipped))
		}
	}
	if r := run(t, c, each(named("A", "b"), named("A", "b"))); len(r.Flipped) != 1 || r.Flipped[0].Count != 2 {
		t.Errorf("Run() = %+v, want one workload of two decisions", r.Flipped)
	}
}

// A flip names all owners whose grants make it, each once; and of what no grant
// makes, those that answer for the secret.
func TestOwnersOfAFlip(t *testing.T) {
	const second = "- {id: G-2, owner: team-shop, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: local, secrets: [\"local://node/shop/x\"]}\n"
	const third = "- {id: G-3, owner: team-payments, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: local, secrets: [\"local://node/shop/y\"]}\n"
	in := policiestest.Input(func(in *policies.Input) {
		in.Pod.HostPID = true
		for _, name := range []string{"x", "y"} {
			in.Requests = append(in.Requests, policies.Request{Secret: "local://node/shop/" + name, File: name})
		}
	})
	all := policiestest.Grants + second + third
	for name, test := range map[string]struct {
		after diff.Side
		want  []diff.OwnerCount
	}{
		"all grants go":  {side(t, ""), []diff.OwnerCount{{Owner: "team-payments", Flips: 3}, {Owner: "team-shop", Flips: 3}}},
		"one grant goes": {side(t, policiestest.Grants+third), []diff.OwnerCount{{Owner: "team-shop", Flips: 3}}},
		"a check comes":  {side(t, all, policiestest.WithCheck("host", noHostPID)), []diff.OwnerCount{{Owner: "team-payments", Flips: 3}, {Owner: "team-shop", Flips: 3}}},
	} {
		r := run(t, diff.Config{Old: side(t, all), New: test.after}, each(diff.Case{Input: in, Weight: 3}))
		if name == "one grant goes" {
			// A denial names the grants that serve what is left, so that only one is gone.
			if len(r.Flipped) != 1 || len(r.Flipped[0].GrantsGone) == 0 {
				t.Errorf("%s: Flipped = %+v, want the grant that is gone", name, r.Flipped)
			}
		}
		if diff := cmp.Diff(test.want, r.Owners); diff != "" {
			t.Errorf("%s: Owners differ (-want +got):\n%s", name, diff)
		}
	}
	r := run(t, diff.Config{Old: side(t, "", policiestest.WithConfig(monitored)), New: side(t, "")}, each(diff.Case{Input: in}))
	if want := []diff.OwnerCount{{Owner: "", Flips: 1}}; !cmp.Equal(want, r.Owners) {
		t.Errorf("Owners of a flip without grants = %v, want nobody's", r.Owners)
	}
}
