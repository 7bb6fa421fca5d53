package podstatus_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/driver/podstatus/podstatustest"
)

// hanging answers nothing that is about a namespace until it is over, and notes
// how many requests wait.
type hanging struct {
	namespace     string
	over          atomic.Bool
	waiting, most atomic.Int64
}

func (h *hanging) fault(r *http) *fault {
	if !strings.Contains(r.URL.Path, "/namespaces/"+h.namespace+"/") || h.over.Load() {
		return nil
	}
	h.most.Store(max(h.most.Load(), h.waiting.Add(1)))
	defer h.waiting.Add(-1)
	<-r.Context().Done()
	return unavailable()
}

// numbered is the status of one of many pods of a namespace.
func numbered(namespace string, i int) podstatus.Status {
	s := status("secrets", objects("password", "7")...)
	s.Namespace, s.Pod, s.PodUID = namespace, fmt.Sprintf("api-%d", i), fmt.Sprintf("%s-%s-%d", uid[:20], namespace, i)
	return s
}

// A webhook of one namespace that hangs costs the others a moment, once.
func TestSlowNamespaceHoldsUpNoOther(t *testing.T) {
	const quick = 100 * time.Millisecond
	w := newWorld(t)
	w.Hurry(quick)
	w.run()
	h := &hanging{namespace: "slow"}
	w.server.Break(h.fault)
	for i := range 20 {
		w.Set(numbered("slow", i))
	}
	w.server.Quiet(0, func() bool { return w.Parked() > 4 })
	for i := range 40 {
		begin := time.Now()
		w.Set(numbered("payments", i))
		w.server.Quiet(0, func() bool { return w.Pending() == 20 })
		if took := time.Since(begin); took > 2*time.Second {
			t.Fatalf("the status of another namespace took %v", took)
		}
	}
	if n := h.waiting.Load(); n != 1 {
		t.Errorf("%d requests of the slow namespace wait, want 1", n)
	}
	if n := h.most.Load(); n > 4 {
		t.Errorf("%d requests of the slow namespace waited at once, want no more than there are workers", n)
	}
}

// A second slow namespace waits for the first, and not the others for both; and
// what recovers is written whole.
func TestSlowNamespaceThatRecovers(t *testing.T) {
	w := newWorld(t)
	w.Hurry(50 * time.Millisecond)
	w.run()
	h := &hanging{namespace: "slow"}
	w.server.Break(func(r *http) *fault {
		if h.over.Load() {
			return nil
		}
		select { // longer than the others wait, and then well
		case <-time.After(120 * time.Millisecond):
		case <-r.Context().Done():
		}
		return nil
	})
	for i := range 6 {
		w.Set(numbered("slow", i))
		w.Set(numbered("payments", i))
	}
	w.server.Quiet(0, func() bool { return w.Parked() > 0 })
	h.over.Store(true)
	w.server.Quiet(0, w.written)
	if n := w.Parked(); n != 0 || w.server.Objects() != 12 {
		t.Errorf("%d parked and %d objects, want none and 12", n, w.server.Objects())
	}
	for _, namespace := range []string{"slow", "payments"} {
		changed := numbered(namespace, 0)
		changed.Objects = objects("password", "8")
		w.Set(changed)
		w.server.Quiet(0, w.written)
		if w.Slow(namespace) {
			t.Errorf("%s counts as slow after a quick write", namespace)
		}
	}
	for i := range 6 {
		w.Forget(numbered("slow", i).PodUID, "secrets")
		w.Forget(numbered("payments", i).PodUID, "secrets")
	}
	if n := w.Held(); n != 0 {
		t.Errorf("the writer holds %d things, want none", n)
	}
}

// What takes longer than the others wait for is written nevertheless.
func TestSlowNamespaceIsServed(t *testing.T) {
	w := newWorld(t)
	w.Hurry(20 * time.Millisecond)
	w.run()
	w.server.SlowDown(60 * time.Millisecond)
	for i := range 5 {
		w.Set(numbered("slow", i))
	}
	w.server.Quiet(0, w.written)
	if n := w.server.Objects(); n != 5 {
		t.Errorf("objects = %d, want 5", n)
	}
}

func TestSlowNamespaceCostsTheOthersNoEvent(t *testing.T) {
	server := podstatustest.Start(t)
	e := newEvents(t, server)
	e.Hurry(50 * time.Millisecond)
	deliver(t, e)
	h := &hanging{namespace: "slow"}
	server.Break(h.fault)
	for i := range 100 {
		ev := event(podstatus.Rotated)
		ev.Namespace, ev.Pod = "slow", fmt.Sprintf("api-%d", i)
		e.Say(ev)
	}
	e.Say(event(podstatus.Rotated))
	begin := time.Now()
	server.Quiet(2, func() bool { return len(server.Events()) == 1 })
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("the event of another namespace took %v", took)
	}
	server.Quiet(2, func() bool { return e.Dropped() == 100 })
	if n := len(server.Requests()); n != 2 {
		t.Errorf("%d requests, want one of each namespace", n)
	}
}

// large is an object of a pod of ours that somebody made large.
func large(bytes int) *spcv1.SecretProviderClassPodStatus {
	o := stored(name, uid)
	o.Annotations = map[string]string{"note": strings.Repeat("x", bytes)}
	return o
}

func TestLargeObjectsAreNotKept(t *testing.T) {
	w := newWorld(t)
	w.server.Put(large(1 << 20))
	w.Set(status("secrets", objects("password", "7")...))
	w.run()
	w.expect(gotten, created, gotten, updated) // listed, not kept, read again
	w.Set(status("secrets", objects("password", "8")...))
	w.expect(gotten, created, gotten, updated, created, gotten, updated)
	if _, bytes := w.Kept(); bytes != 0 {
		t.Errorf("%d bytes are kept of others' annotations, want none", bytes)
	}
	if o := w.server.Object("payments", name); len(o.Annotations["note"]) != 1<<20 || w.versions() != "password=8" {
		t.Errorf("objects = %q and %d bytes of annotations, want version 8 and what others put there", w.versions(), len(o.Annotations["note"]))
	}
}

// The largest status that we write ourselves is kept, or each write would need
// three requests.
func TestOwnLargestObjectIsKept(t *testing.T) {
	w := running(t)
	var many []podstatus.Object
	for i := range 512 { // 64 KiB, which is all that the driver remembers of a volume
		many = append(many, podstatus.Object{ID: fmt.Sprintf("%0110d", i), Version: "0123456789abcdef"})
	}
	w.Set(status("secrets", many...))
	w.expect(gotten, created)
	if live, _ := w.Kept(); live != 1 {
		t.Error("the live object is not kept")
	}
}

// Whoever may write status objects somewhere can put our label on many large
// ones: that must not be what a start reads.
func TestListLargerThanMemoryIsNotRead(t *testing.T) {
	w := newWorld(t)
	for i := range 40 { // beyond the bound by more than sockets hold
		o := large(1 << 20)
		o.Name = fmt.Sprintf("planted-%d", i)
		w.server.Put(o)
	}
	w.Set(status("secrets", objects("password", "7")...))
	w.run()
	w.expect(gotten, created)
	if n := w.server.Unread(); n != 1 {
		t.Errorf("%d answers were left unread, want the list: it was read whole", n)
	}
	if w.log.count("list-too-large") != 1 {
		t.Errorf("the log does not say why the list was not read:\n%s", w.log.text.String())
	}
}

func TestListWithoutEndIsNotRead(t *testing.T) {
	w := newWorld(t)
	for i := range 12_000 {
		w.server.Put(stored(fmt.Sprintf("planted-%d", i), older))
	}
	w.Set(status("secrets", objects("password", "7")...))
	w.run()
	requests := w.server.Quiet(21, w.written)
	if len(requests) != 21 || requests[20] != created {
		t.Errorf("%d requests, the last %s, want 20 pages and a create", len(requests), requests[len(requests)-1])
	}
}
