package podstatus_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/driver/podstatus/podstatustest"
)

// Where the plugin may not list, a write that is not needed is found out.
func TestRestartWithoutListReadsEachObject(t *testing.T) {
	w := running(t)
	w.Set(status("secrets", objects("password", "7")...))
	w.expect(gotten, created)
	w.restart()
	w.server.Break(only("GET", "/"+statuses, forbidden()))
	w.Set(status("secrets", objects("password", "7")...))
	w.run()
	w.expect(gotten, created, gotten, created, gotten)
	if n := w.log.count("not read"); n != 1 {
		t.Errorf("%d lines about the list, want 1", n)
	}
}

func TestTwoVolumesOfOneClassShareAnObject(t *testing.T) {
	w := running(t)
	w.Set(status("b", objects("password", "7", "user", "1")...))
	w.expect(gotten, created)
	w.Set(status("a", objects("password", "6", "host", "3")...))
	w.expect(gotten, created, updated)
	if got, want := w.versions(), "host=3 password=6 user=1"; got != want {
		t.Errorf("objects = %q, want %q", got, want)
	}
	if got, want := w.server.Object("payments", name).Status.TargetPath, status("a").TargetPath; got != want {
		t.Errorf("targetPath = %q, want that of the first volume, %q", got, want)
	}
	w.Forget(uid, "a")
	w.expect(gotten, created, updated, updated)
	if got, want := w.versions(), "password=7 user=1"; got != want {
		t.Errorf("objects = %q, want %q", got, want)
	}
	w.Forget(uid, "b")
	w.Forget(uid, "b")
	w.expect(gotten, created, updated, updated)
	if n := w.Held(); n != 0 {
		t.Errorf("the writer holds %d things of a pod that is gone, want none", n)
	}
}

func TestForgottenVolumeIsNotWritten(t *testing.T) {
	w := newWorld(t)
	w.Set(status("secrets", objects("password", "7")...))
	w.Forget(uid, "secrets")
	w.run()
	w.expect(gotten)
	w.server.Break(func(r *http) *fault { return unavailable() })
	w.Set(status("secrets", objects("password", "7")...))
	w.server.Quiet(3, func() bool { return true })
	w.Forget(uid, "secrets")
	if n := w.Requeues("payments", name); n != 0 {
		t.Errorf("requeues = %d after Forget, want 0", n)
	}
	w.server.Break(nil)
	n := len(w.server.Quiet(3, w.written)) // one may have been on its way
	time.Sleep(100 * time.Millisecond)     // five times the longest wait
	if got := w.server.Requests(); len(got) > n || w.server.Objects() > 0 || w.Held() > 0 {
		t.Errorf("requests = %q after Forget with %d before it, %d objects, %d things held", got, n, w.server.Objects(), w.Held())
	}
}

// What comes of a write that was on its way is nobody's any more.
func TestVolumeForgottenDuringItsWrite(t *testing.T) {
	w := running(t)
	hold := make(chan struct{})
	w.server.Break(func(*http) *fault {
		<-hold
		return unavailable()
	})
	w.Set(status("secrets", objects("password", "7")...))
	w.server.Quiet(2, func() bool { return true })
	w.Forget(uid, "secrets")
	close(hold)
	time.Sleep(150 * time.Millisecond) // the answer, and seven times the longest wait
	if n := w.Held(); n != 0 || len(w.server.Requests()) != 2 {
		t.Errorf("%d things held and requests = %q, want nothing and no other try", n, w.server.Requests())
	}
}

func TestFieldsOfOthersStay(t *testing.T) {
	w := running(t)
	w.Set(status("secrets", objects("password", "7")...))
	w.expect(gotten, created)
	o := w.server.Object("payments", name)
	o.Labels["team"], o.Annotations = "payments", map[string]string{"note": "kept"}
	w.server.Put(o)
	w.Set(status("secrets", objects("password", "8")...))
	w.expect(gotten, created, updated, gotten, updated) // a conflict, read, written
	o = w.server.Object("payments", name)
	if o.Labels["team"] != "payments" || o.Annotations["note"] != "kept" || w.versions() != "password=8" {
		t.Errorf("object = %v %v %s, want the fields of others and version 8", o.Labels, o.Annotations, w.versions())
	}
}

func TestDeletedObjectIsMadeAgain(t *testing.T) {
	w := running(t)
	w.Set(status("secrets", objects("password", "7")...))
	w.expect(gotten, created)
	w.server.Delete("payments", name)
	w.Set(status("secrets", objects("password", "8")...))
	w.expect(gotten, created, updated, created)
	if got, want := w.versions(), "password=8"; got != want {
		t.Errorf("objects = %q, want %q", got, want)
	}
}

// stored is an object as the API server may have it.
func stored(name, podUID string) *spcv1.SecretProviderClassPodStatus {
	return &spcv1.SecretProviderClassPodStatus{ObjectMeta: metav1.ObjectMeta{
		Namespace: "payments", Name: name, Labels: map[string]string{spcv1.InternalNodeLabel: "node-1"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "api-0", UID: types.UID(podUID)}},
	}}
}

func TestObjectOfAnEarlierPodIsReplaced(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*spcv1.SecretProviderClassPodStatus)
	}{
		{"of a pod of the same name", func(*spcv1.SecretProviderClassPodStatus) {}},
		{"of another node", func(o *spcv1.SecretProviderClassPodStatus) { o.Labels[spcv1.InternalNodeLabel] = "node-2" }},
		{"without labels", func(o *spcv1.SecretProviderClassPodStatus) { o.Labels = nil }},
		{"of nobody", func(o *spcv1.SecretProviderClassPodStatus) { o.OwnerReferences = nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := running(t)
			before := stored(name, older)
			test.change(before)
			w.server.Put(before)
			was := w.server.Object("payments", name).UID
			w.Set(status("secrets", objects("password", "7")...))
			w.expect(gotten, created, gotten, "GET pods", deleted, created)
			o := w.server.Object("payments", name)
			if o == nil || o.UID == was || len(o.OwnerReferences) != 1 || o.OwnerReferences[0].UID != uid || w.versions() != "password=7" {
				t.Errorf("object = %v, want a new one, of the new pod alone", o)
			}
		})
	}
}

func TestObjectOfALaterPodIsLeftAlone(t *testing.T) {
	w := running(t)
	w.server.Put(stored(name, older)) // which is the later one here
	w.server.AddPod("payments", "api-0", older)
	w.Set(status("secrets", objects("password", "7")...))
	w.expect(gotten, created, gotten, "GET pods")
	if o := w.server.Object("payments", name); o.OwnerReferences[0].UID != older || w.Held() != 0 {
		t.Errorf("owner = %s and %d things held, want the pod that has the name and nothing", o.OwnerReferences[0].UID, w.Held())
	}
}

// Only what was read is deleted: somebody may change it in between.
func TestObjectThatChangesIsReadAgainBeforeItIsReplaced(t *testing.T) {
	w := running(t)
	w.server.Put(stored(name, older))
	var once sync.Once
	w.server.Break(func(r *http) *fault {
		if strings.Contains(r.URL.Path, "/pods/") {
			once.Do(func() { w.server.Put(stored(name, older)) })
		}
		return nil
	})
	w.Set(status("secrets", objects("password", "7")...))
	w.expect(gotten, created, gotten, "GET pods", deleted, gotten, "GET pods", deleted, created)
	if got, want := w.versions(), "password=7"; got != want {
		t.Errorf("objects = %q, want %q", got, want)
	}
}

func TestObjectThatIsBeingDeletedIsWaitedFor(t *testing.T) {
	w := running(t)
	o := stored(name, older)
	o.Finalizers = []string{"example.com/slow"}
	w.server.Put(o)
	w.Set(status("secrets", objects("password", "7")...))
	w.server.Quiet(12, func() bool { return w.Pending() == 1 })
	w.server.Delete("payments", name) // the finalizer is done
	w.server.Quiet(13, w.written)
	if got, want := w.versions(), "password=7"; got != want {
		t.Errorf("objects = %q, want %q", got, want)
	}
	if n := strings.Count(strings.Join(w.server.Requests(), " "), deleted); n != 1 {
		t.Errorf("%d deletions, want 1", n)
	}
}

// A policy lets each plugin delete what is of its own node: a StatefulSet's pod that
// came from another node waits for the garbage collector, and not for people.
func TestObjectOfAnotherNodeThatMayNotBeDeletedIsWaitedFor(t *testing.T) {
	for node, want := range map[string]string{"node-2": "object-being-deleted", "node-1": "forbidden"} {
		t.Run(node, func(t *testing.T) {
			w := running(t)
			o := stored(name, older)
			o.Labels[spcv1.InternalNodeLabel] = node
			w.server.Put(o)
			w.server.Break(only("DELETE", "/"+name, forbidden()))
			w.Set(status("secrets", objects("password", "7")...))
			w.server.Quiet(6, func() bool { return w.Pending() == 1 })
			if n := w.log.count("trouble=" + want); n != 1 {
				t.Errorf("%d lines say trouble=%s, want 1", n, want)
			}
			w.server.Delete("payments", name) // the collector comes
			if node == "node-1" {
				w.server.Break(nil) // and somebody mends the role
			}
			w.server.Quiet(7, w.written)
			if got, want := w.versions(), "password=7"; got != want {
				t.Errorf("objects = %q, want %q", got, want)
			}
		})
	}
}

// A pod of a StatefulSet comes back to the node before the old one's volumes
// are unmounted: what is forgotten then is not the new one's.
func TestNewPodOfTheSameNameOnTheSameNode(t *testing.T) {
	w := running(t)
	before := status("secrets", objects("password", "7")...)
	before.PodUID = older
	w.server.AddPod("payments", "api-0", older)
	w.Set(before)
	w.expect(gotten, created)
	w.server.AddPod("payments", "api-0", uid)
	w.Set(status("secrets", objects("password", "7")...))
	w.Forget(older, "secrets")
	w.expect(gotten, created, created, gotten, "GET pods", deleted, created)
	if o := w.server.Object("payments", name); o == nil || o.OwnerReferences[0].UID != uid {
		t.Errorf("object = %v, want that of the new pod", o)
	}
	w.Forget(uid, "secrets")
	if n := w.Held(); n != 0 {
		t.Errorf("the writer holds %d things of pods that are gone, want none", n)
	}
}

func TestRunLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorld(t)
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.Run(ctx)
		}()
		w.Set(status("secrets", objects("password", fmt.Sprint(len(w.server.Requests())))...))
		w.server.Quiet(1, w.written)
		cancel()
		<-done
	}
	if w.versions() == "none" {
		t.Error("nothing was written")
	}
	own := func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return bytes.Contains(stacks, []byte("workqueue")) || bytes.Contains(stacks, []byte("podstatus.(*Writer)"))
	}
	for deadline := time.Now().Add(5 * time.Second); own(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("goroutines = %d, %d before, some of them of the writer", runtime.NumGoroutine(), before)
		}
	}
}

func TestSetDoesNotWait(t *testing.T) {
	w := running(t)
	w.server.SlowDown(200 * time.Millisecond)
	var took []time.Duration
	for i := range 1000 {
		s := status("secrets", objects("password", fmt.Sprint(i))...)
		s.Pod = fmt.Sprintf("api-%d", i%100)
		s.PodUID = fmt.Sprintf("%s-%d", uid[:30], i%100)
		begin := time.Now()
		w.Set(s)
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	t.Logf("Set: median %v, 99th of 100 %v", took[len(took)/2], took[len(took)*99/100])
	if median := took[len(took)/2]; median > time.Millisecond {
		t.Errorf("Set took %v in the median, want microseconds", median)
	}
	if n := w.server.MostAtOnce(); n > 4 {
		t.Errorf("%d requests at once, want 4 at most", n)
	}
}

func TestWriterConfigIsChecked(t *testing.T) {
	full := podstatus.WriterConfig{REST: podstatustest.Start(t).REST(), Node: "node-1", Logger: slog.New(slog.DiscardHandler)}
	for field, drop := range map[string]func(*podstatus.WriterConfig){
		"REST":   func(c *podstatus.WriterConfig) { c.REST = nil },
		"Node":   func(c *podstatus.WriterConfig) { c.Node = "" },
		"Logger": func(c *podstatus.WriterConfig) { c.Logger = nil },
	} {
		c := full
		drop(&c)
		if _, err := podstatus.NewWriter(c); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("NewWriter without %s = %v, want an error that names it", field, err)
		}
	}
}
