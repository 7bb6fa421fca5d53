//go:build e2e

package e2e_test

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// now is a pod as the API server has it.
func (w *world) now(p *corev1.Pod) *corev1.Pod {
	w.Helper()
	now, err := w.client.CoreV1().Pods(p.Namespace).Get(w.Context(), p.Name, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return now
}

// restarts is how often a container of a pod was started again; the pod still is
// the same one.
func (w *world) restarts(p *corev1.Pod, container string) int32 {
	w.Helper()
	now := w.now(p)
	if now.UID != p.UID {
		w.Fatalf("pod %s was replaced", p.Name)
	}
	for _, s := range now.Status.ContainerStatuses {
		if s.Name == container {
			return s.RestartCount
		}
	}
	w.Fatalf("pod %s has no container %s", p.Name, container)
	return 0
}

// volumes are the lines of the node's mount table for volumes of a pod.
func (w *world) volumes(p *corev1.Pod) []string {
	w.Helper()
	return w.mounts("/var/lib/kubelet/pods/" + string(p.UID) + "/volumes/kubernetes.io~csi/")
}

// says fails the test unless a command in a container prints a text.
func (w *world) says(p *corev1.Pod, container, command, want string) {
	w.Helper()
	if got, err := w.sh(p, container, command); err != nil || got != want {
		w.Fatalf("%q in container %s of pod %s prints %q, %v, want %q", command, container, p.Name, got, err, want)
	}
}

// becomes waits until a file of a pod has a content.
func (w *world) becomes(p *corev1.Pod, path, want string, limit time.Duration) {
	w.Helper()
	w.eventually(limit, path+" of pod "+p.Name+" has "+want, func() error {
		if got, err := w.sh(p, "", "cat "+path); err != nil || got != want {
			return fmt.Errorf("it reads %q, %w", got, err)
		}
		return nil
	})
}

// mountLine is a container's own line of the mount table for a directory.
func (w *world) mountLine(p *corev1.Pod, container, dir string) string {
	w.Helper()
	out, err := w.sh(p, container, "grep ' "+dir+" ' /proc/self/mountinfo")
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// hasOptions fails the test unless a line of a mount table has these options,
// of the mount or of the file system.
func (w *world) hasOptions(line string, options ...string) {
	w.Helper()
	have := map[string]bool{}
	for field := range strings.FieldsSeq(line) {
		for option := range strings.SplitSeq(field, ",") {
			have[option] = true
		}
	}
	for _, option := range options {
		if !have[option] {
			w.Errorf("the mount lacks %s: %s", option, line)
		}
	}
}

// mountID tells the mounts of a mount table apart, and their file systems: what
// else its line says may change while it is mounted.
func mountID(line string) string {
	fields := strings.Fields(line)
	return strings.Join(fields[:min(3, len(fields))], " ")
}
