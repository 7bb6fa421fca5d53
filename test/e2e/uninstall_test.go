//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// An installation cannot be taken away from under the pods that use it, can be
// with force, and leaves nothing but its audit log once they are gone. What is
// installed over that goes on with the log.
func TestUninstall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "uninstall")
	filesBefore, mountsBefore := w.files(), w.mountPoints()
	w.installAll()
	ns := w.namespace("uninstall")
	p := w.started(pod(ns, "app"))
	checkpoint, key := w.keptEvidence()

	w.refusedUninstall(p.Namespace + "/" + p.Name)
	w.reads(p, "/secrets/password", "first")
	w.deleted(w.started(pod(ns, "later"))) // the driver does what it did

	// With force the pod runs on, and the next installation takes it over.
	w.upgradeWith("--set", "uninstall.force=true")
	w.helm("uninstall", release, "--namespace", system, "--wait", "--timeout", "60s")
	w.pluginIsGone()
	w.reads(p, "/secrets/password", "first")
	w.installAll()
	w.pluginRuns()
	w.reads(p, "/secrets/password", "first")
	w.deleted(p)

	out := w.helm("uninstall", release, "--namespace", system, "--wait", "--timeout", "60s")
	w.pluginIsGone()
	t.Logf("helm uninstall:\n%s", out)
	w.objectsLeft()
	w.nodeLeft(filesBefore, mountsBefore)
	w.verifies(checkpoint, key, "--file", stateDir+"/audit")

	w.installAll()
	w.pluginRuns()
	w.deleted(w.started(pod(ns, "again")))
	w.verifies(checkpoint, key)
	w.checkpointGrew(checkpoint)
}

// keptEvidence keeps a checkpoint of the node's log and its key away from the log.
func (w *world) keptEvidence() (checkpoint, key string) {
	w.Helper()
	out, err := w.cli("audit", "checkpoint")
	if err != nil {
		w.Fatal(err)
	}
	const dir = "/var/lib/kubelet/e2e-evidence"
	public, err := os.ReadFile(w.lab.Path(stateDir + "/audit/node.vkey"))
	if err != nil {
		w.Fatal(err)
	}
	checkpoint, key = dir+"/checkpoints", dir+"/node.vkey"
	w.writeFile(w.lab.Path(checkpoint), out)
	w.writeFile(w.lab.Path(key), string(public))
	return checkpoint, key
}

// verifies fails the test unless the node's log holds all that the evidence says.
func (w *world) verifies(checkpoint, key string, where ...string) {
	w.Helper()
	out, err := w.cli(append([]string{"audit", "verify", "--key", key, "--checkpoint", checkpoint}, where...)...)
	if err != nil {
		w.Fatalf("the log does not go on with what it was: %v", err)
	}
	w.Logf("audit verify: %s", out)
}

// checkpointGrew fails the test unless the log is that of the checkpoint, with
// more events.
func (w *world) checkpointGrew(kept string) {
	w.Helper()
	before, err := os.ReadFile(w.lab.Path(kept))
	if err != nil {
		w.Fatal(err)
	}
	now, err := w.cli("audit", "checkpoint")
	if err != nil {
		w.Fatal(err)
	}
	origin, rest, _ := strings.Cut(string(before), "\n")
	originNow, restNow, _ := strings.Cut(now, "\n")
	var events, eventsNow int
	if _, err := fmt.Sscan(rest, &events); err != nil {
		w.Fatal(err)
	}
	if _, err := fmt.Sscan(restNow, &eventsNow); err != nil {
		w.Fatal(err)
	}
	if origin != originNow || eventsNow <= events {
		w.Errorf("the log is %q with %d events, and was %q with %d", originNow, eventsNow, origin, events)
	}
}

// refusedUninstall tries to uninstall, and fails the test unless the hook stops
// it by naming the pod, and the release can be kept as the hook says. Its
// account has done what its role allows, and no more.
func (w *world) refusedUninstall(user string) {
	w.Helper()
	out, err := w.run("", made.helm, "uninstall", release, "--namespace", system, "--timeout", "90s")
	if err == nil {
		w.Fatalf("helm uninstall was not refused: %s", out)
	}
	said := err.Error() + w.kubectl("logs", "-n", system, "job/portcullis-uninstall-check")
	w.holds(err.Error(), "portcullis-uninstall-check")
	w.holds(said, user, "1 pod has a volume of the driver", "hint: delete them, or scale their owners to 0")
	w.kubectl("get", "daemonset", "-n", system, daemonSet)

	var hook rbacv1.ClusterRole
	for document := range strings.SplitSeq(w.helm("get", "hooks", release, "--namespace", system), "\n---") {
		var role rbacv1.ClusterRole
		if err := yaml.Unmarshal([]byte(document), &role); err != nil {
			w.Fatal(err)
		}
		if role.Kind == "ClusterRole" {
			hook = role
		}
	}
	w.rightsAreUsed(system+":portcullis-uninstall-check", hook.Rules, func(request) bool { return false })

	w.helm("rollback", release, "1", "--namespace", system, "--wait", "--timeout", "60s")
	if status := w.helm("status", release, "--namespace", system); !strings.Contains(status, "STATUS: deployed") {
		w.Errorf("after the rollback helm says: %s", status)
	}
}

// pluginIsGone waits until no pod of the chart's DaemonSets is there.
func (w *world) pluginIsGone() {
	w.Helper()
	w.eventually(90*time.Second, "the plugin's pods are gone", func() error {
		if pods := w.kubectl("get", "pods", "-n", system, "-l", "app in (secrets-store-csi-driver, portcullis-provider-local)", "-o", "name"); pods != "" {
			return fmt.Errorf("there are %s", pods)
		}
		return nil
	})
}

// objectsLeft fails the test unless of the chart's objects only those are left
// that are kept on purpose.
func (w *world) objectsLeft() {
	w.Helper()
	kinds := strings.Fields(w.kubectl("api-resources", "--verbs=list", "-o", "name"))
	kinds = slices.DeleteFunc(kinds, func(kind string) bool { return strings.HasPrefix(kind, "events") })
	left := strings.Fields(w.kubectl("get", strings.Join(kinds, ","), "-A", "-l", "app.kubernetes.io/instance="+release, "-o", "name"))
	if want := []string{"csidriver.storage.k8s.io/" + driverName}; !slices.Equal(left, want) {
		w.Errorf("the cluster still has %q of the chart, want %q", left, want)
	}
	for _, kind := range []string{"secretproviderclasses", "secretproviderclasspodstatuses"} {
		w.kubectl("get", "crd", kind+".secrets-store.csi.x-k8s.io")
	}
	w.eventually(30*time.Second, "kubelet has forgotten the driver", func() error {
		if drivers := w.kubectl("get", "csinode", node, "-o", "jsonpath={.spec.drivers[*].name}"); drivers != "" {
			return fmt.Errorf("the node has the drivers %s", drivers)
		}
		return nil
	})
	if statuses := w.kubectl("get", "secretproviderclasspodstatus", "-A", "-o", "name"); statuses != "" {
		w.Errorf("there are status objects of pods that are gone: %s", statuses)
	}
}

// nodeLeft fails the test unless the node is as it was before the installation,
// but for the log, the kept inputs, the last good policy, and what belongs to the local provider.
func (w *world) nodeLeft(files, mounts map[string]bool) {
	w.Helper()
	for at := range w.mountPoints() {
		if !mounts[at] {
			w.Errorf("the node has a mount more than before: %s", at)
		}
	}
	// What kubelet writes at its first pod, whatever pod that is.
	kubelets := []string{"/var/lib/kubelet/allocated_pods_state", "/var/lib/kubelet/actuated_pods_state"}
	log := 0
	var kept []string
	for file := range w.files() {
		switch {
		case files[file], strings.HasPrefix(file, "/var/lib/kubelet/e2e-"), slices.Contains(kubelets, file):
			continue
		case strings.HasPrefix(file, stateDir+"/audit/"):
			log++
		case !strings.HasPrefix(file, stateDir+"/audit-inputs/") && !strings.HasPrefix(file, stateDir+"/policy/") && !strings.HasPrefix(file, "/var/lib/portcullis-provider-local/"):
			w.Errorf("the node has a file more than before: %s", file)
			continue
		}
		kept = append(kept, file)
	}
	if log == 0 {
		w.Errorf("the audit log is not kept")
	}
	w.Logf("kept on the node: %s", strings.Join(slices.Sorted(slices.Values(kept)), ", "))
}

// files are what is on the node, where kubelet, the chart and its providers
// write: everything but directories.
func (w *world) files() map[string]bool {
	w.Helper()
	found := map[string]bool{}
	for _, dir := range []string{"/var/lib/kubelet", stateDir, "/var/lib/portcullis-provider-local", "/etc/kubernetes", "/run/secrets-store-csi-providers"} {
		err := filepath.WalkDir(w.lab.Path(dir), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && !entry.IsDir() {
				found[strings.TrimPrefix(path, w.lab.Root())] = true
			}
			return err
		})
		if err != nil {
			w.Fatal(err)
		}
	}
	return found
}

// mountPoints are those of the node.
func (w *world) mountPoints() map[string]bool {
	w.Helper()
	found := map[string]bool{}
	for _, line := range w.mounts("") {
		found[strings.Fields(line)[4]] = true
	}
	return found
}
