package audit_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func record(t *testing.T, r *audit.Recorder, e audit.Event) audit.Event {
	t.Helper()
	if err := r.Record(t.Context(), e); err != nil {
		t.Fatalf("Record(%s) = %v, want no error", e.Type, err)
	}
	return e
}

func TestEqualDenialsAreOneEvent(t *testing.T) {
	deny := policiestest.Deny(t)
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		first := record(t, r, audit.Decided(deny))
		begin := time.Now()
		for range 1000 {
			time.Sleep(500 * time.Millisecond)
			record(t, r, audit.Decided(deny))
		}
		time.Sleep(audit.RepeatWindow)
		events := l.Events(t)
		if diff := cmp.Diff([]string{"secret.mount PolicyDenied", "audit.repeated PolicyDenied"}, types(events)); diff != "" {
			t.Fatalf("events mismatch (-want +got):\n%s", diff)
		}
		count := events[1]
		if count.ParentID != first.ID || count.Count != 1000 || count.Policy.DecisionID != deny.ID {
			t.Errorf("count event = %+v, want 1000 of %s", count, first.ID)
		}
		if from, to := count.FirstTime.Sub(begin), count.LastTime.Sub(begin); from != 500*time.Millisecond || to != 500*time.Second {
			t.Errorf("count event is from %v to %v, want 500ms to 500s", from, to)
		}
	})
}

func TestRepeatsAreCountedInTheNextEvent(t *testing.T) {
	deny := policiestest.Deny(t)
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		// Half a minute off the sweep, so that the next event meets the window.
		time.Sleep(30 * time.Second)
		for range 3 {
			record(t, r, audit.Decided(deny))
		}
		time.Sleep(audit.RepeatWindow + time.Second)
		record(t, r, audit.Decided(deny))
		events := l.Events(t)
		if len(events) != 2 || events[0].Repeated != 0 || events[1].Repeated != 2 {
			t.Errorf("events = %v, want two and 2 repeats in the second", types(events))
		}
	})
}

func TestWhatIsNeverCountedAway(t *testing.T) {
	allow, deny := policiestest.Allow(t), policiestest.Deny(t)
	other := policiestest.Deny(t, func(in *policies.Input) { in.Subject.PodUID = "0ddba11e-0000-4000-8000-000000000001" })
	otherVolume := claim()
	otherVolume.Volume = "certs"
	tests := []struct {
		name   string
		events []audit.Event
	}{
		{"intents", []audit.Event{audit.Decided(allow), audit.Decided(allow)}},
		{"ends", []audit.Event{audit.Finished(audit.DriverStarted().ID, allow, nil, audit.ReasonAborted), audit.Finished(audit.DriverStarted().ID, allow, nil, audit.ReasonAborted)}},
		{"denials of different pods", []audit.Event{audit.Decided(deny), audit.Decided(other)}},
		{"unmounts that worked", []audit.Event{audit.Unmounted(claim(), ""), audit.Unmounted(claim(), "")}},
		{"revocations that worked", []audit.Event{audit.Revoked("", deny, audit.ReasonPolicyDenied, ""), audit.Revoked("", deny, audit.ReasonPolicyDenied, "")}},
		{"rejections for different reasons", []audit.Event{audit.Rejected(claim(), audit.ReasonPodNotFound), audit.Rejected(claim(), audit.ReasonClassNotFound)}},
		{"rejections of different volumes", []audit.Event{audit.Rejected(claim(), audit.ReasonPodNotFound), audit.Rejected(otherVolume, audit.ReasonPodNotFound)}},
		{"starts", []audit.Event{audit.DriverStarted(), audit.DriverStarted()}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, l := audittest.New(t)
			for _, e := range tt.events {
				record(t, r, e)
			}
			if n := len(l.Leaves()); n != len(tt.events) {
				t.Errorf("len(Leaves()) = %d, want %d", n, len(tt.events))
			}
		})
	}
}

func TestRejectionsAndAlarmsAreCounted(t *testing.T) {
	makers := map[string]func() audit.Event{
		"rejection":      func() audit.Event { return audit.Rejected(claim(), audit.ReasonInvalidRequest) },
		"foreign mount":  func() audit.Event { return audit.ForeignMount(claim(), audit.ForeignKept) },
		"failed unmount": func() audit.Event { return audit.Unmounted(claim(), audit.ReasonUnmountFailed) },
		"failed revocation": func() audit.Event {
			return audit.Revoked("", policiestest.Deny(t), audit.ReasonPolicyDenied, audit.ReasonScrubIncomplete)
		},
		"undecided": func() audit.Event { return audit.Decided(policiestest.Undecided(t)) },
	}
	for name, event := range makers {
		t.Run(name, func(t *testing.T) {
			r, l := audittest.New(t)
			for range 50 {
				r.Owe(event())
			}
			events := audittest.Closed(t, r, l)
			// Two queues: at the end either may be first.
			if len(events) != 2 || events[0].Count+events[1].Count != 49 {
				t.Errorf("events = %v, want one and a count of 49", types(events))
			}
		})
	}
}

// TestADenialThatFailedIsNotCounted: what is not in the log stands for nothing.
func TestADenialThatFailedIsNotCounted(t *testing.T) {
	deny := policiestest.Deny(t)
	r, l := audittest.New(t)
	l.Fail(errDisk)
	if err := r.Record(t.Context(), audit.Decided(deny)); err == nil {
		t.Fatal("Record() = nil, want an error")
	}
	l.Fail(nil)
	record(t, r, audit.Decided(deny))
	if n := len(l.Leaves()); n != 1 {
		t.Errorf("len(Leaves()) = %d, want 1", n)
	}
}

// TestP1RotationsStandOnADurableDecision: an equal decision that is in the log
// stands for those that follow within the window, and the ends refer to it.
func TestP1RotationsStandOnADurableDecision(t *testing.T) {
	allow := policiestest.Allow(t, rotating)
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		l.Fail(errDisk)
		if err := r.Record(t.Context(), audit.Decided(allow)); err == nil {
			t.Fatal("Record() = nil, want an error")
		}
		r.Owe(audit.Decided(allow)) // not durable yet: it stands for nothing
		if err := r.Record(t.Context(), audit.Decided(allow)); err == nil {
			t.Fatal("Record() = nil, want an error")
		}
		l.Fail(nil)
		time.Sleep(time.Minute)
		first := l.Events(t)[0]
		for range 4 {
			time.Sleep(2 * time.Minute)
			e := record(t, r, audit.Decided(allow))
			r.Owe(audit.Rotated(e.ID, allow, files(), audit.Rotation{}))
			synctest.Wait()
		}
		events := l.Events(t)
		want := []string{"secret.rotate", "secret.rotate complete", "secret.rotate complete", "secret.rotate complete", "secret.rotate complete"}
		if diff := cmp.Diff(want, types(events)); diff != "" {
			t.Fatalf("events mismatch (-want +got):\n%s", diff)
		}
		for _, e := range events[1:] {
			if e.ParentID != first.ID {
				t.Errorf("ParentID = %q, want %q", e.ParentID, first.ID)
			}
		}
	})
}

// kubelet calls try as it does for a pod whose mount is refused, for so long:
// after half a second, then twice as late each time, at last every 2 min 2 s.
func kubelet(d time.Duration, try func()) (tries int64) {
	const first, last = 500 * time.Millisecond, 2*time.Minute + 2*time.Second
	begin := time.Now()
	for wait := first; time.Since(begin) < d; wait = min(wait*2, last) {
		try()
		tries++
		time.Sleep(wait)
	}
	return tries
}

func TestAPodDeniedForADayLeavesFewEvents(t *testing.T) {
	deny, undecided := policiestest.Deny(t), policiestest.Undecided(t)
	makers := map[string]func() audit.Event{
		"denied by policy":      func() audit.Event { return audit.Decided(deny) },
		"no verdict":            func() audit.Event { return audit.Decided(undecided) },
		"refused before policy": func() audit.Event { return audit.Rejected(claim(), audit.ReasonClassNotFound) },
	}
	for name, event := range makers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, l := audittest.New(t)
				tries := kubelet(24*time.Hour, func() { record(t, r, event()) })
				events := audittest.Closed(t, r, l)
				if n := len(events); n > 150 || n < 100 {
					t.Errorf("%d tries in a day leave %d events, want at most 150", tries, n)
				}
				if n := tellings(events); n != tries {
					t.Errorf("the log tells of %d tries, want %d", n, tries)
				}
			})
		})
	}
}

// tellings is how often something happened, by the events that say so.
func tellings(events []audit.Event) (n int64) {
	for _, e := range events {
		if e.Type != audit.TypeAuditRepeated {
			n++
		}
	}
	return n + told(events)
}

func TestTheFloodIsBounded(t *testing.T) {
	deny := policiestest.Deny(t)
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		// A pod that is tried again every ten seconds, for a day.
		for range 24 * 60 * 6 {
			record(t, r, audit.Decided(deny))
			time.Sleep(10 * time.Second)
		}
		if n := len(l.Leaves()); n > 24*6+1 {
			t.Errorf("len(Leaves()) = %d in a day, want at most one in ten minutes", n)
		}
	})
}

// TestDecisionsThatCameAboutOtherwiseAreWritten: the id of a decision is of
// facts and outcome. An allow by a waiver and one by monitor mode share it.
func TestDecisionsThatCameAboutOtherwiseAreWritten(t *testing.T) {
	allow := policiestest.Allow(t, rotating)
	tests := []struct {
		name   string
		change func(e *audit.Event)
		want   int
	}{
		{"nothing", func(*audit.Event) {}, 1},
		{"effect", func(e *audit.Event) { e.Policy.Effect = audit.EffectAllowedMonitored }, 2},
		{"severity", func(e *audit.Event) { e.Severity = audit.SeverityCritical }, 2},
		{"grants", func(e *audit.Event) { e.Policy.Grants = []string{"G-2"} }, 2},
		{"waivers", func(e *audit.Event) { e.Policy.Waivers = nil }, 2},
		{"a rule is not waived", func(e *audit.Event) { e.Policy.Rules[0].Waived = false }, 2},
		{"a rule is monitored", func(e *audit.Event) { e.Policy.Rules[0].Monitored = true }, 2},
		{"a rule is about another secret", func(e *audit.Event) { e.Policy.Rules[0].Secret = "local://node/b" }, 2},
		{"a rule is graver", func(e *audit.Event) { e.Policy.Rules[0].Severity = audit.SeverityCritical }, 2},
		{"one more rule", func(e *audit.Event) {
			e.Policy.Rules = append(e.Policy.Rules, audit.Rule{ID: "PR-251", Severity: audit.SeverityLow})
		}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, l := audittest.New(t)
			decided := func() audit.Event {
				e := audit.Decided(allow)
				e.Policy.Waivers = []string{"W-1"}
				e.Policy.Rules = []audit.Rule{{ID: "PR-250", Severity: audit.SeverityHigh, Secret: "local://node/a", Waived: true}}
				return e
			}
			record(t, r, decided())
			e := decided()
			tt.change(&e)
			record(t, r, e)
			if n := len(l.Leaves()); n != tt.want {
				t.Errorf("len(Leaves()) = %d, want %d", n, tt.want)
			}
		})
	}
}

// TestAClockThatWasWrongHidesNothing: an event of next month must not swallow
// the denials until then.
func TestAClockThatWasWrongHidesNothing(t *testing.T) {
	const month = 30 * 24 * time.Hour
	deny := policiestest.Deny(t)
	at := &clock{now: noon()}
	r, l := audittest.New(t, func(c *audit.Config) { c.Clock = at.time })
	at.add(month)
	record(t, r, audit.Decided(deny))
	record(t, r, audit.Decided(deny))
	at.add(-month)
	const hours = 48
	for range hours {
		at.add(time.Hour)
		record(t, r, audit.Decided(deny))
	}
	events := l.Events(t)
	if len(events) != hours+1 || told(events) != 1 {
		t.Errorf("%d events and %d repeats in %d hours, want %d and 1", len(events), told(events), hours, hours+1)
	}
}

// told sums what the log says was not written.
func told(events []audit.Event) (n int64) {
	for _, e := range events {
		n += e.Repeated
		if e.Type == audit.TypeAuditRepeated {
			n += e.Count
		}
	}
	return n
}

// TestRepeatsAreToldOnce lets the sweep, a slow disk, a failure and a second
// event come between the count and the event that carries it.
func TestRepeatsAreToldOnce(t *testing.T) {
	deny := policiestest.Deny(t)
	tests := []struct {
		name  string
		spoil func(t *testing.T, r *audit.Recorder, l *audittest.Log)
	}{
		{"a sweep while the disk hangs", func(t *testing.T, r *audit.Recorder, l *audittest.Log) {
			time.Sleep(audit.RepeatWindow + 29*time.Second) // one second before the sweep
			release := l.Hang()
			time.AfterFunc(3*time.Second, release)
			record(t, r, audit.Decided(deny))
		}},
		{"the disk fails", func(t *testing.T, r *audit.Recorder, l *audittest.Log) {
			time.Sleep(audit.RepeatWindow + time.Second)
			l.Fail(errDisk)
			if err := r.Record(t.Context(), audit.Decided(deny)); err == nil {
				t.Error("Record() = nil, want an error")
			}
			l.Fail(nil)
			record(t, r, audit.Decided(deny))
		}},
		{"a malformed event", func(t *testing.T, r *audit.Recorder, _ *audittest.Log) {
			time.Sleep(audit.RepeatWindow + time.Second)
			e := audit.Decided(deny)
			e.Workload.Pod = "not a name"
			if err := r.Record(t.Context(), e); err == nil {
				t.Error("Record() = nil, want an error")
			}
		}},
		{"two at once", func(t *testing.T, r *audit.Recorder, l *audittest.Log) {
			time.Sleep(audit.RepeatWindow + time.Second)
			release := l.Hang()
			time.AfterFunc(time.Second, release)
			var group sync.WaitGroup
			for range 2 {
				group.Go(func() { _ = r.Record(t.Context(), audit.Decided(deny)) })
			}
			group.Wait()
		}},
		{"the event is owed", func(t *testing.T, r *audit.Recorder, l *audittest.Log) {
			time.Sleep(audit.RepeatWindow + time.Second)
			l.Fail(errDisk)
			e := audit.Decided(deny)
			if err := r.Record(t.Context(), e); err == nil {
				t.Error("Record() = nil, want an error")
			}
			r.Owe(e)
			time.Sleep(5 * time.Minute)
			l.Fail(nil)
		}},
		{"the end", func(*testing.T, *audit.Recorder, *audittest.Log) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, l := audittest.New(t, func(c *audit.Config) { c.Timeout = 10 * time.Second })
				time.Sleep(30 * time.Second)
				for range 4 {
					record(t, r, audit.Decided(deny))
				}
				tt.spoil(t, r, l)
				time.Sleep(2 * time.Minute)
				if n := told(audittest.Closed(t, r, l)); n != 3 {
					t.Errorf("the log tells %d repeats, want 3: %v", n, types(l.Events(t)))
				}
			})
		})
	}
}
