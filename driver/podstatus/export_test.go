package podstatus

import (
	"time"

	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

// Held returns how many things of any kind the writer keeps.
func (w *Writer) Held() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.objects) + len(w.volumes) + len(w.troubles.count)
	for k := range w.objects {
		n += w.backoff.NumRequeues(k)
	}
	return n
}

// Requeues returns how often an object was put back.
func (w *Writer) Requeues(namespace, name string) int {
	return w.backoff.NumRequeues(objectKey{namespace, name})
}

// Merge opens merge and vetted to tests.
func Merge(volumes ...Status) spcv1.SecretProviderClassPodStatusStatus {
	byName := map[string]Status{}
	for _, s := range volumes {
		byName[s.Volume] = s.vetted()
	}
	return merge(byName)
}

// Check opens check to tests.
func (s Status) Check() error { return s.check() }

// EventQueue is eventQueue.
const EventQueue = eventQueue

// Said returns the text of an event.
func Said(ev Event) (reason, severity, component, message string, known bool) {
	s, known := said(ev)
	return s.reason, s.severity, s.component, s.message, known
}

// Hurry shortens what an attempt may take before its namespace counts as slow.
func (w *Writer) Hurry(quick time.Duration) { w.lane.quick = quick }

// Hurry shortens what an event may take.
func (e *Events) Hurry(limit time.Duration) { e.limit = limit }

// Kept returns how many live objects are kept, and the bytes of their
// annotations.
func (w *Writer) Kept() (live, annotations int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.objects {
		if e.live == nil {
			continue
		}
		live++
		for _, v := range e.live.Annotations {
			annotations += len(v)
		}
	}
	return live, annotations
}

// Parked returns how many objects wait for slow namespaces.
func (w *Writer) Parked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.lane.parked)
}

// Slow reports whether a namespace waits in the lane.
func (w *Writer) Slow(namespace string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, slow := w.lane.until[namespace]
	return slow
}
