//go:build e2e

package e2e_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// identity prints user, group and the sorted groups of a process, and mode and
// owner of file, directory and mount point.
const identity = `echo $(id -u) $(id -g) $(id -G | tr ' ' '\n' | sort -n); stat -Lc '%a %u %g' /secrets/password /secrets/..data /secrets`

// kubelet tells the plugin the group of a read-only volume (volume_mount_group),
// so that every container of the pod reads files of mode 0440 by its group,
// whatever its user, and nobody by any other way.
func TestP6ContainersOfTwoUsersReadByFSGroup(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	p := pod(w.namespace("fsgroup"), "two-users")
	p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: new(int64(1337))}
	same, other := container("same"), container("other")
	same.SecurityContext = &corev1.SecurityContext{RunAsUser: new(int64(1337))} // without runAsGroup its group is 0
	other.SecurityContext = &corev1.SecurityContext{RunAsUser: new(int64(2000)), RunAsGroup: new(int64(2000))}
	p.Spec.Containers = []corev1.Container{same, other}
	p = w.started(p)

	const files = "440 0 1337\n750 0 1337\n750 0 1337"
	w.says(p, "same", identity, "1337 0 0 1337\n"+files)
	w.says(p, "other", identity, "2000 2000 1337 2000\n"+files)
	for _, name := range []string{"same", "other"} {
		w.says(p, name, "cat /secrets/password", "first")
	}
	onNode := w.volumes(p)
	if len(onNode) != 1 {
		t.Fatalf("the node has the mounts %q, want one", onNode)
	}
	w.hasOptions(onNode[0], "gid=1337")
}

// Without fsGroup no group can keep the files apart: the starter policy refuses
// the pod and says so, unless its namespace is exempt. There files are readable by
// every user of the pod, as far as the grant's maxFileMode goes.
func TestPodWithoutFSGroup(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	without := func(namespace, name string, c *corev1.PodSecurityContext) *corev1.Pod {
		p := pod(namespace, name)
		p.Spec.SecurityContext = c
		return p
	}
	denied := w.create(without(w.namespace("nofsgroup"), "app", &corev1.PodSecurityContext{RunAsUser: new(int64(1000))}))
	exempt := w.namespace(groupless)
	groupZero := w.started(without(exempt, "group-zero", &corev1.PodSecurityContext{RunAsUser: new(int64(1000))}))
	other := w.started(without(exempt, "other-group", &corev1.PodSecurityContext{RunAsUser: new(int64(1000)), RunAsGroup: new(int64(1000))}))

	w.says(groupZero, "", "id -u; id -g", "1000\n0")
	w.says(groupZero, "", "cat /secrets/password", "first")
	w.says(other, "", "id -u; id -g; stat -Lc '%a %u %g' /secrets/password; cat /secrets/password", "1000\n1000\n444 0 0\nfirst")

	all := w.event(denied, "PR-210", time.Minute)
	if !strings.Contains(all, "set securityContext.fsGroup in the pod to the group of its processes") {
		t.Errorf("the events do not say what to do:\n%s", all)
	}
	if len(w.volumes(denied)) != 0 {
		t.Error("the refused pod has a mount")
	}
}
