//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/test/cluster/lab"
)

// Without the API server nothing is granted and nothing is taken away. The pod
// that runs reads on; the one that starts lacks nothing but the API server's
// word, and gets its volume when that is back.
func TestP8APIServerAway(t *testing.T) {
	const outage = 30 * time.Second
	w := inTurn(t, failures)
	w.pluginReady(patience)
	t.Cleanup(func() { w.writeSecret("app/password", "first") })
	namespace := w.namespace("outage")
	runs := w.reader(namespace, "runs", "first", "second")
	device := w.superblock(runs)

	// The pod that starts is bound to the node and was refused four times for want
	// of its class. The next try comes eight seconds after the fourth.
	p := pod(namespace, "starts")
	p.Spec.Volumes[0].CSI.VolumeAttributes["secretProviderClass"] = "late"
	starts := w.create(p)
	w.eventually(patience, "kubelet has tried four times", func() error { return w.failedMounts(starts, 4) })
	w.apply(class(namespace, "late", "password", "user"))
	w.apiServerStopped()
	stopped := time.Now()
	w.writeSecret("app/password", "second")
	w.eventually(patience, "the plugin has refused for want of the API server", func() error {
		for _, e := range w.audited(namespace) {
			if e.Workload.Pod == starts.Name && e.Reason == "FactsUnavailable" {
				return nil
			}
		}
		return errors.New("the log has no such event")
	})
	for time.Since(stopped) < outage {
		if lines := w.mounts(fmt.Sprintf("/pods/%s/volumes/kubernetes.io~csi/", starts.UID)); len(lines) > 0 {
			t.Fatalf("granted without the API server: %v", lines)
		}
		if now := w.superblock(runs); now != device {
			t.Fatalf("the volume of the pod that runs is on %s, want %s as before", now, device)
		}
		time.Sleep(time.Second)
	}
	w.Logf("the API server was away for %v", time.Since(stopped).Round(time.Second))
	w.apiServerBack()
	back := time.Now()
	w.ready(starts, patience)
	w.Logf("the pod that waited is ready %v after the API server", time.Since(back).Round(100*time.Millisecond))
	w.reads(starts, "/secrets/password", "second")
	w.rotatedTo(runs, "second")
	w.readAllAlong(runs)
	w.deletedAll(runs, starts)
	w.verified()
}

// failedMounts is nil when kubelet has said so often that a volume of a pod
// cannot be mounted.
func (w *world) failedMounts(p *corev1.Pod, want int32) error {
	list, err := w.client.CoreV1().Events(p.Namespace).List(w.Context(), metav1.ListOptions{FieldSelector: "reason=FailedMount,involvedObject.uid=" + string(p.UID)})
	if err != nil {
		return err
	}
	var count int32
	for _, e := range list.Items {
		count += e.Count
	}
	if count < want {
		return fmt.Errorf("%d times", count)
	}
	return nil
}

// apiServerStopped stops the API server, until apiServerBack or the end of the
// test.
func (w *world) apiServerStopped() {
	w.Helper()
	if err := w.lab.Stop(w.Context(), lab.APIServer); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(w.apiServerBack)
}

func (w *world) apiServerBack() {
	w.Helper()
	ctx, cancel := afterTest()
	defer cancel()
	pids, err := w.lab.Pids(ctx)
	if err == nil && pids[lab.APIServer] == 0 {
		err = w.lab.Start(ctx, lab.APIServer)
	}
	if err == nil {
		err = w.lab.WaitAPIServer(ctx)
	}
	if err != nil {
		w.Fatal(err)
	}
}
