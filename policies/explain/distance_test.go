package explain_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/explain"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// ask returns what the one grant of an index lacks for a secret: nil where it is
// not near, or lacks nothing.
func ask(t testing.TB, key, secret string) []string {
	t.Helper()
	index := policies.GrantIndex{"payments/api": {key: {{ID: "G-1", Owner: "x", Provider: "local", NotAfterNS: 1 << 62, Scoping: map[string]string{}}}}}
	in := policiestest.Input(requests(policies.Request{Secret: secret, File: "f"}))
	near := explain.NewGrants(policies.Contents{Grants: index}).Nearest(in, in.Requests[0])
	if len(near) == 0 {
		return nil
	}
	return near[0].Lacks
}

// Which secrets are near, of which grants: a misspelling is, another secret is not.
func TestHowNearSecretsAre(t *testing.T) {
	const other = "is for %s, not for this secret"
	long := strings.Repeat("a", 300)
	for name, test := range map[string]struct{ key, secret, want string }{
		"one letter":                 {"local://node/payments/database", "local://node/payments/databaze", other},
		"one more":                   {"local://node/payments/database", "local://node/payments/databases", other},
		"one less":                   {"local://node/payments/database", "local://node/payments/databse", other},
		"three letters":              {"local://node/database-primary", "local://node/databaze-brimari", other},
		"four letters":               {"local://node/database-primary", "local://node/databaze-brimarii", ""},
		"of a short name":            {"local://node/db", "local://node/dc", ""},
		"a third of the name":        {"local://node/dbx", "local://node/dby", ""},
		"less than a third":          {"local://node/dbxy", "local://node/dbxz", other},
		"another backend":            {"local://node/payments/database", "local://edge/payments/database", ""},
		"a backend that begins so":   {"local://node/payments/database", "local://node2/payments/database", ""},
		"another team":               {"local://node/payments/database", "local://node/shop/cart", ""},
		"half the path":              {"local://node/payments/database", "local://node/payments/queue", other},
		"less than half":             {"local://node/a/b/c", "local://node/a/x/y", ""},
		"two of three":               {"local://node/a/b/c", "local://node/a/b/y", other},
		"prefix misspelt":            {"local://node/payments/", "local://node/paymets/db", other},
		"prefix far off":             {"local://node/payments/", "local://node/shop/db", ""},
		"below one":                  {"local://node/payments/database", "local://node/payments/database/old", "is for %s alone, not for what is below it"},
		"beside one":                 {"local://node/payments/database", "local://node/payments/database2", other},
		"the key":                    {"local://node/payments/database", "local://node/payments/database#pw", "is for %s, not for the key pw of it"},
		"another key":                {"local://node/payments/database#user", "local://node/payments/database#pw", "is for %s, another key of it"},
		"the whole":                  {"local://node/payments/database#user", "local://node/payments/database", "is for %s, another key of it"},
		"the whole for each key":     {"local://node/payments/database#", "local://node/payments/database", "is for %s*, each key of it and not the whole"},
		"another version":            {"local://node/payments/database@1", "local://node/payments/database@2", "is for %s, another version of it"},
		"a version of what is whole": {"local://node/payments/database@1", "local://node/payments/database", "is for %s, another version of it"},
		"version of a key":           {"local://node/payments/database#pw@1", "local://node/payments/database#pw@2", "is for %s, another version of it"},
		"too long to be misspelt":    {"local://node/" + long, "local://node/" + long[1:] + "b", ""},
		"what could not be read":     {"local://node/payments/database", "unparsed:" + policiestest.Digest, ""},
		"a grant for the unread":     {"unparsed:" + policiestest.Digest, "local://node/payments/database", ""},
	} {
		want := test.want
		if strings.Contains(want, "%s") {
			key := test.key
			if strings.HasSuffix(key, "/") {
				key += "*"
			}
			want = fmt.Sprintf(want, key)
		}
		got := strings.Join(ask(t, test.key, test.secret), "; ")
		if got != want {
			t.Errorf("%s: %s for %s: %q, want %q", name, test.key, test.secret, got, want)
		}
	}
}

// A grant that covers the secret lacks nothing in its secrets.
func TestWhatCoversIsNotNear(t *testing.T) {
	for _, key := range []string{
		"local://node/payments/database#pw@2", "local://node/payments/database#pw", "local://node/payments/database#", "local://node/payments/", "local://node/",
	} {
		if got := ask(t, key, "local://node/payments/database#pw@2"); got != nil {
			t.Errorf("%s: lacks %q, want nothing", key, got)
		}
	}
}

// Of a grant with many secrets, the nearest counts.
func TestTheNearestSecretOfAGrantCounts(t *testing.T) {
	record := []policies.GrantRecord{{ID: "G-1", Owner: "x", Provider: "local", NotAfterNS: 1 << 62, Scoping: map[string]string{}}}
	index := policies.GrantIndex{"payments/api": {
		"local://node/payments/queue": record, "local://node/payments/databaze": record, "local://node/payments/database@7": record, "local://node/shop/x": record,
	}}
	in := policiestest.Input(requests(policies.Request{Secret: "local://node/payments/database", File: "f"}))
	near := explain.NewGrants(policies.Contents{Grants: index}).Nearest(in, in.Requests[0])
	want := []explain.Near{{ID: "G-1", Owner: "x", Lacks: []string{"is for local://node/payments/database@7, another version of it"}}}
	if diff := cmp.Diff(want, near); diff != "" {
		t.Errorf("Nearest() differs (-want +got):\n%s", diff)
	}
}

// A grant is listed where it is nearest: what lacks less comes first, and of equals
// the closer secret.
func TestOrderOfNearGrants(t *testing.T) {
	record := func(id string, expired bool) policies.GrantRecord {
		r := policies.GrantRecord{ID: id, Owner: "x", Provider: "local", NotAfterNS: 1 << 62, Scoping: map[string]string{}}
		if expired {
			r.NotAfterNS = 1
		}
		return r
	}
	index := policies.GrantIndex{"payments/api": {
		"local://node/payments/databaze":   {record("G-misspelt", false)},
		"local://node/payments/database@7": {record("G-version", false), record("G-version-expired", true)},
		"local://node/payments/queue":      {record("G-neighbour", false)},
		"local://node/payments/database":   {record("G-expired", true)},
	}}
	in := policiestest.Input(requests(policies.Request{Secret: "local://node/payments/database", File: "f"}))
	var got []string
	for _, n := range explain.NewGrants(policies.Contents{Grants: index}).Nearest(in, in.Requests[0]) {
		got = append(got, n.ID)
	}
	if want := []string{"G-expired", "G-version", "G-misspelt"}; !cmp.Equal(want, got) {
		t.Errorf("Nearest() = %q, want %q", got, want)
	}
}

// An index that no bundle of ours has: no decision looks there, and nothing breaks.
func TestOddIndexes(t *testing.T) {
	record := []policies.GrantRecord{{ID: "G-1", Owner: "x"}}
	for _, subject := range []string{"", "payments", "/", "//", "label:", "label:/api", "label:team/api", "label:team=/api", "a/b/c"} {
		for _, secret := range []string{"", "/", "#", "@", "://", "local://", "local:///", "unparsed:", "local://node/payments/db-password"} {
			g := explain.NewGrants(policies.Contents{Grants: policies.GrantIndex{subject: {secret: record}}, NamespaceLabelKeys: []string{"team", ""}})
			in := policiestest.Input()
			for _, n := range g.Nearest(in, in.Requests[0]) {
				if n.ID != "G-1" || len(n.Lacks) == 0 {
					t.Errorf("%q %q: Nearest() = %+v, want G-1 with what it lacks", subject, secret, n)
				}
			}
		}
	}
	if got := explain.NewGrants(policies.Contents{}).Owner("G-1"); got != "" {
		t.Errorf("Owner() of a grant that is not there = %q, want none", got)
	}
}

// Whatever is asked for and whatever is granted, there is an answer, at once, of
// text that is bounded by the two.
func FuzzNearest(f *testing.F) {
	f.Add("local://node/payments/db-password", "payments/api", "local://node/payments/db", "label:team=pay")
	f.Add("unparsed:"+policiestest.Digest, "label:team=pay/*", "local://node/payments/", "")
	f.Fuzz(func(t *testing.T, secret, subject, key, label string) {
		g := explain.NewGrants(policies.Contents{
			Grants:             policies.GrantIndex{subject: {key: {{ID: "G-1", Provider: "local", NamespaceLabels: map[string]string{label: label}}}}},
			NamespaceLabelKeys: []string{label},
		})
		in := policiestest.Input(requests(policies.Request{Secret: secret, File: "f"}))
		for _, n := range g.Nearest(in, in.Requests[0]) {
			if len(n.Lacks) == 0 {
				t.Errorf("%s is near and lacks nothing", n.ID)
			}
			for _, text := range n.Lacks {
				if utf8.ValidString(secret+subject+key+label) && !utf8.ValidString(text) || len(text) > 400+2*(len(secret)+len(subject)+len(key)+len(label)) {
					t.Errorf("Lacks %q of %d bytes, want text that is bounded", text, len(text))
				}
			}
		}
	})
}
