package learn_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/learn"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// monitoring lets everything through until a day after the tests' time.
const monitoring = "monitor: {until: 2026-03-01, rules: [\"*\"]}\n"

func now() time.Time { return time.Unix(0, policiestest.Now).UTC() }

func recorded(t testing.TB, in policies.Input) policies.Recorded {
	t.Helper()
	text, err := in.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return policies.Recorded{Time: now(), Effect: learn.EffectMonitored, NowNS: in.NowNS, Input: text}
}

func learnFrom(t testing.TB, c learn.Config, records ...policies.Recorded) learn.Result {
	t.Helper()
	if c.Now.IsZero() {
		c.Now = now()
	}
	l, err := learn.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := l.Add(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return l.Result()
}

func yamlOf(t testing.TB, r learn.Result) string {
	t.Helper()
	var out bytes.Buffer
	if err := learn.WriteYAML(&out, r); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestDraftIsWhatWasAskedFor(t *testing.T) {
	first := policiestest.Input(func(in *policies.Input) {
		in.Requests = []policies.Request{
			{Secret: "vault://vault.example:8200/secret/data/db#password", File: "password", Mode: new(uint32(0o400)), Sync: []policies.Sync{{Name: "db", Type: "Opaque", Key: "p"}}},
			{Secret: "vault://vault.example:8200/secret/data/db#user", File: "user", Mode: new(uint32(0o644))},
		}
		in.SPC.Provider, in.SPC.Scoping = "vault", map[string]string{"roleName": "payments", "vaultAddress": "https://vault.example:8200"}
		in.Tokens = []policies.Token{{Audience: "vault", Verified: true}, {Audience: "forged"}}
		in.Volume.VolumeMountGroup = nil
	})
	owned := policiestest.Input(func(in *policies.Input) {
		in.Requests = []policies.Request{{Secret: policiestest.Secret, File: "a", UID: new(int64(1000))}}
	})
	r := recorded(t, first)
	r.Repeated = 4
	got := learnFrom(t, learn.Config{Owner: "team-payments", Narrow: true}, r, recorded(t, owned))
	want := []bundle.Grant{{
		ID: got.Suggestions[0].Grant.ID, Owner: "team-payments", Expiry: "2026-04-15", Namespaces: []string{"payments"}, ServiceAccounts: []string{"api"}, Provider: "local",
		Secrets: []string{policiestest.Secret}, OwnerUID: new(int64(1000)),
		Pods: &bundle.Pods{OwnerKinds: []string{"StatefulSet"}, OwnerNames: []string{"api"}, ImageRepositories: []string{"registry.example/payments/api"}},
	}, {
		ID: got.Suggestions[1].Grant.ID, Owner: "team-payments", Expiry: "2026-04-15", Namespaces: []string{"payments"}, ServiceAccounts: []string{"api"}, Provider: "vault",
		Secrets:   []string{"vault://vault.example:8200/secret/data/db#password", "vault://vault.example:8200/secret/data/db#user"},
		Scoping:   map[string]string{"roleName": "payments", "vaultAddress": "https://vault.example:8200"},
		Audiences: []string{"vault"}, MaxFileMode: new("0444"), SyncTargets: []string{"db"},
		Pods: &bundle.Pods{OwnerKinds: []string{"StatefulSet"}, OwnerNames: []string{"api"}, ImageRepositories: []string{"registry.example/payments/api"}},
	}}
	if want[0].ID > want[1].ID {
		t.Fatal("suggestions are not in the order of their ids")
	}
	var grants []bundle.Grant
	for _, s := range got.Suggestions {
		grants = append(grants, s.Grant)
	}
	if grants[0].Provider != "local" {
		want[0], want[1] = want[1], want[0]
	}
	if diff := cmp.Diff(want, grants); diff != "" {
		t.Errorf("grants differ (-want +got):\n%s", diff)
	}
	for _, s := range got.Suggestions {
		if s.Grant.Provider == "vault" && s.Decisions != 5 {
			t.Errorf("decisions = %d, want 1 and 4 repeats", s.Decisions)
		}
	}
}

// A pod with an fsGroup that asks for 0400 gets 0440: less would lock it out.
func TestModeIsThatOfDelivery(t *testing.T) {
	in := policiestest.Input(func(in *policies.Input) { in.Requests[0].Mode = new(uint32(0o400)) })
	got := learnFrom(t, learn.Config{}, recorded(t, in))
	if m := got.Suggestions[0].Grant.MaxFileMode; m == nil || *m != "0440" {
		t.Errorf("maxFileMode = %v, want 0440", m)
	}
	free := policiestest.Input(func(in *policies.Input) { in.Requests[0].File = "other" })
	got = learnFrom(t, learn.Config{}, recorded(t, in), recorded(t, free))
	if m := got.Suggestions[0].Grant.MaxFileMode; m != nil {
		t.Errorf("maxFileMode = %s, want none: one file asks for whatever the volume has", *m)
	}
}

// What is drafted lets through, in force, what monitor mode let through; and
// nothing of another subject.
func TestDraftsGrantWhatWasLearnt(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	engine := policiestest.Engine(t, "", policiestest.WithConfig(monitoring))
	var records []policies.Recorded
	var inputs []policies.Input
	for range 300 {
		in := anyInput(random)
		d := engine.Decide(t.Context(), in)
		if d.Verdict() != policies.VerdictAllow || d.Mode != policies.ModeMonitor {
			t.Fatalf("Decide() = %v %v, want a monitored allow (%v)", d.Verdict(), d.Mode, d.Cause())
		}
		inputs = append(inputs, in)
		records = append(records, recorded(t, in))
	}
	for _, narrow := range []bool{false, true} {
		drafted := yamlOf(t, learnFrom(t, learn.Config{Engine: engine, Narrow: narrow}, records...))
		enforcing := policiestest.Engine(t, drafted)
		for _, in := range inputs {
			if d := enforcing.Decide(t.Context(), in); d.Verdict() != policies.VerdictAllow || len(d.Warn) > 0 {
				t.Fatalf("narrow %v: Decide() = %v (%v %v), want allow\n%s", narrow, d.Verdict(), d.Deny, d.Warn, drafted)
			}
			other := in
			other.Subject.ServiceAccount += "-other"
			if d := enforcing.Decide(t.Context(), other); d.Verdict() != policies.VerdictDeny {
				t.Fatalf("Decide(another service account) = %v, want deny", d.Verdict())
			}
			other = in
			other.Requests = append([]policies.Request{{Secret: in.Requests[0].Secret + "-other", File: "o"}}, in.Requests...)
			if d := enforcing.Decide(t.Context(), other); d.Verdict() != policies.VerdictDeny {
				t.Fatalf("Decide(another secret) = %v, want deny", d.Verdict())
			}
		}
	}
}

func anyInput(random *rand.Rand) policies.Input {
	pick := func(words ...string) string { return words[random.IntN(len(words))] }
	return policiestest.Input(func(in *policies.Input) {
		in.Subject.Namespace, in.Subject.ServiceAccount = pick("payments", "shop", "true"), pick("api", "web", "123")
		in.SPC.Provider = pick("local", "vault")
		in.SPC.Scoping = map[string]string{"roleName": pick("a", "b: # c", "null")}
		if random.IntN(3) == 0 {
			in.Pod.Owner = nil
		}
		in.Pod.Containers[0].Image = pick("registry.example/a", "registry.example:5000/b:1", "registry.example/c@sha256:"+strings.Repeat("0", 64))
		in.Requests = nil
		for i := range 1 + random.IntN(3) {
			r := policies.Request{Secret: fmt.Sprintf("%s://%s/%s%d", in.SPC.Provider, pick("x", "y:8200"), pick("p/", "q#k"), random.IntN(4)), File: fmt.Sprint("f", i)}
			if random.IntN(2) == 0 {
				r.Mode = new(uint32(0o400))
			}
			if random.IntN(4) == 0 {
				r.Mode, r.UID = nil, new(int64(random.IntN(3)))
			}
			if random.IntN(4) == 0 {
				r.Sync = []policies.Sync{{Name: pick("s1", "s2"), Type: "Opaque", Key: "k"}}
			}
			in.Requests = append(in.Requests, r)
		}
	})
}

func TestGrantedIsLeftOut(t *testing.T) {
	engine := policiestest.Engine(t, policiestest.Grants, policiestest.WithConfig(monitoring))
	in := policiestest.Input(func(in *policies.Input) {
		in.Requests = append(in.Requests, policies.Request{Secret: "local://node/shop/key", File: "key"})
		in.Volume.Overrides = []string{"objects"}
	})
	got := learnFrom(t, learn.Config{Engine: engine}, recorded(t, in))
	if len(got.Suggestions) != 1 || !cmp.Equal(got.Suggestions[0].Grant.Secrets, []string{"local://node/shop/key"}) {
		t.Errorf("suggestions = %+v, want one for local://node/shop/key alone", got.Suggestions)
	}
	want := []learn.Remaining{{Rule: "PR-010", Namespace: "payments", ServiceAccount: "api", Decisions: 1, Workloads: []string{"StatefulSet/api"}}}
	if diff := cmp.Diff(want, got.Remaining); diff != "" {
		t.Errorf("remaining differs (-want +got):\n%s", diff)
	}
	if text := yamlOf(t, got); !strings.Contains(text, "# not mended by a grant: PR-010 of payments/api, 1 decisions, StatefulSet/api\n") {
		t.Errorf("YAML = %s, want it to name PR-010", text)
	}
}

func TestWhatCannotBeLearntFromIsCounted(t *testing.T) {
	good := recorded(t, policiestest.Input())
	gone, other, foreign, static := good, good, good, recorded(t, policiestest.Input(func(in *policies.Input) { in.Subject.ServiceAccount = "" }))
	gone.Input = nil
	other.Effect = "deny"
	foreign.Input = json.RawMessage(`{"contract":"portcullis/v2"}`)
	got := learnFrom(t, learn.Config{}, good, gone, other, foreign, static)
	if got.Decisions != 5 || got.Used != 1 || got.InputGone != 1 || got.OtherEffects != 1 || len(got.Skipped) != 1 || got.Skipped[0].Count != 2 {
		t.Errorf("result = %+v, want 5 decisions, 1 used, 1 gone, 1 of another effect, 2 for one reason", got)
	}
	if got := learnFrom(t, learn.Config{Effects: []string{"deny"}}, other); len(got.Suggestions) != 1 {
		t.Errorf("suggestions from a denial = %d, want 1", len(got.Suggestions))
	}
	if text := yamlOf(t, learn.Result{}); !strings.HasSuffix(text, "[]\n") {
		t.Errorf("YAML of nothing = %q, want an empty list", text)
	}
}

func TestCommentsHoldNoText(t *testing.T) {
	in := policiestest.Input(func(in *policies.Input) {
		in.Pod.Owner.Name = "x\n- id: evil\x1b[31m"
		in.Pod.Containers[0].Image = "i\r\n- id: evil"
	})
	text := yamlOf(t, learnFrom(t, learn.Config{}, recorded(t, in)))
	grants, err := bundle.ParseGrants([]byte(text))
	if err != nil || len(grants) != 1 {
		t.Errorf("ParseGrants() = %v, %v, want one grant of\n%s", grants, err, text)
	}
	if strings.ContainsAny(text, "\r\x1b") {
		t.Errorf("YAML = %q, want no control characters", text)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []learn.Config{{Effects: []string{"allowed"}}, {Now: now(), Expiry: now().Add(-48 * time.Hour)}} {
		if _, err := learn.New(c); err == nil {
			t.Errorf("New(%+v) = nil, want an error", c)
		}
	}
}

// Whatever is recorded, the draft is a list of grants that a bundle accepts.
func FuzzDrafts(f *testing.F) {
	f.Add("payments", "api", "StatefulSet", "registry.example/api:1", "local://node/a", "role", true)
	f.Add("true", "1", "", "@", "unparsed:"+policiestest.Digest, "a: b # \u2028", true)
	f.Fuzz(func(t *testing.T, namespace, account, owner, image, secret, scoping string, narrow bool) {
		in := policiestest.Input(func(in *policies.Input) {
			in.Subject.Namespace, in.Subject.ServiceAccount, in.SPC.Scoping = namespace, account, map[string]string{"roleName": scoping}
			in.Pod.Owner = &policies.Owner{Kind: owner, Name: owner}
			in.Pod.Containers[0].Image = image
			in.Requests[0].Secret = secret
			in.SPC.Provider, _, _ = strings.Cut(secret, "://")
			in.Tokens = []policies.Token{{Audience: scoping, Verified: true}}
		})
		got := learnFrom(t, learn.Config{Narrow: narrow}, recorded(t, in))
		grants, err := bundle.ParseGrants([]byte(yamlOf(t, got)))
		if err != nil {
			t.Fatalf("ParseGrants() = %v, of\n%s", err, yamlOf(t, got))
		}
		if _, err := bundle.IndexGrants(grants, nil); err != nil {
			t.Fatalf("IndexGrants() = %v, of\n%s", err, yamlOf(t, got))
		}
	})
}
