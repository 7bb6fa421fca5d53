package driver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/driver/podstatus/podstatustest"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// told is a node whose cluster is an API server.
type told struct {
	*node
	server *podstatustest.Server
	writer *podstatus.Writer
	events *podstatus.Events
	start  func() // of writer and events; Recover comes before it
	stop   func()
	again  func()

	stateDir string
}

const (
	statusCreated = "POST secretproviderclasspodstatuses"
	statusListed  = "GET secretproviderclasspodstatuses"
	statusUpdated = "PUT secretproviderclasspodstatuses"
)

func newTold(t *testing.T, change ...func(*setup)) *told {
	t.Helper()
	w := &told{server: podstatustest.Start(t), stop: func() {}, stateDir: t.TempDir()}
	t.Cleanup(func() { w.stop() })
	change = append(change, func(s *setup) {
		s.stateDir = w.stateDir
		s.configure = func(c *driver.Config) { w.tell(t, c) }
	})
	w.node, w.again = restartable(t, change...)
	w.start()
	w.server.Quiet(1, func() bool { return true })
	return w
}

// restart starts a new driver with a new writer.
func (w *told) restart() {
	w.t.Helper()
	w.stop()
	w.records.Flush()
	w.again()
	w.start()
}

// tell gives a driver its writer and its events.
func (w *told) tell(t testing.TB, c *driver.Config) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	var err error
	if w.writer, err = podstatus.NewWriter(podstatus.WriterConfig{REST: w.server.REST(), Node: c.Node, Logger: logger}); err != nil {
		t.Fatal(err)
	}
	events, err := podstatus.NewEvents(podstatus.EventsConfig{REST: w.server.REST(), Node: c.Node, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	w.events = events
	c.Statuses, c.Events = w.writer, events
	writer := w.writer
	w.start = func() {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { writer.Run(ctx) })
		running.Go(func() { events.Run(ctx) })
		w.stop = func() {
			cancel()
			running.Wait()
		}
	}
}

// statuses are the requests about status objects, once nothing is pending.
func (w *told) statuses(least int) []string {
	w.t.Helper()
	var of []string
	w.server.Quiet(0, func() bool {
		of = slices.DeleteFunc(w.server.Requests(), func(r string) bool { return strings.HasSuffix(r, " events") })
		return len(of) >= least && w.writer.Pending() == 0
	})
	return of
}

func (w *told) expectStatuses(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.statuses(len(want))); diff != "" {
		w.t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// expectToldEvents compares reasons and counts of all events, in order.
func (w *told) expectToldEvents(want ...string) {
	w.t.Helper()
	var got []string
	for range 500 {
		got = nil
		for _, e := range w.server.Events() {
			got = append(got, e.Reason)
			if e.InvolvedObject.Name != "api-0" || e.InvolvedObject.UID != apiUID || e.Namespace != "payments" {
				w.t.Errorf("event on %+v, want the pod", e.InvolvedObject)
			}
			if strings.Contains(e.Message, canary) || strings.Contains(e.Message, "provider says") {
				w.t.Errorf("event %q repeats what a provider said", e.Message)
			}
		}
		if slices.Equal(got, want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Errorf("events = %q, want %q", got, want)
}

// versioned is new content, of that version.
func versioned(version string) providertest.Handler {
	r := providertest.Response(newContent())
	for _, v := range r.GetObjectVersion() {
		v.Version = version
	}
	return providertest.Reply(r)
}

func TestStatusFollowsTheVolume(t *testing.T) {
	w := newTold(t, func(s *setup) {
		s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), providertest.Files(secretFiles()), versioned("v2"))
	})
	w.mustPublish(apiPod())
	w.expectStatuses(statusListed, statusCreated)
	o := w.server.Object("payments", "api-0-payments-db")
	if o.Status.TargetPath != w.target(apiPod()) || len(o.Status.Objects) != 2 || !o.Status.Mounted {
		t.Errorf("status = %+v, want target %s and two objects", o.Status, w.target(apiPod()))
	}
	for range 5 { // not due
		w.mustPublish(apiPod())
	}
	w.mustLater(apiPod(), 2*refreshInterval) // due, and unchanged
	w.expectStatuses(statusListed, statusCreated)
	w.expectToldEvents()
	w.mustLater(apiPod(), 2*refreshInterval)
	w.expectContent(apiPod(), newContent())
	w.expectStatuses(statusListed, statusCreated, statusUpdated)
	w.expectToldEvents("MountRotationComplete")
	if next := w.server.Object("payments", "api-0-payments-db"); cmp.Equal(o.Status.Objects, next.Status.Objects) {
		t.Errorf("objects = %v after a rotation, as before", next.Status.Objects)
	}
	w.restart()
	w.server.Quiet(1, func() bool { return w.writer.Pending() == 0 })
	w.expectStatuses(statusListed, statusCreated, statusUpdated, statusListed)
	w.mustUnpublish(apiPod())
	w.expectStatuses(statusListed, statusCreated, statusUpdated, statusListed)
	if n := w.gauge("portcullis_status_pending"); n != 0 {
		t.Errorf("portcullis_status_pending = %d, want 0", n)
	}
}

func TestRevokedVolumeHasNoObjects(t *testing.T) {
	w := newTold(t)
	w.mustPublish(apiPod())
	w.expectStatuses(statusListed, statusCreated)
	w.deny()
	w.mustLater(apiPod(), 2*refreshInterval)
	expectStatus(t, w.later(apiPod(), confirmAfter), codes.Unavailable, "revoked")
	w.expectStatuses(statusListed, statusCreated, statusUpdated)
	if got := w.server.Object("payments", "api-0-payments-db").Status.Objects; len(got) > 0 {
		t.Errorf("objects = %v, want none", got)
	}
	w.expectToldEvents() // kubelet says it
	w.restart()
	w.allow()
	w.mustLater(apiPod(), 10*time.Minute)
	w.expectContent(apiPod(), secretFiles())
	w.expectStatuses(statusListed, statusCreated, statusUpdated, statusListed, statusUpdated)
}

// A volume that goes while its status waits leaves nothing to be written.
func TestUnpublishForgetsTheStatus(t *testing.T) {
	w := newTold(t)
	w.server.SlowDown(time.Hour)
	w.mustPublish(apiPod())
	if n := w.gauge("portcullis_status_pending"); n != 1 {
		t.Errorf("portcullis_status_pending = %d, want 1", n)
	}
	w.mustUnpublish(apiPod())
	if n := w.gauge("portcullis_status_pending"); n != 0 {
		t.Errorf("portcullis_status_pending after unpublish = %d, want 0", n)
	}
}

func TestFailedRefreshIsToldToThePod(t *testing.T) {
	w := newTold(t, func(s *setup) {
		s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), providertest.Fail(codes.Internal, "provider says "+canary))
		s.policy = []policiestest.Option{policiestest.WithConfig("obligations: {ttl_seconds: 100}")}
	})
	w.mustPublish(apiPod())
	w.mustLater(apiPod(), 90*time.Second)
	w.expectToldEvents("MountRotationFailed")
	w.mustLater(apiPod(), time.Minute)
	w.expectToldEvents("MountRotationFailed", "SecretTTLMissed")
	w.mustLater(apiPod(), time.Minute)
	for range 500 {
		if w.server.Events()[0].Count == 3 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if e := w.server.Events()[0]; e.Count != 3 || !strings.Contains(e.Message, "ProviderError") {
		t.Errorf("event = %d times %q, want three times ProviderError", e.Count, e.Message)
	}
	w.expectStatuses(statusListed, statusCreated)
}

func TestLegacyVolumeIsToldOnce(t *testing.T) {
	w := newTold(t)
	w.legacyVolume(apiPod())
	for range 3 {
		w.mustPublish(apiPod())
	}
	w.expectToldEvents("RestartToProtect")
	w.expectStatuses(statusListed)
}

// TestP11ClassWithSecretObjectsMountsWithAnEvent: nothing is synced yet.
func TestP11ClassWithSecretObjectsMountsWithAnEvent(t *testing.T) {
	w := newTold(t)
	w.write("objects.yaml", objects+"  secretObjects: [{secretName: s, type: Opaque, data: [{objectName: password, key: p}]}]\n")
	w.mustPublish(apiPod())
	w.expectContent(apiPod(), secretFiles())
	w.expectToldEvents("SecretObjectsNotSynced")
}

func TestFailedUnmountIsToldToThePod(t *testing.T) {
	w := newTold(t)
	w.mustPublish(apiPod())
	place := filepath.Join(w.root, "pods", apiUID)
	w.moveAway(place)
	if err := os.Symlink(place+".away", place); err != nil {
		t.Fatal(err)
	}
	expectStatus(t, w.unpublish(apiPod()), codes.Unavailable)
	w.expectToldEvents("UnmountFailed")
	if err := errors.Join(os.Remove(place), os.Rename(place+".away", place)); err != nil {
		t.Fatal(err)
	}
	w.mustUnpublish(apiPod())
}

// An API server that answers nothing holds up neither a mount nor its end.
func TestMountDoesNotWaitForTheCluster(t *testing.T) {
	w := newTold(t)
	w.server.SlowDown(time.Hour)
	begin := time.Now()
	for range 20 {
		w.mustPublish(apiPod())
		w.mustUnpublish(apiPod())
		w.add(apiPod())
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("20 mounts took %v with an API server that does not answer", took)
	}
	if n := w.server.Objects(); n != 0 {
		t.Errorf("objects = %d, want none: nothing was answered", n)
	}
}

// TestP8NothingWaitsForAnAPIServerThatNeverAnswers: publish, republish, rotation,
// failure, revocation, the way back and the end, while statuses and events of
// this and many other pods wait for an answer.
func TestP8NothingWaitsForAnAPIServerThatNeverAnswers(t *testing.T) {
	w := newTold(t, func(s *setup) {
		s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), versioned("v2"),
			providertest.Fail(codes.Internal, "provider says "+canary), versioned("v3"))
	})
	w.server.SlowDown(time.Hour)
	for i := range 1000 { // fills the workers, the queue of events, and then some
		name := fmt.Sprintf("other-%d", i)
		w.writer.Set(podstatus.Status{Namespace: "other", Pod: name, PodUID: name, Class: "db", Volume: "secrets"})
		w.events.Say(podstatus.Event{Kind: podstatus.Rotated, Namespace: "other", Pod: name, PodUID: name, Volume: "secrets"})
	}
	steps := []struct {
		name string
		do   func()
	}{
		{"publish", func() { w.mustPublish(apiPod()) }},
		{"republish that is not due", func() { w.mustPublish(apiPod()) }},
		{"rotation", func() { w.mustLater(apiPod(), 2*refreshInterval); w.expectContent(apiPod(), newContent()) }},
		{"refresh that fails", func() { w.mustLater(apiPod(), 2*refreshInterval); w.expectContent(apiPod(), newContent()) }},
		{"denial", func() { w.deny(); w.mustLater(apiPod(), 2*refreshInterval) }},
		{"revocation", func() { expectStatus(t, w.later(apiPod(), confirmAfter), codes.Unavailable, "revoked") }},
		{"way back", func() { w.allow(); w.mustLater(apiPod(), 10*time.Minute); w.expectContent(apiPod(), newContent()) }},
		{"unpublish", func() { w.mustUnpublish(apiPod()) }},
	}
	for _, step := range steps {
		begin := time.Now()
		step.do()
		if took := time.Since(begin); took > 3*time.Second { // one answer would be five at least
			t.Errorf("%s took %v with an API server that never answers", step.name, took)
		}
	}
	if got := w.writer.Pending(); got != 1000 {
		t.Errorf("pending = %d, want the 1000 others and nothing of a volume that is gone", got)
	}
}

// A status that was lost with volumes.db is neither emptied nor written again.
func TestStatusOfALostRecord(t *testing.T) {
	w := newTold(t)
	w.mustPublish(apiPod())
	w.expectStatuses(statusListed, statusCreated)
	before := w.server.Object("payments", "api-0-payments-db")
	w.stop()
	w.records.Flush()
	if err := os.Remove(filepath.Join(w.stateDir, "volumes.db")); err != nil {
		t.Fatal(err)
	}
	w.again()
	w.start()
	w.expectStatuses(statusListed, statusCreated, statusListed)
	w.mustLater(apiPod(), 2*refreshInterval)
	w.expectStatuses(statusListed, statusCreated, statusListed, statusCreated, statusListed) // it is there, and as it should be
	if diff := cmp.Diff(before, w.server.Object("payments", "api-0-payments-db")); diff != "" {
		t.Errorf("object after volumes.db was lost (-want +got):\n%s", diff)
	}
}

// BenchmarkPublishBesideTheCluster measures a publish whose status is written
// nowhere, and to an API server that takes 200 ms an answer.
func BenchmarkPublishBesideTheCluster(b *testing.B) {
	for name, latency := range map[string]time.Duration{"none": -1, "api-200ms": 200 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			w := &told{server: podstatustest.Start(b)}
			var change []func(*setup)
			if latency >= 0 {
				w.server.SlowDown(latency)
				change = append(change, func(s *setup) {
					s.configure = func(c *driver.Config) { w.tell(b, c) }
				})
			}
			w.node = newNode(b, change...)
			if latency >= 0 {
				w.start()
				b.Cleanup(w.stop)
			}
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				w.add(apiPod())
				b.StartTimer()
				begin := time.Now()
				w.mustPublish(apiPod())
				took = append(took, time.Since(begin))
				b.StopTimer()
				w.mustUnpublish(apiPod())
				b.StartTimer()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}
