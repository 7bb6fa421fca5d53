package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func TestDecidedAndFinished(t *testing.T) {
	phase := func(p policies.Phase) func(*policies.Input) { return func(in *policies.Input) { in.Phase = p } }
	allow, deny, undecided := policiestest.Allow(t), policiestest.Deny(t), policiestest.Undecided(t)
	id := audit.DriverStarted().ID
	tests := []struct {
		name    string
		event   audit.Event
		typ     audit.Type
		stage   audit.Stage
		outcome audit.Outcome
		code    audit.Code
	}{
		{"allow", audit.Decided(allow), audit.TypeMount, audit.StageIntent, audit.OutcomeUnknown, "PC2001I"},
		{"deny", audit.Decided(deny), audit.TypeMount, "", audit.OutcomeDenied, "PC2001W"},
		{"undecided", audit.Decided(undecided), audit.TypeMount, "", audit.OutcomeFailure, "PC2001E"},
		{"zero decision", audit.Decided(policies.Decision{}), audit.TypeMount, "", audit.OutcomeFailure, "PC2001E"},
		{"allow on rotation", audit.Decided(policiestest.Allow(t, phase(policies.PhaseRotate))), audit.TypeRotate, "", audit.OutcomeUnknown, "PC2002I"},
		{"deny on rotation", audit.Decided(policiestest.Deny(t, phase(policies.PhaseRotate))), audit.TypeRotate, "", audit.OutcomeDenied, "PC2002W"},
		{"allow at admission", audit.Decided(policiestest.Allow(t, phase(policies.PhaseAdmission))), audit.TypeAdmission, "", audit.OutcomeSuccess, "PC1001I"},
		{"deny at admission", audit.Decided(policiestest.Deny(t, phase(policies.PhaseAdmission))), audit.TypeAdmission, "", audit.OutcomeDenied, "PC1001W"},
		{"allow of a copy", audit.Decided(policiestest.Allow(t, phase(policies.PhaseSync))), audit.TypeSync, audit.StageIntent, audit.OutcomeUnknown, "PC2004I"},
		{"delivered", audit.Finished(id, allow, files(), ""), audit.TypeMount, audit.StageComplete, audit.OutcomeSuccess, "PC2001I"},
		{"provider failed", audit.Finished(id, allow, nil, audit.ReasonProviderError), audit.TypeMount, audit.StageComplete, audit.OutcomeFailure, "PC2001E"},
		{"beyond the grant", audit.Finished(id, allow, nil, audit.ReasonBeyondGrant), audit.TypeMount, audit.StageComplete, audit.OutcomeDenied, "PC2001W"},
		{"rejected", audit.Rejected(claim(), audit.ReasonIdentityUnconfirmed), audit.TypeMount, "", audit.OutcomeDenied, "PC2001W"},
		{"facts missing", audit.Rejected(claim(), audit.ReasonFactsUnavailable), audit.TypeMount, "", audit.OutcomeFailure, "PC2001E"},
		{"unmounted", audit.Unmounted(claim(), ""), audit.TypeUnmount, "", audit.OutcomeSuccess, "PC2003I"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := audit.Parse(stored(t, tt.event))
			if err != nil {
				t.Fatal(err)
			}
			if got.Type != tt.typ || got.Stage != tt.stage || got.Outcome != tt.outcome || got.Code != tt.code {
				t.Errorf("event = %s %q %s %s, want %s %q %s %s", got.Type, got.Stage, got.Outcome, got.Code, tt.typ, tt.stage, tt.outcome, tt.code)
			}
		})
	}
}

// TestEveryReasonIsUsable stores each reason where the driver may use it.
func TestEveryReasonIsUsable(t *testing.T) {
	allow := policiestest.Allow(t)
	for _, reason := range audit.Reasons() {
		t.Run(string(reason), func(t *testing.T) {
			for _, e := range []audit.Event{
				audit.Rejected(claim(), reason), audit.Finished(audit.DriverStarted().ID, allow, nil, reason),
				audit.IntegrityFailure(claim(), reason), audit.Unmounted(claim(), reason), audit.DriverStopped(reason),
				audit.PolicyLoadFailed(audit.Bundle{Reason: reason}),
			} {
				stored(t, e)
			}
		})
	}
}

// TestClaimsThatAreNoNames: kubelet's words are outside input.
func TestP5ClaimsThatAreNoNames(t *testing.T) {
	bad := []string{"a b", "../../etc", strings.Repeat("x", 300), "hunter2\n", "\x1b[31m", "日本", "-dash", "{}", `"`}
	for _, text := range bad {
		t.Run(fmt.Sprintf("%.10q", text), func(t *testing.T) {
			leaf := string(stored(t, audit.Rejected(audit.Claim{Namespace: text, Pod: text, PodUID: text, ServiceAccount: text, Volume: text}, audit.ReasonInvalidRequest)))
			if strings.Contains(leaf, text) && text != `"` && text != "{}" {
				t.Errorf("event %s repeats %q", leaf, text)
			}
			e, err := audit.Parse([]byte(leaf))
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range []string{e.Workload.Namespace, e.Workload.Pod, e.Workload.PodUID, e.Workload.ServiceAccount, e.Workload.Volume} {
				if !strings.HasPrefix(got, "sha256:") {
					t.Errorf("Rejected(%q) kept %q, want a digest", text, got)
				}
			}
		})
	}
	t.Run("nothing at all", func(t *testing.T) {
		stored(t, audit.Rejected(audit.Claim{}, audit.ReasonInvalidRequest))
	})
}

func TestP5VersionsAndPathsOfProviders(t *testing.T) {
	tests := []struct {
		name, version string
		kept          bool
	}{
		{"number", "17", true},
		{"uuid", "6a0f5c3e-2f6b-4f39-9d0b-0d6f3a9e8b11", true},
		{"etag", "W/abc==", true},
		{"none", "", true},
		{"sentence", "the password is hunter2", false},
		{"json", `{"password":"hunter2"}`, false},
		{"two lines", "1\n2", false},
		{"too long", strings.Repeat("1", 129), false},
		{"escape sequence", "1\x1b[0m", false},
		{"not ASCII", "v1–2", false},
	}
	allow := policiestest.Allow(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			leaf := stored(t, audit.Finished(audit.DriverStarted().ID, allow, []audit.File{{Path: "a/" + tt.name, Version: tt.version, PreviousVersion: tt.version}}, ""))
			e, err := audit.Parse(leaf)
			if err != nil {
				t.Fatal(err)
			}
			if got := e.Files[0].Version; (got == tt.version) != tt.kept || !tt.kept && !strings.HasPrefix(got, "sha256:") {
				t.Errorf("Version of %q = %q, want it kept: %v", tt.version, got, tt.kept)
			}
		})
	}
}

// TestP5EventsHoldNoFactsButNames puts a canary into everything that policy
// sees and events must not say.
func TestP5EventsHoldNoFactsButNames(t *testing.T) {
	const canary = "c4n4ry-hunter2"
	taint := func(in *policies.Input) {
		m := map[string]string{"k-" + canary: "v-" + canary}
		in.Subject.NamespaceLabels, in.Subject.ServiceAccountAnnotations = m, m
		in.Pod.Labels, in.SPC.Parameters = m, m
		in.Pod.HostPaths = []string{"/" + canary}
		in.Pod.Owner = &policies.Owner{Kind: canary, Name: canary}
		in.Pod.Containers[0].Name, in.Pod.Containers[0].Image = canary, canary
		in.Volume.Overrides = []string{canary}
		in.Volume.NodePublishSecretRef = canary
		in.Tokens = []policies.Token{{Audience: canary}}
		in.Requests[0].ParseError = canary
	}
	literal := func(in *policies.Input) { taint(in); in.SPC.LiteralCredentials = []string{canary} }
	scoped := func(in *policies.Input) { taint(in); in.SPC.Scoping = map[string]string{canary: canary} }
	id := audit.DriverStarted().ID
	engine := policiestest.Engine(t, policiestest.Grants)
	for name, mutate := range map[string]func(*policies.Input){"facts": taint, "literal credential": literal, "scoping": scoped} {
		t.Run(name, func(t *testing.T) {
			d := engine.Decide(t.Context(), policiestest.Input(mutate))
			for _, e := range []audit.Event{
				audit.Decided(d), audit.Finished(id, d, nil, audit.ReasonProviderError),
				audit.Finished(id, d, []audit.File{{Path: "a", Version: "it says: " + canary}}, ""),
			} {
				if leaf := string(stored(t, e)); strings.Contains(leaf, canary) {
					t.Errorf("event holds the canary: %s", leaf)
				}
			}
		})
	}
}

func TestDecidedKeepsItsWords(t *testing.T) {
	d := policiestest.Deny(t)
	d.Deny = append(d.Deny, policies.Finding{ID: "PR-900", Check: "x", Severity: "disastrous", Message: "hunter2", Remediation: "hunter2", Secret: "not an id"})
	d.Grants = []string{"G-1", "a grant with spaces"}
	leaf := string(stored(t, audit.Decided(d)))
	if strings.Contains(leaf, "hunter2") || strings.Contains(leaf, "not an id") || strings.Contains(leaf, "disastrous") {
		t.Errorf("event %s repeats free text", leaf)
	}
	e, err := audit.Parse([]byte(leaf))
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Policy.Rules[len(e.Policy.Rules)-1].Severity; got != audit.SeverityHigh {
		t.Errorf("severity of an unknown word = %q, want high", got)
	}
}

// TestLongListsContinue makes events of the largest inputs that are valid.
func TestLongListsContinue(t *testing.T) {
	long := func(in *policies.Input) {
		in.Requests = nil
		for i := range policies.MaxRequests {
			in.Requests = append(in.Requests, policies.Request{
				Secret: fmt.Sprintf("local://node/payments/%s-%d", strings.Repeat("s", 900), i),
				File:   fmt.Sprintf("%s/%d", strings.Repeat("f", 200), i),
			})
		}
	}
	for name, d := range map[string]policies.Decision{"allow": policiestest.Allow(t, long), "deny": policiestest.Deny(t, long)} {
		t.Run(name, func(t *testing.T) {
			r, l := audittest.New(t)
			e := audit.Decided(d)
			record(t, r, e)
			parts := l.Events(t)
			if len(parts) < 3 {
				t.Fatalf("len(parts) = %d, want at least 3", len(parts))
			}
			var secrets []audit.Secret
			var rules []audit.Rule
			ids := map[string]bool{}
			for i, p := range parts {
				if diff := cmp.Diff(&audit.Part{First: e.ID, Number: i + 1, Of: len(parts)}, p.Part); diff != "" {
					t.Errorf("part %d mismatch (-want +got):\n%s", i+1, diff)
				}
				if (p.Stage != "") != (i == 0 && name == "allow") || p.Policy.DecisionID != d.ID || ids[p.ID] {
					t.Errorf("part %d has stage %q, decision %q, id %q", i+1, p.Stage, p.Policy.DecisionID, p.ID)
				}
				ids[p.ID] = true
				secrets, rules = append(secrets, p.Secrets...), append(rules, p.Policy.Rules...)
			}
			if diff := cmp.Diff(e.Secrets, secrets); diff != "" {
				t.Errorf("secrets mismatch (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(e.Policy.Rules, rules); diff != "" {
				t.Errorf("rules mismatch (-want +got):\n%s", diff)
			}
			for _, leaf := range l.Leaves() {
				if len(leaf) > audit.MaxEventBytes {
					t.Errorf("len(leaf) = %d, want at most %d", len(leaf), audit.MaxEventBytes)
				}
			}
		})
	}
}

// TestAHalfWrittenIntentIsEnded fails the log between two parts.
func TestAHalfWrittenIntentIsEnded(t *testing.T) {
	d := policiestest.Allow(t, func(in *policies.Input) {
		for i := range 40 {
			in.Requests = append(in.Requests, policies.Request{Secret: fmt.Sprintf("local://node/payments/%s-%d", strings.Repeat("s", 1900), i), File: fmt.Sprint("f", i)})
		}
	})
	l := &failsAfter{Log: &audittest.Log{}, left: 1}
	r, _ := audittest.New(t, func(c *audit.Config) { c.Log = l })
	e := audit.Decided(d)
	if err := r.Record(t.Context(), e); !errors.Is(err, audit.ErrUnavailable) {
		t.Fatalf("Record() = %v, want %v", err, audit.ErrUnavailable)
	}
	events := audittest.Closed(t, r, l.Log)
	intents, err := audit.OpenIntents(l)
	if err != nil || len(intents) != 0 {
		t.Errorf("OpenIntents() = %v, %v, want none; events %v", intents, err, types(events))
	}
}

// failsAfter fails one append after some have worked.
type failsAfter struct {
	*audittest.Log
	left int
}

func (l *failsAfter) Append(ctx context.Context, leaf []byte) (int64, error) {
	l.left--
	if l.left == -1 {
		return 0, errDisk
	}
	return l.Log.Append(ctx, leaf)
}

func TestOpenIntents(t *testing.T) {
	allow := policiestest.Allow(t)
	r, l := audittest.New(t)
	var events []audit.Event
	for range 4 {
		events = append(events, record(t, r, audit.Decided(allow)))
	}
	record(t, r, audit.Finished(events[1].ID, allow, files(), ""))
	record(t, r, audit.Finished(events[3].ID, allow, nil, audit.ReasonProviderError))
	record(t, r, audit.Decided(policiestest.Allow(t, rotating)))
	intents, err := audit.OpenIntents(l)
	if err != nil || len(intents) != 2 || intents[0].EventID != events[0].ID || intents[1].EventID != events[2].ID {
		t.Fatalf("OpenIntents() = %v, %v, want the first and third", intents, err)
	}
	for i, mounted := range []bool{true, false} {
		e := audit.Ended(intents[i], mounted)
		record(t, r, e)
		want := audit.ReasonAbandoned
		if mounted {
			want = audit.ReasonRecovered
		}
		if e.Reason != want || e.Workload.PodUID != claim().PodUID || e.Actor.Name != "system:serviceaccount:payments:api" {
			t.Errorf("Ended(%v) = %+v, want reason %s", mounted, e, want)
		}
	}
	if intents, err := audit.OpenIntents(l); err != nil || len(intents) != 0 {
		t.Errorf("OpenIntents() = %v, %v, want none", intents, err)
	}
	record(t, r, audit.Ended(audit.Intent{EventID: events[0].ID}, false)) // of a caller who kept only the id
}

func TestOpenIntentsOfAStrangeLog(t *testing.T) {
	l := &audittest.Log{}
	if _, err := l.Append(t.Context(), []byte(`{"schema":"other"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.OpenIntents(l); err == nil || !strings.Contains(err.Error(), "event 0") {
		t.Errorf("OpenIntents() = %v, want an error that names event 0", err)
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		name, leaf string
		valid      bool
	}{
		{"a field of a later release", `{"schema":"portcullis.dev/audit/v1","later":1}`, true},
		{"another schema", `{"schema":"portcullis.dev/audit/v2"}`, false},
		{"no JSON", `hello`, false},
		{"another type", `{"schema":"portcullis.dev/audit/v1","count":"many"}`, false},
		{"too long", `{"schema":"portcullis.dev/audit/v1","reason":"` + strings.Repeat("x", audit.MaxEventBytes) + `"}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := audit.Parse([]byte(tt.leaf)); (err == nil) != tt.valid {
				t.Errorf("Parse(%.60q) = %v, want valid %v", tt.leaf, err, tt.valid)
			}
		})
	}
}

// FuzzValidate reads any JSON as an event. Whatever is found valid can be
// stored, conforms to the schema, and holds no character that a terminal or a
// line-based receiver would act on.
func FuzzValidate(f *testing.F) {
	for _, e := range []audit.Event{audit.DriverStarted(), audit.Unmounted(claim(), ""), audit.LogFound(audit.Opening{Epoch: 1, Size: 1})} {
		text, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"schema":"portcullis.dev/audit/v1","workload":{"pod":"a\u001b[31m"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var e audit.Event
		if json.Unmarshal(text, &e) != nil || e.Validate() != nil {
			return
		}
		leaf := stored(t, e)
		for _, b := range leaf {
			if b < ' ' || b > '~' {
				t.Errorf("event %q holds byte %#x", leaf, b)
			}
		}
		if err := conforms(t, compiled(t), leaf); err != nil {
			t.Errorf("Validate(%s) = nil, the schema says %v", leaf, err)
		}
	})
}

// FuzzClaim makes events of any claim: each is valid.
func FuzzClaim(f *testing.F) {
	f.Add("payments", "api-0", "6a0f5c3e-2f6b-4f39-9d0b-0d6f3a9e8b11", "api", "17")
	f.Add("", "a b", "\x00", "日本", "{}")
	allow := policiestest.Allow(f)
	f.Fuzz(func(t *testing.T, namespace, pod, uid, account, version string) {
		stored(t, audit.Rejected(audit.Claim{Namespace: namespace, Pod: pod, PodUID: uid, ServiceAccount: account, Volume: pod}, audit.ReasonPodNotFound))
		stored(t, audit.Finished(audit.DriverStarted().ID, allow, []audit.File{{Path: "a", Version: version}}, ""))
	})
}
