//go:build !race

// One caller decides thousands of times: nothing for the race detector, which takes some
// ten times as long.

package admission_test

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

// Promise P2, over generated pods, classes, namespaces and policies: the gates build
// the same input but for what one lacks, decide alike on what both have, and what
// admission denies the mount does not allow. A mount may deny more: only there is a
// token that might not be verified.
func TestP2GatesDecideAlike(t *testing.T) {
	for name, engine := range promiseEngines(t) {
		r, verdicts := rand.New(rand.NewPCG(7, 7)), map[policies.Verdict]int{}
		for i := range 800 {
			f := generated(r)
			first, _, err := kube.BuildInput(atAdmission(f))
			second, _, err2 := kube.BuildInput(atMount(f, r.IntN(2) == 0))
			if (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
				t.Fatalf("%s %d: admission says %v, mount %v, want the same", name, i, err, err2)
			}
			if err != nil {
				continue
			}
			if diff := cmp.Diff(common(first), common(second)); diff != "" {
				t.Fatalf("%s %d: inputs differ:\n%s", name, i, diff)
			}
			admitted, mounted := engine.Decide(t.Context(), first), engine.Decide(t.Context(), second)
			if admitted.Verdict() == policies.VerdictError || mounted.Verdict() == policies.VerdictError {
				t.Fatalf("%s %d: no verdict: %v, %v", name, i, admitted.Cause(), mounted.Cause())
			}
			if bare := engine.Decide(t.Context(), common(first)); bare.Verdict() != admitted.Verdict() {
				t.Fatalf("%s %d: admission says %v, and %v without what it alone knows", name, i, admitted.Verdict(), bare.Verdict())
			}
			if admitted.Verdict() == policies.VerdictDeny && mounted.Verdict() != policies.VerdictDeny {
				t.Fatalf("%s %d: admission denies %v, and the mount allows", name, i, admitted.Deny)
			}
			if *second.Subject.TokenVerified && admitted.Verdict() != mounted.Verdict() {
				t.Fatalf("%s %d: admission says %v, mount %v by %v", name, i, admitted.Verdict(), mounted.Verdict(), mounted.Deny)
			}
			verdicts[admitted.Verdict()]++
		}
		if verdicts[policies.VerdictAllow] < 20 || verdicts[policies.VerdictDeny] < 20 {
			t.Errorf("%s: verdicts = %v, want at least twenty of each, or this says little", name, verdicts)
		}
	}
}
