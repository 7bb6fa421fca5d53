package podstatus_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/driver/podstatus/podstatustest"
)

const (
	statuses = "secretproviderclasspodstatuses"
	created  = "POST " + statuses
	gotten   = "GET " + statuses
	updated  = "PUT " + statuses
	deleted  = "DELETE " + statuses
	uid      = "11111111-1111-4111-8111-111111111111"
	older    = "00000000-0000-4000-8000-000000000000"
	name     = "api-0-payments-db"
)

// log takes what a writer logs.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

// world is a writer and its API server.
type world struct {
	*podstatus.Writer
	t      *testing.T
	server *podstatustest.Server
	log    *log
	stop   context.CancelFunc
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, server: podstatustest.Start(t)}
	w.server.AddPod("payments", "api-0", uid)
	w.restart()
	return w
}

// restart puts a new writer in place of the one there was. It does not run.
func (w *world) restart() {
	w.t.Helper()
	if w.stop != nil {
		w.stop()
	}
	w.log = &log{}
	var err error
	w.Writer, err = podstatus.NewWriter(podstatus.WriterConfig{
		REST: w.server.REST(), Node: "node-1", Logger: slog.New(slog.NewTextHandler(w.log, nil)),
		FirstRetry: time.Millisecond, LongestRetry: 20 * time.Millisecond,
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// run starts the writer, and ends it with the test at the latest.
func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	w.t.Cleanup(w.stop)
}

// running is a world whose writer has read what there is.
func running(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.run()
	w.server.Quiet(1, w.written)
	return w
}

func (w *world) written() bool { return w.Pending() == 0 }

// expect waits for the writer to be done, and compares all requests.
func (w *world) expect(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.server.Quiet(len(want), w.written)); diff != "" {
		w.t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func status(volume string, objects ...podstatus.Object) podstatus.Status {
	return podstatus.Status{
		Namespace: "payments", Pod: "api-0", PodUID: uid, Class: "db", Volume: volume,
		TargetPath: "/var/lib/kubelet/pods/" + uid + "/volumes/kubernetes.io~csi/" + volume + "/mount", Objects: objects,
	}
}

func objects(pairs ...string) []podstatus.Object {
	var out []podstatus.Object
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, podstatus.Object{ID: pairs[i], Version: pairs[i+1]})
	}
	return out
}

// holdBack has all requests wait for their answer until answer is called.
func (w *world) holdBack() (answer func()) {
	hold := make(chan struct{})
	w.server.Break(func(*http) *fault {
		<-hold
		return nil
	})
	return func() { close(hold) }
}

// versions are the objects of the stored status, "id=version" each.
func (w *world) versions() string {
	w.t.Helper()
	o := w.server.Object("payments", name)
	if o == nil {
		return "none"
	}
	var words []string
	for _, v := range o.Status.Objects {
		words = append(words, v.ID+"="+v.Version)
	}
	return strings.Join(words, " ")
}

func TestFirstStatusIsOneCreate(t *testing.T) {
	w := running(t)
	w.Set(status("secrets", objects("user", "2", "password", "7")...))
	w.expect(gotten, created)
	if got, want := w.versions(), "password=7 user=2"; got != want {
		t.Errorf("objects = %q, want %q", got, want)
	}
}

func TestUnchangedStatusIsNotWritten(t *testing.T) {
	w := running(t)
	for range 5 {
		w.Set(status("secrets", objects("password", "7")...))
		w.expect(gotten, created)
	}
}

func TestChangedVersionsAreOneUpdate(t *testing.T) {
	w := running(t)
	w.Set(status("secrets", objects("password", "7")...))
	w.expect(gotten, created)
	w.Set(status("secrets", objects("password", "8")...))
	w.expect(gotten, created, updated)
	if got, want := w.versions(), "password=8"; got != want {
		t.Errorf("objects = %q, want %q", got, want)
	}
}

// There and back before anybody looked is no change.
func TestRevertedStatusIsNotWritten(t *testing.T) {
	w := newWorld(t)
	w.Set(status("secrets", objects("password", "7")...))
	w.run()
	w.expect(gotten, created)
	answer := w.holdBack()
	w.Set(status("other", objects("password", "7")...)) // sorts first, takes the target path
	w.server.Quiet(3, func() bool { return true })
	w.Set(status("secrets", objects("password", "8")...))
	w.Set(status("secrets", objects("password", "7")...))
	answer()
	w.expect(gotten, created, updated)
}

func TestManyChangesAreOneWriteWhileOneWaits(t *testing.T) {
	w := running(t)
	answer := w.holdBack()
	w.Set(status("secrets", objects("password", "0")...))
	w.server.Quiet(2, func() bool { return true }) // the create is on its way
	for i := range 100 {
		w.Set(status("secrets", objects("password", fmt.Sprint(i+1))...))
	}
	answer()
	w.expect(gotten, created, updated)
	if got, want := w.versions(), "password=100"; got != want {
		t.Errorf("objects = %q, want %q", got, want)
	}
}

func TestRestartWritesNothingAgain(t *testing.T) {
	w := running(t)
	w.Set(status("secrets", objects("password", "7")...))
	w.expect(gotten, created)
	w.restart()
	w.Set(status("secrets", objects("password", "7")...))
	w.run()
	w.expect(gotten, created, gotten)
}

// All volumes of a full node at once, as after a restart: one list, no write.
func TestRestartOfAFullNodeIsOneRequest(t *testing.T) {
	w := running(t)
	const pods = 500
	for i := range pods {
		w.Set(numbered("payments", i))
	}
	w.server.Quiet(pods+1, w.written)
	before := len(w.server.Requests())
	w.restart()
	for i := range pods {
		w.Set(numbered("payments", i))
	}
	w.run()
	if diff := cmp.Diff([]string{gotten}, w.server.Quiet(before+1, w.written)[before:]); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// More objects than one page holds, most of them of others.
func TestRestartReadsInPages(t *testing.T) {
	w := newWorld(t)
	for i := range 1200 {
		o := stored(fmt.Sprintf("pod-%04d-payments-db", i), older)
		if i%2 == 1 {
			o.Labels[spcv1.InternalNodeLabel] = "node-2"
		}
		w.server.Put(o)
	}
	for _, i := range []int{0, 1198} {
		o := stored(fmt.Sprintf("pod-%04d-payments-db", i), uid)
		o.OwnerReferences[0].Name = fmt.Sprintf("pod-%04d", i)
		s := status("secrets")
		s.Pod = o.OwnerReferences[0].Name
		o.Status = podstatus.Merge(s)
		w.server.Put(o)
		w.Set(s)
	}
	w.run()
	w.expect(gotten, gotten)
}
