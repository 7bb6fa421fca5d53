package podstatus_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/driver/podstatus/podstatustest"
)

func newEvents(t *testing.T, server *podstatustest.Server) *podstatus.Events {
	t.Helper()
	e, err := podstatus.NewEvents(podstatus.EventsConfig{REST: server.REST(), Node: "node-1", Logger: slog.New(slog.DiscardHandler), RetryAfter: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func deliver(t *testing.T, e *podstatus.Events) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func event(kind podstatus.EventKind) podstatus.Event {
	return podstatus.Event{Kind: kind, Namespace: "payments", Pod: "api-0", PodUID: uid, Volume: "secrets"}
}

func always() bool { return true }

func TestEventIsOnThePod(t *testing.T) {
	server := podstatustest.Start(t)
	e := newEvents(t, server)
	deliver(t, e)
	ev := event(podstatus.RotationFailed)
	ev.Reason = "ProviderUnavailable"
	e.Say(ev)
	if diff := cmp.Diff([]string{"POST events"}, server.Quiet(1, always)); diff != "" {
		t.Fatalf("requests (-want +got):\n%s", diff)
	}
	got := server.Events()[0]
	want := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "payments", Name: "api-0", UID: uid}
	if diff := cmp.Diff(want, got.InvolvedObject); diff != "" {
		t.Errorf("object (-want +got):\n%s", diff)
	}
	if got.Reason != "MountRotationFailed" || got.Type != "Warning" || got.Source.Component != "csi-secrets-store-rotation" || got.Source.Host != "node-1" || got.Count != 1 {
		t.Errorf("event = %+v", got)
	}
	const text = `the secrets of volume "secrets" could not be fetched again, it keeps what it has: ProviderUnavailable; hint: it is tried again by itself`
	if got.Message != text {
		t.Errorf("message = %q, want %q", got.Message, text)
	}
}

func TestRepeatsAreCounted(t *testing.T) {
	server := podstatustest.Start(t)
	e := newEvents(t, server)
	deliver(t, e)
	for i := range 3 {
		e.Say(event(podstatus.RotationFailed))
		server.Quiet(i+1, always)
	}
	if diff := cmp.Diff([]string{"POST events", "PATCH events", "PATCH events"}, server.Requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if got := server.Events(); len(got) != 1 || got[0].Count != 3 {
		t.Errorf("events = %+v, want one, three times", got)
	}
}

// A pod with more events than the correlator lets through is not heard, and
// nobody else suffers from it.
func TestFloodOfOnePodIsBounded(t *testing.T) {
	server := podstatustest.Start(t)
	e := newEvents(t, server)
	deliver(t, e)
	for i := range 200 {
		e.Say(event(podstatus.RotationFailed))
		if i%50 == 49 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	other := event(podstatus.Rotated)
	other.Pod, other.PodUID = "api-1", older
	e.Say(other)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if events := server.Events(); len(events) == 2 && events[1].Reason == "MountRotationComplete" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("events = %+v, want those of both pods", server.Events())
		}
	}
	if n := len(server.Requests()); n > 40 {
		t.Errorf("%d requests for 200 equal events, want 26 or so", n)
	}
}

func TestEventsAreDroppedWhenFull(t *testing.T) {
	server := podstatustest.Start(t)
	e := newEvents(t, server) // which nobody runs
	begin := time.Now()
	for i := range podstatus.EventQueue + 7 {
		ev := event(podstatus.Rotated)
		ev.Pod = fmt.Sprintf("api-%d", i)
		e.Say(ev)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("Say took %v, want no waiting", took)
	}
	if n := e.Dropped(); n != 7 {
		t.Errorf("dropped = %d, want 7", n)
	}
	deliver(t, e)
	server.Quiet(podstatus.EventQueue, always)
	if n := len(server.Events()); n != podstatus.EventQueue {
		t.Errorf("events = %d, want %d", n, podstatus.EventQueue)
	}
}

func TestEventThatCannotBeWritten(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer *fault
		tries  int
	}{
		{"no answer", unavailable(), 3},
		{"not allowed", forbidden(), 1},
		{"namespace gone", terminating(), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := podstatustest.Start(t)
			e := newEvents(t, server)
			deliver(t, e)
			server.Break(func(*http) *fault { return test.answer })
			e.Say(event(podstatus.Rotated))
			if n := len(server.Quiet(test.tries, func() bool { return e.Dropped() == 1 })); n != test.tries {
				t.Errorf("%d tries, want %d", n, test.tries)
			}
			server.Break(nil)
			e.Say(event(podstatus.TTLMissed))
			server.Quiet(test.tries+1, func() bool { return len(server.Events()) == 1 })
		})
	}
}

// An event that was deleted is written anew by the next of its kind.
func TestEventThatIsGoneIsWrittenAnew(t *testing.T) {
	server := podstatustest.Start(t)
	e := newEvents(t, server)
	deliver(t, e)
	e.Say(event(podstatus.Rotated))
	server.Quiet(1, always)
	server.DropEvents()
	e.Say(event(podstatus.Rotated))
	if diff := cmp.Diff([]string{"POST events", "PATCH events", "POST events"}, server.Quiet(3, always)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// Nothing but names and words of closed lists gets into an event.
func TestEventIsChecked(t *testing.T) {
	server := podstatustest.Start(t)
	e := newEvents(t, server)
	bad := []func(*podstatus.Event){
		func(ev *podstatus.Event) { ev.Kind = 0 },
		func(ev *podstatus.Event) { ev.Kind = 99 },
		func(ev *podstatus.Event) { ev.Namespace = "a/b" },
		func(ev *podstatus.Event) { ev.Pod = "" },
		func(ev *podstatus.Event) { ev.PodUID = "" },
		func(ev *podstatus.Event) { ev.Volume = "a\x1b[2J" },
		func(ev *podstatus.Event) { ev.Reason = "password is hunter2" },
		func(ev *podstatus.Event) { ev.Reason = "%s" },
	}
	for _, change := range bad {
		ev := event(podstatus.RotationFailed)
		change(&ev)
		e.Say(ev)
	}
	if n := e.Dropped(); int(n) != len(bad) {
		t.Errorf("dropped = %d of %d bad events", n, len(bad))
	}
	deliver(t, e)
	if got := server.Quiet(0, always); len(got) > 0 {
		t.Errorf("requests = %q, want none", got)
	}
}

func TestEveryKindHasAText(t *testing.T) {
	reasons := map[string]bool{}
	for kind := podstatus.Rotated; ; kind++ {
		reason, severity, component, message, known := podstatus.Said(event(kind))
		if !known {
			break
		}
		reasons[reason] = true
		if severity == "" || component == "" || !strings.Contains(message, `"secrets"`) || strings.Contains(message, "%!") || len(message) > 300 {
			t.Errorf("%s = %q %q %q", reason, severity, component, message)
		}
	}
	if len(reasons) != 6 {
		t.Errorf("reasons = %v, want 6", reasons)
	}
}

func TestEventsConfigIsChecked(t *testing.T) {
	full := podstatus.EventsConfig{REST: podstatustest.Start(t).REST(), Node: "node-1", Logger: slog.New(slog.DiscardHandler)}
	for field, drop := range map[string]func(*podstatus.EventsConfig){
		"REST":   func(c *podstatus.EventsConfig) { c.REST = nil },
		"Node":   func(c *podstatus.EventsConfig) { c.Node = "" },
		"Logger": func(c *podstatus.EventsConfig) { c.Logger = nil },
	} {
		c := full
		drop(&c)
		if _, err := podstatus.NewEvents(c); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("NewEvents without %s = %v, want an error that names it", field, err)
		}
	}
}
