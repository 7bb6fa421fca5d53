package policies_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// FuzzDecide: whatever the facts, the engine answers, and an allow always names
// the granted subject and prefix.
func FuzzDecide(f *testing.F) {
	for _, change := range []mutate{
		func(*policies.Input) {},
		secret("local://node/payments/../orders/x"),
		secret("unparsed:" + policiestest.Digest),
		mode(0o4755),
		noGroup,
		func(in *policies.Input) { in.Subject.Namespace = "payments/api" },
		func(in *policies.Input) { in.Requests = nil; in.Pod.Containers = nil },
		func(in *policies.Input) { in.SPC.Scoping = map[string]string{"": "\x00"} },
	} {
		text, err := json.Marshal(policiestest.Input(change))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	e := compile(f, policiestest.Files(policiestest.Grants), 2*time.Second)
	f.Fuzz(func(t *testing.T, text []byte) {
		var in policies.Input
		if json.Unmarshal(text, &in) != nil {
			t.Skip("not an input")
		}
		d := e.Decide(t.Context(), in)
		if d.Undecided == policies.UndecidedTimeout || d.Undecided == policies.UndecidedBadDecision {
			t.Errorf("Decide(%q) = %v (%v), want a verdict", text, summary(d), d.Cause())
		}
		if len(d.ID) != 26 {
			t.Errorf("Decide(%q) has ID %q, want 26 characters", text, d.ID)
		}
		g, err := d.Grant()
		if (err == nil) != (d.Verdict() == policies.VerdictAllow) {
			t.Errorf("Decide(%q) = %v, but Grant() = %v", text, d.Verdict(), err)
		}
		if err != nil {
			return
		}
		if s := g.Subject(); s.Namespace != "payments" || s.ServiceAccount != "api" || len(g.Requests()) == 0 || !in.Volume.ReadOnly {
			t.Errorf("Decide(%q) = allow, want deny: subject %+v", text, s)
		}
		for _, r := range g.Requests() {
			if !strings.HasPrefix(r.Secret, "local://node/payments/") || strings.Contains(r.Secret, "/../") || r.UID != nil {
				t.Errorf("Decide(%q) = allow of %q, want deny", text, r.Secret)
			}
			if m, _ := g.FileMode(r, 0o777); m&^0o444 != 0 {
				t.Errorf("FileMode(%q) = %#o, want read bits only", r.Secret, m)
			}
		}
	})
}
