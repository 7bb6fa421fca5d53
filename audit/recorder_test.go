package audit_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

var errDisk = errors.New("no space left on device")

// types lists what is in the log, in order.
func types(events []audit.Event) []string {
	var list []string
	for _, e := range events {
		list = append(list, strings.Join(strings.Fields(string(e.Type)+" "+string(e.Stage)+" "+string(e.Reason)), " "))
	}
	return list
}

func TestNewRefusesConfig(t *testing.T) {
	tests := []struct {
		name   string
		change func(*audit.Config)
		want   string
	}{
		{"no log", func(c *audit.Config) { c.Log = nil }, "Log is missing"},
		{"no logger", func(c *audit.Config) { c.Logger = nil }, "Logger is missing"},
		{"no cluster", func(c *audit.Config) { c.Source.Cluster = "" }, "source.cluster"},
		{"no version", func(c *audit.Config) { c.Source.Version = "" }, "source.version"},
		{"component of another house", func(c *audit.Config) { c.Source.Component = "kubelet" }, "source.component"},
		{"node with a line end", func(c *audit.Config) { c.Source.Node = "a\nb" }, "source.node"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := audit.Config{Log: &audittest.Log{}, Source: audittest.Source(), Logger: slog.New(slog.DiscardHandler)}
			tt.change(&c)
			if _, err := audit.New(c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestRecordCompletesTheEvent(t *testing.T) {
	r, l := audittest.New(t, func(c *audit.Config) { c.Source.Insecure = true })
	e := audit.Decided(policiestest.Allow(t))
	if err := r.Record(t.Context(), e); err != nil {
		t.Fatalf("Record() = %v, want no error", err)
	}
	got := l.Events(t)[0]
	if got.ID != e.ID || got.Code != "PC2001I" || got.Schema != audit.SchemaID || got.Time.IsZero() || !got.Source.Insecure {
		t.Errorf("Record() stored %+v, want id %s, code, schema, time and source", got, e.ID)
	}
}

func TestP7RecordFailsClosed(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(r *audit.Recorder, l *audittest.Log)
		want  error
	}{
		{"disk full", func(_ *audit.Recorder, l *audittest.Log) { l.Fail(errDisk) }, audit.ErrUnavailable},
		{"log nearly full", func(_ *audit.Recorder, l *audittest.Log) { l.Fill(auditlog.ErrFull) }, auditlog.ErrFull},
		{"recorder closed", func(r *audit.Recorder, l *audittest.Log) { audittest.Closed(t, r, l) }, audit.ErrClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, l := audittest.New(t)
			tt.spoil(r, l)
			if err := r.Record(t.Context(), audit.Decided(policiestest.Allow(t))); !errors.Is(err, tt.want) {
				t.Errorf("Record() = %v, want %v", err, tt.want)
			}
			if err := r.Healthy(); err == nil {
				t.Error("Healthy() = nil, want an error")
			}
			if n := len(l.Leaves()); n != 0 {
				t.Errorf("len(Leaves()) = %d, want 0", n)
			}
		})
	}
}

func TestRecordRefusesMalformedEvents(t *testing.T) {
	allow := policiestest.Allow(t)
	tests := []struct {
		name   string
		change func(*audit.Event)
		field  string
	}{
		{"zero", func(e *audit.Event) { *e = audit.Event{} }, "id"},
		{"no id", func(e *audit.Event) { e.ID = "" }, "id"},
		{"free text", func(e *audit.Event) { e.Reason = "rpc error: hunter2" }, "reason"},
		{"an intent that policy did not allow", func(e *audit.Event) { e.Policy.Effect = audit.EffectDeny }, "policy.effect"},
		{"an intent without a decision", func(e *audit.Event) { e.Policy = nil }, "policy.effect"},
		{"an end of nothing", func(e *audit.Event) { e.Stage = audit.StageComplete }, "parentId"},
		{"an outcome that its type does not have", func(e *audit.Event) { e.Type = audit.TypeUnmount }, "code"},
		{"a secret in a list", func(e *audit.Event) { e.Secrets[0].ID = "hunter2 " }, "secrets[0].id"},
		{"a grant", func(e *audit.Event) { e.Policy.Grants = []string{"G-1", "a b"} }, "policy.grants[1]"},
		{"a count of nothing", func(e *audit.Event) { e.Count = 3 }, "count"},
		{"a part beyond the last", func(e *audit.Event) { e.Part = &audit.Part{First: e.ID, Number: 3, Of: 2} }, "part"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, l := audittest.New(t)
			e := audit.Decided(allow)
			tt.change(&e)
			err := r.Record(t.Context(), e)
			if got, ok := errors.AsType[*audit.InvalidError](err); !ok || got.Field != tt.field {
				t.Errorf("Record() = %v, want an InvalidError of %q", err, tt.field)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("Record() = %q, which repeats the value", err)
			}
			if n := len(l.Leaves()); n != 0 {
				t.Errorf("len(Leaves()) = %d, want 0", n)
			}
		})
	}
}

// TestP7RecordIsBounded shows that a disk which hangs does not hang a mount,
// and that what becomes durable afterwards is ended.
func TestP7RecordIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		release := l.Hang()
		defer release()
		begin := time.Now()
		e := audit.Decided(policiestest.Allow(t))
		if err := r.Record(t.Context(), e); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("Record() = %v, want %v", err, audit.ErrUnavailable)
		}
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("Record() took %v, want at most 3 s", took)
		}
		release()
		synctest.Wait()
		got := l.Events(t)
		if diff := cmp.Diff([]string{"secret.mount intent", "secret.mount complete Abandoned"}, types(got)); diff != "" {
			t.Fatalf("events mismatch (-want +got):\n%s", diff)
		}
		if got[1].ParentID != e.ID {
			t.Errorf("ParentID = %q, want %q", got[1].ParentID, e.ID)
		}
	})
}

func TestRecordHeedsItsContext(t *testing.T) {
	r, l := audittest.New(t)
	release := l.Hang()
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := r.Record(ctx, audit.Decided(policiestest.Allow(t))); !errors.Is(err, context.Canceled) || !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Record() = %v, want %v and %v", err, audit.ErrUnavailable, context.Canceled)
	}
}

// TestOweAfterRecordIsOneEvent owes an event whose Record gave up: it must be
// written, and not twice.
func TestOweAfterRecordIsOneEvent(t *testing.T) {
	tests := []struct {
		name string
		then func(l *audittest.Log, release func(), owe func())
	}{
		{"owed while the disk hangs", func(_ *audittest.Log, release, owe func()) { owe(); release() }},
		{"owed after it has answered", func(_ *audittest.Log, release, owe func()) { release(); synctest.Wait(); owe() }},
		{"owed while the disk hangs and then fails", func(l *audittest.Log, release, owe func()) {
			owe()
			l.Fail(errDisk)
			release()
			synctest.Wait()
			l.Fail(nil)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, l := audittest.New(t)
				release := l.Hang()
				e := audit.Decided(policiestest.Deny(t))
				if err := r.Record(t.Context(), e); err == nil {
					t.Fatal("Record() = nil, want an error")
				}
				tt.then(l, release, func() { r.Owe(e) })
				time.Sleep(time.Minute)
				events := l.Events(t)
				if len(events) != 1 || events[0].ID != e.ID {
					t.Errorf("events = %v, want the denial once", types(events))
				}
			})
		})
	}
}

func TestTooManyWaitForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		release := l.Hang()
		defer release()
		e := audit.DriverStarted()
		var group sync.WaitGroup
		for range 1024 {
			group.Go(func() {
				if err := r.Record(t.Context(), audit.DriverStarted()); err == nil {
					t.Error("Record() = nil, want an error")
				}
			})
		}
		group.Wait()
		begin := time.Now()
		if err := r.Record(t.Context(), e); !errors.Is(err, audit.ErrUnavailable) || time.Since(begin) > 0 {
			t.Errorf("Record() = %v after %v, want %v at once", err, time.Since(begin), audit.ErrUnavailable)
		}
	})
}

// TestP8OweNeverWaits has a clock that moves only while everybody waits, so that
// it measures no load of the machine.
func TestP8OweNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		release := l.Hang()
		defer release()
		begin := time.Now()
		for range 2000 {
			r.Owe(audit.Unmounted(claim(), ""))
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("2,000 x Owe() waited for %v, want not at all", took)
		}
	})
}

func TestP7OwedEventsAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		l.Fail(errDisk)
		var want []string
		for range 5 {
			e := audit.Unmounted(claim(), "")
			want = append(want, e.ID)
			r.Owe(e)
		}
		time.Sleep(10 * time.Minute)
		if err := r.Healthy(); !errors.Is(err, errDisk) {
			t.Errorf("Healthy() = %v, want %v", err, errDisk)
		}
		l.Fail(nil)
		time.Sleep(31 * time.Second)
		var got []string
		for _, e := range l.Events(t) {
			got = append(got, e.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events mismatch (-want +got):\n%s", diff)
		}
		if err := r.Healthy(); err != nil {
			t.Errorf("Healthy() = %v, want no error", err)
		}
	})
}

// TestP8UnmountsPassDenials shows that a log which takes no denials any more
// still takes what must never wait.
func TestP8UnmountsPassDenials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t)
		l.Fill(auditlog.ErrFull)
		allow := policiestest.Allow(t)
		r.Owe(audit.Decided(policiestest.Deny(t)))
		r.Owe(audit.Unmounted(claim(), ""))
		r.Owe(audit.IntegrityFailure(claim(), audit.ReasonVolumeCovered))
		r.Owe(audit.Finished(audit.DriverStarted().ID, allow, files(), ""))
		r.Owe(audit.Revoked("", policiestest.Deny(t), audit.ReasonPolicyDenied, ""))
		r.Owe(audit.MassRevocation(9, time.Now(), time.Now()))
		synctest.Wait()
		want := []string{
			"secret.unmount", "integrity.failure VolumeCovered", "secret.mount complete",
			"secret.revoke PolicyDenied", "anomaly.mass_revocation RevocationHeld",
		}
		if diff := cmp.Diff(want, types(l.Events(t))); diff != "" {
			t.Errorf("events mismatch (-want +got):\n%s", diff)
		}
	})
}

func TestP7LostEventsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l := audittest.New(t, func(c *audit.Config) { c.QueueLimit = 3 })
		l.Fail(errDisk)
		begin := time.Now().UTC()
		for range 10 {
			time.Sleep(time.Second)
			r.Owe(audit.Unmounted(claim(), ""))
		}
		l.Fail(nil)
		time.Sleep(time.Minute)
		events := l.Events(t)
		want := []string{"audit.gap QueueFull", "secret.unmount", "secret.unmount", "secret.unmount"}
		if diff := cmp.Diff(want, types(events)); diff != "" {
			t.Fatalf("events mismatch (-want +got):\n%s", diff)
		}
		gap := events[0]
		if gap.Count != 7 || !gap.FirstTime.Equal(begin.Add(4*time.Second)) || !gap.LastTime.Equal(begin.Add(10*time.Second)) {
			t.Errorf("gap = %d from %v to %v, want 7 from 4 s to 10 s after %v", gap.Count, gap.FirstTime, gap.LastTime, begin)
		}
		time.Sleep(time.Hour)
		if n := len(l.Leaves()); n != 4 {
			t.Errorf("len(Leaves()) = %d an hour later, want 4", n)
		}
	})
}

func TestMalformedOwedEventsAreCounted(t *testing.T) {
	r, l := audittest.New(t)
	e := audit.Unmounted(claim(), "")
	e.Workload.Pod = "not a name"
	r.Owe(e)
	want := []string{"audit.gap InvalidEvent"}
	if diff := cmp.Diff(want, types(audittest.Closed(t, r, l))); diff != "" {
		t.Errorf("events mismatch (-want +got):\n%s", diff)
	}
}

func TestCloseWritesWhatIsOwed(t *testing.T) {
	r, l := audittest.New(t)
	for range 100 {
		r.Owe(audit.Unmounted(claim(), ""))
	}
	if n := len(audittest.Closed(t, r, l)); n != 100 {
		t.Errorf("len(events) = %d, want 100", n)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Errorf("Close() again = %v, want no error", err)
	}
	r.Owe(audit.Unmounted(claim(), ""))
	if err := r.Healthy(); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("Healthy() = %v, want %v", err, audit.ErrClosed)
	}
}

func TestCloseEnds(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(l *audittest.Log) func()
	}{
		{"disk full", func(l *audittest.Log) func() { l.Fail(errDisk); return func() {} }},
		{"disk hangs", func(l *audittest.Log) func() { return l.Hang() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, l := audittest.New(t)
				defer tt.spoil(l)()
				for range 3 {
					r.Owe(audit.Unmounted(claim(), ""))
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				begin := time.Now()
				err := r.Close(ctx)
				if !errors.Is(err, audit.ErrUnavailable) || !strings.Contains(err.Error(), "3 owed events") {
					t.Errorf("Close() = %v, want %v for 3 events", err, audit.ErrUnavailable)
				}
				if took := time.Since(begin); took > 6*time.Second {
					t.Errorf("Close() took %v, want at most 6 s", took)
				}
			})
		})
	}
}

// TestRecorderOverTheRealLog shows that both fit together.
func TestRecorderOverTheRealLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := auditlog.Open(auditlog.Config{Dir: dir, Origin: "test/nodes/node-1", Boundary: audit.BoundaryLeaf(audittest.Source(), time.Now), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := audit.New(audit.Config{Log: l, Source: audittest.Source(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	allow := policiestest.Allow(t)
	var lost audit.Event
	for i := range 20 {
		e := audit.Decided(allow)
		if err := r.Record(t.Context(), e); err != nil {
			t.Fatalf("Record() = %v, want no error", err)
		}
		if i == 7 {
			lost = e
			continue
		}
		r.Owe(audit.Finished(e.ID, allow, files(), ""))
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatalf("Close() = %v, want no error", err)
	}
	intents, err := audit.OpenIntents(l.Recent(time.Hour))
	if err != nil || len(intents) != 1 || intents[0].EventID != lost.ID || intents[0].DecisionID != allow.ID {
		t.Fatalf("OpenIntents() = %+v, %v, want that of %s", intents, err, lost.ID)
	}
	if diff := cmp.Diff(claim(), intents[0].Claim); diff != "" {
		t.Errorf("OpenIntents() mismatch (-want +got):\n%s", diff)
	}
	vkey, err := l.VerifierKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: filepath.Join(dir, auditlog.EpochFile(1)), VKey: vkey})
	if err != nil || report.Events != 40 || len(report.OpenIntents) != 1 || report.OpenIntents[0].ID != lost.ID {
		t.Errorf("Verify() = %+v, %v, want 40 events and the open intent", report, err)
	}
}
