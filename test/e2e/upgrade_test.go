//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeImage is what the chart installs in these tests.
const nodeImage = "ghcr.io/portcullis-csi/portcullis-node"

// onDelete is the setting with which nodes keep their plugin.
const onDelete = "linux.updateStrategy.type=OnDelete"

// registrationSocket is where kubelet finds the driver.
const registrationSocket = "/var/lib/kubelet/plugins_registry/" + driverName + "-reg.sock"

// upgrade upgrades the release to the values of every installation and these.
func (w *world) upgrade(settings ...string) {
	w.Helper()
	args := append([]string{"upgrade", release, made.chart(), "--namespace", system, "--reset-values", "--timeout", "150s"}, w.values()...)
	if !slices.Contains(settings, onDelete) { // else nothing happens to wait for
		args = append(args, "--wait")
	}
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	w.helm(args...)
}

// restored brings the values of every installation back at the end of the test.
func (w *world) restored() {
	w.Cleanup(func() { w.upgrade() }) // which waits
}

// revision is the last one of the release.
func (w *world) revision() string {
	w.Helper()
	for line := range strings.Lines(w.helm("status", release, "--namespace", system)) {
		if n, ok := strings.CutPrefix(line, "REVISION: "); ok {
			return strings.TrimSpace(n)
		}
	}
	w.Fatal("helm status shows no revision")
	return ""
}

// The chart replaces the plugin, and pods read on: their volume stays the one
// that it was, and the new plugin goes on with it.
func TestP9PluginUpgradedWithLivePods(t *testing.T) {
	w := inTurn(t, failures)
	w.pluginReady(patience)
	w.restored()
	runs := w.reader(w.namespace("upgraded"), "runs", "first", "second", "third")
	device := w.superblock(runs)
	t.Cleanup(func() { w.writeSecret("app/password", "first") })
	before, first := w.plugin(), w.revision()

	// The next version, as a node has it that has pulled the image.
	image := before.Spec.Containers[0].Image
	w.must("", "ctr", "-n", "k8s.io", "images", "tag", image, nodeImage+":next")
	stop := w.watchRegistration()
	begin := time.Now()
	w.upgrade("linux.image.tag=next")
	w.pluginReady(patience)
	w.Logf("the upgrade took %v", time.Since(begin).Round(100*time.Millisecond))
	if now := w.plugin(); now.UID == before.UID || now.Spec.Containers[0].Image != nodeImage+":next" {
		t.Fatalf("the plugin is pod %s with image %s, want a new one of %s:next", now.Name, now.Spec.Containers[0].Image, nodeImage)
	}
	// The new plugin puts its own in the place of the old one's.
	if away := stop(); away > 500*time.Millisecond {
		t.Errorf("the registration socket was away for %v, want it to stay for kubelet until the new plugin has its own", away)
	}
	w.goesOn(runs, device, "second")

	w.helm("rollback", release, first, "--namespace", system, "--wait", "--timeout", "150s")
	w.pluginReady(patience)
	if now := w.plugin().Spec.Containers[0].Image; now != image {
		t.Errorf("after helm rollback the plugin is %s, want %s", now, image)
	}
	w.goesOn(runs, device, "third")
	w.readAllAlong(runs)
	w.deletedAll(runs)
	w.verified()
}

// goesOn fails the test unless the plugin serves old and new pods: what a
// provider has anew reaches the volume that was there.
func (w *world) goesOn(old *corev1.Pod, device, password string) {
	w.Helper()
	w.writeSecret("app/password", password)
	w.rotatedTo(old, password)
	if now := w.superblock(old); now != device {
		w.Errorf("the volume of pod %s is on %s, want %s as before", old.Name, now, device)
	}
	fresh := w.started(pod(old.Namespace, "fresh"))
	w.reads(fresh, "/secrets/password", password)
	w.deletedAll(fresh)
}

// watchRegistration looks at the plugin's registration socket until the
// function is called, which returns how long it was away.
func (w *world) watchRegistration() (stop func() time.Duration) {
	socket := w.lab.Path(registrationSocket)
	done, away := make(chan struct{}), make(chan time.Duration)
	go func() {
		var sum time.Duration
		last := time.Now()
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				away <- sum
				return
			case <-tick.C:
			}
			now := time.Now()
			if _, err := os.Lstat(socket); err != nil {
				sum += now.Sub(last)
			}
			last = now
		}
	}()
	return func() time.Duration {
		close(done)
		return <-away
	}
}

// With OnDelete a new template changes no node until somebody deletes its
// plugin: the canary of the documents.
func TestPluginUpgradedByCanary(t *testing.T) {
	w := inTurn(t, failures)
	w.pluginReady(patience)
	w.restored()
	t.Cleanup(func() { _, _ = w.run("", "kubectl", "label", "node", node, "portcullis.dev/canary-") })
	runs := w.reader(w.namespace("canary"), "runs", "first", "second")
	device := w.superblock(runs)
	t.Cleanup(func() { w.writeSecret("app/password", "first") })

	w.upgrade(onDelete)
	before := w.plugin()
	w.upgrade(onDelete, "linux.podAnnotations.upgraded=one")
	w.eventually(patience, "the DaemonSet controller has seen the new template", func() error {
		set, err := w.client.AppsV1().DaemonSets(system).Get(w.Context(), daemonSet, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if set.Status.ObservedGeneration != set.Generation || set.Status.UpdatedNumberScheduled != 0 {
			return fmt.Errorf("it has seen generation %d of %d, %d nodes are up to date", set.Status.ObservedGeneration, set.Generation, set.Status.UpdatedNumberScheduled)
		}
		return nil
	})
	if now := w.plugin(); now.UID != before.UID || now.Status.ContainerStatuses[0].RestartCount != before.Status.ContainerStatuses[0].RestartCount {
		t.Fatalf("the plugin is pod %s, want that of before the upgrade", now.Name)
	}

	// As OPERATIONS.md says it.
	w.kubectl("label", "node", node, "portcullis.dev/canary=true")
	w.must("", "sh", "-c", `for node in $(kubectl get nodes -l portcullis.dev/canary=true -o jsonpath='{.items[*].metadata.name}'); do
  kubectl -n kube-system delete pod -l app=secrets-store-csi-driver --field-selector=spec.nodeName=$node
done`)
	w.pluginReady(patience)
	if now := w.plugin(); now.UID == before.UID || now.Annotations["upgraded"] != "one" {
		t.Errorf("the plugin is pod %s with annotations %v, want a new one of the new template", now.Name, now.Annotations)
	}
	w.goesOn(runs, device, "second")
	w.readAllAlong(runs)
	w.deletedAll(runs)
}
