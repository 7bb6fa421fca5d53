package hardening_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

// many is more than a node has volumes, and what one privileged pod can make of
// its own with mount --bind.
const many = 2000

// bindMany binds a volume of an attacker to places below the pods directory.
func (n *node) bindMany(t testing.TB, dir string, count int, place func(i int) string) {
	t.Helper()
	for i := range count {
		p := filepath.Join(n.root, "pods", podUID, place(i))
		check(t, "mkdir", os.MkdirAll(p, 0o700))
		check(t, "bind", unix.Mount(dir, p, "", unix.MS_BIND, ""))
		t.Cleanup(func() { _ = unix.Unmount(p, unix.MNT_DETACH) })
	}
}

// The unpublish of one pod looks through what another has made, without reading
// the mount table for each: that took 16 seconds.
func TestDetachBesideManyBinds(t *testing.T) {
	n := newNode(t, hardening.SettingNoswap)
	_, _, dir := n.publish(t, "evil", grouped, valued("a", "1"))
	_, victim, _ := n.publish(t, "good", grouped, valued("a", "1"))
	n.bindMany(t, dir, many, func(i int) string { return fmt.Sprint("x/", i) })
	// And one that is not where the table has it, which is looked for again.
	n.bindMany(t, dir, 1, func(int) string { return "y/0" })
	over := filepath.Join(n.root, "pods", podUID, "y")
	mountTmpfs(t, "over", over)
	t.Cleanup(func() { _ = unix.Unmount(over, unix.MNT_DETACH) })
	within(t, time.Minute, "Detach", func() {
		d, err := victim.Detach()
		if d.Ours != 1 || d.Foreign != 0 || err != nil {
			t.Errorf("Detach() = %+v, %v, want one volume of ours and nil", d, err)
		}
	})
}

// A start looks at each target once: a goroutine for each of so many mounts took
// gigabytes.
func TestStartBesideManyBinds(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	v, _, dir := n.publish(t, "evil", grouped, valued("a", "1"))
	check(t, "close", v.Close())
	n.publish(t, "good", grouped, valued("a", "1"))
	n.bindMany(t, dir, many, func(int) string { return "volumes/kubernetes.io~csi/evil/mount" })
	within(t, time.Minute, "Relock", func() {
		if got, err := n.sys.Relock(); err != nil || got != 2 {
			t.Errorf("Relock() = %d, %v, want both files and nil", got, err)
		}
	})
	n.expectMounted(t, "evil", "good")
}

// What somebody binds to targets that he made up is no volume of a node, and
// takes nothing of its budget.
func TestMountsCountAVolumeOnce(t *testing.T) {
	n := newNode(t, hardening.SettingNoswap)
	_, _, dir := n.publish(t, "evil", grouped, valued("a", "1"))
	n.bindMany(t, dir, 128, func(i int) string { return fmt.Sprintf("volumes/kubernetes.io~csi/e%d/mount", i/2) })
	n.expectMounted(t, "evil")
}

// A volume that another one covers is there still.
func TestMountsListACoveredVolume(t *testing.T) {
	n := newNode(t, hardening.SettingNoswap)
	_, _, evil := n.publish(t, "evil", grouped, valued("a", "1"))
	_, _, good := n.publish(t, "good", grouped, valued("a", "1"))
	check(t, "cover", unix.Mount(evil, good, "", unix.MS_BIND, ""))
	n.expectMounted(t, "evil", "good")
}

func (n *node) expectMounted(t testing.TB, want ...string) {
	t.Helper()
	list, err := n.sys.Mounts()
	check(t, "Mounts", err)
	var got []string
	for _, m := range list {
		got = append(got, m.Volume)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("Mounts() = %q, want %q", got, want)
	}
}

// Names are removed as they are read: on the file system of the kubelet's
// directory, on a tmpfs, and none is left.
func TestDetachOfManyNames(t *testing.T) {
	const names = 20000
	fill := func(dir string) {
		for i := range names {
			check(t, "make", unix.Mknod(fmt.Sprintf("%s/%0200d", dir, i), unix.S_IFREG|0o600, 0))
		}
	}
	n := newNode(t, hardening.SettingNoswap)
	target, dir := n.place(t, "plain")
	fill(dir)
	detach(t, target, hardening.Detached{Plain: names})
	assertAbsent(t, dir)

	_, target, dir = n.publish(t, "vol", grouped, valued("a", "1"))
	evil := privileged(t, dir)
	check(t, "remount", unix.Mount("", evil, "", unix.MS_REMOUNT, "nr_inodes=0,size=64m"))
	fill(evil)
	detach(t, target, hardening.Detached{Ours: 1})
	left, err := os.ReadDir(evil)
	if check(t, "list", err); len(left) != 0 {
		t.Errorf("%d names are left, want 0", len(left))
	}
}
