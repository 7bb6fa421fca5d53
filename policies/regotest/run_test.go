package regotest_test

import (
	"testing"

	"github.com/portcullis-csi/portcullis/policies/regotest"
)

// TestStarter: what security teams copy passes its own tests, in full.
func TestStarter(t *testing.T) {
	r, err := regotest.Run(t.Context(), regotest.Config{Directory: "../rego/starter"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range r.Tests {
		if test.Outcome != regotest.Passed {
			t.Errorf("%s:%d: %s: %s: %v\n%v %v", test.File, test.Line, test.Name, test.Outcome, test.Problems, test.Notes, test.Trace)
		}
	}
	if r.Coverage != 100 || len(r.Gaps) != 0 || r.Passed < 50 {
		t.Errorf("Run() = %d passed, coverage %v, gaps %v, want at least 50, 100 and none", r.Passed, r.Coverage, r.Gaps)
	}
}
