package explain_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/explain"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// dice makes bundles and inputs out of so few words that they often fit.
type dice struct{ *rand.Rand }

func (d dice) of(words ...string) string { return words[d.IntN(len(words))] }

func (d dice) secret() string {
	return "local://" + d.of("node", "node", "edge") + "/" + d.of("payments", "payments", "shop") + "/" + d.of("db", "db/old", "token") + d.of("", "", "#user", "#pw", "@3", "#pw@3")
}

func (d dice) pattern() string {
	return d.of(d.secret(), "local://node/payments/*", "local://node/*", "local://edge/shop/*", "local://node/payments/db/*", "local://node/payments/db#*", "local://node/payments/token#*")
}

// grant is one that may lack anything.
func (d dice) grant(id string) string {
	changes := []string{
		"id", id, "owner", "team-" + strings.ToLower(id), "namespaces", d.of("[payments]", "[payments, shop]", "[shop]"),
		"serviceAccounts", d.of("[api]", "[api]", "[worker]", `["*"]`), "secrets", fmt.Sprintf("[%q, %q]", d.pattern(), d.pattern()),
		"expiry", d.of("2126-12-31", "2126-12-31", "2126-12-31", "2025-12-31"),
	}
	for _, one := range []struct{ name, value string }{
		{"scoping", "{role: a}"}, {"ownerUID", "7"}, {"pods", "{ownerKinds: [StatefulSet]}"}, {"pods", `{namePatterns: ["web-*"]}`},
		{"pods", "{imageRepositories: [registry.example/payments/api]}"}, {"imageSigners", "[ci]"},
	} {
		if d.IntN(6) == 0 {
			changes = append(changes, one.name, one.value)
		}
	}
	if d.IntN(4) == 0 {
		changes = append(changes, "namespaces", "", "namespaceSelector", d.of("{team: pay}", "{team: shop}", "{team: pay, tier: gold}"))
	}
	return grant(changes...)
}

func (d dice) input() policies.Input {
	return policiestest.Input(func(in *policies.Input) {
		in.Subject.NamespaceLabels = map[string]string{"team": d.of("pay", "shop"), "tier": d.of("gold", "tin")}
		in.Subject.ServiceAccount = d.of("api", "api", "worker")
		if d.IntN(4) == 0 {
			in.SPC.Scoping = map[string]string{"role": d.of("a", "b")}
		}
		in.Requests = nil
		for i := range 1 + d.IntN(3) {
			r := policies.Request{Secret: d.secret(), File: fmt.Sprint("f", i)}
			if d.IntN(4) == 0 {
				r.UID = new(int64(d.IntN(2)) * 7)
			}
			in.Requests = append(in.Requests, r)
		}
	})
}

const trusted = "namespace_label_keys: [team, tier]\n"

// What explain says of each secret is what the engine says when it is asked for
// that secret alone: served by exactly these grants, or by none and then no grant
// that is called near serves it.
func TestEachSecretIsExplainedAsTheEngineDecidesIt(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(5, 7))}
	served, near := 0, 0
	for range 12 {
		var grants strings.Builder
		for i := range 6 {
			grants.WriteString(d.grant(fmt.Sprint("G-", i)))
		}
		x := of(t, grants.String(), policiestest.WithConfig(trusted))
		for range 25 {
			in := d.input()
			a := x.Volume(t.Context(), volume(func(to *policies.Input) { *to = in }))
			if decided := x.engine.Decide(t.Context(), in); a.Effect != explain.EffectOf(decided) || a.DecisionID != decided.ID {
				t.Fatalf("Volume() = %s %s, Decide() = %s %s: want the same", a.Effect, a.DecisionID, explain.EffectOf(decided), decided.ID)
			}
			for i, r := range in.Requests {
				alone := in
				alone.Requests = []policies.Request{r}
				want := x.engine.Decide(t.Context(), alone).Grants
				got := a.Secrets[i].Grants
				if !cmp.Equal(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))) {
					t.Fatalf("%s uid %v: Volume() says that %q serve it, the engine %q, of:\n%s", r.Secret, r.UID, got, want, grants.String())
				}
				served += len(got)
				for _, n := range a.Secrets[i].Nearest {
					near++
					if slices.Contains(want, n.ID) || len(n.Lacks) == 0 || len(n.Lacks) > 2 {
						t.Fatalf("%s: %s is near and lacks %q, and serves it: %t", r.Secret, n.ID, n.Lacks, slices.Contains(want, n.ID))
					}
				}
				if len(got) > 0 && len(a.Secrets[i].Nearest) > 0 {
					t.Errorf("%s is served, and %v is called near", r.Secret, a.Secrets[i].Nearest)
				}
			}
		}
	}
	if served < 50 || near < 50 {
		t.Errorf("%d served and %d near: the test is broken", served, near)
	}
}

// near neighbours of an input: each asks for a little more than it does.
func neighbours(in policies.Input) map[string]policies.Input {
	all := map[string]policies.Input{}
	change := func(name string, change func(*policies.Input)) {
		other := in
		other.Requests = slices.Clone(in.Requests)
		change(&other)
		all[name] = other
	}
	change("another account", func(o *policies.Input) { o.Subject.ServiceAccount += "-2" })
	change("another namespace", func(o *policies.Input) { o.Subject.Namespace += "-2" })
	change("other scoping", func(o *policies.Input) { o.SPC.Scoping = map[string]string{"role": "root"} })
	change("a year later", func(o *policies.Input) { o.NowNS += 366 * 24 * 3600 * 1e9 })
	for i, r := range in.Requests {
		path, _, _ := strings.Cut(r.Secret, "@")
		path, _, _ = strings.Cut(path, "#")
		change(fmt.Sprint("below ", i), func(o *policies.Input) {
			o.Requests = []policies.Request{{Secret: path + "/below", File: "f", UID: r.UID}}
		})
		change(fmt.Sprint("beside ", i), func(o *policies.Input) { o.Requests = []policies.Request{{Secret: path + "2", File: "f", UID: r.UID}} })
		change(fmt.Sprint("key of ", i), func(o *policies.Input) {
			o.Requests = []policies.Request{{Secret: path + "#other", File: "f", UID: r.UID}}
		})
		change(fmt.Sprint("another owner of ", i), func(o *policies.Input) {
			o.Requests = []policies.Request{{Secret: r.Secret, File: "f", UID: new(int64(12345))}}
		})
	}
	return all
}

// The suggested grants, once they have an owner, are in a bundle all that the
// volume lacks, and give its neighbours nothing that they had not before.
func TestSuggestionsGrantWhatIsAskedForAndNoMore(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(11, 13))}
	suggested := 0
	for range 14 {
		before := d.grant("G-0") + d.grant("G-1")
		x := of(t, before, policiestest.WithConfig(trusted))
		in := d.input()
		a := x.Volume(t.Context(), volume(func(to *policies.Input) { *to = in }))
		if a.Effect == explain.Allow {
			continue
		}
		if a.SuggestedGrants == "" {
			t.Errorf("%v is denied for want of grants, and none is suggested: %v", in.Requests, a.Deny)
			continue
		}
		suggested++
		after := policiestest.Engine(t, before+strings.ReplaceAll(a.SuggestedGrants, `owner: ""`, "owner: somebody"), policiestest.WithConfig(trusted))
		if got := after.Decide(t.Context(), in); got.Verdict() != policies.VerdictAllow {
			t.Errorf("Decide() with the suggestion = %v %v, want allow:\n%s%s", got.Deny, got.Cause(), before, a.SuggestedGrants)
		}
		if strings.Contains(a.SuggestedGrants, "*") {
			t.Errorf("the suggestion has a pattern, want whole ids:\n%s", a.SuggestedGrants)
		}
		for name, other := range neighbours(in) {
			had, has := x.engine.Decide(t.Context(), other), after.Decide(t.Context(), other)
			if has.Verdict() == policies.VerdictAllow && had.Verdict() != policies.VerdictAllow {
				t.Errorf("%s: the suggestion allows it too: %v\n%s", name, other.Requests, a.SuggestedGrants)
			}
		}
	}
	if suggested < 6 {
		t.Errorf("%d suggestions: the test is broken", suggested)
	}
}

// A suggestion holds text of a manifest that an attacker wrote: it stays inside
// its quotes, whatever it is, and ASCII.
func TestSuggestionsHoldTheirText(t *testing.T) {
	x := of(t, "")
	for _, hostile := range []string{
		"a\n- id: evil", "a\\\"\n- id: evil", "\u2028- id: evil", "\u0085x", "{{", "!!python/object", "&a", "*a", "? a", "# no", "a: b", "- a", "yes", "~", "1e3", "0o17", "\t", "'", "`", "%YAML", "\x1b[2J", "\U0001f511", "\u202e",
		"a:", "=", "<<", ".inf", "2026-01-01", strings.Repeat("x", 2000),
	} {
		v := volume(func(in *policies.Input) { in.SPC.Scoping = map[string]string{"roleName": hostile} })
		a := x.Volume(t.Context(), v)
		if strings.ContainsFunc(a.SuggestedGrants, func(r rune) bool { return r > '~' || r < ' ' && r != '\n' }) {
			t.Errorf("%q: the suggestion holds other than ASCII: %q", hostile, a.SuggestedGrants)
		}
		if n := strings.Count("\n"+a.SuggestedGrants, "\n- id:"); n != 1 {
			t.Errorf("%q: the suggestion has %d grants, want 1:\n%s", hostile, n, a.SuggestedGrants)
		}
		d := policiestest.Engine(t, strings.Replace(a.SuggestedGrants, `owner: ""`, "owner: somebody", 1)).Decide(t.Context(), v.Input)
		if d.Verdict() != policies.VerdictAllow {
			t.Errorf("%q: Decide() with the suggestion = %v, want allow, so that the text is itself:\n%s", hostile, d.Deny, a.SuggestedGrants)
		}
	}
}
