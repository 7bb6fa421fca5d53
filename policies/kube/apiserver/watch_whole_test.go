package apiserver_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

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
	f.watching(t)
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
