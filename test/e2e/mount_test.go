//go:build e2e

package e2e_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A pod that is granted its secrets reads them, and nobody else had to do
// anything.
func TestPodReadsItsSecret(t *testing.T) {
	w := theWorld(t)
	p := w.started(pod(w.namespace("reads"), "app"))
	w.reads(p, "/secrets/password", "first")
	w.reads(p, "/secrets/user", "scott")
}

// Root in a container, with what a runtime gives it, changes nothing; on the
// node the volume is as small as it may be, and never in swap.
func TestP6RootInAContainerCannotWrite(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	p := pod(w.namespace("readonly"), "root")
	p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(0)), FSGroup: new(int64(2000))}
	p = w.started(p)
	w.says(p, "", "id -u", "0")
	for _, attempt := range []string{
		"echo x > /secrets/password", "echo x >> /secrets/..data/password", "touch /secrets/new", "rm /secrets/..data/password",
		"rm -r /secrets/..data", "chmod 666 /secrets/password", "ln -s /etc /secrets/link", "mkdir /secrets/dir",
		"mount -o remount,rw /secrets", "mount -o remount,bind,rw /secrets", "umount /secrets", "mount -t tmpfs none /secrets",
	} {
		out, err := w.sh(p, "", attempt+" 2>&1")
		if err == nil {
			t.Errorf("%q in the container succeeds: %s", attempt, out)
		} else if !strings.Contains(err.Error(), "Read-only file system") && !strings.Contains(err.Error(), "ermission denied") && !strings.Contains(err.Error(), "not permitted") {
			t.Errorf("%q fails for another reason: %v", attempt, err)
		}
	}
	w.reads(p, "/secrets/password", "first")
	w.hasOptions(w.mountLine(p, "", "/secrets"), "ro", "noswap")

	onNode := w.volumes(p)
	if len(onNode) != 1 {
		t.Fatalf("the node has %d mounts for the pod, want one: %q", len(onNode), onNode)
	}
	w.hasOptions(onNode[0], "ro", "nosuid", "nodev", "noexec", "noswap", "gid=2000", "tmpfs")
	if !strings.Contains(onNode[0], ",size=") && !strings.Contains(onNode[0], " size=") {
		t.Errorf("the volume has no limit: %s", onNode[0])
	}
}

// A value that changes at the provider reaches the running container: by the
// same mount, without a restart, and whoever reads meets either value whole.
func TestP9RotationReachesARunningContainer(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	namespace := w.namespace("rotation")
	w.writeSecret("app/rotating", "one")
	w.apply(class(namespace, "rotating", "rotating"))
	p := pod(namespace, "reader")
	p.Spec.Volumes = []corev1.Volume{volume("secrets", "rotating")}
	// It prints each value once, and every time that it cannot read one.
	p.Spec.Containers[0].Command = []string{"sh", "-c", `while :; do v=$(cat /secrets/rotating) || echo unreadable; [ "$v" = "$last" ] || echo "$v"; last=$v; sleep 0.01; done`}
	holder := container("holder") // keeps the file and the directory that it opened first
	holder.Command = []string{"sh", "-c", "cd /secrets/..data; exec 3<rotating; sleep 100000"}
	p.Spec.Containers = append(p.Spec.Containers, holder)
	p = w.started(p)
	w.reads(p, "/secrets/rotating", "one")
	inside, onNode := w.mountLine(p, "", "/secrets"), w.volumes(p)

	for _, value := range []string{"two", "three"} {
		w.writeSecret("app/rotating", value)
		begin := time.Now()
		w.becomes(p, "/secrets/rotating", value, time.Minute)
		t.Logf("the value reached the container after %v", time.Since(begin).Round(100*time.Millisecond))
	}
	if got := strings.Fields(w.kubectl("logs", "-n", namespace, p.Name, "-c", "main")); strings.Join(got, " ") != "one two three" {
		t.Errorf("the reader met %q, want each value once", got)
	}
	w.says(p, "holder", "cat /proc/1/fd/3", "one")
	if out, err := w.sh(p, "holder", "cat /proc/1/cwd/rotating"); err == nil && out != "one" {
		t.Errorf("a directory of the first generation has the value %q", out)
	}
	if now := w.mountLine(p, "", "/secrets"); mountID(now) != mountID(inside) {
		t.Errorf("the container's mount changed from %q to %q", inside, now)
	}
	if now := w.volumes(p); len(now) != 1 || len(onNode) != 1 || mountID(now[0]) != mountID(onNode[0]) {
		t.Errorf("the node's mount changed from %q to %q", onNode, now)
	}
	for _, name := range []string{"main", "holder"} {
		if n := w.restarts(p, name); n != 0 {
			t.Errorf("container %s restarted %d times", name, n)
		}
	}
	w.event(p, `the secrets of volume "secrets" were fetched again and have changed`, time.Minute)
}
