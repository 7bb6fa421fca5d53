package audit_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const epochBytes = 4 << 20

// denials makes denials of one namespace, each of another pod.
type denials struct {
	template audit.Event
	made     int64
}

func denialsOf(t testing.TB, namespace string) *denials {
	t.Helper()
	return &denials{template: audit.Decided(policiestest.Deny(t, func(in *policies.Input) { in.Subject.Namespace = namespace }))}
}

// next is that of one more pod. Deciding each would take most of the time.
func (d *denials) next() audit.Event {
	d.made++
	e := d.template
	workload, policy := *e.Workload, *e.Policy
	e.Workload, e.Policy = &workload, &policy
	e.ID = fmt.Sprintf("01939a6e-0000-7000-8000-%012x", d.made)
	workload.Pod = fmt.Sprintf("pod-%d", d.made)
	policy.DecisionID = decisionID(d.made)
	return e
}

// decisionID is one that looks like one.
func decisionID(n int64) string {
	id := []byte(strings.Repeat("A", 26))
	for i := 25; n > 0; i-- {
		id[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[n%32]
		n /= 32
	}
	return string(id)
}

// ledger sums what a log says of one namespace's refusals.
type ledger struct {
	listed, counted, bytes int64
	tellings               int
}

func accountFor(t testing.TB, l *audittest.Log, namespace string) (sum ledger) {
	t.Helper()
	leaves := l.Leaves()
	for i, e := range l.Events(t) {
		if e.Workload == nil || e.Workload.Namespace != namespace {
			continue
		}
		size := int64(len(leaves[i]))
		switch {
		case e.Type == audit.TypeAuditCounted:
			sum.counted += e.Count
			sum.tellings++
		case e.Type == audit.TypeAuditRepeated:
			sum.counted += e.Count
			sum.bytes += size
		case e.Outcome == audit.OutcomeDenied && (e.Part == nil || e.Part.Number == 1):
			sum.listed += 1 + e.Repeated
			sum.bytes += size
		case e.Outcome == audit.OutcomeDenied:
			sum.bytes += size
		}
	}
	return sum
}

func TestANamespaceThatFloodsCannotSilenceAnother(t *testing.T) {
	const made = floodOf
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		l.Begin(1, epochBytes)
		flood := denialsOf(t, "loud")
		for i := range made {
			record(t, r, flood.next())
			if i%100 == 0 {
				time.Sleep(time.Second)
			}
		}
		quiet := record(t, r, audit.Decided(policiestest.Deny(t)))
		r.Owe(audit.IntegrityFailure(claim(), audit.ReasonVolumeCovered))
		allow := policiestest.Allow(t)
		intent := record(t, r, audit.Decided(allow))
		r.Owe(audit.Finished(intent.ID, allow, files(), ""))
		events := audittest.Closed(t, r, l)

		loud := accountFor(t, l, "loud")
		if loud.listed+loud.counted != made || loud.listed == 0 || loud.counted == 0 {
			t.Errorf("%d listed and %d counted, want %d together", loud.listed, loud.counted, made)
		}
		if loud.bytes > epochBytes/4 {
			t.Errorf("the denials of one namespace take %d bytes of an epoch of %d", loud.bytes, epochBytes)
		}
		if most := made/100/600 + 3; loud.tellings > most {
			t.Errorf("%d events tell the count, want at most %d", loud.tellings, most)
		}
		var others []string
		for _, e := range events {
			if e.Workload != nil && e.Workload.Namespace == "payments" {
				others = append(others, types([]audit.Event{e})...)
			}
		}
		// Two queues: owed events come in either order.
		want := map[string]bool{"secret.mount PolicyDenied": true, "integrity.failure VolumeCovered": true, "secret.mount intent": true, "secret.mount complete": true}
		for _, w := range others {
			delete(want, w)
		}
		if len(want) > 0 || len(others) != 4 {
			t.Errorf("the other namespace's events are %v, without %v", others, want)
		}
		if e := events[len(events)-1]; quiet.ID == e.ID {
			t.Error("nothing came after the denial")
		}
	})
}

// TestCountsSayWhichRules: an auditor must see what was refused, if not to whom.
func TestCountsSayWhichRules(t *testing.T) {
	r, l := audittest.New(t)
	l.Begin(1, 1)
	flood := denialsOf(t, "loud")
	rule := func(id string) audit.Rule { return audit.Rule{ID: id, Severity: audit.SeverityLow, Denies: true} }
	for _, rules := range [][]audit.Rule{
		{rule("PR-100")},
		{rule("PR-100"), rule("PR-200"), rule("PR-100")},
		{rule("PR-200"), {ID: "PR-300", Severity: audit.SeverityLow}},
	} {
		e := flood.next()
		e.Policy.Rules = rules
		record(t, r, e)
	}
	for range 2 {
		c := audit.Claim{Namespace: "loud", Pod: fmt.Sprint("p", flood.made)}
		flood.made++
		r.Owe(audit.Rejected(c, audit.ReasonIdentityUnconfirmed))
	}
	got := map[bool][]audit.Counted{}
	for _, e := range audittest.Closed(t, r, l) {
		if e.Type != audit.TypeAuditCounted || e.Reason != audit.ReasonShareExceeded || e.Severity != audit.SeverityHigh {
			t.Errorf("event = %+v, want a count", e)
		}
		got[e.Actor.Unconfirmed] = append(got[e.Actor.Unconfirmed], append([]audit.Counted{{Count: e.Count}}, e.Counts...)...)
	}
	want := map[bool][]audit.Counted{
		false: {{Count: 3}, {Rule: "PR-100", Count: 2}, {Rule: "PR-200", Count: 2}},
		true:  {{Count: 2}, {Reason: audit.ReasonIdentityUnconfirmed, Count: 2}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts mismatch (-want +got):\n%s", diff)
	}
}

// TestRepeatsOfTheLoudAreCountedToo: a namespace with very many pods, each
// denied twice, must not fill the log with events that tell of second times.
func TestRepeatsOfTheLoudAreCountedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		const pods, times, epoch = podsOf, 4, epochBytes / 3000 * podsOf
		l.Begin(1, epoch)
		flood := denialsOf(t, "loud")
		for range times {
			flood.made = 0
			for range pods {
				e := flood.next()
				e.ID = audit.DriverStarted().ID
				record(t, r, e)
			}
			time.Sleep(time.Minute)
		}
		time.Sleep(time.Hour)
		audittest.Closed(t, r, l)
		loud := accountFor(t, l, "loud")
		if got := loud.listed + loud.counted; got != pods*times {
			t.Errorf("%d listed and counted, want %d", got, pods*times)
		}
		if loud.bytes > epoch/4 || loud.bytes < epoch/8 {
			t.Errorf("refusals and their repeats take %d bytes of an epoch of %d, want nearly a quarter and no more", loud.bytes, epoch)
		}
	})
}

// TestWhatNoShareDrops: only refusals are charged.
func TestWhatNoShareDrops(t *testing.T) {
	allow, deny := policiestest.Allow(t), policiestest.Deny(t)
	rotate := policiestest.Allow(t, rotating)
	makers := map[string]func() audit.Event{
		"an intent": func() audit.Event { return audit.Decided(allow) },
		"an end": func() audit.Event {
			return audit.Finished(audit.DriverStarted().ID, allow, nil, audit.ReasonProviderError)
		},
		"a rotation's allow": func() audit.Event { return audit.Decided(rotate) },
		"a rotation's failure": func() audit.Event {
			return audit.RotationFailed(audit.DriverStarted().ID, rotate, audit.ReasonProviderError)
		},
		"a revocation": func() audit.Event { return audit.Revoked("", deny, audit.ReasonPolicyDenied, "") },
		"a revocation that failed": func() audit.Event {
			return audit.Revoked("", deny, audit.ReasonPolicyDenied, audit.ReasonScrubIncomplete)
		},
		"an unmount":             func() audit.Event { return audit.Unmounted(claim(), "") },
		"an unmount that failed": func() audit.Event { return audit.Unmounted(claim(), audit.ReasonUnmountFailed) },
		"an alarm":               func() audit.Event { return audit.IntegrityFailure(claim(), audit.ReasonVolumeCovered) },
		"a foreign mount":        func() audit.Event { return audit.ForeignMount(claim(), audit.ForeignKept) },
		"a time to live":         func() audit.Event { return audit.TTLMissed("", rotate) },
		"a bundle":               func() audit.Event { return audit.PolicyLoadFailed(audit.Bundle{}) },
	}
	for name, event := range makers {
		t.Run(name, func(t *testing.T) {
			r, l := audittest.New(t)
			l.Begin(1, 1) // no room for any refusal
			record(t, r, audit.Decided(deny))
			record(t, r, event())
			events := audittest.Closed(t, r, l)
			if len(events) != 2 || events[1].Type != audit.TypeAuditCounted || events[1].Count != 1 {
				t.Errorf("events = %v, want it and the count of the denial", types(events))
			}
		})
	}
}

// TestARevocationNamesTheCountThatHoldsItsDenial: what takes content away must
// lead to why, also where the denial itself is not listed.
func TestARevocationNamesTheCountThatHoldsItsDenial(t *testing.T) {
	deny := policiestest.Deny(t, rotating)
	r, l := audittest.New(t)
	l.Begin(1, 1)
	e := audit.Decided(deny)
	r.Owe(e)
	r.Owe(audit.Revoked(e.ID, deny, audit.ReasonPolicyDenied, ""))
	ids := map[audit.Type]audit.Event{}
	for _, e := range audittest.Closed(t, r, l) {
		ids[e.Type] = e
	}
	if parent, count := ids[audit.TypeRevoke].ParentID, ids[audit.TypeAuditCounted].ID; parent == "" || parent != count {
		t.Errorf("the parent of the revocation is %q, want the count %q", parent, count)
	}
}

// TestCountsWaitWhileTooMuchIsOwed: no count may get lost with a full queue.
func TestCountsWaitWhileTooMuchIsOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t, func(c *audit.Config) { c.QueueLimit = 2 })
		l.Begin(1, 1)
		l.Fail(errDisk)
		allow := policiestest.Allow(t, rotating)
		for range 2 {
			r.Owe(audit.Decided(allow)) // each is written, as none is durable
		}
		flood := denialsOf(t, "loud")
		for range 60 {
			r.Owe(flood.next())
			time.Sleep(time.Minute)
		}
		l.Fail(nil)
		time.Sleep(time.Hour)
		if got := accountFor(t, l, "loud"); got.counted != 60 || got.tellings != 1 {
			t.Errorf("%d denials are counted in %d events, want 60 in one", got.counted, got.tellings)
		}
	})
}
