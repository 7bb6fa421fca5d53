//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/test/cluster/lab"
)

const (
	stateRoom = 48 << 20
	// A volume of the largest content may fill twice that and some, for the
	// generation that takes its place; a namespace has a quarter of 128 MiB.
	perNamespace = 15
)

// limited is a cluster whose state directory is a small disk, and that does not
// fetch again what a test measures.
func limited(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	w := newWorld(t, "limits")
	w.must("", "mkdir", "-p", stateDir)
	w.must("", "mount", "-t", "tmpfs", "-o", fmt.Sprintf("mode=700,size=%d", stateRoom), "state", stateDir)
	w.installAll("--set", "rotationPollInterval=30m")
	return w
}

// What limits a node: memory for volumes, and room for the log. Where one ends,
// nothing more is granted and everything else goes on.
func TestP8LimitsOfANode(t *testing.T) {
	w := limited(t)
	t.Run("memory", func(t *testing.T) { w.as(t).memorySpent() })
	t.Run("provider hangs", func(t *testing.T) { w.as(t).providerHangs() })
	t.Run("disk of the log", func(t *testing.T) { w.as(t).diskFull() })
	t.Run("reboot", func(t *testing.T) { w.as(t).rebooted() })
}

// as is the world as a subtest sees it.
func (w *world) as(t *testing.T) *world {
	view := *w
	view.T = t
	t.Cleanup(view.explain)
	return &view
}

// memorySpent: the budget of the node ends before the memory limit does.
func (w *world) memorySpent() {
	w.writeSecret("app/large", strings.Repeat("x", 1<<20-4096))
	var full []*corev1.Pod
	for i := range 4 {
		full = append(full, w.create(w.large(fmt.Sprintf("large-%d", i), perNamespace)))
	}
	for _, p := range full {
		w.ready(p, patience)
		w.eventually(patience, "the content is there", func() error {
			size, err := w.sh(p, "", "cat /secrets-*/large | wc -c")
			if want := fmt.Sprint(perNamespace * (1<<20 - 4096)); err != nil || size != want {
				return fmt.Errorf("%s bytes, %w, want %s", size, err, want)
			}
			return nil
		})
	}
	over := w.create(w.large("large-over", perNamespace))
	said := w.event(over, "code = ResourceExhausted", patience)
	if !strings.Contains(said, "hint: use fewer or smaller volumes, or raise --max-volume-bytes and --max-node-bytes") {
		w.Errorf("the event has no remedy:\n%s", said)
	}
	w.pluginReady(patience)
	status := w.plugin().Status.ContainerStatuses[0]
	if status.RestartCount != 0 || status.LastTerminationState.Terminated != nil {
		w.Errorf("the plugin was restarted %d times: %v", status.RestartCount, status.LastTerminationState)
	}
	w.Logf("%d volumes of nearly 1 MiB; then: %s", 4*perNamespace, firstWith(said, "ResourceExhausted"))
	w.deletedAll(full...)
	w.ready(over, patience)
	w.deletedAll(over)
	w.verified()
}

// large is a pod with so many volumes of the largest content, in a namespace of
// its own.
func (w *world) large(namespace string, volumes int) *corev1.Pod {
	w.Helper()
	w.namespace(namespace)
	w.apply(class(namespace, "large", "large"))
	p := pod(namespace, "large")
	p.Spec.Volumes, p.Spec.Containers[0].VolumeMounts = nil, nil
	for i := range volumes {
		name := fmt.Sprintf("secrets-%02d", i)
		p.Spec.Volumes = append(p.Spec.Volumes, volume(name, "large"))
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/" + name})
	}
	return p
}

func firstWith(lines, text string) string {
	for line := range strings.Lines(lines) {
		if strings.Contains(line, text) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// diskFull: a plugin that comes back to a full disk grants nothing, and pods
// read on and end. With room it grants by itself.
func (w *world) diskFull() {
	namespace := w.namespace("disk")
	runs, ends := w.reader(namespace, "runs", "first"), w.started(pod(namespace, "ends"))
	w.pluginAway()
	filler := w.lab.Path(stateDir + "/filler")
	w.fill(filler)
	w.Cleanup(func() { _ = os.Remove(filler) })
	w.pluginBack()

	refused := w.create(pod(namespace, "refused"))
	said := w.event(refused, "the audit log", patience)
	w.Logf("with a full disk: %s", firstWith(said, "the audit log"))
	if !strings.Contains(said, "code = Unavailable") || !strings.Contains(said, "hint: ") {
		w.Errorf("the event has no code or remedy:\n%s", said)
	}
	w.deletedAll(ends)
	if lines := w.mounts("/pods/" + string(refused.UID) + "/volumes/kubernetes.io~csi/"); len(lines) > 0 {
		w.Errorf("the refused pod has a volume: %v", lines)
	}
	w.readAllAlong(runs)
	if err := os.Remove(filler); err != nil {
		w.Fatal(err)
	}
	w.ready(refused, patience)
	w.reads(refused, "/secrets/password", "first")
	w.pluginReady(patience)
	w.deletedAll(runs, refused)
	w.verified()
}

// pluginAway takes the plugin off the node, until pluginBack.
func (w *world) pluginAway() {
	w.Helper()
	w.kubectl("patch", "daemonset", "-n", system, daemonSet, "--type=merge", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"nobody":"has"}}}}}`)
	w.eventually(patience, "the plugin is gone", func() error {
		if pids := w.processes(func(comm string) bool { return comm == pluginProcess }); len(pids) > 0 {
			return fmt.Errorf("it is process %v", pids)
		}
		return nil
	})
}

func (w *world) pluginBack() {
	w.Helper()
	w.kubectl("patch", "daemonset", "-n", system, daemonSet, "--type=merge", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"nobody":null}}}}}`)
	w.process(pluginProcess)
}

// fill fills a disk to the last byte.
func (w *world) fill(path string) {
	w.Helper()
	f, err := os.Create(path)
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		n, err := f.Write(block)
		if err != nil && n == 0 && len(block) == 4096 {
			return
		}
		if err != nil {
			block = block[:4096]
		}
	}
}

// rebooted: after a restart of the machine there is no process, no mount and
// nothing below /run of before, and kubelet starts the node's pods anew.
func (w *world) rebooted() {
	namespace := w.namespace("reboot")
	runs := w.started(pod(namespace, "runs"))
	for _, daemon := range []string{lab.Kubelet, lab.Containerd} {
		if err := w.lab.Stop(w.Context(), daemon); err != nil {
			w.Fatal(err)
		}
	}
	w.powerLost()
	if lines := w.mounts("/var/lib/kubelet/pods/"); len(lines) > 0 {
		w.Fatalf("mounts outlived the reboot:\n%s", strings.Join(lines, "\n"))
	}
	for _, daemon := range []string{lab.Containerd, lab.Kubelet} {
		if err := w.lab.Start(w.Context(), daemon); err != nil {
			w.Fatal(err)
		}
	}
	w.eventually(patience, "the pod's container was started again", func() error {
		now, err := w.client.CoreV1().Pods(namespace).Get(w.Context(), runs.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if s := now.Status.ContainerStatuses; !isReady(now) || len(s) != 1 || s[0].RestartCount != 1 || s[0].State.Running == nil {
			return fmt.Errorf("it is %s, %v; events: %s", now.Status.Phase, s, w.events(runs))
		}
		return nil
	})
	w.pluginReady(patience)
	w.reads(runs, "/secrets/password", "first")
	w.superblock(runs)
	fresh := w.started(pod(namespace, "fresh"))
	w.deletedAll(runs, fresh)
	w.verified()
}

// powerLost ends every process of the node's pods and takes away what is only
// in memory. Here the directories below /var are in memory too, and stay: on a
// node they are on the disk.
func (w *world) powerLost() {
	w.Helper()
	shims, containers := w.shims(), w.processes(func(string) bool { return true })
	if len(shims) == 0 || len(containers) == 0 {
		w.Fatalf("the pods of the node are the processes %v and %v, want some of both", shims, containers)
	}
	for _, pid := range append(shims, containers...) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			w.Fatal(err)
		}
	}
	w.eventually(patience, "no process of a pod is left", func() error {
		if pids := w.processes(func(string) bool { return true }); len(pids) > 0 {
			return fmt.Errorf("there are %v", pids)
		}
		return nil
	})
	w.must("", "sh", "-c", `set -e
awk '$5 ~ "^/(var/lib/kubelet/pods|run/containerd|run/netns|var/run/netns)/" {print $5}' /proc/self/mountinfo | sort -r | while read -r at; do
  umount -l "$at" || :
done
rm -rf /run/containerd/* /run/netns /run/cni /run/secrets-store-csi-providers`)
}

// shims are the processes between containerd and containers.
func (w *world) shims() []int {
	w.Helper()
	ours, err := os.Readlink(filepath.Join(filepath.Dir(w.lab.Root()), "ns/pid"))
	if err != nil {
		w.Fatal(err)
	}
	found, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		w.Fatal(err)
	}
	var pids []int
	for _, path := range found {
		comm, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(comm)) != "containerd-shim" {
			continue
		}
		if namespace, err := os.Readlink(filepath.Join(filepath.Dir(path), "ns/pid")); err != nil || namespace != ours {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			w.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}
