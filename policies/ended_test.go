package policies_test

import (
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// TestP10EndedDecidesNothing: whatever time an input states, and the engine that it
// was made of goes on.
func TestP10EndedDecidesNothing(t *testing.T) {
	e := policiestest.Engine(t, policiestest.Grants)
	over := e.Ended()
	for _, ns := range []int64{0, policiestest.Now, policiestest.Now * 2} {
		d := over.Decide(t.Context(), policiestest.Input(func(in *policies.Input) { in.NowNS = ns }))
		if d.Verdict() != policies.VerdictError || d.Undecided == "" {
			t.Errorf("Decide() at %d = %v %q, want an error", ns, d.Verdict(), d.Undecided)
		}
	}
	d := over.Decide(t.Context(), policiestest.Input())
	if d.Undecided != policies.UndecidedBundleExpired || d.BundleDigest != e.Digest() {
		t.Errorf("Decide() = %q by %s, want BundleExpired by %s", d.Undecided, d.BundleDigest, e.Digest())
	}
	if d := e.Decide(t.Context(), policiestest.Input()); d.Verdict() != policies.VerdictAllow {
		t.Errorf("Decide() of the engine itself = %v, want allow", d.Verdict())
	}
	var none *policies.Engine
	if none.Ended() != nil || none.BreakGlass() {
		t.Error("Ended() or BreakGlass() of no engine is something")
	}
}

// TestBreakGlassIsMarked: each decision says so, and revokes no masses.
func TestBreakGlassIsMarked(t *testing.T) {
	b := bundleOf(t, policiestest.Grants, policiestest.WithConfig("mass_revoke: true"))
	for _, emergency := range []bool{false, true} {
		b.BreakGlass = emergency
		e, err := policies.Compile(t.Context(), b, policies.Options{Budget: 30 * time.Second, Clock: func() time.Time { return time.Unix(0, policiestest.Now) }}) // the time of the input
		if err != nil {
			t.Fatal(err)
		}
		d := e.Decide(t.Context(), policiestest.Input())
		if d.BreakGlass != emergency || e.BreakGlass() != emergency || e.Ended().BreakGlass() != emergency || e.MassRevoke() == emergency {
			t.Errorf("BreakGlass %v: decision %v, engine %v, mass revoke %v", emergency, d.BreakGlass, e.BreakGlass(), e.MassRevoke())
		}
	}
}
