//go:build integration

package integration_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/test/plugintest"
)

// statuses returns the status objects of the namespace.
func (w *world) statuses() []spcv1.SecretProviderClassPodStatus {
	w.t.Helper()
	client, err := dynamic.NewForConfig(w.cluster.Admin())
	if err != nil {
		w.t.Fatal(err)
	}
	resource := schema.GroupVersionResource{Group: spcv1.GroupVersion.Group, Version: "v1", Resource: "secretproviderclasspodstatuses"}
	list, err := client.Resource(resource).Namespace(namespace).List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	found := make([]spcv1.SecretProviderClassPodStatus, len(list.Items))
	for i, item := range list.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &found[i]); err != nil {
			w.t.Fatal(err)
		}
	}
	return found
}

// statusOf waits for the status of a pod, and until it has these objects.
func (w *world) statusOf(p *corev1.Pod, want ...spcv1.SecretProviderClassObject) spcv1.SecretProviderClassPodStatus {
	w.t.Helper()
	var found spcv1.SecretProviderClassPodStatus
	plugintest.Eventually(w.t, "status of pod "+p.Name, func() error {
		for _, s := range w.statuses() {
			if s.Status.PodName == p.Name {
				found = s
			}
		}
		if !slices.Equal(found.Status.Objects, want) {
			return fmt.Errorf("it lists %v, want %v", found.Status.Objects, want)
		}
		return nil
	})
	return found
}

// TestStatusIsWhatUpstreamWrites: P11, and one write for a first publish, none
// for what did not change.
func TestP11StatusIsWhatUpstreamWrites(t *testing.T) {
	w := newWorld(t, "--enable-secret-rotation", "--rotation-poll-interval=1s")
	p := w.cluster.CreatePod(t, pod("api-0"))
	req := w.request(p, volume)
	w.mounts(req, "db/password", "one")
	first := w.statusOf(p, spcv1.SecretProviderClassObject{ID: "db/password", Version: "v-one"})
	want := spcv1.SecretProviderClassPodStatus{
		ObjectMeta: metav1.ObjectMeta{
			Name: "api-0-payments-db", Namespace: namespace,
			Labels:          map[string]string{"internal.secrets-store.csi.k8s.io/node-name": nodeName},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "api-0", UID: p.UID}},
		},
		Status: spcv1.SecretProviderClassPodStatusStatus{
			PodName: "api-0", SecretProviderClassName: class, Mounted: true, TargetPath: req.GetTargetPath(),
			Objects: []spcv1.SecretProviderClassObject{{ID: "db/password", Version: "v-one"}},
		},
	}
	got := first.DeepCopy()
	got.TypeMeta = metav1.TypeMeta{}
	got.UID, got.ResourceVersion, got.Generation, got.CreationTimestamp, got.ManagedFields = "", "", 0, metav1.Time{}, nil
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("status differs from upstream's (-want +got):\n%s", diff)
	}

	for range 3 {
		time.Sleep(1100 * time.Millisecond) // it is due, and fetched again
		w.mounts(req, "db/password", "one")
	}
	if again := w.statusOf(p, want.Status.Objects...); again.ResourceVersion != first.ResourceVersion {
		t.Errorf("resource version of an unchanged status = %s, want %s", again.ResourceVersion, first.ResourceVersion)
	}
	w.content.Store("two")
	plugintest.Eventually(t, "the secret is rotated", func() error {
		if err := w.plugin.Publish(req); err != nil || reads(req, "db/password") != "two" {
			return fmt.Errorf("file says %q, %w", reads(req, "db/password"), err)
		}
		return nil
	})
	second := w.statusOf(p, spcv1.SecretProviderClassObject{ID: "db/password", Version: "v-two"})
	if second.UID != first.UID {
		t.Errorf("UID of the changed status = %s, want %s", second.UID, first.UID)
	}

	w.plugin.Stop()
	w.start()
	time.Sleep(time.Second)
	if again := w.statusOf(p, second.Status.Objects...); again.ResourceVersion != second.ResourceVersion {
		t.Errorf("resource version after a restart of the plugin = %s, want %s", again.ResourceVersion, second.ResourceVersion)
	}
}

// TestTwoVolumesOfOneClass share one status object.
func TestTwoVolumesOfOneClass(t *testing.T) {
	w := newWorld(t)
	made := pod("twice")
	other := made.Spec.Volumes[0].DeepCopy()
	other.Name = "again"
	made.Spec.Volumes = append(made.Spec.Volumes, *other)
	p := w.cluster.CreatePod(t, made)
	w.mounts(w.request(p, volume), "db/password", "one")
	w.mounts(w.request(p, "again"), "db/password", "one")
	w.statusOf(p, spcv1.SecretProviderClassObject{ID: "db/password", Version: "v-one"})
	if n := len(w.statuses()); n != 1 {
		t.Errorf("%d status objects, want 1", n)
	}
}

// TestRestartedStatefulSet: a pod of the same name gets a status of its own,
// although the old one's is still there: nobody collects garbage here.
func TestRestartedStatefulSet(t *testing.T) {
	w := newWorld(t)
	old := w.cluster.CreatePod(t, pod("db-0"))
	w.mounts(w.request(old, volume), "db/password", "one")
	w.statusOf(old, spcv1.SecretProviderClassObject{ID: "db/password", Version: "v-one"})
	w.cluster.DeletePod(t, old)
	w.content.Store("two")
	fresh := w.cluster.CreatePod(t, pod("db-0"))
	w.mounts(w.request(fresh, volume), "db/password", "two")
	s := w.statusOf(fresh, spcv1.SecretProviderClassObject{ID: "db/password", Version: "v-two"})
	if len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != fresh.UID {
		t.Errorf("owners = %v, want only the pod %s", s.OwnerReferences, fresh.UID)
	}
}
