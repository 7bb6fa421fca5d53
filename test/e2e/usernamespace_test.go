//go:build e2e

package e2e_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A pod in a user namespace reads its secrets and sees them change; there, and
// where the author asks for it, the container's own mount has the flags too that
// a runtime drops otherwise.
func TestPodInAUserNamespace(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	namespace := w.namespace("userns")
	w.writeSecret("app/userns", "one")
	w.apply(class(namespace, "userns", "userns"))
	p := pod(namespace, "app")
	p.Spec.HostUsers = new(false)
	p.Spec.Volumes = []corev1.Volume{volume("secrets", "userns")}
	p = w.started(p)

	w.reads(p, "/secrets/userns", "one")
	w.says(p, "", "stat -Lc '%a %u %g' /secrets/userns", "440 0 2000")
	w.says(p, "", `awk '$1 == 0 && $2 > 0 {print "mapped"}' /proc/self/uid_map`, "mapped")
	line := w.mountLine(p, "", "/secrets")
	w.hasOptions(line, "ro", "nosuid", "nodev", "noexec", "idmapped", "noswap")
	w.writeSecret("app/userns", "two")
	w.becomes(p, "/secrets/userns", "two", time.Minute)
	if now := w.mountLine(p, "", "/secrets"); mountID(now) != mountID(line) || w.restarts(p, "main") != 0 {
		t.Errorf("the mount changed from %q to %q", line, now)
	}
}

// recursiveReadOnly keeps the flags in the container, without a user namespace.
func TestRecursiveReadOnlyKeepsTheFlags(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	p := pod(w.namespace("recursive"), "app")
	p.Spec.Containers[0].VolumeMounts[0].ReadOnly = true
	p.Spec.Containers[0].VolumeMounts[0].RecursiveReadOnly = new(corev1.RecursiveReadOnlyEnabled)
	p = w.started(p)
	w.reads(p, "/secrets/password", "first")
	w.hasOptions(w.mountLine(p, "", "/secrets"), "ro", "nosuid", "nodev", "noexec")
}
