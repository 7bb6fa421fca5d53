package policies_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// TestZeroDecisionGrantsNothing: whatever is forgotten, nothing is granted.
func TestZeroDecisionGrantsNothing(t *testing.T) {
	var d policies.Decision
	if d.Verdict() != policies.VerdictError {
		t.Errorf("Verdict() = %v, want error", d.Verdict())
	}
	if _, err := d.Grant(); err == nil {
		t.Error("Grant() = nil error, want an *UndecidedError")
	}
	if d.Monitored() || d.Cause() != nil {
		t.Error("the zero decision is monitored or has a cause")
	}
}

func TestGrantOfEveryVerdict(t *testing.T) {
	if _, err := policiestest.Allow(t).Grant(); err != nil {
		t.Errorf("Grant() of an allow = %v, want nil", err)
	}
	d := policiestest.Deny(t)
	_, err := d.Grant()
	denied, ok := errors.AsType[*policies.DeniedError](err)
	if !ok || denied.DecisionID != d.ID || !slices.Equal(denied.RuleIDs(), []string{"PR-001"}) {
		t.Fatalf("Grant() of a denial = %v, want a *DeniedError of PR-001", err)
	}
	if want := "denied by policy: PR-001 (decision " + d.ID + ")"; err.Error() != want {
		t.Errorf("Error() = %q, want %q", err, want)
	}
	_, err = policiestest.Undecided(t).Grant()
	undecided, ok := errors.AsType[*policies.UndecidedError](err)
	if !ok || undecided.Reason != policies.UndecidedNoBundle || !strings.HasSuffix(err.Error(), "NoBundle") {
		t.Errorf("Grant() without a bundle = %v, want an *UndecidedError NoBundle", err)
	}
}

func TestRuleIDs(t *testing.T) {
	got := policies.RuleIDs([]policies.Finding{{ID: "PR-200"}, {ID: "PR-001"}, {ID: "PR-200"}})
	if diff := cmp.Diff([]string{"PR-200", "PR-001"}, got); diff != "" {
		t.Errorf("RuleIDs() differs (-want +got):\n%s", diff)
	}
}

func TestVerdictString(t *testing.T) {
	for v, want := range map[policies.Verdict]string{
		policies.VerdictAllow: "allow", policies.VerdictDeny: "deny", policies.VerdictError: "error", "ALLOW": "error",
	} {
		if got := v.String(); got != want {
			t.Errorf("Verdict(%q).String() = %q, want %q", string(v), got, want)
		}
	}
}

// result is a raw result that is valid until a test changes it.
func result(change func(map[string]any)) map[string]any {
	r := map[string]any{
		"contract": "portcullis/v1", "verdict": "allow", "mode": "enforce", "deny": []any{}, "warn": []any{},
		"waivers": []any{}, "grants": []any{"G-1"}, "obligations": map[string]any{},
	}
	if change != nil {
		change(r)
	}
	return r
}

func set(key string, value any) func(map[string]any) {
	return func(r map[string]any) { r[key] = value }
}

// TestDecodeResult: the library is ours, but a mistake in it must not grant.
func TestDecodeResult(t *testing.T) {
	finding := map[string]any{"id": "PR-300", "check": "c", "severity": "high", "message": "m", "waivable": true}
	many := slices.Repeat([]any{finding}, 1025)
	tests := []struct {
		name string
		raw  any
		want policies.Verdict
	}{
		{"allow", result(nil), policies.VerdictAllow},
		{"deny", result(func(r map[string]any) { r["verdict"], r["deny"] = "deny", []any{finding} }), policies.VerdictDeny},
		{"deny without a finding", result(set("verdict", "deny")), policies.VerdictError},
		{"allow with a denial", result(set("deny", []any{finding})), policies.VerdictError},
		{"too many findings", result(set("warn", many)), policies.VerdictError},
		{"no verdict", result(func(r map[string]any) { delete(r, "verdict") }), policies.VerdictError},
		{"other verdict", result(set("verdict", "maybe")), policies.VerdictError},
		{"boolean verdict", result(set("verdict", true)), policies.VerdictError},
		{"other contract", result(set("contract", "portcullis/v2")), policies.VerdictError},
		{"other mode", result(set("mode", "off")), policies.VerdictError},
		{"unknown field", result(set("allow", true)), policies.VerdictError},
		{"no object", "allow", policies.VerdictError},
		{"nothing", nil, policies.VerdictError},
		{"not JSON", map[string]any{"verdict": func() {}}, policies.VerdictError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := policies.DecodeResult(tt.raw, policiestest.Input())
			if d.Verdict() != tt.want || (err == nil) != (tt.want != policies.VerdictError) {
				t.Errorf("DecodeResult(%s) = %v, %v, want %v", tt.name, d.Verdict(), err, tt.want)
			}
		})
	}
}

func TestDecodeResultSortsFindings(t *testing.T) {
	finding := func(id, secret, message string) map[string]any {
		return map[string]any{"id": id, "check": "c", "severity": "low", "secret": secret, "message": message, "waivable": true}
	}
	unsorted := []any{finding("PR-301", "", "b"), finding("PR-300", "z", "a"), finding("PR-300", "a", "a"), finding("PR-301", "", "a")}
	d, err := policies.DecodeResult(result(set("warn", unsorted)), policiestest.Input())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range d.Warn {
		got = append(got, fmt.Sprint(f.ID, f.Secret, f.Message))
	}
	if diff := cmp.Diff([]string{"PR-300aa", "PR-300za", "PR-301a", "PR-301b"}, got); diff != "" {
		t.Errorf("Warn differs (-want +got):\n%s", diff)
	}
}
