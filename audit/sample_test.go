package audit_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// noon is when samples happen.
func noon() time.Time { return time.Unix(0, policiestest.Now).UTC() }

func claim() audit.Claim {
	return audit.Claim{
		Namespace: "payments", Pod: "api-0", PodUID: "6a0f5c3e-2f6b-4f39-9d0b-0d6f3a9e8b11",
		ServiceAccount: "api", Volume: "secrets",
	}
}

func files() []audit.File {
	return []audit.File{{Path: "db-password", Mode: 0o440, UID: 0, Size: 24, Version: "7f2a90c3d1b84e55"}}
}

func rotating(in *policies.Input) { in.Phase = policies.PhaseRotate }

// sample is one event for the documentation, and its file in testdata.
type sample struct {
	name, title string
	event       audit.Event
}

func samples(t *testing.T) []sample {
	t.Helper()
	allow, deny := policiestest.Allow(t), policiestest.Deny(t)
	undecided := policiestest.Undecided(t)
	rotate, denyRotate := policiestest.Allow(t, rotating), policiestest.Deny(t, rotating)
	seen := audit.Seen{Pod: "48213", Namespace: "977", ServiceAccount: "1021", Class: "47110"}
	intent := audit.Decided(allow).SawObjects(seen)
	monitored := policiestest.Engine(t, "", policiestest.WithConfig(`monitor: {until: 2026-03-31, rules: ["*"]}`)).Decide(t.Context(), policiestest.Input())
	later := noon().Add(time.Hour)
	newer := files()
	newer[0].PreviousVersion, newer[0].Version = newer[0].Version, "0d13b1f6a9c2e744"
	bundle := audit.Bundle{Digest: digest('b'), Previous: digest('a'), Serial: 42, Signed: true}
	refused := audit.Bundle{Digest: digest('c'), Previous: digest('b'), Serial: 43, Reason: audit.ReasonBundleUnsigned}
	unsigned := audit.Bundle{Digest: digest('b')}
	root := [32]byte{0xe3, 0xb0}
	return append(reviewed(t), []sample{
		{"mount_allowed", "A mount is allowed: the intent, durable before anything is fetched", intent},
		{"mount_finished", "and its end: the files are in the pod", audit.Finished(intent.ID, allow, files(), "").Took(42 * time.Millisecond)},
		{"mount_failed", "or the other end: nothing is mounted", audit.Finished(intent.ID, allow, nil, audit.ReasonProviderUnavailable).Took(2 * time.Second)},
		{"mount_refused", "or a refusal: the provider gave files that nobody asked for", audit.Finished(intent.ID, allow, nil, audit.ReasonBeyondGrant).Took(80 * time.Millisecond)},
		{"mount_denied", "A mount is denied", audit.Decided(deny)},
		{"mount_undecided", "Policy reached no verdict: nothing is granted, nothing revoked", audit.Decided(undecided)},
		{"mount_monitored", "A mount is allowed that a rule in monitor mode would have denied", audit.Decided(monitored)},
		{"mount_break_glass", "A mount is allowed by a bundle for emergencies: whatever happens under it is critical", audit.Decided(emergency(t))},
		{"mount_rejected", "A request is refused before policy is asked; actor and workload are only claimed", audit.Rejected(claim(), audit.ReasonIdentityUnconfirmed)},
		{"mount_abandoned", "A delivery that a crash interrupted gets its end at the next start", audit.Ended(openIntent(t, intent), false)},
		{"rotate_decided", "Policy is asked again about a mounted volume", audit.Decided(rotate)},
		{"rotate_denied", "and denies it: twice in a row, and the volume is emptied", audit.Decided(denyRotate)},
		{"rotate_undecided", "or reaches no verdict: nothing is taken away", audit.Decided(policiestest.Undecided(t, rotating))},
		{"rotated", "New content was swapped in", audit.Rotated(intent.ID, rotate, newer, audit.Rotation{ExpiresAt: &later, LateByMS: 150})},
		{"rotation_failed", "New content could not be fetched: the old stays", audit.RotationFailed(intent.ID, rotate, audit.ReasonProviderDenied)},
		{"rotation_refused", "or was refused: the old stays, too", audit.RotationFailed(intent.ID, rotate, audit.ReasonBeyondGrant)},
		{"unmounted", "A volume is scrubbed and unmounted", audit.Unmounted(claim(), "")},
		{"unmount_orphaned", "A volume is removed whose pod neither kubelet nor the API server knows", audit.Unmounted(claim(), audit.ReasonOrphaned)},
		{"revoked", "A mounted volume is emptied: two decisions in a row denied it", audit.Revoked(intent.ID, denyRotate, audit.ReasonPolicyDenied, "")},
		{"revoke_expired", "A mounted volume is emptied: its time to live ran out and policy says on_expire: scrub", audit.Revoked(intent.ID, rotate, audit.ReasonTTLExpired, "")},
		{"revoked_earlier", "and the next process says so again, if it was shortly before a restart", audit.RevokedEarlier(claim(), "MFRGGZDFMZTWQ2LKNNWG23TPOB", audit.ReasonPolicyDenied)},
		{"revoke_failed", "A revoked volume could not be emptied whole", audit.Revoked(intent.ID, denyRotate, audit.ReasonPolicyDenied, audit.ReasonScrubIncomplete)},
		{"mass_revocation", "Too many volumes would be emptied at once: revocation has stopped", audit.MassRevocation(107, noon(), noon().Add(time.Minute))},
		{"ttl_missed", "Content is older than its time to live: the old stays", audit.TTLMissed(intent.ID, rotate)},
		{"unmount_failed", "A volume could not be unmounted", audit.Unmounted(claim(), audit.ReasonUnmountFailed)},
		{"foreign_mount", "A mount that is not ours is at a target path", audit.ForeignMount(claim(), audit.ForeignKept)},
		{"integrity_failure", "A provider wrote into the pod's directory by itself", audit.IntegrityFailure(claim(), audit.ReasonProviderWroteTarget)},
		{"driver_started", "The plugin starts", audit.DriverStarted()},
		{"driver_stopped", "The plugin stops", audit.DriverStopped(audit.ReasonSignal)},
		{"driver_failed", "or could not go on", audit.DriverStopped(audit.ReasonFatalError)},
		{"log_opened", "The log is opened: a process goes on with epoch 3", audit.LogFound(audit.Opening{Epoch: 3, Size: 4711, Root: root})},
		{"log_unsigned", "A crash came before the last events were signed: nothing vouches for them", audit.LogFound(audit.Opening{Epoch: 3, Size: 4711, Root: root, Unsigned: 12})},
		{"log_missing", "An epoch between others was removed", audit.LogFound(audit.Opening{Epoch: 3, Size: 4711, Root: root, Missing: 1})},
		{"log_began", "The first event of an epoch says how the one before it ended", boundary(t, "log.opened", `{"epoch":2,"size":48211,"root":"`+hex.EncodeToString(root[:])+`"}`)},
		{"log_lost", "The log is new, and the node had one before", boundary(t, "log.opened", `{"epoch":0,"size":0,"root":"`+hex.EncodeToString(root[:])+`","lost":true}`)},
		{"log_closed", "The last event of an epoch: the tree before it", boundary(t, "log.closed", `{"epoch":2,"size":48210,"root":"`+hex.EncodeToString(root[:])+`"}`)},
		{"key_rotated", "The node's log key is replaced: both keys sign the end of the epoch", boundary(t, "key.rotated",
			`{"epoch":2,"size":48209,"root":"`+hex.EncodeToString(root[:])+`","previousKey":"prod-eu1/nodes/node-7+c74f20a3+`+strings.Repeat("A", 44)+`","key":"prod-eu1/nodes/node-7+0d9c51ee+`+strings.Repeat("B", 44)+`"}`)},
		{"log_tampered", "The log is not what was signed", audit.LogTampered()},
		{"policy_loaded", "Another policy bundle is in force", audit.PolicyLoaded(bundle)},
		{"policy_loaded_unsigned", "A development build loads an unsigned bundle", audit.PolicyLoaded(unsigned)},
		{"policy_break_glass", "A bundle for emergencies is in force: it moves no floor", audit.PolicyLoaded(audit.Bundle{Digest: digest('d'), Previous: digest('b'), Serial: 3, Signed: true, BreakGlass: true, Reason: audit.ReasonBreakGlass})},
		{"policy_break_glass_ended", "and it ends: the bundle of before is in force again", audit.PolicyLoaded(audit.Bundle{Digest: digest('b'), Previous: digest('d'), Serial: 42, Signed: true, Reason: audit.ReasonBreakGlassEnded})},
		{"policy_load_failed", "A policy bundle is refused", audit.PolicyLoadFailed(refused)},
		{"audit_repeated", "A denial came again and again: one event counts them", repeatedSample(t, audit.Decided(deny))},
		{"audit_repeated_failure", "and so did what failed", repeatedSample(t, audit.Unmounted(claim(), audit.ReasonUnmountFailed))},
		{"audit_repeated_allow", "and an allow of a mounted volume whose content had not changed", repeatedSample(t, audit.Decided(rotate))},
		{"audit_repeated_success", "and the removal of a volume that was there again", repeatedSample(t, audit.Unmounted(claim(), audit.ReasonOrphaned))},
		{"audit_counted", "A namespace has filled its share of the log: what it is refused from then on is counted", countedSample(t)},
		{"audit_gap", "Events were lost: the log did not take them for too long", gapSample(t)},
	}...)
}

// emergency is an allow of a break-glass bundle.
func emergency(t *testing.T) policies.Decision {
	t.Helper()
	b, err := bundle.LoadFS(policiestest.Files(policiestest.Grants, policiestest.WithFile(".manifest", `{"metadata":{"contract":"portcullis/v1","serial":3,"not_after":"2026-01-15T15:00:00Z"}}`)))
	if err != nil {
		t.Fatal(err)
	}
	b.Signed, b.BreakGlass = true, true
	e, err := policies.Compile(t.Context(), b, policies.Options{Budget: 30 * time.Second, Clock: noon})
	if err != nil {
		t.Fatal(err)
	}
	return e.Decide(t.Context(), policiestest.Input())
}

// reviewed are the events of the webhook.
func reviewed(t *testing.T) []sample {
	t.Helper()
	who := &policies.Requester{Username: "system:serviceaccount:kube-system:replicaset-controller", Groups: []string{"system:authenticated"}}
	at := func(in *policies.Input) {
		in.Phase, in.Requester, in.Tokens, in.Subject.Node, in.Subject.TokenVerified = policies.PhaseAdmission, who, nil, "", nil
	}
	review := audit.Review{Claim: claim(), Requester: who}
	class := audit.ClassReview{
		Namespace: "payments", Name: "db", UID: "0c7a6f0e-8a51-4a76-8b4f-51d6c1b7f001", Provider: "vault", Generation: 2,
		Requester: &policies.Requester{Username: "alice@example.com"},
		Findings:  policies.CredentialFindings(policies.SPC{Name: "db", LiteralCredentials: []string{"password"}}),
	}
	return []sample{
		{"admission_allowed", "The API server creates a pod: every volume of it is allowed", audit.Decided(policiestest.Allow(t, at))},
		{"admission_denied", "or it does not, since policy denies one", audit.Decided(policiestest.Deny(t, at))},
		{"admission_undecided", "or since policy reached no verdict", audit.Decided(policiestest.Undecided(t, at))},
		{"admission_rejected", "A pod is refused before policy is asked", audit.ReviewRejected(review, audit.ReasonInvalidClass)},
		{"admission_deferred", "A pod passes undecided, since its class does not exist yet: the mount decides", audit.ReviewDeferred(review, audit.ReasonClassNotFound)},
		{"class_denied", "A SecretProviderClass with a password in it is refused; nothing of the parameters is recorded", audit.ClassRejected(class, audit.ReasonPolicyDenied)},
	}
}

// boundary is an event as a log has it made.
func boundary(t *testing.T, kind, state string) audit.Event {
	t.Helper()
	leaf, err := audit.BoundaryLeaf(audittest.Source(), noon)(kind, []byte(state))
	if err != nil {
		t.Fatalf("BoundaryLeaf(%s, %s) = %v, want no error", kind, state, err)
	}
	e, err := audit.Parse(leaf)
	if err != nil {
		t.Fatalf("Parse(%s) = %v, want no error", leaf, err)
	}
	return e
}

// clock goes when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func digest(c rune) string { return "sha256:" + strings.Repeat(string(c), 64) }

// openIntent takes the event through a log, as a restart finds it.
func openIntent(t *testing.T, e audit.Event) audit.Intent {
	t.Helper()
	l := &audittest.Log{}
	if _, err := l.Append(t.Context(), stored(t, e)); err != nil {
		t.Fatal(err)
	}
	intents, err := audit.OpenIntents(l)
	if err != nil || len(intents) != 1 {
		t.Fatalf("OpenIntents() = %v, %v, want one intent", intents, err)
	}
	return intents[0]
}

// stored is the event as a recorder stores it.
func stored(t *testing.T, e audit.Event) []byte {
	t.Helper()
	r, l := audittest.New(t)
	if err := r.Record(t.Context(), e); err != nil {
		t.Fatalf("Record(%s) = %v, want no error", e.Type, err)
	}
	if n := len(l.Leaves()); n != 1 {
		t.Fatalf("len(Leaves()) = %d, want 1", n)
	}
	return l.Leaves()[0]
}

func countedSample(t *testing.T) audit.Event {
	t.Helper()
	at := &clock{now: noon()}
	r, l := audittest.New(t, func(c *audit.Config) { c.Clock = at.time })
	l.Begin(1, 1)
	for i := range 3 {
		r.Owe(audit.Decided(policiestest.Deny(t, func(in *policies.Input) { in.Subject.PodName = fmt.Sprintf("api-%d", i) })))
		at.add(time.Minute)
	}
	events := audittest.Closed(t, r, l)
	return events[len(events)-1]
}

// repeatedSample is what counts an event that came five times.
func repeatedSample(t *testing.T, e audit.Event) audit.Event {
	t.Helper()
	at := &clock{now: noon()}
	r, l := audittest.New(t, func(c *audit.Config) { c.Clock = at.time })
	for i := range 5 {
		e.ID = fmt.Sprintf("019bc1d0-7c00-7000-8000-00000000001%d", i)
		if err := r.Record(t.Context(), e); err != nil {
			t.Fatalf("Record(%s) = %v, want no error", e.Type, err)
		}
		at.add(time.Minute)
	}
	events := audittest.Closed(t, r, l)
	return events[len(events)-1]
}

func gapSample(t *testing.T) audit.Event {
	t.Helper()
	var gap audit.Event
	synctest.Test(t, func(t *testing.T) {
		at := &clock{now: noon()}
		r, l := audittest.New(t, func(c *audit.Config) { c.Clock, c.QueueLimit = at.time, 1 })
		l.Fail(errors.New("no space left on device"))
		for range 4 {
			r.Owe(audit.DriverStarted())
			synctest.Wait() // the queue rests between two tries
			at.add(time.Minute)
		}
		l.Fail(nil)
		gap = audittest.Closed(t, r, l)[0]
	})
	if gap.Type != audit.TypeAuditGap {
		t.Fatalf("the first event is %s, want audit.gap", gap.Type)
	}
	return gap
}

// fixed replaces what differs from run to run, or with every change of the
// embedded policy.
func fixed(e audit.Event) audit.Event {
	id := func(n int) string { return fmt.Sprintf("019bc1d0-7c00-7000-8000-%012d", n) }
	e.ID = id(2)
	if e.ParentID != "" {
		e.ParentID = id(1)
	}
	e.Time = noon()
	if p := e.Policy; p != nil {
		fixedPolicy := *p
		p = &fixedPolicy
		e.Policy = p
		for _, f := range []struct {
			field *string
			value string
		}{
			{&p.DecisionID, "MFRGGZDFMZTWQ2LKNNWG23TPOB"}, {&p.LibraryDigest, digest('1')},
			{&p.BundleDigest, digest('2')}, {&p.InputSHA256, strings.Repeat("3", 64)},
		} {
			if *f.field != "" && e.Type != audit.TypePolicyChange {
				*f.field = f.value
			}
		}
	}
	return e
}

func goldenPath(name string) string { return filepath.Join("testdata", name+".golden.json") }

func TestEventsAreGolden(t *testing.T) {
	schema := compiled(t)
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			leaf := stored(t, fixed(s.event))
			golden(t, goldenPath(s.name), append(leaf, '\n'))
			if err := conforms(t, schema, leaf); err != nil {
				t.Errorf("Validate(%s) = %v, want no error", leaf, err)
			}
			back, err := audit.Parse(leaf)
			if err != nil {
				t.Fatalf("Parse(%s) = %v, want no error", leaf, err)
			}
			again, err := json.Marshal(back)
			if err != nil || string(again) != string(leaf) {
				t.Errorf("Parse and Marshal = %s, %v, want %s", again, err, leaf)
			}
		})
	}
}
