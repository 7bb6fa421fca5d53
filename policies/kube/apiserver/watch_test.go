package apiserver_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

const namespacesPath, driversPath = "/api/v1/namespaces", "/apis/storage.k8s.io/v1/csidrivers"

func TestCachesAnswerWithoutAsking(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	for object, read := range reads() {
		if err := read(t.Context(), f); err != nil {
			t.Errorf("%s = %v, want no error", object, err)
		}
	}
	for path, want := range map[string]int{podPath: 0, namespacePath: 0, driverPath: 0, accountPath: 1, classPath: 1, podsPath: 1, namespacesPath: 1, driversPath: 1} {
		if got := f.api.count(path); got != want {
			t.Errorf("%s was read %d times, want %d", path, got, want)
		}
	}
}

// A cache and a live read must not differ, or two gates would decide on
// different facts.
func TestCachedIsWhatIsReadLive(t *testing.T) {
	f := newFixture(t)
	type facts struct{ Pod, Namespace, Driver any }
	all := func() facts {
		pod, err1 := f.Pod(t.Context(), "payments", "api-0", podUID)
		namespace, err2 := f.Namespace(t.Context(), "payments")
		driver, err3 := f.CSIDriver(t.Context())
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		pod.TypeMeta, driver.TypeMeta = metav1.TypeMeta{}, metav1.TypeMeta{}
		return facts{pod, namespace, driver}
	}
	live := all()
	f.run(t)
	asked := f.api.count(podPath)
	cached := all()
	if f.api.count(podPath) != asked {
		t.Fatal("the cache was not used")
	}
	if diff := cmp.Diff(live, cached); diff != "" {
		t.Errorf("what is cached differs (-live +cached):\n%s", diff)
	}
}

func TestCachedObjectsAreTheCallersOwn(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				pod, err1 := f.Pod(t.Context(), "payments", "api-0", podUID)
				namespace, err2 := f.Namespace(t.Context(), "payments")
				driver, err3 := f.CSIDriver(t.Context())
				if err := errors.Join(err1, err2, err3); err != nil {
					t.Error(err)
					return
				}
				if pod.Labels["team"] != "payments" || namespace.Labels["team"] != "payments" || !*driver.Spec.PodInfoOnMount ||
					pod.Spec.Volumes[0].CSI.VolumeAttributes["secretProviderClass"] != "db" {
					t.Error("an object was changed through another copy")
					return
				}
				pod.Labels["team"], namespace.Labels["team"], *driver.Spec.PodInfoOnMount = "x", "x", false
				pod.Spec.Volumes[0].CSI.VolumeAttributes["secretProviderClass"] = "x"
			}
		})
	}
	wg.Wait()
}

// A StatefulSet's new pod has the name of the one before. Kubelet may know it
// before the watch tells, or ask about the one before for the last time.
func TestPodOfAnotherUID(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	if _, err := f.Pod(t.Context(), "payments", "api-0", podUID); err != nil || f.api.count(podPath) != 0 {
		t.Fatalf("Pod() = %v, want it from the cache", err)
	}
	f.api.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != podPath {
			return false
		}
		restarted := pod()
		restarted.UID, restarted.ResourceVersion = otherUID, "99"
		writeJSON(w, restarted)
		return true
	})
	for _, claimed := range []string{otherUID, "", strings.ToUpper(podUID) + "x"} {
		if got, err := f.Pod(t.Context(), "payments", "api-0", claimed); err != nil || got.UID != otherUID {
			t.Errorf("Pod(claimed %q) = %v, %v, want what the API server has now", claimed, got, err)
		}
	}
	if got, err := f.Pod(t.Context(), "payments", "api-0", podUID); err != nil || got.UID != podUID {
		t.Errorf("Pod(claimed %q) = %v, %v, want that of the cache", podUID, got, err)
	}
}

func TestChangesAreSeen(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	label := func(want string) func() bool {
		return func() bool {
			n, err := f.Namespace(t.Context(), "payments")
			return err == nil && n.Labels["team"] == want
		}
	}
	changed := namespace()
	changed.Labels["team"] = "shop"
	f.api.put(namespacePath, changed)
	eventually(t, "the namespace has its new label", label("shop"))

	f.api.breakWatches()
	changed.Labels["team"] = "stock"
	f.api.put(namespacePath, changed)
	eventually(t, "the namespace has the label it got while nobody watched", label("stock"))
	if f.api.count(namespacePath) != 0 {
		t.Error("the namespace was read live, want it from the watch")
	}

	f.api.remove(podPath)
	eventually(t, "the pod is gone", func() bool {
		_, err := f.Pod(t.Context(), "payments", "api-0", podUID)
		return errors.Is(err, kube.ErrNotFound)
	})
	off := csiDriver()
	off.Spec.PodInfoOnMount = new(false)
	f.api.put(driverPath, off)
	eventually(t, "the CSIDriver names no pods", func() bool {
		d, err := f.CSIDriver(t.Context())
		return err == nil && !*d.Spec.PodInfoOnMount
	})
}

// A watch that says nothing may have lost the API server without knowing.
func TestQuietWatchIsNotBelieved(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	reading := func() (pods, namespaces, drivers int) {
		for _, read := range []string{"pod", "namespace", "CSIDriver"} {
			if err := reads()[read](t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		return f.api.count(podPath), f.api.count(namespacePath), f.api.count(driverPath)
	}
	f.clock.pass(3*time.Minute - 1)
	if p, n, d := reading(); p+n+d != 0 {
		t.Errorf("live reads before three minutes = %d, %d, %d, want none", p, n, d)
	}
	f.clock.pass(1)
	if p, n, d := reading(); p != 1 || n != 1 || d != 1 {
		t.Errorf("live reads after three minutes = %d, %d, %d, want one each", p, n, d)
	}
	// A bookmark says that there is nothing new.
	f.api.mu.Lock()
	f.api.tell(namespacePath, "BOOKMARK", map[string]any{"kind": "Namespace", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": "50"}})
	f.api.mu.Unlock()
	eventually(t, "the namespace comes from the cache again", func() bool {
		_, before, _ := reading()
		_, after, _ := reading()
		return before == after
	})
	if p, _, _ := reading(); p < 3 {
		t.Errorf("live reads of the pod = %d, want more: its watch is still quiet", p)
	}
	f.clock.pass(-time.Hour)
	before, _, _ := reading()
	if after, _, _ := reading(); after != before+1 {
		t.Error("a watch that spoke in the future is believed")
	}
}

// What an API server says of an error of the watch is no sign of its health.
func TestErrorsOfAWatchAreNotHeard(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	changed := namespace()
	changed.Labels["team"] = "shop" // a watch that told something is begun again where it ended
	f.api.put(namespacePath, changed)
	eventually(t, "the watch tells", func() bool {
		n, err := f.Namespace(t.Context(), "payments")
		return err == nil && n.Labels["team"] == "shop"
	})
	f.clock.pass(3 * time.Minute)
	f.api.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != namespacesPath || r.URL.Query().Get("sendInitialEvents") != "" {
			return false
		}
		if r.URL.Query().Get("watch") == "" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			writeJSON(w, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": canary, "reason": "Forbidden", "code": 403})
			return true
		}
		w.Header().Set("Content-Type", "application/json;stream=watch")
		writeJSON(w, map[string]any{"type": "ERROR", "object": map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": canary, "reason": "Expired", "code": 410}})
		return true
	})
	eventually(t, "the list after the watch fails", func() bool {
		f.api.breakWatches() // also one that begins only now
		return f.api.count(namespacesPath) > 1
	})
	before := f.api.count(namespacePath)
	if _, err := f.Namespace(t.Context(), "payments"); err != nil || f.api.count(namespacePath) != before+1 {
		t.Errorf("Namespace() = %v, want it read live", err)
	}
	eventually(t, "the log says so", func() bool {
		return strings.Contains(f.log.String(), `"object":"namespace (watch)","reason":"forbidden","code":403`)
	})
	if log := f.log.String() + libraryLog.String(); strings.Contains(log, canary) {
		t.Errorf("log = %s, want no text of the API server", log)
	}
}

func TestSyncedNamesTheCache(t *testing.T) {
	f := newFixture(t)
	if err := f.Synced(); err == nil {
		t.Error("Synced() before Run = nil, want an error")
	}
	f.api.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != driversPath {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	f.start(t)
	eventually(t, "only the CSIDriver is missing", func() bool {
		err := f.Synced()
		return err != nil && strings.Contains(err.Error(), "every CSIDriver")
	})
	if err := reads()["CSIDriver"](t.Context(), f); err != nil {
		t.Errorf("CSIDriver() without its cache = %v, want a live read", err)
	}
	f.api.answers(nil)
	eventually(t, "Synced()", func() bool { return f.Synced() == nil })
}

func TestRunRunsOnce(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	if err := f.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "make a new Reader") {
		t.Errorf("Run() a second time = %v, want an error", err)
	}
}

// The watch is told what it may leave out, so that a node does not hold the
// pods of a whole cluster.
func TestWhatIsWatched(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	eventually(t, "three watches are there", func() bool {
		f.api.mu.Lock()
		defer f.api.mu.Unlock()
		return len(f.api.watchers) == 3
	})
	f.api.mu.Lock()
	defer f.api.mu.Unlock()
	selectors := map[string]string{podsPath: "spec.nodeName=node-1", namespacesPath: "", driversPath: "metadata.name=" + driverName}
	for _, r := range f.api.asked {
		want, ok := selectors[r.URL.Path]
		if got := r.URL.Query().Get("fieldSelector"); !ok || got != want {
			t.Errorf("field selector of %s = %q, want %q", r.URL, got, want)
		}
		if metadata := strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata"); metadata != (r.URL.Path == namespacesPath) {
			t.Errorf("%s asks for the metadata only: %t", r.URL, metadata)
		}
		if r.URL.Query().Get("watch") != "" && r.URL.Query().Get("allowWatchBookmarks") != "true" {
			t.Errorf("%s asks for no bookmarks", r.URL)
		}
	}
}

func TestPodExists(t *testing.T) {
	const version = `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7"`
	mirror := pod()
	mirror.Name, mirror.UID = "etcd-node-1", "mirror-uid"
	mirror.Annotations[corev1.MirrorPodAnnotationKey] = "0123456789abcdef0123456789abcdef"
	f := newFixture(t)
	f.api.put("/api/v1/namespaces/kube-system/pods/etcd-node-1", mirror)
	f.run(t) // what the cache says does not count
	for uid, want := range map[string]bool{podUID: true, otherUID: false, "0123456789abcdef0123456789abcdef": true, "mirror-uid": true, "0123": false} {
		if got, err := f.PodExists(t.Context(), uid); err != nil || got != want {
			t.Errorf("PodExists(%q) = %t, %v, want %t", uid, got, err, want)
		}
	}
	f.api.mu.Lock()
	delete(f.api.objects, podPath) // and no watch tells
	f.api.mu.Unlock()
	if got, err := f.PodExists(t.Context(), podUID); err != nil || got {
		t.Errorf("PodExists() of a pod that only the cache has = %t, %v, want false", got, err)
	}
	if _, err := f.PodExists(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "UID is empty") {
		t.Errorf("PodExists(no UID) = %v, want an error: no question is no answer", err)
	}

	pages := 0
	page := func(tail string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if pages++; r.URL.Query().Get("continue") == "page 2" {
				_, _ = w.Write([]byte(version + `},"items":[{"metadata":{"uid":"` + otherUID + `"}}]}`))
				return true
			}
			_, _ = w.Write([]byte(version + `,"continue":"page 2"},"items":[{"metadata":{"uid":"` + podUID + `"}}]}` + tail))
			return true
		}
	}
	f.api.answers(page(""))
	for uid, want := range map[string]struct {
		exists bool
		pages  int
	}{podUID: {true, 1}, otherUID: {true, 2}, "x": {false, 2}} {
		pages = 0
		if got, err := f.PodExists(t.Context(), uid); err != nil || got != want.exists || pages != want.pages {
			t.Errorf("PodExists(%q) = %t, %v from %d pages, want %+v", uid, got, err, pages, want)
		}
	}
	f.api.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("continue") != "" {
			w.WriteHeader(http.StatusGone) // the pages before are too old
			return true
		}
		return page("")(w, r)
	})
	_, err := f.PodExists(t.Context(), otherUID)
	checkUnavailable(t, err, "pods of this node", apiserver.InvalidAnswer)
	f.api.says(http.StatusOK, version+`,"continue":"for ever"},"items":[]}`)
	_, err = f.PodExists(t.Context(), otherUID)
	checkUnavailable(t, err, "pods of this node", apiserver.InvalidAnswer)
}

// The list that a watch begins with takes the cache's place when it is complete:
// half of one says nothing about what the cache holds.
func TestHalfAListIsNotHeard(t *testing.T) {
	end := map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": map[string]any{
		"resourceVersion": "90", "annotations": map[string]any{"k8s.io/initial-events-end": "true"},
	}}
	item := map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": map[string]any{"name": "payments", "uid": "ns-uid", "resourceVersion": "80"}}
	for name, test := range map[string]struct {
		streamed bool
		complete bool
	}{
		"stream": {true, false}, "whole stream": {true, true}, "page": {false, false}, "whole page": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.run(t)
			f.clock.pass(3 * time.Minute)
			var asked atomic.Int64
			f.api.answers(func(w http.ResponseWriter, r *http.Request) bool {
				query := r.URL.Query()
				if r.URL.Path == namespacesPath {
					w.Header().Set("Content-Type", "application/json")
				}
				switch {
				case r.URL.Path != namespacesPath || !test.streamed && query.Get("sendInitialEvents") != "":
					return false
				case query.Get("sendInitialEvents") != "":
					asked.Add(1)
					w.Header().Set("Content-Type", "application/json;stream=watch")
					writeJSON(w, map[string]any{"type": "ADDED", "object": item})
					if test.complete {
						writeJSON(w, map[string]any{"type": "BOOKMARK", "object": end})
					}
					return true
				case query.Get("watch") != "":
					w.WriteHeader(http.StatusGone) // so that it is listed again
					return true
				case test.streamed || query.Get("continue") != "":
					w.WriteHeader(http.StatusForbidden)
					return true
				}
				asked.Add(1)
				next := "page 2"
				if test.complete {
					next = ""
				}
				writeJSON(w, map[string]any{"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": map[string]any{"resourceVersion": "80", "continue": next}, "items": []any{item}})
				return true
			})
			eventually(t, "the list begins again twice", func() bool {
				f.api.breakWatches() // also one that begins only now
				return asked.Load() > 1
			})
			before := f.api.count(namespacePath)
			_, err := f.Namespace(t.Context(), "payments")
			if live := f.api.count(namespacePath) > before; err != nil || live == test.complete {
				t.Errorf("Namespace() = %v, read live %t, want the cache believed: %t", err, live, test.complete)
			}
		})
	}
}
