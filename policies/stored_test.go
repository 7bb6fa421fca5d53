package policies_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// filer makes indexes at random, in which parts repeat and ids do.
type filer struct{ *rand.Rand }

func (f filer) word() string {
	return []string{"a", "b", "#12", "12", "", "not_after_ns", "päß\u2028", `"\`, "<&>", "true", "null"}[f.IntN(11)]
}

func (f filer) list() []string {
	if f.IntN(2) == 0 {
		return nil
	}
	list := []string{}
	for range f.IntN(3) {
		list = append(list, f.word())
	}
	return list
}

func (f filer) words() map[string]string {
	if f.IntN(3) == 0 {
		return nil
	}
	m := map[string]string{}
	for range f.IntN(3) {
		m[f.word()] = f.word()
	}
	return m
}

func (f filer) record() policies.GrantRecord {
	r := policies.GrantRecord{
		ID: f.word(), Owner: f.word(), NotAfterNS: []int64{0, 12, 1 << 62, -7}[f.IntN(4)], Provider: f.word(), NamespaceLabels: f.words(), Scoping: map[string]string{},
		Audiences: f.list(), SyncTargets: f.list(), ImageSigners: f.list(),
	}
	if m := f.words(); m != nil {
		r.Scoping = m
	}
	if f.IntN(2) == 0 {
		r.MaxFileMode = new(uint32(f.IntN(500)))
	}
	if f.IntN(2) == 0 {
		r.OwnerUID = new(int64(f.IntN(13)))
	}
	if f.IntN(2) == 0 {
		r.Pods = &policies.PodNarrowing{OwnerKinds: f.list(), OwnerNames: f.list(), ImageRepositories: f.list(), NamePatterns: f.list()}
	}
	return r
}

func (f filer) index() policies.GrantIndex {
	x, last := policies.GrantIndex{}, f.record()
	for range f.IntN(6) {
		bySecret := map[string][]policies.GrantRecord{}
		for range f.IntN(4) {
			records := []policies.GrantRecord{}
			for range f.IntN(4) {
				if f.IntN(2) == 0 {
					last = f.record()
				}
				records = append(records, last)
			}
			bySecret[fmt.Sprintf("%s%d", f.word(), f.IntN(3))] = records
		}
		x[fmt.Sprintf("%s%d", f.word(), f.IntN(3))] = bySecret
	}
	return x
}

// TestStoredIndexIsItsJSON: rules read of an index what its JSON says, which is what
// the digest of a bundle is made of and what stock OPA would load.
func TestStoredIndexIsItsJSON(t *testing.T) {
	records := 0
	for seed := range uint64(2000) {
		x := filer{rand.New(rand.NewPCG(seed, 5))}.index()
		stored, plain, err := policies.Stored(x)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if ast.Compare(stored, plain) != 0 || stored.Hash() != plain.Hash() || stored.String() != plain.String() {
			t.Fatalf("seed %d: the store holds\n%v\nand the index says\n%v", seed, stored, plain)
		}
		records += strings.Count(stored.String(), `"provider"`)
	}
	if records < 5000 {
		t.Errorf("%d records were compared, want at least 5000: the test shows little", records)
	}
}

// TestStoredIndexHoldsTextOnly: what is no text would become another one where JSON
// is written, and so could match what its author did not write.
func TestStoredIndexHoldsTextOnly(t *testing.T) {
	good := policies.GrantRecord{ID: "G-1", Owner: "o", NotAfterNS: 1, Provider: "local", Scoping: map[string]string{}}
	for name, change := range map[string]func(*policies.GrantRecord) (subject, secret string){
		"subject": func(*policies.GrantRecord) (string, string) { return "a\xff/b", "local://node/a" },
		"secret":  func(*policies.GrantRecord) (string, string) { return "a/b", "local://node/\xff" },
		"owner":   func(r *policies.GrantRecord) (string, string) { r.Owner = "\xff"; return "a/b", "local://node/a" },
		"scoping": func(r *policies.GrantRecord) (string, string) {
			r.Scoping = map[string]string{"x": "\xff"}
			return "a/b", "local://node/a"
		},
		"pods": func(r *policies.GrantRecord) (string, string) {
			r.Pods = &policies.PodNarrowing{OwnerNames: []string{"\xff"}}
			return "a/b", "local://node/a"
		},
	} {
		r := good
		subject, secret := change(&r)
		if _, _, err := policies.Stored(policies.GrantIndex{subject: {secret: {r}}}); err == nil || !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("%s: %v, want an error about UTF-8", name, err)
		}
	}
	if _, _, err := policies.Stored(policies.GrantIndex{"a/b": {"local://node/a": {good}}}); err != nil {
		t.Errorf("an index of texts: %v", err)
	}
}

// TestIndexOfEitherFormDecidesTheSame: an index that package bundle made is not read
// from JSON again, and decides as if it were.
func TestIndexOfEitherFormDecidesTheSame(t *testing.T) {
	typed := starterOf(t, 20)
	text, err := json.Marshal(typed.Data)
	if err != nil {
		t.Fatal(err)
	}
	untyped := typed
	if err := json.Unmarshal(text, &untyped.Data); err != nil {
		t.Fatal(err)
	}
	a, b := compiled(t, typed), compiled(t, untyped)
	for i := range 25 {
		in := policiestest.Input(tenRequests, func(in *policies.Input) { in.Subject.Namespace = fmt.Sprintf("team-%d", i) })
		x, y := a.Decide(t.Context(), in), b.Decide(t.Context(), in)
		if x.ID != y.ID || x.Verdict() != y.Verdict() || x.Verdict() == policies.VerdictError {
			t.Errorf("team-%d: %v %v and %v %v, want the same", i, x.Verdict(), x.Cause(), y.Verdict(), y.Cause())
		}
	}
	if d := a.Decide(t.Context(), policiestest.Input(tenRequests)); d.Verdict() != policies.VerdictAllow {
		t.Errorf("the subject with a grant: %v, want allow", d.Verdict())
	}
}

// TestIndexOfEitherFormIsChecked: that the type of an index fits says nothing of what
// stands beside it and in it.
func TestIndexOfEitherFormIsChecked(t *testing.T) {
	record := policies.GrantRecord{ID: "G-1", Owner: "o", NotAfterNS: 1, Provider: "local", Scoping: map[string]string{}}
	open := record
	open.Audiences = []string{}
	for name, grants := range map[string]map[string]any{
		"unknown field":  {"by_subject": policies.GrantIndex{}, "by_subjects": policies.GrantIndex{}},
		"no subject key": {"by_subject": policies.GrantIndex{"a": {"local://node/a": {record}}}},
		"no secret key":  {"by_subject": policies.GrantIndex{"a/b": {"local://node/../a": {record}}}},
		"is empty":       {"by_subject": policies.GrantIndex{"a/b": {"local://node/a": {open}}}},
	} {
		b := starterOf(t, 1)
		data, _ := b.Data["portcullis"].(map[string]any)
		data["grants"] = grants
		_, err := policies.Compile(t.Context(), b, policies.Options{Clock: func() time.Time { return time.Unix(0, policiestest.Now) }})
		want := map[string]string{"no subject key": "not a subject key", "no secret key": "not a secret key"}[name]
		if want == "" {
			want = name
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: Compile() = %v, want an error with %q", name, err, want)
		}
	}
}
