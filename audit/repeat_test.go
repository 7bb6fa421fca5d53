package audit_test

import (
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
		"undecided":      func() audit.Event { return audit.Decided(policiestest.Undecided(t)) },
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

func TestTheFloodIsBounded(t *testing.T) {
	deny := policiestest.Deny(t)
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		// A pod that is tried again every ten seconds, for a day.
		for range 24 * 60 * 6 {
			record(t, r, audit.Decided(deny))
			time.Sleep(10 * time.Second)
		}
		if n := len(l.Leaves()); n > 24*6*2+2 {
			t.Errorf("len(Leaves()) = %d in a day, want at most two in ten minutes", n)
		}
	})
}
