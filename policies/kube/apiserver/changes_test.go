package apiserver_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

// told takes the UIDs of pods that have changed.
type told struct {
	mu   sync.Mutex
	uids []string
}

func (l *told) tell(uid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uids = append(l.uids, uid)
}

func (l *told) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.uids)
}

// watched is a fixture whose caches tell of pods.
func watched(t *testing.T, first *corev1.Pod) (*fixture, *told) {
	t.Helper()
	l := &told{}
	f := newFixture(t, func(c *apiserver.Config) { c.PodChanged = l.tell })
	f.api.put(podPath, first)
	f.run(t)
	f.watching(t)
	return f, l
}

// marker is another pod, whose change shows that the watch has told of all that
// came before.
const markerPath, markerUID = "/api/v1/namespaces/payments/pods/marker", "33333333-3333-4333-8333-333333333333"

func marker(image string) *corev1.Pod {
	p := pod()
	p.Name, p.UID = "marker", markerUID
	p.Spec.Containers[0].Image = image
	return p
}

func ephemeral(name string) corev1.EphemeralContainer {
	return corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "busybox:1"}}
}

func TestChangesOfRunningPodsAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		told   bool
	}{
		"image of a container":          {func(p *corev1.Pod) { p.Spec.Containers[0].Image = "evil.example/api:1" }, true},
		"image of an init container":    {func(p *corev1.Pod) { p.Spec.InitContainers[0].Image = "evil.example/api:1" }, true},
		"an ephemeral container":        {func(p *corev1.Pod) { p.Spec.EphemeralContainers = []corev1.EphemeralContainer{ephemeral("debug")} }, true},
		"status":                        {func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }, false},
		"labels":                        {func(p *corev1.Pod) { p.Labels["team"] = "x" }, false},
		"annotations":                   {func(p *corev1.Pod) { p.Annotations["portcullis.dev/spec"] = podUID + " x" }, false},
		"arguments, which are not kept": {func(p *corev1.Pod) { p.Spec.Containers[0].Args = []string{"x"} }, false},
		"another pod of the name":       {func(p *corev1.Pod) { p.UID, p.Spec.Containers[0].Image = otherUID, "evil.example/api:1" }, false},
	} {
		for size, padding := range map[string]int{"": 0, " of a pod that is not kept": 40 << 10} {
			t.Run(name+size, func(t *testing.T) {
				made := func() *corev1.Pod {
					p := pod()
					p.Spec.InitContainers = []corev1.Container{{Name: "first", Image: "registry.example/init:1"}}
					p.Annotations["padding"] = strings.Repeat("x", padding)
					return p
				}
				f, l := watched(t, made())
				changed := made()
				c.change(changed)
				f.api.put(markerPath, marker("a:1"))
				f.api.put(podPath, changed)
				f.api.put(podPath, changed) // says nothing new
				f.api.put(markerPath, marker("a:2"))
				eventually(t, "the marker's change is told", func() bool { return slices.Contains(l.all(), markerUID) })
				want := []string{markerUID}
				if c.told {
					want = []string{podUID, markerUID}
				}
				if diff := cmp.Diff(want, l.all()); diff != "" {
					t.Errorf("pods that were told (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestChangesWhileNobodyWatchedAreTold: by the list that a watch begins anew with.
func TestChangesWhileNobodyWatchedAreTold(t *testing.T) {
	for name, padding := range map[string]int{"kept": 0, "too large to be": 40 << 10} {
		t.Run(name, func(t *testing.T) {
			first := pod()
			first.Annotations["padding"] = strings.Repeat("x", padding)
			f, l := watched(t, first)
			f.api.put(markerPath, marker("a:1"))
			eventually(t, "the marker is cached", func() bool {
				before := f.api.count(markerPath)
				_, err := f.Pod(t.Context(), "payments", "marker", markerUID)
				return err == nil && f.api.count(markerPath) == before
			})
			lists := f.api.count(podsPath)
			f.api.breakWatches()
			first.Spec.Containers[0].Image = "evil.example/api:1"
			f.api.put(podPath, first)
			eventually(t, "the change is told", func() bool { return len(l.all()) > 0 })
			if got := l.all(); !slices.Equal(got, []string{podUID}) {
				t.Errorf("pods that were told = %q, want the changed one alone", got)
			}
			t.Logf("%d lists", f.api.count(podsPath)-lists)
		})
	}
}

// TestWhoIsToldFindsTheChange: it is in the cache by then, and so is the end of a
// pod before that of the next one of its name.
func TestWhoIsToldFindsTheChange(t *testing.T) {
	var f *fixture
	found := make(chan string, 1)
	f = newFixture(t, func(c *apiserver.Config) {
		c.PodChanged = func(uid string) {
			p, err := f.Pod(t.Context(), "payments", "api-0", uid)
			if err != nil {
				found <- err.Error()
				return
			}
			found <- p.Spec.Containers[0].Image
		}
	})
	f.run(t)
	f.watching(t)
	changed := pod()
	changed.Spec.Containers[0].Image = "registry.example/api:2"
	f.api.put(podPath, changed)
	if got := <-found; got != "registry.example/api:2" {
		t.Errorf("Pod() while its change is told = %s, want the image that it has now", got)
	}
	f.api.remove(podPath)
	changed.UID, changed.Spec.Containers[0].Image = otherUID, "registry.example/api:3"
	f.api.put(podPath, changed)
	f.api.put(podPath, changed)
	changed.Spec.Containers[0].Image = "registry.example/api:4"
	f.api.put(podPath, changed)
	if got := <-found; got != "registry.example/api:4" {
		t.Errorf("the next that was told has %s, want the change of the next pod", got)
	}
}
