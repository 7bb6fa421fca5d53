package policies_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// mutate names a change of an input.
type mutate = func(*policies.Input)

func request(change func(*policies.Request)) mutate {
	return func(in *policies.Input) { change(&in.Requests[0]) }
}

func secret(id string) mutate { return request(func(r *policies.Request) { r.Secret = id }) }

func mode(m uint32) mutate { return request(func(r *policies.Request) { r.Mode = new(m) }) }

func noGroup(in *policies.Input) { in.Volume.VolumeMountGroup = nil }

// summary is what tests compare: the verdict, then the rules that refused.
func summary(d policies.Decision) string {
	text := d.Verdict().String()
	if d.Undecided != "" {
		text += " " + string(d.Undecided)
	}
	if ids := policies.RuleIDs(d.Deny); len(ids) > 0 {
		text += " " + strings.Join(ids, ",")
	}
	if ids := policies.RuleIDs(d.Warn); len(ids) > 0 {
		text += " warn " + strings.Join(ids, ",")
	}
	return text
}

const narrowGrants = `
- id: G-1
  owner: team-payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: local
  secrets: ["local://node/payments/db-password", "local://node/payments/json#*"]
  maxFileMode: "0440"
  ownerUID: 1000
  audiences: [vault]
  scoping: {}
`

func TestDecide(t *testing.T) {
	tests := []struct {
		name   string
		grants string
		change mutate
		want   string
	}{
		{"granted", policiestest.Grants, nil, "allow"},
		{"granted by name", narrowGrants, nil, "allow"},
		{"any version", narrowGrants, secret("local://node/payments/db-password@7"), "allow"},
		{"any key", narrowGrants, secret("local://node/payments/json#user"), "allow"},
		{"no key", narrowGrants, secret("local://node/payments/json"), "deny PR-001"},
		{"no grant", "", nil, "deny PR-001"},
		{"other secret", narrowGrants, secret("local://node/payments/other"), "deny PR-001"},
		{"longer name", narrowGrants, secret("local://node/payments/db-password2"), "deny PR-001"},
		{"other service account", policiestest.Grants, func(in *policies.Input) { in.Subject.ServiceAccount = "web" }, "deny PR-001"},
		{"other namespace", policiestest.Grants, func(in *policies.Input) { in.Subject.Namespace = "orders" }, "deny PR-001"},
		{"expired grant", policiestest.Grants, func(in *policies.Input) { in.NowNS = time.Date(2127, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano() }, "deny PR-001"},
		{"last moment of the grant", policiestest.Grants, func(in *policies.Input) { in.NowNS = time.Date(2127, 1, 1, 0, 0, 0, -1, time.UTC).UnixNano() }, "allow"},
		{"pod label is no identity", policiestest.Grants, func(in *policies.Input) {
			in.Subject.Namespace = "orders"
			in.Pod.Labels = map[string]string{"kubernetes.io/metadata.name": "payments"}
		}, "deny PR-001"},
		{"second secret not granted", narrowGrants, func(in *policies.Input) {
			in.Requests = append(in.Requests, policies.Request{Secret: "local://node/payments/x", File: "x"})
		}, "deny PR-001"},
		{"override", policiestest.Grants, func(in *policies.Input) { in.Volume.Overrides = []string{"objects"} }, "deny PR-010"},
		{"unparsed", policiestest.Grants, secret("unparsed:" + policiestest.Digest), "deny PR-013"},
		{"scoping", policiestest.Grants, func(in *policies.Input) { in.SPC.Scoping = map[string]string{"role": "admin"} }, "deny PR-020"},
		{"granted owner", narrowGrants, request(func(r *policies.Request) { r.UID = new(int64(1000)) }), "allow"},
		{"owner root", narrowGrants, request(func(r *policies.Request) { r.UID = new(int64(0)) }), "deny PR-101"},
		{"mode beyond the grant", narrowGrants, func(in *policies.Input) { noGroup(in); mode(0o444)(in) }, "deny PR-100"},
		{"mode within the grant", narrowGrants, func(in *policies.Input) { noGroup(in); mode(0o640)(in) }, "allow"},
		{"copy not granted", policiestest.Grants, request(func(r *policies.Request) { r.Sync = []policies.Sync{{Name: "db", Type: "Opaque", Key: "k"}} }), "allow warn PR-030"},
		{"nothing asked for", policiestest.Grants, func(in *policies.Input) { in.Requests = nil }, "deny PR-003"},
		{"writable volume", policiestest.Grants, func(in *policies.Input) { in.Volume.ReadOnly = false }, "deny PR-102"},
		{"literal credential", policiestest.Grants, func(in *policies.Input) { in.SPC.LiteralCredentials = []string{"clientSecret"} }, "deny PR-120"},
		{"several at once", policiestest.Grants, func(in *policies.Input) {
			in.Volume.Overrides = []string{"objects"}
			in.Volume.ReadOnly = false
			secret("local://node/x")(in)
		}, "deny PR-001,PR-010,PR-102"},
		{"invalid input", policiestest.Grants, func(in *policies.Input) { in.Contract = "portcullis/v2" }, "error InvalidInput"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := policiestest.Input()
			if tt.change != nil {
				tt.change(&in)
			}
			e := policiestest.Engine(t, tt.grants)
			d := e.Decide(t.Context(), in)
			if got := summary(d); got != tt.want {
				t.Fatalf("Decide(%s) = %q (%v), want %q", tt.name, got, d.Cause(), tt.want)
			}
			for _, f := range d.Deny {
				if f.Message == "" || f.Remediation == "" || f.Severity == "" || f.Check == "" {
					t.Errorf("finding %+v lacks a message, remedy, severity or check", f)
				}
			}
			// OPA's rule index had bugs (fixed in 1.22.1): both ways must agree.
			if other := e.WithoutIndexing().Decide(t.Context(), in); other.ID != d.ID {
				t.Errorf("Decide(%s) without rule index = %q, want %q", tt.name, summary(other), summary(d))
			}
		})
	}
}

func TestHardModes(t *testing.T) {
	owned := func(m uint32) mutate {
		return func(in *policies.Input) { mode(m)(in); in.Requests[0].UID = new(int64(1000)) }
	}
	loose := func(m uint32) mutate {
		return func(in *policies.Input) { mode(m)(in); noGroup(in) }
	}
	tests := []struct {
		name   string
		change mutate
		want   policies.Verdict
	}{
		{"default", mode(0), policies.VerdictAllow},
		{"0400", mode(0o400), policies.VerdictAllow},
		{"0440", mode(0o440), policies.VerdictAllow},
		{"0600 loses its write bit", mode(0o600), policies.VerdictAllow},
		{"0640 loses its write bit", mode(0o640), policies.VerdictAllow},
		{"0444 beside a group", mode(0o444), policies.VerdictDeny},
		{"0644 beside a group", mode(0o644), policies.VerdictDeny},
		{"0444 without a group", loose(0o444), policies.VerdictAllow},
		{"0644 without a group", loose(0o644), policies.VerdictAllow},
		{"0755 executes", loose(0o755), policies.VerdictDeny},
		{"0500 executes", mode(0o500), policies.VerdictDeny},
		{"setuid", mode(0o4400), policies.VerdictDeny},
		{"setgid", mode(0o2400), policies.VerdictDeny},
		{"sticky", mode(0o1400), policies.VerdictDeny},
		{"beyond permissions", mode(1 << 20), policies.VerdictDeny},
		{"write only", mode(0o200), policies.VerdictDeny},
		{"owner 0400", owned(0o400), policies.VerdictAllow},
		{"owner 0600", owned(0o600), policies.VerdictAllow},
		{"owner 0440", owned(0o440), policies.VerdictDeny},
	}
	grants := strings.ReplaceAll(narrowGrants, `  maxFileMode: "0440"`+"\n", "")
	e := policiestest.Engine(t, grants)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := e.Decide(t.Context(), policiestest.Input(tt.change))
			if d.Verdict() != tt.want {
				t.Fatalf("Decide(%s) = %v, want %v", tt.name, summary(d), tt.want)
			}
			if tt.want == policies.VerdictDeny && d.Deny[0].ID != "PR-100" {
				t.Errorf("Decide(%s) = %v, want PR-100", tt.name, summary(d))
			}
		})
	}
}

// TestHardFindingsHoldInMonitorMode: what Go checks cannot be monitored away.
func TestHardFindingsHoldInMonitorMode(t *testing.T) {
	e := policiestest.Engine(t, "", policiestest.WithConfig("monitor: {until: 2026-03-01, rules: [\"*\"]}\nobligations: {required_fs_group: 2000}\n"))
	tests := map[string]mutate{
		"PR-003": func(in *policies.Input) { in.Requests = nil },
		"PR-100": mode(0o4755),
		"PR-102": func(in *policies.Input) { in.Volume.ReadOnly = false },
		"PR-110": func(in *policies.Input) { in.Volume.VolumeMountGroup = new(int64(1)) },
		"PR-120": func(in *policies.Input) { in.SPC.LiteralCredentials = []string{"password"} },
	}
	for rule, change := range tests {
		t.Run(rule, func(t *testing.T) {
			d := e.Decide(t.Context(), policiestest.Input(change))
			if d.Verdict() != policies.VerdictDeny || !slices.Contains(policies.RuleIDs(d.Deny), rule) {
				t.Errorf("Decide() = %v, want deny by %s", summary(d), rule)
			}
		})
	}
}

func TestMonitorMode(t *testing.T) {
	at := func(day string) mutate {
		return func(in *policies.Input) {
			when, err := time.Parse(time.DateOnly, day)
			if err != nil {
				t.Fatal(err)
			}
			in.NowNS = when.UnixNano()
		}
	}
	tests := []struct {
		name, config string
		change       mutate
		want         string
	}{
		{"all rules", "monitor: {until: 2026-03-01, rules: [\"*\"]}", nil, "allow warn PR-001"},
		{"this rule", "monitor: {until: 2026-03-01, rules: [PR-001]}", nil, "allow warn PR-001"},
		{"another rule", "monitor: {until: 2026-03-01, rules: [PR-010]}", nil, "deny PR-001"},
		{"last day", "monitor: {until: 2026-03-01, rules: [\"*\"]}", at("2026-03-01"), "allow warn PR-001"},
		{"day after", "monitor: {until: 2026-03-01, rules: [\"*\"]}", at("2026-03-02"), "deny PR-001"},
		{"clock set back too far", "monitor: {until: 2026-03-01, rules: [\"*\"]}", at("2025-11-01"), "deny PR-001"},
		{"none", "{}", nil, "deny PR-001"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := policiestest.Engine(t, "", policiestest.WithConfig(tt.config))
			in := policiestest.Input()
			if tt.change != nil {
				tt.change(&in)
			}
			d := e.Decide(t.Context(), in)
			if got := summary(d); got != tt.want {
				t.Fatalf("Decide() = %q, want %q", got, tt.want)
			}
			if want := d.Verdict() == policies.VerdictAllow; d.Monitored() != want {
				t.Errorf("Monitored() = %v, want %v", d.Monitored(), want)
			}
			if len(d.Grants) != 0 {
				t.Errorf("Grants = %q, want none", d.Grants)
			}
		})
	}
}

func TestWaiver(t *testing.T) {
	const waivers = `
- id: W-7
  finding: PR-010
  namespace: payments
  serviceAccount: api
  reason: migration
  ticket: SEC-1
  approvedBy: security@example.com
  expiry: 2026-02-01
`
	e := policiestest.Engine(t, policiestest.Grants, policiestest.WithWaivers(waivers))
	overridden := func(in *policies.Input) { in.Volume.Overrides = []string{"objects"} }
	d := e.Decide(t.Context(), policiestest.Input(overridden))
	if got, want := summary(d), "allow warn PR-010"; got != want {
		t.Fatalf("Decide() = %q, want %q", got, want)
	}
	if !d.Warn[0].Waived || d.Monitored() || !slices.Equal(d.Waivers, []string{"W-7"}) || d.Obligations.AuditLevel != 2 {
		t.Errorf("Decide() = %+v, want PR-010 waived by W-7 and audit level 2", d)
	}
	late := func(in *policies.Input) {
		overridden(in)
		in.NowNS = time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC).UnixNano()
	}
	if got := summary(e.Decide(t.Context(), policiestest.Input(late))); got != "deny PR-010" {
		t.Errorf("Decide() after the waiver = %q, want deny PR-010", got)
	}
}

func TestObligations(t *testing.T) {
	config := policiestest.WithConfig("obligations: {ttl_seconds: 3600, max_file_mode: 292, required_fs_group: 2000}")
	check := policiestest.WithCheck("tier", strings.ReplaceAll(tierCheck, `{"audit_level": 1}`, `{"audit_level": 1, "ttl_seconds": 60, "on_expire": "scrub"}`))
	d := policiestest.Engine(t, narrowGrants, config, check).Decide(t.Context(), policiestest.Input())
	want := policies.Obligations{
		MaxFileMode: new(uint32(0o440)), RequiredFSGroup: new(int64(2000)), TTLSeconds: 60, AuditLevel: 1,
		OnRevoke: policies.OnLossScrub, OnExpire: policies.OnLossScrub, Audiences: []string{"vault"},
	}
	if diff := cmp.Diff(want, d.Obligations); diff != "" {
		t.Errorf("Decide() has other obligations (-want +got):\n%s", diff)
	}
	if !slices.Equal(d.Grants, []string{"G-1"}) {
		t.Errorf("Grants = %q, want G-1", d.Grants)
	}
}

// TestUnknownObligationIsUndecided: a condition that this engine cannot enforce
// must not be lost.
func TestUnknownObligationIsUndecided(t *testing.T) {
	for _, obligation := range []string{`{"shred_times": 7}`, `{"TTL_SECONDS": 5}`, `{"ttl_seconds": "1h"}`, `{"on_revoke": "burn"}`} {
		t.Run(obligation, func(t *testing.T) {
			check := policiestest.WithCheck("tier", strings.ReplaceAll(tierCheck, `{"audit_level": 1}`, obligation))
			d := policiestest.Engine(t, policiestest.Grants, check).Decide(t.Context(), policiestest.Input())
			if d.Verdict() != policies.VerdictError {
				t.Errorf("Decide() = %v, want error", summary(d))
			}
			if _, err := d.Grant(); err == nil {
				t.Error("Grant() = nil error, want an *UndecidedError")
			}
		})
	}
}

func TestMalformedFindingIsUndecided(t *testing.T) {
	for name, finding := range map[string]string{
		"no id":          `{"severity": "high", "message": "x"}`,
		"reserved id":    `{"id": "PR-001", "severity": "high", "message": "x"}`,
		"odd id":         `{"id": "XX-1", "severity": "high", "message": "x"}`,
		"no severity":    `{"id": "PR-300", "message": "x"}`,
		"no message":     `{"id": "PR-300", "severity": "high"}`,
		"unknown field":  `{"id": "PR-300", "severity": "high", "message": "x", "allow": true}`,
		"not an object":  `"PR-300"`,
		"waivable words": `{"id": "PR-300", "severity": "high", "message": "x", "waivable": "yes"}`,
		"too large":      `{"id": "PR-300", "severity": "high", "message": sprintf("%20000d", [1])}`,
	} {
		t.Run(name, func(t *testing.T) {
			check := policiestest.WithCheck("odd", checkOf("deny contains finding if {\n\tfinding := "+finding+"\n}\n"))
			d := policiestest.Engine(t, policiestest.Grants, check).Decide(t.Context(), policiestest.Input())
			if d.Verdict() != policies.VerdictError {
				t.Errorf("Decide() = %v, want error", summary(d))
			}
		})
	}
}

// checkOf returns a module of package odd with these rules.
func checkOf(rules string) string {
	return "# METADATA\n# schemas:\n#   - input: schema.input\npackage portcullis.checks.odd\n\n" + rules
}

func TestUndecided(t *testing.T) {
	slow := checkOf("deny contains finding if {\n\tcount([1 | some i, _ in _many; some j, _ in _many; i == j + 1]) < 0\n\tfinding := {}\n}\n\n_many := split(sprintf(\"%3000d\", [1]), \"\")\n")
	broken := checkOf("deny contains finding if {\n\tto_number(input.cluster) > 1\n\tfinding := {}\n}\n")
	conflict := checkOf("obligations := {\"ttl_seconds\": 1} if input.volume.readOnly\n\nobligations := {\"ttl_seconds\": 2} if input.volume.ephemeral\n")
	expired := policiestest.WithFile(".manifest", `{"metadata":{"contract":"portcullis/v1","not_after":"2026-01-15T12:00:00Z"}}`)
	tests := []struct {
		name   string
		option policiestest.Option
		want   policies.UndecidedReason
	}{
		{"runaway loop", policiestest.WithCheck("odd", slow), policies.UndecidedTimeout},
		{"built-in error", policiestest.WithCheck("odd", broken), policies.UndecidedEngine},
		{"conflicting values", policiestest.WithCheck("odd", conflict), policies.UndecidedEngine},
		{"expired bundle", expired, policies.UndecidedBundleExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := compile(t, policiestest.Files(policiestest.Grants, tt.option), 50*time.Millisecond).Decide(t.Context(), policiestest.Input())
			if d.Verdict() != policies.VerdictError || d.Undecided != tt.want {
				t.Errorf("Decide() = %v (%v), want error %s", summary(d), d.Cause(), tt.want)
			}
			if d.Cause() == nil || len(d.Deny) != 0 || d.Obligations.TTLSeconds != 0 {
				t.Errorf("Decide() = %+v, want a cause and nothing else", d)
			}
		})
	}
}

func TestDecideWithoutBundle(t *testing.T) {
	var e *policies.Engine
	d := e.Decide(t.Context(), policiestest.Input())
	if d.Verdict() != policies.VerdictError || d.Undecided != policies.UndecidedNoBundle || len(d.ID) != 26 {
		t.Errorf("Decide() = %v with ID %q, want error NoBundle and an ID", summary(d), d.ID)
	}
	if e.Digest() != "" || e.LibraryDigest() != "" || e.Signed() || e.MassRevoke() || e.Manifest() != (policies.Manifest{}) {
		t.Error("a nil Engine claims to have a bundle")
	}
}

// TestDecideSurvivesAPanic: a panic grants nothing, revokes nothing, and leaves
// the engine usable.
func TestDecideSurvivesAPanic(t *testing.T) {
	e := policiestest.Engine(t, policiestest.Grants)
	for range 2 {
		d := e.Panicking().Decide(t.Context(), policiestest.Input())
		if d.Verdict() != policies.VerdictError || d.Undecided != policies.UndecidedEngine || !strings.Contains(d.Cause().Error(), "panicked") {
			t.Errorf("Decide() that panics = %s (%v), want error EvaluationFailed", summary(d), d.Cause())
		}
		if _, err := d.Grant(); err == nil {
			t.Error("Grant() after a panic = nil error, want one")
		}
	}
	if d := e.Decide(t.Context(), policiestest.Input()); d.Verdict() != policies.VerdictAllow {
		t.Errorf("Decide() after a panic = %s, want allow", summary(d))
	}
}

func TestDecideWhenTheCallerGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := policiestest.Engine(t, policiestest.Grants).Decide(ctx, policiestest.Input())
	if d.Undecided != policies.UndecidedTimeout || !errors.Is(d.Cause(), context.Canceled) {
		t.Errorf("Decide() = %v (%v), want error EvaluationTimeout", summary(d), d.Cause())
	}
}

func TestEngineTellsWhatItIs(t *testing.T) {
	e := policiestest.Engine(t, policiestest.Grants, policiestest.WithConfig("mass_revoke: true"))
	library, err := policies.LibraryDigest()
	if err != nil {
		t.Fatal(err)
	}
	d := e.Decide(t.Context(), policiestest.Input())
	if e.LibraryDigest() != library || d.LibraryDigest != library || d.BundleDigest != e.Digest() || d.BundleSerial != 1 {
		t.Errorf("Decide() = %+v, want digests of library and bundle, and serial 1", d)
	}
	if e.Signed() || d.BundleSigned || !e.MassRevoke() || e.Manifest().Revision != "test" {
		t.Error("engine is signed, or lost mass_revoke or its revision")
	}
}

// TestP2SameFactsSameDecision: a decision is a pure function of library, bundle
// and input, and the same facts give the same verdict at every gate.
func TestP2SameFactsSameDecision(t *testing.T) {
	inputs := map[string]policies.Input{
		"allowed":   policiestest.Input(),
		"denied":    policiestest.Input(secret("local://node/x"), func(in *policies.Input) { in.Volume.Overrides = []string{"a", "b"} }),
		"undecided": policiestest.Input(func(in *policies.Input) { in.Cluster = "" }),
	}
	for name, in := range inputs {
		t.Run(name, func(t *testing.T) {
			first := policiestest.Engine(t, policiestest.Grants).Decide(t.Context(), in)
			again := policiestest.Engine(t, policiestest.Grants).Decide(t.Context(), in)
			sameError := cmp.Comparer(func(a, b error) bool { return fmt.Sprint(a) == fmt.Sprint(b) })
			if diff := cmp.Diff(first, again, cmp.AllowUnexported(policies.Decision{}), sameError); diff != "" {
				t.Errorf("Decide() differs between two engines of one bundle (-first +again):\n%s", diff)
			}
			later := in
			later.NowNS += int64(time.Hour)
			if d := policiestest.Engine(t, policiestest.Grants).Decide(t.Context(), later); d.ID != first.ID {
				t.Errorf("ID an hour later = %q, want %q", d.ID, first.ID)
			}
			for _, phase := range []policies.Phase{policies.PhaseAdmission, policies.PhaseMount, policies.PhaseRotate, policies.PhaseSync, policies.PhaseCI} {
				in.Phase = phase
				if d := policiestest.Engine(t, policiestest.Grants).Decide(t.Context(), in); summary(d) != summary(first) {
					t.Errorf("Decide() in phase %s = %v, want %v", phase, summary(d), summary(first))
				}
			}
		})
	}
}

func TestIDChangesWithEverythingButTime(t *testing.T) {
	e := policiestest.Engine(t, policiestest.Grants)
	base := e.Decide(t.Context(), policiestest.Input()).ID
	if strings.Trim(base, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" || len(base) != 26 {
		t.Errorf("ID = %q, want 26 characters of base32", base)
	}
	seen := map[string]string{base: "base"}
	changes := map[string]mutate{
		"pod":    func(in *policies.Input) { in.Subject.PodName = "api-1" },
		"secret": secret("local://node/payments/other"),
		"group":  noGroup,
		"digest": func(in *policies.Input) { in.SPC.ParametersSHA256 = strings.Repeat("0", 64) },
	}
	for name, change := range changes {
		id := e.Decide(t.Context(), policiestest.Input(change)).ID
		if other, ok := seen[id]; ok {
			t.Errorf("ID of %s = ID of %s", name, other)
		}
		seen[id] = name
	}
	if id := policiestest.Engine(t, narrowGrants).Decide(t.Context(), policiestest.Input()).ID; seen[id] != "" {
		t.Error("ID does not depend on the bundle")
	}
	expired := policiestest.Input(func(in *policies.Input) { in.NowNS = time.Date(2127, 2, 1, 0, 0, 0, 0, time.UTC).UnixNano() })
	if id := e.Decide(t.Context(), expired).ID; seen[id] != "" {
		t.Error("ID does not depend on the verdict")
	}
}

// TestInvalidInputsHaveIDsOfTheirOwn: the audit log counts equal ids as one.
func TestInvalidInputsHaveIDsOfTheirOwn(t *testing.T) {
	e := policiestest.Engine(t, "")
	bad := func(pod string) policies.Decision {
		return e.Decide(t.Context(), policiestest.Input(secret("no id"), func(in *policies.Input) { in.Subject.PodName = pod }))
	}
	one, two := bad("api-1"), bad("api-2")
	if one.Undecided != policies.UndecidedInput || one.ID == two.ID || len(one.InputSHA256) != 64 {
		t.Errorf("Decide() of two invalid inputs = %v with ids %q and %q, want two ids", summary(one), one.ID, two.ID)
	}
}

// TestLargestInputStaysWithinTheBudget: whoever writes classes must not be able
// to keep a node busy.
func TestLargestInputStaysWithinTheBudget(t *testing.T) {
	e := compile(t, policiestest.Files(policiestest.Grants), 5*time.Second)
	d := e.Decide(t.Context(), policiestest.Input(func(in *policies.Input) {
		in.Requests = nil
		for i := range policies.MaxRequests {
			in.Requests = append(in.Requests, policies.Request{
				Secret: fmt.Sprintf("local://node%s/%d#k@1", strings.Repeat("/abcdefgh", 61), i), File: fmt.Sprint(i),
			})
		}
	}))
	if got := summary(d); got != "deny PR-001" || len(d.Deny) != policies.MaxRequests {
		t.Errorf("Decide() of the largest input = %q with %d findings (%v), want deny PR-001 with %d", got, len(d.Deny), d.Cause(), policies.MaxRequests)
	}
}

// TestDecisionKeepsItsInput: what was decided on cannot be changed afterwards
// through the caller's slices and pointers.
func TestDecisionKeepsItsInput(t *testing.T) {
	in := policiestest.Input(mode(0o400), request(func(r *policies.Request) {
		r.Sync = []policies.Sync{{Name: "db", Type: "Opaque", Key: "k"}}
	}))
	d := policiestest.Engine(t, policiestest.Grants).Decide(t.Context(), in)
	in.Requests[0].Secret = "local://node/root-key"
	*in.Requests[0].Mode = 0o777
	in.Requests[0].Sync[0].Name = "other"
	*in.Volume.VolumeMountGroup = 0
	g, err := d.Grant()
	if err != nil {
		t.Fatal(err)
	}
	got := g.Requests()[0]
	if gid, _ := g.FSGroup(); got.Secret != policiestest.Secret || *got.Mode != 0o400 || got.Sync[0].Name != "db" || gid != 2000 {
		t.Errorf("Requests() = %+v in group %d, want what was decided on", got, gid)
	}
}

func compile(t testing.TB, files fs.FS, budget time.Duration) *policies.Engine {
	t.Helper()
	b, err := bundle.LoadFS(files)
	if err != nil {
		t.Fatal(err)
	}
	e, err := policies.Compile(t.Context(), b, policies.Options{Budget: budget, Clock: func() time.Time { return time.Unix(0, policiestest.Now) }})
	if err != nil {
		t.Fatal(err)
	}
	return e
}
