//go:build !race

// Thousands of decisions: nothing for the race detector, which takes some ten times as
// long. The workers have tests of their own.

package diff_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies/diff"
)

// Between any two bundles, every flip that deciding by hand finds is in the report,
// under its workload, with its weight; and none more.
func TestNoFlipIsMissed(t *testing.T) {
	all := sides(t)
	random := rand.New(rand.NewPCG(3, 9))
	flips := int64(0)
	for i, before := range all {
		for j, after := range all {
			cases := weighted(random, 12)
			r := run(t, diff.Config{Old: before, New: after, Verbose: true, Workers: 2}, func(_ context.Context, emit func(diff.Case) error) error {
				for _, k := range cases {
					if err := emit(k); err != nil {
						return err
					}
				}
				return nil
			})
			got := counted{r.Cases, r.Decisions, r.Flips, r.Undecided, r.Matrix, map[string]int64{}}
			for _, c := range r.Flipped {
				got.ByWorkload[fmt.Sprintf("%s %s %s->%s", c.Workload.Name, c.ServiceAccount, c.From, c.To)] += c.Count
				if c.From == c.To || len(c.RulesAdded)+len(c.RulesGone)+len(c.GrantsAdded)+len(c.GrantsGone) == 0 && c.Undecided == "" {
					t.Errorf("bundles %d and %d: %s->%s of %s says nothing about what makes the difference", i, j, c.From, c.To, c.Workload.Name)
				}
			}
			if diff := cmp.Diff(countByHand(t.Context(), before, after, cases), got); diff != "" {
				t.Errorf("bundles %d and %d: the report differs (-by hand +got):\n%s", i, j, diff)
			}
			if i == j && (r.Flips != 0 || r.Changes != 0 || len(r.Changed) != 0) {
				t.Errorf("bundle %d and itself: %d flips and %d changes, want none", i, r.Flips, r.Changes)
			}
			flips += r.Flips
		}
	}
	if flips < 200 {
		t.Errorf("%d flips in all: the test is broken", flips)
	}
}
