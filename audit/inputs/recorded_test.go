package inputs_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/audit/inputs"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func leaves(l *audittest.Log) inputs.Leaves {
	return func(f func(epoch, index int64, leaf []byte) error) error {
		return l.Each(func(index int64, leaf []byte) error { return f(7, index, leaf) })
	}
}

func recorded(t testing.TB, l inputs.Leaves, s *inputs.Store) []policies.Recorded {
	t.Helper()
	var list []policies.Recorded
	for r, err := range inputs.Recorded(l, s) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

func TestRecordedJoinsDecisionsWithTheirInputs(t *testing.T) {
	s := open(t, directory(t))
	r, l := audittest.New(t, func(c *audit.Config) { c.Inputs = s })
	allow, deny := policiestest.Allow(t), policiestest.Deny(t)
	undecided := policiestest.Undecided(t, func(in *policies.Input) { in.Subject.PodName = "undecided" })
	intent := audit.Decided(allow)
	for _, e := range []audit.Event{
		intent, audit.Decided(deny), audit.Decided(deny), audit.Decided(undecided),
		audit.Rejected(audit.Claim{Namespace: "payments", Pod: "api-0"}, audit.ReasonInvalidRequest),
	} {
		if err := r.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	r.Owe(audit.Finished(intent.ID, allow, nil, audit.ReasonProviderError))
	r.Owe(audit.Revoked(intent.ID, deny, audit.ReasonPolicyDenied, ""))
	audittest.Closed(t, r, l)
	got := recorded(t, leaves(l), s)
	if len(got) != 3 {
		t.Fatalf("Recorded() gave %d decisions, want 3", len(got))
	}
	text, err := allow.Input().Canonical()
	if err != nil {
		t.Fatal(err)
	}
	want := policies.Recorded{
		Time: got[0].Time, EventID: intent.ID, Epoch: 7, Index: 0, DecisionID: allow.ID, Effect: "allow", Phase: policies.PhaseMount,
		LibraryDigest: allow.LibraryDigest, BundleDigest: allow.BundleDigest, BundleSerial: 1, InputSHA256: allow.InputSHA256,
		NowNS: policiestest.Now, Grants: []string{"G-1"}, Input: text,
	}
	if diff := cmp.Diff(want, got[0]); diff != "" || got[0].Time.IsZero() {
		t.Errorf("the allow mismatch (-want +got):\n%s", diff)
	}
	if got[1].Effect != "deny" || len(got[1].Deny) == 0 || len(got[1].Input) == 0 || got[1].Index != 1 {
		t.Errorf("the denial = %+v, want its rules and its input", got[1])
	}
	if got[2].Effect != "error" || got[2].Input != nil {
		t.Errorf("what had no verdict = %+v, want no input", got[2])
	}
	for _, r := range recorded(t, leaves(l), nil) {
		if r.Input != nil {
			t.Errorf("Recorded() without a store gave %+v, with an input", r)
		}
	}
}

// partsOf is a denial whose rules do not fit into one event.
func partsOf(t testing.TB, pod string) audit.Event {
	t.Helper()
	e := audit.Decided(policiestest.Deny(t, func(in *policies.Input) { in.Subject.PodName = pod }))
	for i := range 300 {
		e.Policy.Rules = append(e.Policy.Rules, audit.Rule{
			ID: fmt.Sprintf("PR-%d", 100+i), Severity: audit.SeverityHigh, Secret: "local://node/" + strings.Repeat("x", 500), Denies: i%2 == 0,
		})
	}
	return e
}

// TestRecordedPutsPartsTogether, also where other events came in between.
func TestRecordedPutsPartsTogether(t *testing.T) {
	r, l := audittest.New(t)
	for _, pod := range []string{"a", "b"} {
		if err := r.Record(t.Context(), partsOf(t, pod)); err != nil {
			t.Fatal(err)
		}
	}
	all := l.Leaves()
	n := len(all) / 2
	if n < 3 {
		t.Fatalf("a denial has %d parts, want several", n)
	}
	order := func(list ...int) inputs.Leaves {
		return func(f func(epoch, index int64, leaf []byte) error) error {
			for i, at := range list {
				if err := f(1, int64(i), all[at]); err != nil {
					return err
				}
			}
			return nil
		}
	}
	var mixed, lacking []int
	for i := range n {
		mixed = append(mixed, i, n+i)
		if i != 1 {
			lacking = append(lacking, i)
		}
		lacking = append(lacking, n+i)
	}
	got := recorded(t, order(mixed...), nil)
	if len(got) != 2 || got[0].Index != 0 || got[1].Index != 1 {
		t.Fatalf("Recorded() gave %d decisions, want the two in their places", len(got))
	}
	for _, r := range got {
		if len(r.Deny) != 151 || len(r.Warn) != 150 || r.InputSHA256 == "" {
			t.Errorf("%d rules denied and %d warned, want 151 and 150", len(r.Deny), len(r.Warn))
		}
	}
	if got := recorded(t, order(lacking...), nil); len(got) != 1 || len(got[0].Deny) != 151 {
		t.Errorf("Recorded() of a log that lacks a part gave %d decisions, want the whole one", len(got))
	}
}

func TestRecordedEndsWithTheReader(t *testing.T) {
	r, l := audittest.New(t)
	for range 3 {
		if err := r.Record(t.Context(), audit.Decided(policiestest.Allow(t))); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, err := range inputs.Recorded(leaves(l), nil) {
		if n++; err == nil {
			break
		}
	}
	if n != 1 {
		t.Errorf("Recorded() gave %d decisions, want 1", n)
	}
	_, _ = l.Append(t.Context(), []byte(`{"schema":"another"}`))
	var last error
	for _, err := range inputs.Recorded(leaves(l), nil) {
		last = err
	}
	if last == nil {
		t.Error("Recorded() of a log with what is no event ended without an error")
	}
}

// TestP5InputsHoldNoCredential: what a class holds in plain text reaches no
// input, and so nothing that is kept.
func TestP5InputsHoldNoCredential(t *testing.T) {
	dir := directory(t)
	s := open(t, dir)
	r, l := audittest.New(t, func(c *audit.Config) { c.Inputs = s })
	d := decideClass(t, map[string]string{"objects": "- objectName: payments/db-password\n", "clientSecret": canary, "password": canary, "custom": canary})
	if err := r.Record(t.Context(), audit.Decided(d)); err != nil {
		t.Fatal(err)
	}
	audittest.Closed(t, r, l)
	closed(t, s)
	again := read(t, dir)
	text, err := again.Input(d.InputSHA256)
	if err != nil {
		t.Fatalf("Input() = %v, want no error", err)
	}
	var in map[string]any
	if err := json.Unmarshal(text, &in); err != nil {
		t.Fatal(err)
	}
	for name, found := range leaks(t, dir, canary) {
		t.Errorf("%s holds the credential %s", name, found)
	}
}
