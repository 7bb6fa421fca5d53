//go:build e2e

package e2e_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/test/cluster/lab"
)

// kubelet and the container runtime may die: pods and their volumes stay, and
// the new kubelet finds the driver by itself.
func TestP9KubeletAndRuntimeKilled(t *testing.T) {
	w := inTurn(t, failures)
	w.pluginReady(patience)
	t.Cleanup(func() { w.writeSecret("app/password", "first") })
	runs := w.reader(w.namespace("kubelet"), "runs", "first", "second", "third")
	device := w.superblock(runs)
	for _, round := range []struct{ daemon, password string }{{lab.Kubelet, "second"}, {lab.Containerd, "third"}} {
		before := w.heartbeat()
		if err := w.lab.Restart(t.Context(), round.daemon, time.Second, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w.eventually(patience, "kubelet says again that the node is ready", func() error {
			if now := w.heartbeat(); !now.After(before) {
				return errors.New("not since the restart")
			}
			return nil
		})
		w.pluginReady(patience)
		w.goesOn(runs, device, round.password)
		now, err := w.client.CoreV1().Pods(runs.Namespace).Get(t.Context(), runs.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if now.UID != runs.UID || now.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("after the end of %s the pod's container was restarted %d times, want never", round.daemon, now.Status.ContainerStatuses[0].RestartCount)
		}
	}
	w.readAllAlong(runs)
	w.deletedAll(runs)
}

// heartbeat is when kubelet last renewed its lease.
func (w *world) heartbeat() time.Time {
	w.Helper()
	lease, err := w.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(w.Context(), node, metav1.GetOptions{})
	if err != nil || lease.Spec.RenewTime == nil {
		w.Fatalf("the lease of the node: %v", err)
	}
	return lease.Spec.RenewTime.Time
}
