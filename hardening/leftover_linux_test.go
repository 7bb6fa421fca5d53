package hardening_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

// leaveBehind puts into a volume what a process leaves that dies while it
// rotates: a generation that ..data does not lead to, and a link not yet moved.
func leaveBehind(t *testing.T, dir, name string, size int) (leftover string) {
	t.Helper()
	evil := privileged(t, dir)
	leftover = "..2026_01_15_12_00_00.LEFTOVER"
	check(t, "make directory", os.Mkdir(filepath.Join(evil, leftover), 0o700))
	check(t, "write", os.WriteFile(filepath.Join(evil, leftover, name), make([]byte, size), 0o600))
	check(t, "link", os.Symlink(leftover, filepath.Join(evil, "..data.LEFTOVER")))
	return leftover
}

// hidden counts the entries of a volume that begin with two dots, beside
// ..data and the generation.
func hidden(t *testing.T, dir string) (n int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, "list", err)
	current, err := os.Readlink(filepath.Join(dir, "..data"))
	check(t, "read ..data", err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") && e.Name() != "..data" && e.Name() != current {
			n++
		}
	}
	return n
}

// TestP9ACrashInARotationDoesNotEndRotations: a volume of the largest size has
// room for two generations, and one of them is the leftover of a crash.
func TestP9ACrashInARotationDoesNotEndRotations(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, dir := n.publish(t, "vol", anyone, pages(4))
		v.Allow(4*page, hardening.UpTo(9*page))
		leaveBehind(t, dir, "a", 4*page)
		if changed, err := v.Replace([]hardening.File{valued("a", strings.Repeat("x", 4*page))}); !changed || err != nil {
			t.Fatalf("Replace() = %v, %v, want true, nil", changed, err)
		}
		assertContent(t, dir+"/a", strings.Repeat("x", 4*page))
		if got := hidden(t, dir); got != 0 {
			t.Errorf("%d leftovers after a rotation, want none", got)
		}
		assertSize(t, v, 9)
	})
}

// Where ..data leads nowhere, any generation may be the one that a pod still
// reads.
func TestLeftoversStayWhereNothingIsCurrent(t *testing.T) {
	for _, link := range []string{"", "..data", "..nowhere", "../../etc"} {
		t.Run(link, func(t *testing.T) {
			n := newNode(t, hardening.SettingNoswap)
			v, _, dir := n.publish(t, "vol", anyone, pages(1))
			v.Allow(4*page, hardening.UpTo(page)) // no rotation has room
			leftover := leaveBehind(t, dir, "a", page)
			evil := privileged(t, dir)
			check(t, "remove", os.Remove(evil+"/..data"))
			if link != "" {
				check(t, "link", os.Symlink(link, evil+"/..data"))
			}
			if changed, err := v.Replace([]hardening.File{pages(2)}); changed || err == nil {
				t.Fatalf("Replace() = %v, %v, want false and an error", changed, err)
			}
			if _, err := os.Stat(filepath.Join(dir, leftover, "a")); err != nil {
				t.Errorf("a generation is gone: %v", err)
			}
		})
	}
}

// TestP5AStartLeavesNoPageOfACrashUnlocked: mappings end with the process, and a
// start locks the current generation only.
func TestP5AStartLeavesNoPageOfACrashUnlocked(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	_, _, dir := n.publish(t, "vol", grouped, sizedFile("crash-a", 10000))
	leaveBehind(t, dir, "crash-b", 10000)
	check(t, "close", n.sys.Close())
	n.sys = n.open(t, hardening.SettingMlock)
	if got, err := n.sys.Relock(); got != 1 || err != nil {
		t.Errorf("Relock() = %d, %v, want 1, nil", got, err)
	}
	assertLocked(t, "crash-", 1, 12)
	if got := hidden(t, dir); got != 0 {
		t.Errorf("%d leftovers after a start, want none", got)
	}
	assertContent(t, dir+"/crash-a", string(make([]byte, 10000)))
}

// Nothing leads to the files of a volume whose scrub was cut off, and they are
// as secret as before.
func TestP5AStartLocksWhatAScrubLeft(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	_, _, dir := n.publish(t, "vol", grouped, sizedFile("cut-a", 10000), sizedFile("cut-b", 1))
	leaveBehind(t, dir, "cut-c", 5000)
	check(t, "unlink", os.Remove(privileged(t, dir)+"/..data"))
	check(t, "close", n.sys.Close())
	n.sys = n.open(t, hardening.SettingMlock)
	if got, err := n.sys.Relock(); got != 3 || err != nil {
		t.Errorf("Relock() = %d, %v, want 3, nil", got, err)
	}
	assertLocked(t, "cut-", 3, 12+4+8)
	detach(t, n.target(t, "vol"), hardening.Detached{Ours: 1})
	assertLocked(t, "cut-", 0, 0)
}

// A start that was held up goes on when the volume is long unmounted; nobody
// would release what it locks then.
func TestRelockKeepsNothingOfAVolumeThatIsGone(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	_, target, dir := n.publish(t, "vol", grouped, sizedFile("late-a", 10000))
	v, err := target.OpenVolume()
	check(t, "OpenVolume()", err)
	check(t, "unmount", unix.Unmount(dir, unix.MNT_DETACH))
	detach(t, target, hardening.Detached{})
	if got, err := hardening.RelockVolume(target, v); got != 1 {
		t.Errorf("RelockVolume() = %d, %v, want 1 file that was locked", got, err)
	}
	assertLocked(t, "late-", 0, 0)
	check(t, "close", v.Close())
}

// TestRelockFillsNoHoles: tmpfs gives a locked hole a page, which the plugin
// would pay for; a container with CAP_SYS_ADMIN has as many as it likes.
func TestRelockFillsNoHoles(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	_, _, dir := n.publish(t, "vol", grouped, sizedFile("holes-a", 10000), sizedFile("holes-b", 1))
	evil := privileged(t, dir)
	check(t, "raise", unix.Mount("", evil, "", unix.MS_REMOUNT, "size=1g"))
	check(t, "truncate", os.Truncate(evil+"/holes-a", 64<<20))
	if got, err := n.sys.Relock(); got != 1 || err == nil || !strings.Contains(err.Error(), "holes") {
		t.Errorf("Relock() = %d, %v, want 1 and an error that names the file", got, err)
	}
	assertLocked(t, "holes-", 1, 4)
	var st unix.Stat_t
	check(t, "stat", unix.Stat(dir+"/holes-a", &st))
	if st.Blocks*512 > 3*page {
		t.Errorf("the file has %d bytes of memory, want the three pages that it had", st.Blocks*512)
	}
}
