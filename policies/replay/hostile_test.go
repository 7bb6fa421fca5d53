package replay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit/inputs"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/replay"
)

// record is one decision of an engine as a log has it.
func record(t testing.TB, e *policies.Engine, mutators ...func(*policies.Input)) policies.Recorded {
	t.Helper()
	in := policiestest.Input(mutators...)
	d := e.Decide(t.Context(), in)
	text, err := in.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	effect := "deny"
	switch {
	case d.Verdict() == policies.VerdictAllow && d.Monitored():
		effect = "allowed_monitored"
	case d.Verdict() == policies.VerdictAllow:
		effect = "allow"
	}
	return policies.Recorded{
		DecisionID: d.ID, Effect: effect, LibraryDigest: d.LibraryDigest, BundleDigest: d.BundleDigest, InputSHA256: d.InputSHA256, NowNS: in.NowNS,
		Deny: policies.RuleIDs(d.Deny), Warn: policies.RuleIDs(d.Warn), Grants: d.Grants, Waivers: d.Waivers, Input: text,
	}
}

// outcomes are those of records, in their order.
func outcomes(t testing.TB, bundles replay.Bundles, list ...policies.Recorded) (all []replay.Outcome) {
	t.Helper()
	if _, err := replay.Replay(t.Context(), sequence(list...), bundles, func(r replay.Result) error {
		all = append(all, r.Outcome)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// A record whose time the bundle cannot be compiled at is no reason to leave the
// others of the bundle unread: whoever puts one in front would silence them all.
func TestOneRecordDoesNotSilenceTheNext(t *testing.T) {
	b, e := load(t, "", policiestest.WithConfig(`monitor: {until: 2026-03-31, rules: ["*"]}`))
	m := made{bundles: map[string]policies.Bundle{b.Digest: b}}
	good := record(t, e)
	early := good
	early.NowNS = int64(time.Hour) // decades before the end of monitor mode, which may be 90 days off
	forged := good
	forged.Effect = "deny"
	got := outcomes(t, m.bundle, early, good, forged, early, good)
	if want := []replay.Outcome{replay.BundleGone, replay.Same, replay.Different}; !cmp.Equal(want, got[:3]) || got[4] != replay.Same {
		t.Errorf("Replay() = %q, want %q and the last the same", got, want)
	}
}

// A bundle that is gone is asked for once, however many decisions it made; one of
// which only some were found is asked for again when its turn comes.
func TestGoneBundlesAreAskedForOnce(t *testing.T) {
	_, e := load(t, "")
	good := record(t, e)
	asked := 0
	got := outcomes(t, func(string) (policies.Bundle, error) {
		asked++
		return policies.Bundle{}, inputs.ErrGone
	}, good, good, good)
	if want := []replay.Outcome{replay.BundleGone, replay.BundleGone, replay.BundleGone}; !cmp.Equal(want, got) || asked != 1 {
		t.Errorf("Replay() = %q, asked %d times, want all gone and one question", got, asked)
	}
}

// Memory is that of three engines: the one that was used longest ago goes.
func TestEnginesAreFew(t *testing.T) {
	m, reads := made{bundles: map[string]policies.Bundle{}}, map[string]int{}
	var list []policies.Recorded
	for i := range 4 {
		b, e := load(t, policiestest.Grants, policiestest.WithConfig(fmt.Sprintf("obligations: {ttl_seconds: %d}", 100+i)))
		m.bundles[b.Digest] = b
		list = append(list, record(t, e))
	}
	a, b, c, d := list[0], list[1], list[2], list[3]
	// With a used again before the fourth comes, b is the one that goes.
	got := outcomes(t, func(digest string) (policies.Bundle, error) {
		reads[digest]++
		return m.bundle(digest)
	}, a, b, c, a, d, a, c, b)
	if slices.ContainsFunc(got, func(o replay.Outcome) bool { return o != replay.Same }) {
		t.Errorf("Replay() = %q, want all the same", got)
	}
	want := map[string]int{a.BundleDigest: 1, b.BundleDigest: 2, c.BundleDigest: 1, d.BundleDigest: 1}
	if diff := cmp.Diff(want, reads); diff != "" {
		t.Errorf("bundles were read otherwise (-want +got):\n%s", diff)
	}
}

// What was interrupted differs from nothing.
func TestAnInterruptedDecisionIsNotDifferent(t *testing.T) {
	b, e := load(t, policiestest.Grants)
	m := made{bundles: map[string]policies.Bundle{b.Digest: b}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	good := record(t, e)
	seen := 0
	report, err := replay.Replay(ctx, sequence(good, good, good), func(digest string) (policies.Bundle, error) {
		cancel() // while the first is made again
		return m.bundle(digest)
	}, func(replay.Result) error {
		seen++
		return nil
	})
	if !errors.Is(err, context.Canceled) || seen != 0 || report.Decisions != 0 || !report.Agrees() {
		t.Errorf("Replay() = %+v, %v after %d results, want context.Canceled and no result", report, err, seen)
	}
}

// Whoever reads on has the decision that was made again.
func TestResultsHoldTheDecision(t *testing.T) {
	b, e := load(t, policiestest.Grants)
	m := made{bundles: map[string]policies.Bundle{b.Digest: b}}
	forged := record(t, e)
	forged.Effect, forged.Grants, forged.Waivers = "deny", nil, []string{"W-9"}
	gone := record(t, e)
	gone.Input = nil
	var results []replay.Result
	report, err := replay.Replay(t.Context(), sequence(forged, gone), m.bundle, func(r replay.Result) error {
		results = append(results, r)
		return nil
	})
	if err != nil || report.Decisions != 2 || report.Agrees() {
		t.Fatalf("Replay() = %+v, %v, want two decisions that do not agree", report, err)
	}
	if r := results[0]; r.Again.ID != forged.DecisionID || r.Again.Verdict() != policies.VerdictAllow || !cmp.Equal([]string{"effect", "grants", "waivers"}, r.Differs) {
		t.Errorf("the first result = %s %v, %q differ, want the allow, and all three that differ", r.Again.ID, r.Again.Verdict(), r.Differs)
	}
	if r := results[1]; r.Again.ID != "" || r.Again.Verdict() != policies.VerdictError || len(r.Differs) != 0 {
		t.Errorf("the second result = %+v, want no decision", r)
	}
}

// Lists of names are sets: their order and repetitions say nothing, and one name
// too many or too few does.
func TestNamesAreSets(t *testing.T) {
	const more = policiestest.Grants + "- {id: G-2, owner: x, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: local, secrets: [\"local://node/payments/*\"]}\n"
	b, e := load(t, more)
	m := made{bundles: map[string]policies.Bundle{b.Digest: b}}
	good := record(t, e)
	if !cmp.Equal([]string{"G-1", "G-2"}, good.Grants) {
		t.Fatalf("grants = %q, want two", good.Grants)
	}
	for name, test := range map[string]struct {
		grants []string
		same   bool
	}{
		"as they are": {[]string{"G-1", "G-2"}, true}, "the other way": {[]string{"G-2", "G-1"}, true}, "twice": {[]string{"G-2", "G-1", "G-2"}, true},
		"one": {[]string{"G-1"}, false}, "another": {[]string{"G-1", "G-3"}, false}, "one more": {[]string{"G-1", "G-2", "G-3"}, false},
		"one twice": {[]string{"G-1", "G-1"}, false}, "none": {nil, false}, "a digest of another": {[]string{"G-1", "sha256:" + strings.Repeat("0", 64)}, false},
	} {
		r := good
		r.Grants = test.grants
		if got := outcomes(t, m.bundle, r)[0]; (got == replay.Same) != test.same {
			t.Errorf("%s: Replay() = %s, want the same: %t", name, got, test.same)
		}
	}
}

// Every outcome is in the list that reports go by, once, and a report agrees as
// long as none contradicts.
func TestOutcomesAndAgreement(t *testing.T) {
	all := replay.Outcomes()
	if len(all) != 7 || len(slices.Compact(slices.Sorted(slices.Values(all)))) != 7 {
		t.Errorf("Outcomes() = %q, want seven different ones", all)
	}
	for _, o := range all {
		report := replay.Report{Decisions: 1, Outcomes: map[replay.Outcome]int64{o: 1}}
		if want := o != replay.Different && o != replay.InputAltered; report.Agrees() != want {
			t.Errorf("Agrees() with one %s = %t, want %t", o, report.Agrees(), want)
		}
	}
}
