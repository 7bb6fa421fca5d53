//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names of processes, as the kernel cuts them off.
const (
	pluginProcess   = "portcullis-node"
	providerProcess = "portcullis-prov"
)

// patience is for what a kubelet's backoff may hold up: it doubles from half a
// second to 122 s.
const patience = 150 * time.Second

// process is the one process of this name in the node's pods, as this machine
// numbers it. Other clusters on this machine have others of the name.
func (w *world) process(name string) int {
	w.Helper()
	var found int
	w.eventually(patience, "one process "+name, func() error {
		pids := w.processes(func(comm string) bool { return comm == name })
		if len(pids) != 1 {
			return fmt.Errorf("there are %v", pids)
		}
		found = pids[0]
		return nil
	})
	return found
}

// processes are those in the node's pods whose name is wanted.
func (w *world) processes(wanted func(comm string) bool) []int {
	w.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		w.Fatal(err)
	}
	var pids []int
	for _, path := range stats {
		comm, err := os.ReadFile(path)
		if err != nil || !wanted(strings.TrimSpace(string(comm))) {
			continue // one that has ended
		}
		cgroup, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
		if err != nil || !bytes.Contains(cgroup, []byte("/portcullis-lab-"+w.lab.Name()+"/kubepods/")) {
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

// signal sends a signal to a process of the node's pods.
func (w *world) signal(pid int, sig syscall.Signal) {
	w.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		w.Fatalf("send %v to process %d: %v", sig, pid, err)
	}
}

// hung stops a process until the function is called, or the test ends.
func (w *world) hung(name string) (goOn func()) {
	w.Helper()
	pid := w.process(name)
	w.signal(pid, syscall.SIGSTOP)
	goOn = sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	w.Cleanup(goOn)
	return goOn
}

// auditEvent is what these tests read of an event in the node's log.
type auditEvent struct {
	ID, Type, Stage, Outcome, Reason, ParentID string
	Workload                                   struct{ Namespace, Pod, Volume string }
}

// audited are the events of a namespace in the node's log, oldest first.
func (w *world) audited(namespace string) []auditEvent {
	w.Helper()
	out, err := w.cli("audit", "tail", "-n", "0", "--namespace", namespace, "-o", "json")
	if err != nil {
		w.Fatal(err)
	}
	return w.parsed(out)
}

func (w *world) parsed(lines string) []auditEvent {
	w.Helper()
	var events []auditEvent
	for line := range strings.Lines(lines) {
		var e auditEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.Fatalf("an event of the log is %q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

// openIntents are deliveries of these events that have begun and not ended.
func openIntents(events []auditEvent) map[string]auditEvent {
	open := map[string]auditEvent{}
	for _, e := range events {
		if e.Type == "secret.mount" && e.Stage == "intent" {
			open[e.ID] = e
		}
	}
	for _, e := range events {
		delete(open, e.ParentID)
	}
	return open
}

// verified fails the test unless the log of the node verifies, asked as a
// person would: in the plugin's container.
func (w *world) verified() {
	w.Helper()
	out := w.kubectl("exec", "-n", system, w.plugin().Name, "-c", "secrets-store", "--", "/portcullis", "audit", "verify")
	if !strings.HasPrefix(out, "OK: ") {
		w.Fatalf("audit verify says:\n%s", out)
	}
	w.Logf("audit verify: %s", strings.SplitN(out, "\n", 2)[0])
}

// pluginReady waits until a plugin is ready and kubelet knows the driver.
func (w *world) pluginReady(limit time.Duration) {
	w.Helper()
	w.eventually(limit, "the plugin is ready and registered", func() error {
		list, err := w.client.CoreV1().Pods(system).List(w.Context(), metav1.ListOptions{LabelSelector: "app=secrets-store-csi-driver"})
		if err != nil {
			return err
		}
		if len(list.Items) != 1 || list.Items[0].DeletionTimestamp != nil || !isReady(&list.Items[0]) {
			return fmt.Errorf("there are %d pods of the plugin, or it is not ready", len(list.Items))
		}
		n, err := w.client.StorageV1().CSINodes().Get(w.Context(), node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, d := range n.Spec.Drivers {
			if d.Name == driverName {
				return nil
			}
		}
		return errors.New("the node does not list the driver")
	})
}

// reader is a pod that reads its password all the time, and says after every
// tenth read how often it did, and how often there was none of these values.
func (w *world) reader(namespace, name string, values ...string) *corev1.Pod {
	w.Helper()
	p := pod(namespace, name)
	p.Spec.Containers[0].Command = []string{"sh", "-c", fmt.Sprintf(`n=0; bad=0
while :; do
  value=$(cat /secrets/password 2>&1)
  case "$value" in %s) ;; *) bad=$((bad+1)); echo "read [$value]" ;; esac
  n=$((n+1)); [ $((n %% 10)) -ne 0 ] || echo "reads $n bad $bad"
  sleep 0.05
done`, strings.Join(values, "|"))}
	return w.started(p)
}

// readAllAlong fails the test if a reader ever read something else, and waits
// for reads from now on.
func (w *world) readAllAlong(p *corev1.Pod) {
	w.Helper()
	counts := func() (reads, bad int) {
		out, err := w.run("", "kubectl", "logs", "-n", p.Namespace, p.Name, "--tail=1")
		if err != nil {
			return 0, 0
		}
		_, _ = fmt.Sscanf(out, "reads %d bad %d", &reads, &bad)
		return reads, bad
	}
	var before int
	w.eventually(patience, "the reader says something", func() error {
		if before, _ = counts(); before == 0 {
			return errors.New("no count yet")
		}
		return nil
	})
	w.eventually(patience, "the reader reads on", func() error {
		now, bad := counts()
		if now > before && bad == 0 {
			w.Logf("%d reads of pod %s, none of them bad", now, p.Name)
			return nil
		}
		if bad > 0 {
			w.Fatalf("pod %s read something else %d times:\n%s", p.Name, bad, w.kubectl("logs", "-n", p.Namespace, p.Name))
		}
		return fmt.Errorf("%d reads, and no more", now)
	})
}

// burst makes pods at once, without waiting for them.
func (w *world) burst(namespace, prefix string, count int) []*corev1.Pod {
	w.Helper()
	pods := make([]*corev1.Pod, count)
	for i := range pods {
		pods[i] = w.create(pod(namespace, fmt.Sprintf("%s-%02d", prefix, i)))
	}
	return pods
}

// superblock is the device of a pod's volume, the same as long as it was not
// mounted anew.
func (w *world) superblock(p *corev1.Pod) string {
	w.Helper()
	lines := w.mounts("/var/lib/kubelet/pods/" + string(p.UID) + "/volumes/kubernetes.io~csi/secrets/mount ")
	if len(lines) != 1 {
		w.Fatalf("the volume of pod %s is mounted %d times, want once:\n%s", p.Name, len(lines), strings.Join(lines, "\n"))
	}
	return strings.Fields(lines[0])[2]
}

// gone waits until a pod is gone, and returns how long that took.
func (w *world) gone(p *corev1.Pod, limit time.Duration) time.Duration {
	w.Helper()
	begin := time.Now()
	w.eventually(limit, "pod "+p.Namespace+"/"+p.Name+" is gone", func() error {
		now, err := w.client.CoreV1().Pods(p.Namespace).Get(w.Context(), p.Name, metav1.GetOptions{})
		if err == nil && now.UID == p.UID {
			return fmt.Errorf("it is %s", now.Status.Phase)
		}
		return nil
	})
	return time.Since(begin)
}

// nothingLeft waits until the node has neither mount nor directory of pods.
func (w *world) nothingLeft(pods ...*corev1.Pod) {
	w.Helper()
	for _, p := range pods {
		w.eventually(30*time.Second, "nothing of pod "+p.Name+" is left", func() error {
			if lines := w.mounts(string(p.UID)); len(lines) > 0 {
				return fmt.Errorf("mounted is:\n%s", strings.Join(lines, "\n"))
			}
			if _, err := os.Lstat(w.lab.Path("/var/lib/kubelet/pods/" + string(p.UID))); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("its directory: %w", err)
			}
			return nil
		})
	}
}

// deletedAll deletes pods at once and waits for the end of all of them.
func (w *world) deletedAll(pods ...*corev1.Pod) {
	w.Helper()
	for _, p := range pods {
		if err := w.client.CoreV1().Pods(p.Namespace).Delete(w.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
	}
	for _, p := range pods {
		w.gone(p, patience)
	}
	w.nothingLeft(pods...)
}

// differs is nil when a value has changed.
func differs[V comparable](what string, before, now V) error {
	if before == now {
		return fmt.Errorf("%s: still %v", what, now)
	}
	return nil
}

// rotatedTo waits until a pod reads a new password.
func (w *world) rotatedTo(p *corev1.Pod, want string) {
	w.Helper()
	begin := time.Now()
	w.eventually(patience, "pod "+p.Name+" reads "+want, func() error {
		if got, err := w.sh(p, "", "cat /secrets/password"); err != nil || got != want {
			return fmt.Errorf("it reads %q, %w", got, err)
		}
		return nil
	})
	w.Logf("pod %s reads %s after %v", p.Name, want, time.Since(begin).Round(100*time.Millisecond))
}

// afterTest is a context for what must be put right also when the test's own
// has ended.
func afterTest() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
