package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func TestRules(t *testing.T) {
	hex := strings.Repeat("0a", 32)
	digested := "sha256:" + hex
	tests := []struct {
		tag            string
		valid, invalid []string
	}{
		{"uuid", []string{"019bc1d0-7c00-7000-8000-000000000001"}, []string{"", "019BC1D0-7C00-7000-8000-000000000001", "019bc1d07c0070008000000000000001", digested}},
		{"code", []string{"PC0001I", "PC9999E"}, []string{"PC001I", "PC0001X", "pc0001i", "PC00001I"}},
		{"hex64", []string{hex}, []string{hex[1:], strings.ToUpper(hex), digested}},
		{"digest", []string{digested}, []string{hex, "sha512:" + hex, digested + "0"}},
		{"decision", []string{"MFRGGZDFMZTWQ2LKNNWG23TPOB"}, []string{"MFRGGZDFMZTWQ2LKNNWG23TPO", "mfrggzdfmztwq2lknnwg23tpob", "MFRGGZDFMZTWQ2LKNNWG23TPO1"}},
		{"namespace", []string{"payments", "a", "a-1", digested}, []string{"", "Payments", "-a", "a-", "a.b", strings.Repeat("a", 64)}},
		{"name", []string{"api-0", "system.api", "A_b", digested, strings.Repeat("a", 253)}, []string{"", "a b", "a/b", ".a", "a.", strings.Repeat("a", 254)}},
		{"uid", []string{"6a0f5c3e-2f6b-4f39-9d0b-0d6f3a9e8b11", "42", digested}, []string{"", "-1", "a b", "../x", strings.Repeat("a", 65)}},
		{"provider", []string{"vault", "aws", "my_provider-2", digested}, []string{"", "a b", strings.Repeat("a", 31), "a.b"}},
		{"actor", []string{"portcullis", "system:serviceaccount:payments:api", "alice@example.com", "oidc:~x"}, []string{"", "a b", "a\tb", `a"b`, "a<b", strings.Repeat("a", 401)}},
		{"ip", []string{"10.0.0.7", "fe80::1"}, []string{"", "localhost", "10.0.0.7/8", "fe80::1%eth0"}},
		{"secret", []string{"vault://vault.example:8200/secret/data/db#password@17", "local://node/a", "unparsed:" + hex, digested}, []string{"", "hunter2", "vault:/a", "vault://a b", "vault://a\nb", `vault://a"b`, `vault://a\b`, "unparsed:" + hex[1:]}},
		{"path", []string{"db-password", "certs/tls.crt", "a file", digested}, []string{"", "a\nb", "a\x00b", `a"b`, "a<b", "ä"}},
		{"version", []string{"17", "W/abc==", "v1.2.3", digested, strings.Repeat("1", 128)}, []string{"", "-1", "a b", "{}", strings.Repeat("1", 129)}},
		{"release", []string{"v1.2.3", "(devel)", "v0.0.0-20260115120000-abcdef123456+dirty"}, []string{"", "a b", "-v", "v1;"}},
		{"rule", []string{"PR-001", "PR-1234", digested}, []string{"", "PR-1", "XX-001", "PR-001 "}},
		{"object", []string{"G-1", "team.payments_2", digested}, []string{"", "a b", "-a", strings.Repeat("a", 64)}},
		{"verifierkey", []string{"test/nodes/a+0123abcd+" + strings.Repeat("Az0+", 11)}, []string{
			"", "test/nodes/a", "a b+0123abcd+" + strings.Repeat("Az0+", 11), "a+0123abcd+" + strings.Repeat("A", 45), "PRIVATE+KEY+a+0123abcd+" + strings.Repeat("Az0+", 11), digested,
		}},
		{"traceid", []string{strings.Repeat("0a", 16)}, []string{"", hex, strings.Repeat("0A", 16)}},
		{"spanid", []string{strings.Repeat("0a", 8)}, []string{"", hex}},
		{"component", []string{"driver", "admission", "cli"}, []string{"", "kubelet"}},
		{"phase", []string{"mount", "rotate"}, []string{"", "Mount"}},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		t.Run(tt.tag, func(t *testing.T) {
			seen[tt.tag] = true
			words, pattern, longest, ok := audit.RuleOf(tt.tag)
			if !ok {
				t.Fatalf("RuleOf(%q) is not there", tt.tag)
			}
			matches := func(s string) bool {
				if pattern != nil {
					return pattern.MatchString(s) && (longest == 0 || len(s) <= longest)
				}
				for _, w := range words {
					if w == s {
						return true
					}
				}
				return false
			}
			for _, s := range tt.valid {
				if !matches(s) {
					t.Errorf("rule %q refuses %q", tt.tag, s)
				}
			}
			for _, s := range tt.invalid {
				if matches(s) {
					t.Errorf("rule %q takes %q", tt.tag, s)
				}
			}
		})
	}
	if _, _, _, ok := audit.RuleOf("anything"); ok {
		t.Error(`RuleOf("anything") is there`)
	}
}

func TestSeverities(t *testing.T) {
	allow := policiestest.Allow(t)
	denied := func(severities ...policies.Severity) audit.Event {
		d := policiestest.Deny(t)
		d.Deny = nil
		for _, s := range severities {
			d.Deny = append(d.Deny, policies.Finding{ID: "PR-001", Severity: s})
		}
		return audit.Decided(d)
	}
	tests := []struct {
		name  string
		event audit.Event
		want  audit.Severity
	}{
		{"allowed", audit.Decided(allow), audit.SeverityInfo},
		{"delivered", audit.Finished("", allow, files(), ""), audit.SeverityInfo},
		{"denied without a word", denied(), audit.SeverityHigh},
		{"denied by a low rule", denied(policies.SeverityLow), audit.SeverityLow},
		{"denied by several", denied(policies.SeverityLow, policies.SeverityCritical, policies.SeverityInfo), audit.SeverityCritical},
		{"denied by a misspelt one", denied("hihg"), audit.SeverityHigh},
		{"undecided", audit.Decided(policiestest.Undecided(t)), audit.SeverityHigh},
		{"bad request", audit.Rejected(claim(), audit.ReasonInvalidRequest), audit.SeverityMedium},
		{"not who it says", audit.Rejected(claim(), audit.ReasonIdentityUnconfirmed), audit.SeverityHigh},
		{"provider down", audit.Finished("", allow, nil, audit.ReasonProviderUnavailable), audit.SeverityMedium},
		{"beyond the grant", audit.Finished("", allow, nil, audit.ReasonBeyondGrant), audit.SeverityHigh},
		{"provider wrote itself", audit.IntegrityFailure(claim(), audit.ReasonProviderWroteTarget), audit.SeverityCritical},
		{"foreign mount", audit.ForeignMount(claim(), audit.ForeignUnmounted), audit.SeverityHigh},
		{"unmounted", audit.Unmounted(claim(), ""), audit.SeverityInfo},
		{"not unmounted", audit.Unmounted(claim(), audit.ReasonUnmountFailed), audit.SeverityHigh},
		{"signed bundle", audit.PolicyLoaded(audit.Bundle{Signed: true}), audit.SeverityInfo},
		{"unsigned bundle", audit.PolicyLoaded(audit.Bundle{}), audit.SeverityHigh},
		{"rolled back bundle", audit.PolicyLoadFailed(audit.Bundle{Reason: audit.ReasonBundleRollback}), audit.SeverityCritical},
		{"tampered log", audit.LogTampered(), audit.SeverityCritical},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.event.Severity != tt.want {
				t.Errorf("Severity = %q, want %q", tt.event.Severity, tt.want)
			}
		})
	}
}

func TestTook(t *testing.T) {
	e := audit.DriverStarted()
	if got := e.Took(1500 * time.Microsecond).DurationMS; got != 1 {
		t.Errorf("Took(1.5ms).DurationMS = %d, want 1", got)
	}
	if got := e.Took(-time.Second).DurationMS; got != 0 {
		t.Errorf("Took(-1s).DurationMS = %d, want 0: clocks go backwards", got)
	}
}

// TestAdmissionNamesTheRequester: who sent the request is the actor there, and
// the service account stays in the workload.
func TestAdmissionNamesTheRequester(t *testing.T) {
	tests := []struct {
		name      string
		requester *policies.Requester
		want      audit.Actor
	}{
		{"a controller", &policies.Requester{Username: "system:serviceaccount:kube-system:replicaset-controller", Groups: []string{"system:authenticated"}},
			audit.Actor{Kind: audit.ActorUser, Name: "system:serviceaccount:kube-system:replicaset-controller", Groups: []string{"system:authenticated"}}},
		{"nobody", nil, audit.Actor{Kind: audit.ActorServiceAccount, Name: "system:serviceaccount:payments:api"}},
		{"no name", &policies.Requester{}, audit.Actor{Kind: audit.ActorServiceAccount, Name: "system:serviceaccount:payments:api"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := policiestest.Allow(t, func(in *policies.Input) { in.Phase, in.Requester = policies.PhaseAdmission, tt.requester })
			e, err := audit.Parse(stored(t, audit.Decided(d)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, e.Actor); diff != "" {
				t.Errorf("Actor mismatch (-want +got):\n%s", diff)
			}
			if e.Workload.ServiceAccount != "api" {
				t.Errorf("Workload.ServiceAccount = %q, want api", e.Workload.ServiceAccount)
			}
		})
	}
	t.Run("a name with spaces", func(t *testing.T) {
		d := policiestest.Allow(t, func(in *policies.Input) {
			in.Phase, in.Requester = policies.PhaseAdmission, &policies.Requester{Username: "Alice Example", Groups: []string{"a b"}}
		})
		leaf := string(stored(t, audit.Decided(d)))
		if strings.Contains(leaf, "Alice") || strings.Contains(leaf, "a b") {
			t.Errorf("event %s repeats the name", leaf)
		}
	})
}

// TestUnsignedPolicyShows in every event that rests on it.
func TestUnsignedPolicyShows(t *testing.T) {
	allow := policiestest.Allow(t) // of a directory bundle
	r, l := audittest.New(t)
	e := record(t, r, audit.Decided(allow))
	record(t, r, audit.Finished(e.ID, allow, files(), ""))
	for _, e := range l.Events(t) {
		if !e.Policy.Unsigned {
			t.Errorf("event %s does not say that its policy is unsigned", e.Type)
		}
	}
	signed := allow
	signed.BundleSigned = true
	if e := audit.Decided(signed); e.Policy.Unsigned {
		t.Error("Decided(signed).Policy.Unsigned = true, want false")
	}
}
