package learn_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/learn"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// asking is a recording of a pod that asks for these secrets.
func asking(t testing.TB, secrets ...string) policies.Recorded {
	t.Helper()
	return recorded(t, policiestest.Input(func(in *policies.Input) {
		in.Requests = nil
		for i, s := range secrets {
			in.Requests = append(in.Requests, policies.Request{Secret: s, File: fmt.Sprint("f", i)})
		}
	}))
}

// Whoever may create pods may ask for any number of secrets: what is remembered of
// them is bounded, and the end says what to do.
func TestSecretsAreBounded(t *testing.T) {
	l, err := learn.New(learn.Config{Now: now()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		names := make([]string, policies.MaxRequests)
		for j := range names {
			names[j] = fmt.Sprintf("local://node/%d/%d", i, j)
		}
		if err = l.Add(t.Context(), asking(t, names...)); err != nil {
			break
		}
		// What is asked for again costs nothing.
		if again := l.Add(t.Context(), asking(t, names[:1]...)); again != nil {
			t.Fatalf("Add() of the same secrets = %v, want no error", again)
		}
		if i > 1600 {
			t.Fatalf("Add() took %d secrets, want an end", i*policies.MaxRequests)
		}
	}
	if err == nil || !strings.Contains(err.Error(), "100000 secrets") || !strings.Contains(err.Error(), "; hint: ") {
		t.Errorf("Add() = %v, want an error that names the bound and a remedy", err)
	}
}

func TestDraftsAreBounded(t *testing.T) {
	l, err := learn.New(learn.Config{Now: now()})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; err == nil && n < 11_000; n++ {
		err = l.Add(t.Context(), recorded(t, policiestest.Input(func(in *policies.Input) { in.Subject.ServiceAccount = fmt.Sprint("a", n) })))
	}
	if err == nil || n != 10_001 || !strings.Contains(err.Error(), "more than 10000 grants") {
		t.Errorf("Add() = %v after %d, want an end at the 10001st subject", err, n)
	}
}

// Ids of drafts stay apart, also of subjects whose names begin alike, and are the
// same in every run.
func TestIDsOfDrafts(t *testing.T) {
	long := strings.Repeat("n", 63)
	var records []policies.Recorded
	for _, account := range []string{strings.Repeat("a", 200) + "x", strings.Repeat("a", 200) + "y", "z"} {
		for _, uid := range []*int64{nil, new(int64(0)), new(int64(1))} {
			records = append(records, recorded(t, policiestest.Input(func(in *policies.Input) {
				in.Subject.Namespace, in.Subject.ServiceAccount, in.Requests[0].UID = long, account, uid
			})))
		}
	}
	ids := func(records []policies.Recorded) (all []string) {
		for _, s := range learnFrom(t, learn.Config{}, records...).Suggestions {
			all = append(all, s.Grant.ID)
		}
		return all
	}
	first := ids(records)
	if got := len(slices.Compact(slices.Clone(first))); got != 9 {
		t.Errorf("%d ids, want 9: %q", got, first)
	}
	slices.Reverse(records)
	if diff := cmp.Diff(first, ids(records)); diff != "" {
		t.Errorf("ids depend on the order of records (-first +reversed):\n%s", diff)
	}
	for _, id := range first {
		if len(id) > 63 || !strings.HasPrefix(id, "learned-n") {
			t.Errorf("id %q of %d bytes, want one that a bundle takes", id, len(id))
		}
	}
}

// A draft that is narrowed to so many owners that nobody reviews them is not
// narrowed to some of them: that would refuse the others' pods.
func TestManyOwnersNarrowNothing(t *testing.T) {
	learnt := func(owners int) *bundle.Pods {
		var records []policies.Recorded
		for i := range owners {
			records = append(records, recorded(t, policiestest.Input(func(in *policies.Input) {
				in.Pod.Owner.Name = fmt.Sprint("app-", i)
				in.Pod.Containers[0].Image = fmt.Sprintf("registry.example/app-%d:1", i%3)
			})))
		}
		return learnFrom(t, learn.Config{Narrow: true}, records...).Suggestions[0].Grant.Pods
	}
	if p := learnt(100); len(p.OwnerNames) != 100 || len(p.ImageRepositories) != 3 {
		t.Errorf("Pods of 100 owners = %d names and %d repositories, want all", len(p.OwnerNames), len(p.ImageRepositories))
	}
	p := learnt(150)
	if len(p.OwnerNames) != 0 || !cmp.Equal([]string{"StatefulSet"}, p.OwnerKinds) || len(p.ImageRepositories) != 3 {
		t.Errorf("Pods of 150 owners = %+v, want the kind and the repositories alone", p)
	}
}

// What nobody owns cannot be narrowed to owners, and a pod that mounts nothing has
// no repository.
func TestNarrowingFitsEveryPodThatAsked(t *testing.T) {
	ownerless := recorded(t, policiestest.Input(func(in *policies.Input) { in.Pod.Owner = nil }))
	idle := recorded(t, policiestest.Input(func(in *policies.Input) { in.Pod.Owner, in.Pod.Containers[0].MountsVolume = nil, false }))
	for name, test := range map[string]struct {
		records []policies.Recorded
		want    *bundle.Pods
	}{
		"one without an owner": {[]policies.Recorded{recorded(t, policiestest.Input()), ownerless}, &bundle.Pods{ImageRepositories: []string{"registry.example/payments/api"}}},
		"one that is idle":     {[]policies.Recorded{idle}, nil},
	} {
		got := learnFrom(t, learn.Config{Narrow: true}, test.records...).Suggestions[0].Grant.Pods
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: Pods differ (-want +got):\n%s", name, diff)
		}
	}
	if got := learnFrom(t, learn.Config{}, ownerless).Suggestions[0].Grant.Pods; got != nil {
		t.Errorf("Pods without Narrow = %+v, want none", got)
	}
}

// Tokens that nobody verified are the pod's own words.
func TestAudiencesAreThoseThatWereVerified(t *testing.T) {
	of := func(tokens ...policies.Token) []string {
		return learnFrom(t, learn.Config{}, recorded(t, policiestest.Input(func(in *policies.Input) { in.Tokens = tokens }))).Suggestions[0].Grant.Audiences
	}
	for name, test := range map[string]struct{ got, want []string }{
		"none":               {of(), nil},
		"forged":             {of(policies.Token{Audience: "vault"}), nil},
		"verified":           {of(policies.Token{Audience: "b", Verified: true}, policies.Token{Audience: "a", Verified: true}, policies.Token{Audience: "c"}), []string{"a", "b"}},
		"the API server's":   {of(policies.Token{Audience: "", Verified: true}, policies.Token{Audience: "a", Verified: true}), nil},
		"one that is forged": {of(policies.Token{Audience: ""}, policies.Token{Audience: "a", Verified: true}), []string{"a"}},
	} {
		if !cmp.Equal(test.want, test.got) {
			t.Errorf("%s: Audiences = %q, want %q", name, test.got, test.want)
		}
	}
}

// The modes of a draft are the read bits that were asked for, and no write bit.
func TestModesOfDrafts(t *testing.T) {
	mode := func(group *int64, modes ...uint32) string {
		in := policiestest.Input(func(in *policies.Input) {
			in.Volume.VolumeMountGroup, in.Requests = group, nil
			for i, m := range modes {
				in.Requests = append(in.Requests, policies.Request{Secret: fmt.Sprint("local://node/m/", i), File: fmt.Sprint(i), Mode: new(m)})
			}
		})
		if m := learnFrom(t, learn.Config{}, recorded(t, in)).Suggestions[0].Grant.MaxFileMode; m != nil {
			return *m
		}
		return ""
	}
	group := new(int64(2000))
	for name, test := range map[string]struct{ got, want string }{
		"owner only":             {mode(nil, 0o400), "0400"},
		"with write bits":        {mode(nil, 0o600), "0400"},
		"with execute bits":      {mode(nil, 0o755), "0444"},
		"several":                {mode(nil, 0o400, 0o040), "0440"},
		"with a group":           {mode(group, 0o400), "0440"},
		"others with a group":    {mode(group, 0o444), "0444"},
		"zero":                   {mode(nil, 0), ""},
		"zero beside another":    {mode(nil, 0, 0o400), ""},
		"write bits and no read": {mode(nil, 0o200), ""},
	} {
		if test.got != test.want {
			t.Errorf("%s: maxFileMode = %q, want %q", name, test.got, test.want)
		}
	}
	owned := policiestest.Input(func(in *policies.Input) { in.Requests[0].Mode, in.Requests[0].UID = new(uint32(0o400)), new(int64(7)) })
	if g := learnFrom(t, learn.Config{}, recorded(t, owned)).Suggestions[0].Grant; g.MaxFileMode != nil || *g.OwnerUID != 7 {
		t.Errorf("grant = %+v, want the owner and no mode, which an owner's file does not have", g)
	}
}

// Counts are of decisions, with those that were only counted, and the last time is
// the latest whatever the order.
func TestWhoAskedAndWhen(t *testing.T) {
	early, late := recorded(t, policiestest.Input()), recorded(t, policiestest.Input())
	early.Time, late.Time = now().Add(-time.Hour), now().Add(time.Hour)
	early.Repeated, late.Repeated = 9, 0
	s := learnFrom(t, learn.Config{}, late, early).Suggestions[0]
	if s.Decisions != 11 || !s.Last.Equal(late.Time) || !cmp.Equal([]string{"StatefulSet/api"}, s.Workloads) || !cmp.Equal([]string{"registry.example/payments/api:1.4.2"}, s.Images) {
		t.Errorf("suggestion = %+v, want 11 decisions, the last at %s, of one workload and image", s, late.Time)
	}
	// Several requests of one decision are one decision of the draft.
	if s := learnFrom(t, learn.Config{}, asking(t, "local://node/a", "local://node/b")).Suggestions; len(s) != 1 || s[0].Decisions != 1 || len(s[0].Grant.Secrets) != 2 {
		t.Errorf("suggestions = %+v, want one of two secrets and one decision", s)
	}
	var many []policies.Recorded
	for i := range 12 {
		many = append(many, recorded(t, policiestest.Input(func(in *policies.Input) { in.Pod.Owner.Name = fmt.Sprintf("app-%02d", i) })))
	}
	result := learnFrom(t, learn.Config{}, many...)
	if got := len(result.Suggestions[0].Workloads); got != 8 || !strings.Contains(yamlOf(t, result), "StatefulSet/app-07, ...") {
		t.Errorf("%d workloads are named, want 8 and that there are more", got)
	}
}

// What another rule refuses is told by subject, whatever a grant says.
func TestRemainingRulesAreCounted(t *testing.T) {
	engine := policiestest.Engine(t, policiestest.Grants)
	overriding := func(account string) policies.Recorded {
		r := recorded(t, policiestest.Input(func(in *policies.Input) {
			in.Subject.ServiceAccount, in.Volume.Overrides = account, []string{"objects"}
		}))
		r.Effect, r.Repeated = "deny", 2
		return r
	}
	got := learnFrom(t, learn.Config{Engine: engine, Effects: []string{"deny"}}, overriding("api"), overriding("web"), overriding("api"))
	want := []learn.Remaining{
		{Rule: "PR-010", Namespace: "payments", ServiceAccount: "api", Decisions: 6, Workloads: []string{"StatefulSet/api"}},
		{Rule: "PR-010", Namespace: "payments", ServiceAccount: "web", Decisions: 3, Workloads: []string{"StatefulSet/api"}},
	}
	if diff := cmp.Diff(want, got.Remaining); diff != "" {
		t.Errorf("Remaining differs (-want +got):\n%s", diff)
	}
	if len(got.Suggestions) != 1 || got.Suggestions[0].Grant.ServiceAccounts[0] != "web" {
		t.Errorf("Suggestions = %+v, want one for web: api has its grant", got.Suggestions)
	}
}

// A bundle that cannot decide grants nothing, and what it says is counted.
func TestABundleThatDoesNotDecide(t *testing.T) {
	expired := policiestest.Engine(t, "", policiestest.WithFile(".manifest", strings.Replace(policiestest.Manifest, `"serial":1`, `"serial":1,"not_after":"2026-01-01T00:00:00Z"`, 1)))
	got := learnFrom(t, learn.Config{Engine: expired}, recorded(t, policiestest.Input()), recorded(t, policiestest.Input()))
	if len(got.Suggestions) != 0 || len(got.Skipped) != 1 || got.Skipped[0].Count != 2 || !strings.Contains(got.Skipped[0].Reason, "BundleExpired") {
		t.Errorf("Result() = %+v, want nothing drafted, and why", got)
	}
	if text := yamlOf(t, got); !strings.Contains(text, "# nothing drafted from 2 decisions: the bundle does not decide on it: BundleExpired\n") {
		t.Errorf("YAML = %s, want it to say so", text)
	}
}

// What a bundle would not take is not written, and what it would is not lost.
func TestWhatNoGrantCanNameIsCounted(t *testing.T) {
	impossible := recorded(t, policiestest.Input(func(in *policies.Input) {
		in.SPC.Scoping = map[string]string{"roleName": "a\u202eb"} // a bundle refuses what a reader would not see
	}))
	impossible.Repeated = 6
	got := learnFrom(t, learn.Config{}, impossible, recorded(t, policiestest.Input()))
	if len(got.Suggestions) > 1 {
		t.Fatalf("Suggestions = %+v, want those that a bundle takes", got.Suggestions)
	}
	total := int64(0)
	for _, s := range got.Suggestions {
		total += s.Decisions
	}
	for _, s := range got.Skipped {
		total += s.Count
	}
	if total != 8 {
		t.Errorf("Result() = %+v accounts for %d decisions, want all 8", got, total)
	}
}

func TestLearningEndsWithItsContext(t *testing.T) {
	l, err := learn.New(learn.Config{Now: now()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Add(ctx, recorded(t, policiestest.Input())); !errors.Is(err, context.Canceled) {
		t.Errorf("Add() = %v, want context.Canceled", err)
	}
}

func TestDefaultsOfDrafts(t *testing.T) {
	g := learnFrom(t, learn.Config{}, recorded(t, policiestest.Input())).Suggestions[0].Grant
	if g.Owner != learn.DefaultOwner || g.Expiry != "2026-04-15" {
		t.Errorf("grant = owner %s, expiry %s, want %s and 90 days from now", g.Owner, g.Expiry, learn.DefaultOwner)
	}
	// The day of today is not over.
	if _, err := learn.New(learn.Config{Now: now(), Expiry: now().Truncate(24 * time.Hour)}); err != nil {
		t.Errorf("New() with the expiry today = %v, want no error", err)
	}
	if _, err := learn.New(learn.Config{Now: now(), Expiry: now().Truncate(24 * time.Hour).Add(-time.Nanosecond)}); err == nil || !strings.Contains(err.Error(), "; hint: ") {
		t.Errorf("New() with the expiry yesterday = %v, want an error with a hint", err)
	}
	for _, effect := range []string{"error", "", "Allow", "allow "} {
		if _, err := learn.New(learn.Config{Effects: []string{"deny", effect}}); err == nil {
			t.Errorf("New() with effect %q = nil, want an error", effect)
		}
	}
}
