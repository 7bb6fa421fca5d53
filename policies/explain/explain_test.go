package explain_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/explain"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/workload"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func now() time.Time { return time.Unix(0, policiestest.Now) }

// subject of one test: a bundle.
type subject struct {
	*explain.Explainer
	grants *explain.Grants
	engine *policies.Engine
}

func of(t testing.TB, grants string, options ...policiestest.Option) subject {
	t.Helper()
	b, err := bundle.LoadFS(policiestest.Files(grants, options...))
	if err != nil {
		t.Fatalf("LoadFS() = %v, want no error", err)
	}
	engine := policiestest.Engine(t, grants, options...)
	x, err := explain.New(engine, b, now())
	if err != nil {
		t.Fatal(err)
	}
	contents, err := b.Contents()
	if err != nil {
		t.Fatal(err)
	}
	return subject{x, explain.NewGrants(contents), engine}
}

// volume is one of a Deployment, with the input of policiestest.
func volume(mutators ...func(*policies.Input)) workload.Volume {
	in := policiestest.Input(mutators...)
	w := &workload.Workload{Kind: "Deployment", Namespace: in.Subject.Namespace, Name: "api", Pod: &corev1.Pod{}}
	return workload.Volume{Workload: w, Name: in.Volume.Name, Class: in.SPC.Name, Input: in}
}

func requests(all ...policies.Request) func(*policies.Input) {
	return func(in *policies.Input) { in.Requests = all }
}

const twoGrants = policiestest.Grants + `
- {id: G-2, owner: team-ops, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: ["*"], provider: local, secrets: ["local://node/ops/token"], ownerUID: 7, maxFileMode: "0400"}
`

func TestEachSecretNamesTheGrantsThatServeIt(t *testing.T) {
	a := of(t, twoGrants).Volume(t.Context(), volume(requests(
		policies.Request{Secret: policiestest.Secret, File: "db"}, policies.Request{Secret: "local://node/ops/token", File: "token", UID: new(int64(7))},
	)))
	if a.Effect != explain.Allow || a.Problem != nil || len(a.Deny) > 0 || a.SuggestedGrants != "" {
		t.Fatalf("Volume() = %s, %v, %v, want allow", a.Effect, a.Problem, a.Deny)
	}
	want := []explain.Secret{
		{Secret: policiestest.Secret, File: "db", Mode: "0400", Grants: []string{"G-1"}, Nearest: []explain.Near{}},
		{Secret: "local://node/ops/token", File: "token", Mode: "0400", OwnerUID: new(int64(7)), Grants: []string{"G-2"}, Nearest: []explain.Near{}},
	}
	if diff := cmp.Diff(want, a.Secrets); diff != "" {
		t.Errorf("Secrets differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]explain.GrantRef{{ID: "G-1", Owner: "team-payments"}, {ID: "G-2", Owner: "team-ops"}}, a.Grants); diff != "" {
		t.Errorf("Grants differ (-want +got):\n%s", diff)
	}
	if a.Delivery == nil || a.Delivery.Ceiling != "0400" || *a.Delivery.Group != 2000 {
		t.Errorf("Delivery = %+v, want ceiling 0400 and group 2000", a.Delivery)
	}
}

// Of a volume that is denied, what is served is told from what is not; and a grant
// that is used for one secret does not serve another owner's.
func TestSomeSecretsAreServed(t *testing.T) {
	a := of(t, twoGrants).Volume(t.Context(), volume(requests(
		policies.Request{Secret: policiestest.Secret, File: "db"},
		policies.Request{Secret: policiestest.Secret, File: "own", UID: new(int64(7))},
		policies.Request{Secret: "local://node/payments-x/db", File: "x"},
	)))
	var got []string
	for _, s := range a.Secrets {
		got = append(got, s.File+":"+strings.Join(s.Grants, ","))
	}
	if want := []string{"db:G-1", "own:", "x:"}; a.Effect != explain.Deny || !cmp.Equal(want, got) {
		t.Errorf("Volume() = %s %q, want deny %q", a.Effect, got, want)
	}
	if a.Delivery != nil {
		t.Errorf("Delivery = %+v, want none of a denial", a.Delivery)
	}
}

func TestEffects(t *testing.T) {
	const monitor = "monitor: {until: 2026-02-01, rules: [\"*\"]}\n"
	foreign := requests(policies.Request{Secret: "local://node/shop/db", File: "db"})
	for name, test := range map[string]struct {
		options []policiestest.Option
		mutate  func(*policies.Input)
		want    explain.Effect
		reason  string
	}{
		"allow":         {nil, func(*policies.Input) {}, explain.Allow, ""},
		"deny":          {nil, foreign, explain.Deny, ""},
		"monitored":     {[]policiestest.Option{policiestest.WithConfig(monitor)}, foreign, explain.AllowedMonitored, ""},
		"out of bounds": {nil, func(in *policies.Input) { in.Cluster = "" }, explain.Undecided, "InvalidInput"},
		"expired bundle": {
			[]policiestest.Option{policiestest.WithFile(".manifest", strings.Replace(policiestest.Manifest, `"serial":1`, `"serial":1,"not_after":"2026-01-01T00:00:00Z"`, 1))},
			func(*policies.Input) {}, explain.Undecided, "BundleExpired",
		},
	} {
		a := of(t, policiestest.Grants, test.options...).Volume(t.Context(), volume(test.mutate))
		if a.Effect != test.want {
			t.Errorf("%s: Effect = %s (%v %v), want %s", name, a.Effect, a.Deny, a.Problem, test.want)
		}
		switch {
		case (a.Problem == nil) != (test.reason == ""):
			t.Errorf("%s: Problem = %v, want reason %q", name, a.Problem, test.reason)
		case a.Problem != nil && (a.Problem.Reason != test.reason || a.Problem.Text == "" || a.Problem.Remedy == ""):
			t.Errorf("%s: Problem = %+v, want reason %s, a text and a remedy", name, a.Problem, test.reason)
		}
	}
}

type refused struct{}

func (refused) Error() string   { return "refused; hint: ask" }
func (refused) Problem() string { return "refused" }
func (refused) Remedy() string  { return "ask" }

func TestVolumesWithoutInput(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want explain.Problem
	}{
		"no class": {&workload.NoClassError{Namespace: "payments", Name: "db"},
			explain.Problem{Reason: "NotFound", Text: "SecretProviderClass payments/db not found", Remedy: "create the class in the pod's namespace, or add its manifest"}},
		"field":   {&kube.FieldError{Field: "f", Problem: "is wrong", Remedy: "mend it"}, explain.Problem{Reason: "InvalidManifest", Field: "f", Text: "is wrong", Remedy: "mend it"}},
		"spoof":   {&kube.SpoofError{Field: "f"}, explain.Problem{Reason: "InvalidManifest", Field: "f", Text: "begins with csi.storage.k8s.io/, which only kubelet may use", Remedy: "remove it"}},
		"refused": {fmt.Errorf("read: %w", refused{}), explain.Problem{Reason: "Unavailable", Text: "refused", Remedy: "ask"}},
		"other":   {errors.New("else"), explain.Problem{Reason: "Unavailable", Text: "else"}},
	} {
		v := volume()
		v.Err = test.err
		a := of(t, policiestest.Grants).Volume(t.Context(), v)
		if diff := cmp.Diff(&test.want, a.Problem); a.Effect != explain.Undecided || diff != "" {
			t.Errorf("%s: Effect = %s, Problem differs (-want +got):\n%s", name, a.Effect, diff)
		}
		if a.Secrets == nil || a.Deny == nil || a.Grants == nil || a.Waivers == nil {
			t.Errorf("%s: a list is null, want it empty in JSON", name)
		}
	}
}

func TestCounts(t *testing.T) {
	for effects, want := range map[string]bool{"allow": true, "allow allowed_monitored": true, "allow deny": false, "error": false, "": true} {
		var answers []explain.Answer
		for _, e := range strings.Fields(effects) {
			answers = append(answers, explain.Answer{Effect: explain.Effect(e)})
		}
		if got := explain.Count(answers).AllAllowed(); got != want {
			t.Errorf("AllAllowed() of %q = %t, want %t", effects, got, want)
		}
	}
	if (explain.Counts{"": 1}).AllAllowed() {
		t.Error("AllAllowed() of an effect that nobody knows = true, want false")
	}
}

// The suggested grant, with an owner, lets the same volume have what it asks for,
// and cannot be used as it stands.
func TestSuggestedGrantsWork(t *testing.T) {
	scoped := func(in *policies.Input) {
		in.SPC.Scoping = map[string]string{"roleName": "pay: #x", "vaultSkipTLSVerify": "true", "audience": "a\"b\\c\u202e\n- id: G-evil"}
	}
	for name, test := range map[string]struct {
		grants string
		mutate []func(*policies.Input)
	}{
		"no grant at all":      {"", nil},
		"key and version":      {"", []func(*policies.Input){requests(policies.Request{Secret: "local://node/a%20b/c#k%40x@3", File: "f"})}},
		"scoping":              {"", []func(*policies.Input){scoped}},
		"scoping of another":   {policiestest.Grants, []func(*policies.Input){scoped}},
		"owners":               {"", []func(*policies.Input){requests(policies.Request{Secret: policiestest.Secret, File: "a", UID: new(int64(0))}, policies.Request{Secret: policiestest.Secret, File: "b", UID: new(int64(8))}, policies.Request{Secret: policiestest.Secret, File: "c"})}},
		"owner of another":     {policiestest.Grants, []func(*policies.Input){requests(policies.Request{Secret: policiestest.Secret, File: "a", UID: new(int64(8))})}},
		"unparsed":             {"", []func(*policies.Input){requests(policies.Request{Secret: "unparsed:" + policiestest.Digest, ParseError: "odd"})}},
		"words of YAML":        {"", []func(*policies.Input){func(in *policies.Input) { in.Subject.Namespace, in.Subject.ServiceAccount = "true", "null" }}},
		"numbers":              {"", []func(*policies.Input){func(in *policies.Input) { in.Subject.Namespace, in.Subject.ServiceAccount = "0x1f", "1e3" }}},
		"an id that is taken":  {"- {id: G-payments-api-db, owner: x, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: local, secrets: [\"local://node/x\"]}\n", nil},
		"a name that is large": {"", []func(*policies.Input){func(in *policies.Input) { in.SPC.Name = strings.Repeat("a", 200) + ".b" }}},
	} {
		x := of(t, test.grants)
		v := volume(test.mutate...)
		a := x.Volume(t.Context(), v)
		if a.Effect != explain.Deny || a.SuggestedGrants == "" {
			t.Errorf("%s: Effect = %s, suggestion %q, want deny and one", name, a.Effect, a.SuggestedGrants)
			continue
		}
		if _, err := bundle.LoadFS(policiestest.Files(a.SuggestedGrants)); err == nil || !strings.Contains(err.Error(), "owner: is missing") {
			t.Errorf("%s: LoadFS() of the suggestion as it stands = %v, want that its owner is missing", name, err)
		}
		owned := strings.ReplaceAll(a.SuggestedGrants, `owner: ""`, "owner: somebody")
		d := policiestest.Engine(t, test.grants+owned).Decide(t.Context(), v.Input)
		if d.Verdict() != policies.VerdictAllow {
			t.Errorf("%s: Decide() with the suggestion = %s %v %v, want allow:\n%s", name, d.Verdict(), d.Deny, d.Cause(), owned)
		}
	}
}

// A grant is no answer to a mistake.
func TestNothingIsSuggestedBesideAMistake(t *testing.T) {
	for name, mutate := range map[string]func(*policies.Input){
		"a credential":  func(in *policies.Input) { in.SPC.LiteralCredentials = []string{"token"} },
		"an override":   func(in *policies.Input) { in.Volume.Overrides = []string{"objects"} },
		"a file's mode": func(in *policies.Input) { in.Requests[0].Mode = new(uint32(0o777)) },
	} {
		a := of(t, "").Volume(t.Context(), volume(mutate))
		if a.Effect != explain.Deny || a.SuggestedGrants != "" {
			t.Errorf("%s: Effect = %s, suggestion %q, want deny and none", name, a.Effect, a.SuggestedGrants)
		}
	}
}
