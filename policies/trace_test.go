package policies_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const uidCheck = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.uid

deny contains finding if {
	some c in input.pod.containers
	c.runAsUser == 0
	finding := {"id": "PR-301", "severity": "high", "message": "root"}
}

deny contains finding if {
	input.pod.hostPID
	finding := {"id": "PR-302", "severity": "high", "message": "hostPID"}
}
`

func TestSpansFindRules(t *testing.T) {
	b := bundleOf(t, policiestest.Grants, policiestest.WithCheck("uid", uidCheck))
	const file = "portcullis/checks/uid/uid.rego"
	for name, want := range map[string][]policies.Span{
		"uid": {{File: file}}, "PR-301": {{file, 6, 10}}, "PR-302": {{file, 12, 15}},
	} {
		got, err := b.Spans(name)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("Spans(%s) = %v, want no error and (-want +got):\n%s", name, err, diff)
		}
	}
	if got, err := b.Spans("PR-001"); err != nil || len(got) == 0 || got[0].File != "rego/lib/builtin.rego" {
		t.Errorf("Spans(PR-001) = %v, %v, want the library's", got, err)
	}
	for _, name := range []string{"", "PR-999", "PR-120", "ui", "../uid", `PR-301"`} {
		if got, err := b.Spans(name); !errors.Is(err, policies.ErrNoRule) {
			t.Errorf("Spans(%q) = %v, %v, want ErrNoRule", name, got, err)
		}
	}
}

// What is watched is what decides.
func TestTracesDecideAlike(t *testing.T) {
	b := bundleOf(t, policiestest.Grants, policiestest.WithCheck("uid", uidCheck))
	e := policiestest.Engine(t, policiestest.Grants, policiestest.WithCheck("uid", uidCheck))
	spans, err := b.Spans("PR-301")
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []int64{0, 1000} {
		in := policiestest.Input(func(in *policies.Input) { in.Pod.Containers[0].RunAsUser = &user })
		plain := e.Decide(t.Context(), in)
		failing, fails := e.TraceFails(t.Context(), in)
		stepwise, steps := e.TraceSpans(t.Context(), in, spans)
		if failing.ID != plain.ID || stepwise.ID != plain.ID {
			t.Errorf("user %d: ids = %s, %s, want %s", user, failing.ID, stepwise.ID, plain.ID)
		}
		if !strings.Contains(string(fails.Text), "rego/lib/") {
			t.Errorf("user %d: TraceFails() lacks the library:\n%s", user, fails.Text)
		}
		text := string(steps.Text)
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "portcullis/checks/uid/uid.rego:") || strings.Contains(line, "hostPID") {
				t.Errorf("user %d: TraceSpans() has a line of another rule: %s", user, line)
			}
		}
		if failed, exited := strings.Contains(text, "| Fail "), strings.Contains(text, "| Exit "); failed != (user != 0) || exited != (user == 0) {
			t.Errorf("user %d: TraceSpans() fails %t, exits %t:\n%s", user, failed, exited, text)
		}
		if steps.Dropped+fails.Dropped > 0 {
			t.Errorf("user %d: %d and %d steps dropped, want none", user, steps.Dropped, fails.Dropped)
		}
	}
}

const manySteps = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.many

warn contains finding if {
	some a in _digits
	some b in _digits
	some c in _digits
	a + b + c == 36
	count(input.requests) > 100
	finding := {"id": "PR-303", "severity": "low", "message": "never"}
}

_digits := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27]
`

func TestTracesAreBounded(t *testing.T) {
	e := policiestest.Engine(t, policiestest.Grants, policiestest.WithCheck("many", manySteps))
	d, trace := e.TraceSpans(t.Context(), policiestest.Input(), []policies.Span{{File: "portcullis/checks/many/many.rego"}})
	if d.Verdict() != policies.VerdictAllow || trace.Dropped == 0 {
		t.Errorf("TraceSpans() = %s (%v), %d dropped, want allow and some", d.Verdict(), d.Cause(), trace.Dropped)
	}
}

func TestTraceWithoutBundle(t *testing.T) {
	var e *policies.Engine
	if d, trace := e.TraceFails(t.Context(), policiestest.Input()); d.Undecided != policies.UndecidedNoBundle || len(trace.Text) > 0 {
		t.Errorf("TraceFails() = %s, %q, want NoBundle and nothing", d.Undecided, trace.Text)
	}
}
