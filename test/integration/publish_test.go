//go:build integration

package integration_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/test/plugintest"
)

// TestP2FactsComeFromTheAPIServer: who asks, and for what, is what the API
// server says, whatever the request claims.
func TestP2FactsComeFromTheAPIServer(t *testing.T) {
	w := newWorld(t)

	t.Run("allowed", func(t *testing.T) {
		w := w.in(t)
		p := w.cluster.CreatePod(t, pod("allowed"))
		req := w.withToken(w.request(p, volume), p)
		w.mounts(req, "db/password", "one")
		e := decision(t, w.events(p))
		if e.Seen == nil || e.Seen.Pod == "" || e.Seen.Namespace == "" || e.Seen.ServiceAccount == "" || e.Seen.Class == "" {
			t.Errorf("event of the decision saw %+v, want a resource version of all four objects", e.Seen)
		}
	})
	t.Run("denied", func(t *testing.T) {
		w := w.in(t)
		w.class("ungranted", "other/secret")
		made := pod("denied")
		made.Spec.Volumes[0].CSI.VolumeAttributes["secretProviderClass"] = "ungranted"
		p := w.cluster.CreatePod(t, made)
		req := w.request(p, volume)
		req.VolumeContext["secretProviderClass"] = "ungranted"
		w.refused(req, codes.PermissionDenied, "denied by policy: PR-001")
	})
	t.Run("pod missing", func(t *testing.T) {
		w := w.in(t)
		never := pod("missing")
		never.UID = "99999999-2222-4333-8444-555555555555"
		w.refused(w.request(never, volume), codes.NotFound, "not in the cluster")
		p := w.cluster.CreatePod(t, pod("deleted"))
		w.cluster.DeletePod(t, p)
		w.soonRefused(w.request(p, volume), codes.NotFound, "not in the cluster")
	})
	t.Run("other UID", func(t *testing.T) {
		w := w.in(t)
		old := w.cluster.CreatePod(t, pod("stateful-0"))
		w.mounts(w.request(old, volume), "db/password", "one")
		w.cluster.DeletePod(t, old)
		fresh := w.cluster.CreatePod(t, pod("stateful-0"))
		// At once: the watch may still have the old one.
		w.mounts(w.request(fresh, volume), "db/password", "one")
		stale := old.DeepCopy()
		stale.UID = "11111111-2222-4333-8444-555555555555"
		w.refused(w.request(stale, volume), codes.PermissionDenied, "pod UID")
	})
	t.Run("other node", func(t *testing.T) {
		w := w.in(t)
		made := pod("elsewhere")
		made.Spec.NodeName = "node2"
		w.refused(w.request(w.cluster.CreatePod(t, made), volume), codes.PermissionDenied, "node")
	})
	t.Run("other service account", func(t *testing.T) {
		w := w.in(t)
		req := w.request(w.cluster.CreatePod(t, pod("impostor")), volume)
		req.VolumeContext["csi.storage.k8s.io/serviceAccount.name"] = "default"
		w.refused(req, codes.PermissionDenied, "service account")
	})
	t.Run("volume not in the pod", func(t *testing.T) {
		w := w.in(t)
		w.refused(w.request(w.cluster.CreatePod(t, pod("novolume")), "elsewhere"), codes.PermissionDenied, "volume")
	})
	t.Run("attributes that the pod does not have", func(t *testing.T) {
		w := w.in(t)
		req := w.request(w.cluster.CreatePod(t, pod("attributes")), volume)
		req.VolumeContext["roleName"] = "root"
		w.refused(req, codes.PermissionDenied, "volume attributes")
	})
	t.Run("class missing", func(t *testing.T) {
		w := w.in(t)
		made := pod("classless")
		made.Spec.Volumes[0].CSI.VolumeAttributes["secretProviderClass"] = "nowhere"
		req := w.request(w.cluster.CreatePod(t, made), volume)
		req.VolumeContext["secretProviderClass"] = "nowhere"
		w.refused(req, codes.NotFound, `failed to get secretproviderclass payments/nowhere, error:`)
		w.class("nowhere", "db/password") // it is seen at once
		w.mounts(req, "db/password", "one")
	})
	t.Run("terminated", func(t *testing.T) {
		w := w.in(t)
		p := w.cluster.CreatePod(t, pod("ended"))
		p.Status.Phase = corev1.PodSucceeded
		if _, err := w.cluster.Client.CoreV1().Pods(namespace).UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		plugintest.Eventually(t, "the pod has ended", func() error {
			got, err := w.cluster.Client.CoreV1().Pods(namespace).Get(t.Context(), "ended", metav1.GetOptions{})
			if err == nil && got.Status.Phase != corev1.PodSucceeded {
				return errNotYet
			}
			return err
		})
		w.soonRefused(w.request(p, volume), codes.PermissionDenied, "ended")
	})
}

// TestClassChangesBetweenPublishes: a class is not remembered, and neither are
// the rights that it gave.
func TestClassChangesBetweenPublishes(t *testing.T) {
	w := newWorld(t)
	first, second := w.cluster.CreatePod(t, pod("first")), w.cluster.CreatePod(t, pod("second"))
	w.mounts(w.request(first, volume), "db/password", "one")
	w.class(class, "db/password", "db/user")
	req := w.request(second, volume)
	plugintest.Eventually(t, "the changed class is in force", func() error {
		if err := w.plugin.Publish(req); err != nil {
			return err
		}
		if reads(req, "db/user") != "one" {
			if err := w.plugin.Unpublish(req.GetVolumeId(), req.GetTargetPath()); err != nil {
				return err
			}
			return errNotYet
		}
		return nil
	})
	w.class(class, "other/secret")
	third := w.request(w.cluster.CreatePod(t, pod("third")), volume)
	plugintest.Eventually(t, "a class that asks for more is denied", func() error {
		err := w.plugin.Publish(third)
		if err == nil {
			if err := w.plugin.Unpublish(third.GetVolumeId(), third.GetTargetPath()); err != nil {
				return err
			}
			return errNotYet
		}
		if !strings.Contains(err.Error(), "PR-001") {
			return err
		}
		return nil
	})
}

// decision returns the event of the last decision about a pod.
func decision(t *testing.T, events []audit.Event) audit.Event {
	t.Helper()
	for _, e := range slices.Backward(events) {
		if e.Policy != nil && e.Policy.InputSHA256 != "" && e.Stage != audit.StageComplete {
			return e
		}
	}
	t.Fatalf("%d events have no decision", len(events))
	return audit.Event{}
}
