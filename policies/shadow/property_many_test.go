//go:build !race

// One caller decides over and over: nothing for the race detector, which takes some ten
// times as long. What decides beside it has tests of its own.

package shadow_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/portcullis-csi/portcullis/policies/diff"
)

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
