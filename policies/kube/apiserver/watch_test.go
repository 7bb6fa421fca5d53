package apiserver_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/policies/kube"
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
