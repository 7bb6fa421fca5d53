package audit_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// fails is a delivery that comes to nothing.
func fails(t *testing.T, r *audit.Recorder, d policies.Decision, reason audit.Reason) audit.Event {
	t.Helper()
	e := record(t, r, audit.Decided(d))
	r.Owe(audit.Finished(e.ID, d, nil, reason))
	synctest.Wait()
	return e
}

// wellFormed checks what audit verify does: no id twice, no end before its
// intent, and no intent without an end.
func wellFormed(t *testing.T, events []audit.Event) {
	t.Helper()
	ids, open := map[string]bool{}, map[string]bool{}
	for i, e := range events {
		if ids[e.ID] {
			t.Errorf("event %d has the id of an earlier one", i)
		}
		ids[e.ID] = true
		switch e.Stage {
		case audit.StageIntent:
			open[e.ID] = true
		case audit.StageComplete:
			if !open[e.ParentID] {
				t.Errorf("event %d ends what did not begin: %v", i, types(events))
			}
			delete(open, e.ParentID)
		}
	}
	if len(open) > 0 {
		t.Errorf("%d intents have no end: %v", len(open), types(events))
	}
}

func TestAPodWhoseProviderFailsForADayLeavesFewEvents(t *testing.T) {
	allow := policiestest.Allow(t)
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		tries := kubelet(24*time.Hour, func() { fails(t, r, allow, audit.ReasonProviderUnavailable) })
		events := audittest.Closed(t, r, l)
		wellFormed(t, events)
		var intents int64
		for _, e := range events {
			if e.Stage == audit.StageIntent {
				intents++
			}
		}
		if n := len(events); n > 290 || n < 200 {
			t.Errorf("%d tries in a day leave %d events, want at most 290", tries, n)
		}
		if n := intents + told(events); n != tries {
			t.Errorf("the log tells of %d tries, want %d", n, tries)
		}
	})
}

func TestARotationThatFailsForADayLeavesFewEvents(t *testing.T) {
	allow := policiestest.Allow(t, rotating)
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		tries := int64(0)
		for ; tries < 24*30; tries++ {
			e := record(t, r, audit.Decided(allow))
			r.Owe(audit.RotationFailed(e.ID, allow, audit.ReasonProviderUnavailable))
			time.Sleep(2 * time.Minute)
		}
		events := audittest.Closed(t, r, l)
		ends := int64(0)
		for _, e := range events {
			if e.Stage == audit.StageComplete {
				ends += 1 + e.Repeated
			}
		}
		if n := len(events); n > 300 {
			t.Errorf("%d tries in a day leave %d events, want at most 300", tries, n)
		}
		if ends > tries || ends < tries-5 { // the last are told at the end
			t.Errorf("the log tells of %d failures, want nearly %d", ends, tries)
		}
	})
}

// TestP1AnIntentThatIsHeldIsWrittenBeforeItsEffect: the second try, which works.
func TestP1AnIntentThatIsHeldIsWrittenBeforeItsEffect(t *testing.T) {
	allow := policiestest.Allow(t)
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		fails(t, r, allow, audit.ReasonProviderUnavailable)
		fails(t, r, allow, audit.ReasonProviderUnavailable)
		e := record(t, r, audit.Decided(allow))
		if n := len(l.Leaves()); n != 2 {
			t.Errorf("%d events are written, want 2: the intent is held", n)
		}
		l.Fail(errDisk)
		if err := r.Confirm(t.Context(), e.ID); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("Confirm() with a full disk = %v, want %v", err, audit.ErrUnavailable)
		}
		if err := r.Confirm(t.Context(), e.ID); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("Confirm() again = %v, want %v", err, audit.ErrUnavailable)
		}
		r.Owe(audit.Finished(e.ID, allow, nil, audit.ReasonAuditUnavailable))
		l.Fail(nil)
		e = record(t, r, audit.Decided(allow))
		if err := r.Confirm(t.Context(), e.ID); err != nil {
			t.Fatalf("Confirm() = %v, want no error", err)
		}
		events := l.Events(t)
		if last := events[len(events)-1]; last.ID != e.ID || last.Stage != audit.StageIntent || last.Repeated != 1 {
			t.Errorf("the last event = %+v, want the intent, which tells of one more", last)
		}
		if err := r.Confirm(t.Context(), e.ID); err != nil {
			t.Errorf("Confirm() again = %v, want no error", err)
		}
		r.Owe(audit.Finished(e.ID, allow, files(), ""))
		events = audittest.Closed(t, r, l)
		wellFormed(t, events)
		want := []string{"secret.mount intent", "secret.mount complete ProviderUnavailable", "secret.mount intent", "secret.mount complete"}
		if diff := cmp.Diff(want, types(events)); diff != "" {
			t.Errorf("events mismatch (-want +got):\n%s", diff)
		}
	})
}

// TestP1AnIntentThatIsOnlyOwedStandsForNoFetch: the disk is full, and the
// provider fails in another way each time, so that no try is counted.
func TestP1AnIntentThatIsOnlyOwedStandsForNoFetch(t *testing.T) {
	allow := policiestest.Allow(t)
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		fails(t, r, allow, audit.ReasonProviderUnavailable)
		l.Fail(errDisk)
		time.Sleep(6 * time.Minute)
		fails(t, r, allow, audit.ReasonProviderError)
		time.Sleep(6 * time.Minute)
		if err := r.Record(t.Context(), audit.Decided(allow)); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("Record() = %v, want %v: the last intent in the log is 12 minutes old", err, audit.ErrUnavailable)
		}
		l.Fail(nil)
		time.Sleep(time.Minute)
		e := record(t, r, audit.Decided(allow))
		r.Owe(audit.Finished(e.ID, allow, files(), ""))
		events := audittest.Closed(t, r, l)
		wellFormed(t, events)
		if n := len(events); n != 6 {
			t.Errorf("%d events, want three intents and their ends: %v", n, types(events))
		}
	})
}

func TestP1OnlyADurableIntentIsConfirmed(t *testing.T) {
	allow := policiestest.Allow(t)
	r, l := audittest.New(t)
	if err := r.Confirm(t.Context(), audit.DriverStarted().ID); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Confirm() of what nobody recorded = %v, want %v", err, audit.ErrUnavailable)
	}
	l.Fail(errDisk)
	e := audit.Decided(allow)
	if err := r.Record(t.Context(), e); err == nil {
		t.Fatal("Record() = nil, want an error")
	}
	l.Fail(nil)
	if err := r.Confirm(t.Context(), e.ID); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Confirm() of what failed = %v, want %v", err, audit.ErrUnavailable)
	}
	e = record(t, r, audit.Decided(allow))
	if err := r.Confirm(t.Context(), e.ID); err != nil {
		t.Errorf("Confirm() of what is durable = %v, want no error", err)
	}
	denied := record(t, r, audit.Decided(policiestest.Deny(t)))
	if err := r.Confirm(t.Context(), denied.ID); err == nil {
		t.Error("Confirm() of a denial = nil, want an error")
	}
}

// TestWhatIsNotHeld: only what an equal intent, which failed within the window,
// stands for.
func TestWhatIsNotHeld(t *testing.T) {
	allow := policiestest.Allow(t)
	other := policiestest.Allow(t, func(in *policies.Input) { in.Subject.PodUID = "0ddba11e-0000-4000-8000-000000000001" })
	tests := []struct {
		name  string
		first func(t *testing.T, r *audit.Recorder)
	}{
		{"the first of its kind", func(*testing.T, *audit.Recorder) {}},
		{"after another pod's failure", func(t *testing.T, r *audit.Recorder) { fails(t, r, other, audit.ReasonProviderError) }},
		{"after a success", func(t *testing.T, r *audit.Recorder) { fails(t, r, allow, "") }},
		{"beside one that has no end yet", func(t *testing.T, r *audit.Recorder) { record(t, r, audit.Decided(allow)) }},
		{"after the window", func(t *testing.T, r *audit.Recorder) {
			fails(t, r, allow, audit.ReasonProviderError)
			time.Sleep(audit.RepeatWindow)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, l := audittest.New(t)
				tt.first(t, r)
				before := len(l.Leaves())
				record(t, r, audit.Decided(allow))
				if n := len(l.Leaves()) - before; n != 1 {
					t.Errorf("%d events are written, want the intent", n)
				}
			})
		})
	}
}

// TestAnotherFailureIsWritten, with its intent before it.
func TestAnotherFailureIsWritten(t *testing.T) {
	allow := policiestest.Allow(t)
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		for _, reason := range []audit.Reason{
			audit.ReasonProviderUnavailable, audit.ReasonProviderUnavailable, audit.ReasonProviderDenied, audit.ReasonProviderDenied,
		} {
			fails(t, r, allow, reason)
		}
		events := audittest.Closed(t, r, l)
		wellFormed(t, events)
		want := []string{
			"secret.mount intent", "secret.mount complete ProviderUnavailable",
			"secret.mount intent", "secret.mount complete ProviderDenied", "audit.repeated ProviderDenied",
		}
		if diff := cmp.Diff(want, types(events)); diff != "" {
			t.Fatalf("events mismatch (-want +got):\n%s", diff)
		}
		if events[2].Repeated != 1 || events[4].Count != 1 || events[4].ParentID != events[3].ID {
			t.Errorf("%d repeats, and then %d of %s, want one each", events[2].Repeated, events[4].Count, events[4].ParentID)
		}
	})
}

// TestAConfirmationThatComesTooLate is an intent that has no effect.
func TestAConfirmationThatComesTooLate(t *testing.T) {
	allow := policiestest.Allow(t)
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		fails(t, r, allow, audit.ReasonProviderError)
		e := record(t, r, audit.Decided(allow))
		release := l.Hang()
		if err := r.Confirm(t.Context(), e.ID); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("Confirm() = %v, want %v", err, audit.ErrUnavailable)
		}
		r.Owe(audit.Finished(e.ID, allow, nil, audit.ReasonAuditUnavailable))
		release()
		synctest.Wait()
		events := audittest.Closed(t, r, l)
		wellFormed(t, events)
		want := []string{"secret.mount intent", "secret.mount complete ProviderError", "secret.mount intent", "secret.mount complete Abandoned"}
		if diff := cmp.Diff(want, types(events)); diff != "" {
			t.Errorf("events mismatch (-want +got):\n%s", diff)
		}
	})
}
