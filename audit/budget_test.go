package audit_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// denialOf is a denial of pod i with so many rules that fired, about secrets
// with long ids.
func denialOf(t *testing.T, i, rules int) audit.Event {
	t.Helper()
	e := audit.Decided(policiestest.Deny(t, func(in *policies.Input) { in.Subject.PodName = fmt.Sprintf("p%d", i) }))
	secret := "local://node/" + strings.Repeat("x", 1500)
	for range rules {
		e.Policy.Rules = append(e.Policy.Rules, audit.Rule{ID: "PR-001", Severity: audit.SeverityHigh, Secret: strings.Clone(secret), Denies: true})
	}
	return e
}

// TestOneLargeEventIsAlwaysOwed: the bound is on what waits together.
func TestOneLargeEventIsAlwaysOwed(t *testing.T) {
	r, l := audittest.New(t, func(c *audit.Config) { c.QueueBytes = 1 })
	e := denialOf(t, 0, 100)
	r.Owe(e)
	events := audittest.Closed(t, r, l)
	if len(events) < 2 || events[0].ID != e.ID || events[len(events)-1].Part.Number != events[0].Part.Of {
		t.Errorf("events = %v, want all parts of the denial", types(events))
	}
}

func TestFlightsAreBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t, func(c *audit.Config) { c.QueueBytes = 256 << 10 })
		release := l.Hang()
		defer release()
		first, second := denialOf(t, 1, 100), denialOf(t, 2, 100)
		if err := r.Record(t.Context(), first); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("Record() = %v, want %v", err, audit.ErrUnavailable)
		}
		begin := time.Now()
		if err := r.Record(t.Context(), second); !errors.Is(err, audit.ErrUnavailable) || time.Since(begin) > 0 {
			t.Errorf("Record() = %v after %v, want %v at once", err, time.Since(begin), audit.ErrUnavailable)
		}
		release()
		synctest.Wait()
		if err := r.Record(t.Context(), denialOf(t, 3, 100)); err != nil {
			t.Errorf("Record() once the disk answers = %v, want no error", err)
		}
	})
}

// TestTheGapIsToldWhileTheLogIsNearlyFull: at 80 % no denial is written any
// more, so how many there were must be, and without filling the reserve.
func TestTheGapIsToldWhileTheLogIsNearlyFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t, func(c *audit.Config) { c.QueueLimit = 4 })
		l.Fill(auditlog.ErrFull)
		const hours, each = 24, 60
		for i := range hours * each {
			r.Owe(audit.Rejected(audit.Claim{Namespace: "a", Pod: fmt.Sprintf("p%d", i)}, audit.ReasonInvalidRequest))
			time.Sleep(time.Hour / each)
		}
		r.Owe(audit.Unmounted(claim(), ""))
		time.Sleep(time.Hour)
		missing, gaps, others := int64(0), 0, []audit.Event(nil)
		for _, e := range l.Events(t) {
			if e.Type == audit.TypeAuditGap {
				missing, gaps = missing+e.Count, gaps+1
				continue
			}
			others = append(others, e)
		}
		if missing != hours*each-4 {
			t.Errorf("%d denials are counted, want %d", missing, hours*each-4)
		}
		if most := (hours + 1) * 6; gaps > most {
			t.Errorf("%d gap events in a day, want at most %d", gaps, most)
		}
		if diff := cmp.Diff([]string{"secret.unmount"}, types(others)); diff != "" {
			t.Errorf("other events mismatch (-want +got):\n%s", diff)
		}
	})
}
