package explain_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/explain"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// grant is one for Secret of payments/api, with changes of its lines.
func grant(changes ...string) string {
	fields := map[string]string{
		"id": "G-1", "owner": "team-payments", "expiry": "2126-12-31", "namespaces": "[payments]", "serviceAccounts": "[api]",
		"provider": "local", "secrets": `["local://node/payments/db-password"]`,
	}
	for i := 0; i < len(changes); i += 2 {
		fields[changes[i]] = changes[i+1]
		if changes[i+1] == "" {
			delete(fields, changes[i])
		}
	}
	var b strings.Builder
	for name, value := range fields {
		fmt.Fprintf(&b, ", %s: %s", name, value)
	}
	return "- {" + strings.TrimPrefix(b.String(), ", ") + "}\n"
}

func nothing(*policies.Input) {}

// Each way in which a grant can nearly fit is told; and nothing is near that the
// library would let serve.
func TestWhatTheNearestGrantLacks(t *testing.T) {
	asks := func(secret string) func(*policies.Input) {
		return requests(policies.Request{Secret: secret, File: "f"})
	}
	for name, test := range map[string]struct {
		grant  string
		mutate func(*policies.Input)
		want   []string
	}{
		"fits":              {grant(), nothing, nil},
		"namespace":         {grant("namespaces", "[shop, store]"), nothing, []string{"is for namespace shop, store, not for namespace payments"}},
		"service account":   {grant("serviceAccounts", "[worker]"), nothing, []string{"is for service account worker, not for api"}},
		"both":              {grant("namespaces", "[shop]", "serviceAccounts", "[worker]"), nothing, []string{"is for namespace shop, not for namespace payments", "is for service account worker, not for api"}},
		"expired":           {grant("expiry", "2025-12-31"), nothing, []string{"has expired"}},
		"label":             {grant("namespaces", "", "namespaceSelector", "{team: shop}"), nothing, []string{"is for namespaces with the label team=shop, not for namespace payments"}},
		"second label":      {grant("namespaces", "", "namespaceSelector", "{team: pay, tier: gold}"), func(in *policies.Input) { in.Subject.NamespaceLabels = map[string]string{"team": "pay"} }, []string{"wants the label tier=gold on the namespace"}},
		"labels fit":        {grant("namespaces", "", "namespaceSelector", "{team: pay}"), func(in *policies.Input) { in.Subject.NamespaceLabels = map[string]string{"team": "pay"} }, nil},
		"misspelt secret":   {grant(), asks("local://node/payments/db-pasword"), []string{"is for local://node/payments/db-password, not for this secret"}},
		"case":              {grant(), asks("local://node/payments/DB-password"), []string{"is for local://node/payments/db-password, not for this secret"}},
		"neighbour":         {grant("secrets", `["local://node/payments/db/*"]`), asks("local://node/payments/queue/user"), []string{"is for local://node/payments/db/*, not for this secret"}},
		"below":             {grant(), asks("local://node/payments/db-password/old"), []string{"is for local://node/payments/db-password alone, not for what is below it"}},
		"key":               {grant(), asks("local://node/payments/db-password#user"), []string{"is for local://node/payments/db-password, not for the key user of it"}},
		"another key":       {grant("secrets", `["local://node/payments/db-password#pw"]`), asks("local://node/payments/db-password#user"), []string{"is for local://node/payments/db-password#pw, another key of it"}},
		"whole secret":      {grant("secrets", `["local://node/payments/db-password#*"]`), asks("local://node/payments/db-password"), []string{"is for local://node/payments/db-password#*, each key of it and not the whole"}},
		"version":           {grant("secrets", `["local://node/payments/db-password@2"]`), asks("local://node/payments/db-password@3"), []string{"is for local://node/payments/db-password@2, another version of it"}},
		"another backend":   {grant(), asks("local://elsewhere/payments/db-password"), nil},
		"something else":    {grant(), asks("local://node/shop/cart"), nil},
		"unparsed":          {grant(), asks("unparsed:" + policiestest.Digest), nil},
		"scoping":           {grant("scoping", "{role: a, ca: x}"), func(in *policies.Input) { in.SPC.Scoping = map[string]string{"role": "b", "address": "z"} }, []string{`has other scoping parameters: the class sets address to "z", the grant does not list it; the grant lists ca as "x", the class does not set it; role is "b" in the class, "a" in the grant`}},
		"no owner uid":      {grant(), requests(policies.Request{Secret: policiestest.Secret, File: "f", UID: new(int64(5))}), []string{"names no ownerUID, and file f wants user 5"}},
		"another owner uid": {grant("ownerUID", "6"), requests(policies.Request{Secret: policiestest.Secret, File: "f", UID: new(int64(5))}), []string{"has ownerUID 6, and file f wants user 5"}},
		"owner kind":        {grant("pods", "{ownerKinds: [Job]}"), nothing, []string{"is for pods of a Job, not of StatefulSet"}},
		"owner name":        {grant("pods", "{ownerNames: [web]}"), func(in *policies.Input) { in.Pod.Owner = nil }, []string{"is for pods that web owns, not nobody"}},
		"pod name":          {grant("pods", `{namePatterns: ["web-*", api]}`), nothing, []string{"is for pods named api, web-*, not api-0"}},
		"pod fits":          {grant("pods", `{namePatterns: ["api-*"], ownerKinds: [StatefulSet], ownerNames: [api], imageRepositories: [registry.example/payments/api]}`), nothing, nil},
		"image":             {grant("pods", "{imageRepositories: [registry.example/web]}"), nothing, []string{"is for images of registry.example/web, not for registry.example/payments/api:1.4.2"}},
		"no image":          {grant("pods", "{imageRepositories: [registry.example/web]}"), func(in *policies.Input) { in.Pod.Containers = nil }, []string{"is for images of registry.example/web, not for a pod without a container that mounts the volume"}},
		"signers":           {grant("imageSigners", `["key:ci"]`), nothing, []string{"wants images signed by key:ci, and no signature is verified"}},
		"signed": {grant("imageSigners", `["key:ci"]`), func(in *policies.Input) {
			in.Pod.Containers[0].Signature = &policies.Signature{Verified: true, By: []string{"key:ci"}}
		}, nil},
		"too much is lacked": {grant("namespaces", "[shop]", "serviceAccounts", "[worker]", "expiry", "2025-01-01"), nothing, nil},
		"another provider":   {grant("provider", "vault", "secrets", `["vault://node/payments/db-password"]`), nothing, nil},
	} {
		x := of(t, test.grant, policiestest.WithConfig("namespace_label_keys: [team, tier]\n"))
		in := policiestest.Input(test.mutate)
		var got []string
		for _, n := range x.grants.Nearest(in, in.Requests[0]) {
			if n.ID != "G-1" || n.Owner != "team-payments" {
				t.Errorf("%s: Nearest() has %s of %s, want G-1 of team-payments", name, n.ID, n.Owner)
			}
			got = append(got, n.Lacks...)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: Nearest() differs (-want +got):\n%s", name, diff)
		}
		allowed := x.engine.Decide(t.Context(), in).Verdict() == policies.VerdictAllow
		if allowed && len(got) > 0 {
			t.Errorf("%s: the library allows, and the grant lacks %q", name, got)
		}
		if fits := test.want == nil && strings.Contains(name, "fit") || name == "signed"; fits != allowed {
			t.Errorf("%s: the library allows = %t, want %t", name, allowed, fits)
		}
	}
}

// The closest come first, three at most, whatever the order in the bundle.
func TestNearestAreOrderedAndBounded(t *testing.T) {
	var all strings.Builder
	for i := range 6 {
		all.WriteString(grant("id", fmt.Sprintf("G-%d", i), "namespaces", "[shop]", "serviceAccounts", "[worker]"))
	}
	all.WriteString(grant("id", "G-near", "serviceAccounts", "[worker]"))
	x := of(t, all.String())
	in := policiestest.Input()
	var got []string
	for _, n := range x.grants.Nearest(in, in.Requests[0]) {
		got = append(got, n.ID)
	}
	if want := []string{"G-near", "G-0", "G-1"}; !cmp.Equal(want, got) {
		t.Errorf("Nearest() = %q, want %q", got, want)
	}
}

func TestLongListsOfNamesAreCut(t *testing.T) {
	x := of(t, grant("namespaces", "[a, b, c, d, e, f]"))
	in := policiestest.Input()
	near := x.grants.Nearest(in, in.Requests[0])
	if want := "is for namespace a, b, c, d and 2 more, not for namespace payments"; len(near) != 1 || near[0].Lacks[0] != want {
		t.Errorf("Nearest() = %v, want one that %s", near, want)
	}
}

// Looking for near grants in a large bundle is quick enough for each denial.
func BenchmarkNearest(b *testing.B) {
	index := policies.GrantIndex{}
	for i := range 10_000 {
		index[fmt.Sprintf("team-%d/api", i)] = map[string][]policies.GrantRecord{
			fmt.Sprintf("local://node/team-%d/", i): {{ID: fmt.Sprintf("G-%d", i), Provider: "local", NotAfterNS: 1 << 62}},
		}
	}
	g := explain.NewGrants(policies.Contents{Grants: index})
	in := policiestest.Input(requests(policies.Request{Secret: "local://node/team-77777/x/y/z#k", File: "f"}))
	for b.Loop() {
		g.Nearest(in, in.Requests[0])
	}
}

// A label that configuration does not trust places no namespace in a grant, also
// where the index of a bundle was not made by us.
func TestUntrustedLabelsPlaceNobody(t *testing.T) {
	index := policies.GrantIndex{"label:team=pay/api": {policiestest.Secret: {{
		ID: "G-1", Provider: "local", NotAfterNS: 1 << 62, NamespaceLabels: map[string]string{"team": "pay"}, Scoping: map[string]string{},
	}}}}
	in := policiestest.Input(func(in *policies.Input) { in.Subject.NamespaceLabels = map[string]string{"team": "pay"} })
	for _, trusted := range []bool{false, true} {
		c := policies.Contents{Grants: index}
		if trusted {
			c.NamespaceLabelKeys = []string{"team"}
		}
		near := explain.NewGrants(c).Nearest(in, in.Requests[0])
		if lacks := len(near) > 0; lacks == trusted {
			t.Errorf("trusted %t: Nearest() = %v, want a grant that lacks something only if not", trusted, near)
		}
	}
}

// Of several containers that mount the volume each has to be signed, and those
// that do not mount it say nothing, wherever they stand.
func TestEveryMountingContainerIsSigned(t *testing.T) {
	x := of(t, grant("imageSigners", `["key:ci"]`, "pods", "{imageRepositories: [registry.example/payments/api]}"))
	by := func(verified bool, keys ...string) *policies.Signature {
		return &policies.Signature{Verified: verified, By: keys}
	}
	for name, test := range map[string]struct {
		second, idle *policies.Signature
		want         bool
	}{
		"both":                {by(true, "key:ci"), nil, true},
		"the idle one too":    {by(true, "key:ci"), by(true, "key:ci"), true},
		"one is not":          {nil, by(true, "key:ci"), false},
		"not verified":        {by(false, "key:ci"), nil, false},
		"by somebody else":    {by(true, "key:dev"), nil, false},
		"by several":          {by(true, "key:dev", "key:ci"), nil, true},
		"verified by nobody":  {by(true), nil, false},
		"neither, and by all": {by(false), nil, false},
	} {
		in := policiestest.Input(func(in *policies.Input) {
			first := in.Pod.Containers[0]
			idle := first
			idle.Name, idle.MountsVolume, idle.Image, idle.Signature = "idle", false, "elsewhere.example/x:1", test.idle
			first.Signature = by(true, "key:ci")
			second := first
			second.Name, second.Signature = "second", test.second
			in.Pod.Containers = []policies.Container{idle, first, idle, second}
		})
		near := x.grants.Nearest(in, in.Requests[0])
		allowed := x.engine.Decide(t.Context(), in).Verdict() == policies.VerdictAllow
		if allowed != test.want || (len(near) == 0) != test.want {
			t.Errorf("%s: the library allows = %t, Nearest() = %v, want %t and a lack only if not", name, allowed, near, test.want)
		}
	}
}

// A prefix is compared with as many elements as it has.
func TestMisspeltPrefixesOfSeveralElements(t *testing.T) {
	for secret, want := range map[string]bool{
		"local://node/teams/paymets/db": true, "local://node/teams/paymets/db/a/b/c": true, "local://node/taems/payments/db": true, "local://node/x/y/z": false,
	} {
		if got := ask(t, "local://node/teams/payments/", secret) != nil; got != want {
			t.Errorf("%s: near = %t, want %t", secret, got, want)
		}
	}
}
