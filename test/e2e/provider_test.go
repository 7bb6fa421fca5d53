//go:build e2e

package e2e_test

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A provider that is replaced is no more than a delay: for volumes that are
// there, and for one that is asked for meanwhile.
func TestProviderRestarted(t *testing.T) {
	w := inTurn(t, failures)
	w.pluginReady(patience)
	t.Cleanup(func() { w.writeSecret("app/password", "first") })
	runs := w.reader(w.namespace("provider"), "runs", "first", "second")
	device := w.superblock(runs)

	// The call of a pod that starts is under way when its provider goes.
	goOn := w.hung(providerProcess)
	starts := w.create(pod(runs.Namespace, "starts"))
	w.inProgress(starts.Namespace, starts.Name)
	old := w.process(providerProcess)
	w.kubectl("delete", "pod", "-n", system, "-l", "app=portcullis-provider-local", "--grace-period=1", "--wait=false")
	goOn()
	w.eventually(patience, "another provider runs", func() error { return differs("process", old, w.process(providerProcess)) })
	w.ready(starts, patience)
	w.reads(starts, "/secrets/password", "first")
	w.goesOn(runs, device, "second")
	w.readAllAlong(runs)
	w.deletedAll(runs, starts)
}

// inProgress waits until the plugin has begun a delivery for a pod and not
// ended it.
func (w *world) inProgress(namespace, name string) {
	w.Helper()
	w.eventually(patience, "a delivery for pod "+name+" is in progress", func() error {
		for _, e := range openIntents(w.audited(namespace)) {
			if e.Workload.Pod == name {
				return nil
			}
		}
		return errors.New("the log has no open intent")
	})
}

// providerHangs: a provider that hangs holds up the pods that wait for it, and
// nobody else: volumes are readable, pods end, and what waited goes on
// afterwards. Volumes are not due for a refresh meanwhile: kubelet unmounts none
// before the call for it has ended, as OPERATIONS.md says.
func (w *world) providerHangs() {
	namespace := w.namespace("hangs")
	runs := w.reader(namespace, "runs", "first")
	var ends []*corev1.Pod
	for _, name := range []string{"ends-0", "ends-1", "ends-2"} {
		ends = append(ends, w.started(pod(namespace, name)))
	}

	goOn := w.hung(providerProcess)
	starts := w.create(pod(namespace, "starts"))
	w.inProgress(namespace, starts.Name)
	begin := time.Now()
	w.deletedAll(ends...)
	w.Logf("with a provider that hangs three pods end in %v", time.Since(begin).Round(100*time.Millisecond))
	w.readAllAlong(runs)
	w.inProgress(namespace, starts.Name) // all the while
	if lines := w.mounts("/pods/" + string(starts.UID) + "/volumes/kubernetes.io~csi/"); len(lines) > 0 {
		w.Errorf("the pod that waits for the provider has a volume: %v", lines)
	}
	goOn()
	w.ready(starts, patience)
	w.reads(starts, "/secrets/password", "first")
	w.deletedAll(runs, starts)
}
