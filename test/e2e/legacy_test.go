//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// volumeOf is the line of a pod's volume in the node's mount table.
func (w *world) volumeOf(p *corev1.Pod) string {
	w.Helper()
	lines := w.mounts("/pods/" + string(p.UID) + "/volumes/kubernetes.io~csi/secrets/mount")
	if len(lines) != 1 {
		w.Fatalf("pod %s has the mounts %q at its volume, want one", p.Name, lines)
	}
	return lines[0]
}

// legacyVolumes are the mounts of pods, which must be as the upstream driver
// makes them.
func (w *world) legacyVolumes(pods ...*corev1.Pod) (lines map[string]string) {
	w.Helper()
	lines = map[string]string{}
	for _, p := range pods {
		line := w.volumeOf(p)
		if !strings.Contains(line, " - tmpfs tmpfs rw") {
			w.Fatalf("the volume of pod %s is not the upstream driver's: %s", p.Name, line)
		}
		if _, err := w.sh(p, "", "readlink /secrets/..data && test -L "+secretFile); err != nil {
			w.Fatalf("the volume of pod %s has not the upstream driver's layout: %v", p.Name, err)
		}
		lines[p.Name] = line
	}
	return lines
}

// secretFile is the file of the class that workload makes.
const secretFile = "/secrets/secret"

// leftAlone waits until pods that the upstream driver mounted are told to
// restart, and are counted; nothing about them has changed.
func (w *world) leftAlone(before map[string]string, pods ...*corev1.Pod) {
	w.Helper()
	for _, p := range pods {
		w.event(p, "RestartToProtect", time.Minute)
		if now := w.volumeOf(p); now != before[p.Name] {
			w.Errorf("the volume of pod %s was %s, is %s", p.Name, before[p.Name], now)
		}
		if got, err := w.sh(p, "", "cat "+secretFile); err != nil || got == "" {
			w.Errorf("pod %s reads %q, %v", p.Name, got, err)
		}
		for line := range strings.Lines(w.events(p)) {
			if strings.Contains(line, "FailedMount") && !noDriver(line) {
				w.Errorf("a republish of pod %s failed: %s", p.Name, line)
			}
		}
	}
	w.eventually(time.Minute, "all old volumes are counted", func() error {
		if got := w.metric(w.plugin(), "portcullis_legacy_volumes"); got != float64(len(pods)) {
			return fmt.Errorf("portcullis_legacy_volumes is %v, want %d", got, len(pods))
		}
		return nil
	})
}

// noDriver reports whether kubelet tried while neither driver was there.
func noDriver(event string) bool {
	return strings.Contains(event, "not found in the list of registered CSI drivers") || strings.Contains(event, "code = Unavailable desc = connection error")
}

// endsCleanly deletes a pod, and fails the test unless nothing of its volume is
// left.
func (w *world) endsCleanly(p *corev1.Pod) {
	w.Helper()
	w.deleted(p)
	w.eventually(time.Minute, "pod "+p.Name+" leaves nothing", func() error {
		if lines := w.mounts(string(p.UID)); len(lines) > 0 {
			return fmt.Errorf("mounts are left: %q", lines)
		}
		if _, err := os.Lstat(w.lab.Path("/var/lib/kubelet/pods/" + string(p.UID))); !os.IsNotExist(err) {
			return fmt.Errorf("its directory: %w, want that there is none", err)
		}
		out, err := w.run("", "kubectl", "-n", p.Namespace, "get", "secretproviderclasspodstatuses", "-o", "name")
		if err != nil || strings.Contains(out, p.Name) {
			return fmt.Errorf("status objects: %s, %w", out, err)
		}
		return nil
	})
}

// protected fails the test unless the volumes of pods are ours.
func (w *world) protected(pods ...*corev1.Pod) {
	w.Helper()
	for _, p := range pods {
		line := w.volumeOf(p)
		for _, option := range []string{"ro,", "nosuid", "nodev", "noexec"} {
			if !strings.Contains(line, option) {
				w.Errorf("the volume of pod %s is not %s: %s", p.Name, option, line)
			}
		}
	}
}

// enforced waits until what nobody granted is denied.
func (w *world) enforced() {
	w.Helper()
	w.apply(class("shop", "curious", "db-password"))
	w.kubectl("-n", "shop", "patch", "secretproviderclass", "curious", "--type=merge",
		"-p", `{"spec":{"parameters":{"objects":"- objectName: payments/db-password\n"}}}`)
	w.eventually(3*time.Minute, "policy denies what monitor mode allowed", func() error {
		curious := pod("shop", "curious")
		curious.Spec.ServiceAccountName = "web"
		curious.Spec.Volumes = []corev1.Volume{volume("secrets", "curious")}
		p := w.create(curious)
		defer w.deleted(p)
		w.eventually(time.Minute, "the pod mounts or is denied", func() error {
			if events := w.events(p); !strings.Contains(events, "PR-001") && !strings.Contains(events, "Started") {
				return fmt.Errorf("its events: %s", events)
			}
			return nil
		})
		if !strings.Contains(w.events(p), "PR-001") {
			return fmt.Errorf("it mounts")
		}
		return nil
	})
}
