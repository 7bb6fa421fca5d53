package policiestest_test

import (
	"testing"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func TestVerdicts(t *testing.T) {
	tests := map[policies.Verdict]func(testing.TB, ...func(*policies.Input)) policies.Decision{
		policies.VerdictAllow: policiestest.Allow,
		policies.VerdictDeny:  policiestest.Deny,
		policies.VerdictError: policiestest.Undecided,
	}
	for want, decide := range tests {
		t.Run(want.String(), func(t *testing.T) {
			node := func(in *policies.Input) { in.Subject.Node = "node-2" }
			d := decide(t, node)
			if d.Verdict() != want || d.Input().Subject.Node != "node-2" {
				t.Errorf("decision has verdict %v of node %q, want %v of node-2", d.Verdict(), d.Input().Subject.Node, want)
			}
			if len(d.ID) != 26 {
				t.Errorf("ID = %q, want 26 characters", d.ID)
			}
		})
	}
}

func TestInput(t *testing.T) {
	if err := policiestest.Input().Validate(); err != nil {
		t.Errorf("Validate() = %v, want nil", err)
	}
}
