//go:build e2e

package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Emptied in the wrong order, the plugin first: a pod that is deleted then
// waits, kubelet says nothing about it, doctor does, and the pod ends by
// itself when the plugin is back.
func TestPluginDrainedFirst(t *testing.T) {
	const away = 8 * time.Second
	w := inTurn(t, failures)
	w.pluginReady(patience)
	w.restored()
	p := w.started(pod(w.namespace("drained"), "waits"))

	w.upgrade("linux.nodeSelector.nobody=has")
	w.eventually(patience, "the plugin is gone", func() error {
		list, err := w.client.CoreV1().Pods(system).List(t.Context(), metav1.ListOptions{LabelSelector: "app=secrets-store-csi-driver"})
		if err == nil && len(list.Items) > 0 {
			err = os.ErrExist
		}
		return err
	})
	before := w.events(p)
	w.kubectl("delete", "pod", "-n", p.Namespace, p.Name, "--wait=false")
	deleted := time.Now()
	w.doctorNames(p.Namespace + "/" + p.Name)
	time.Sleep(away - time.Since(deleted))

	now, err := w.client.CoreV1().Pods(p.Namespace).Get(t.Context(), p.Name, metav1.GetOptions{})
	if err != nil || now.DeletionTimestamp == nil {
		t.Fatalf("without a plugin the deleted pod is %v, %v, want it in Terminating", now, err)
	}
	if len(w.mounts(string(p.UID)+"/volumes/kubernetes.io~csi/")) == 0 {
		t.Errorf("the volume is gone, with no plugin to unmount it")
	}
	if _, err := os.Lstat(w.lab.Path(registrationSocket)); err != nil {
		t.Errorf("the registration socket, which kubelet needs to unmount the volume: %v", err)
	}
	// A refresh that was due before the pod was deleted is another matter.
	const refresh = "Warning FailedMount MountVolume.SetUp failed"
	for line := range strings.Lines(strings.TrimPrefix(w.events(p), before)) {
		if strings.HasPrefix(line, "Warning") && !strings.HasPrefix(line, refresh) && !strings.Contains(before, line) {
			t.Errorf("kubelet says %q: OPERATIONS.md says that it keeps silent", line)
		}
	}
	w.upgrade()
	w.pluginReady(patience)
	absent := time.Since(deleted)
	took := w.gone(p, 122*time.Second+patience)
	w.Logf("with the plugin away for %v the pod is gone %v after it is back", absent.Round(100*time.Millisecond), took.Round(100*time.Millisecond))
	// kubelet's next try is at most as far away as the plugin was absent, and it
	// looks for pods that have ended every few seconds.
	if limit := max(30*time.Second, absent+10*time.Second); took > limit {
		t.Errorf("the pod was gone after %v, want at most %v", took, limit)
	}
	w.nothingLeft(p)
	w.statesBound(t)
}

// doctorNames fails the test unless doctor, asked by an administrator, says
// which pod waits where, and what to do.
func (w *world) doctorNames(pod string) {
	w.Helper()
	const remedy = "bring the plugin back on node " + node
	text, err := w.cli("doctor", "--only", "cluster")
	if err == nil {
		w.Errorf("doctor finds nothing wrong:\n%s", text)
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "pods.terminating") {
			w.Logf("doctor: %s", strings.TrimSpace(line))
		}
	}
	for _, want := range []string{"pod " + pod + " is Terminating on node " + node, remedy} {
		if !strings.Contains(text, want) {
			w.Errorf("doctor does not say %q:\n%s", want, text)
		}
	}
	out, _ := w.cli("doctor", "--only", "cluster", "--output", "json") // exit code 3
	var report struct {
		Results []struct{ Check, Status, Finding, Hint string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		w.Fatalf("doctor --output json: %v:\n%s", err, out)
	}
	for _, r := range report.Results {
		if r.Check == "pods.terminating" && r.Status == "FAIL" && strings.Contains(r.Finding, pod) && strings.Contains(r.Hint, remedy) {
			return
		}
	}
	w.Errorf("doctor --output json does not name pod %s:\n%s", pod, out)
}

// statesBound fails the test unless OPERATIONS.md says how long such a pod
// waits at most.
func (w *world) statesBound(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(made.repository, "docs/OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), "a pod is gone within 122 s after the plugin is back") {
		t.Error("OPERATIONS.md does not say that the pod ends within 122 s after the plugin is back")
	}
}
