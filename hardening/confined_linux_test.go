package hardening_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// childLife makes, rotates, locks again and removes a volume with a file that
// only its owner may read, as a process that is confined and protected. rest is
// the protection and the kubelet's root.
func childLife(rest string) int {
	setting, root, _ := strings.Cut(rest, " ")
	old := unix.Umask(0o777) // which must not decide about the directories of a volume
	step := func(what string, answer ...any) { fmt.Printf("%s: %v\n", what, answer) }
	_, err := hardening.Confine(hardening.Profile{Args: os.Args, Env: os.Environ()})
	step("confine", err)
	_, err = hardening.ProtectProcess()
	step("protect", err)
	if _, err := os.ReadFile(root + "/secret"); !os.IsPermission(err) {
		step("this process reads everything, which proves nothing", old, err)
	}
	config := hardening.Config{KubeletRoot: root, Protection: hardening.Setting(setting), Linger: time.Nanosecond}
	sys, err := hardening.Open(config)
	if err != nil {
		step("open", err)
		return 0
	}
	target, err := sys.Target(podUID, "vol")
	step("target", err)
	step("prepare", target.Prepare())
	files := []hardening.File{owned("own", 1000, 0o400), valued("d/b", "1")}
	v, err := sys.NewVolume(grouped)
	step("volume", err)
	step("fill", v.Fill(files))
	step("attach", v.Attach(target))
	changed, err := v.Replace(files)
	step("replace with the same", changed, err)
	step("close", v.Close(), sys.Close())
	sys, err = hardening.Open(config)
	step("open again", err)
	_, err = sys.Relock()
	step("relock", err)
	target, err = sys.Target(podUID, "vol")
	step("target again", err)
	detached, err := target.Detach()
	step("detach", detached.Ours, err)
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	step("dumpable", dumpable, err)
	return 0
}

// TestP5P8AConfinedProcessDoesItsWork: it needs no more than it keeps, and a
// file that it reads as its owner makes it dump no core.
func TestP5P8AConfinedProcessDoesItsWork(t *testing.T) {
	// The kernel would take the change of user for a reason to dump core again.
	const suidDumpable = "/proc/sys/fs/suid_dumpable"
	if before, err := os.ReadFile(suidDumpable); err == nil && os.WriteFile(suidDumpable, []byte("2"), 0) == nil {
		t.Cleanup(func() { _ = os.WriteFile(suidDumpable, before, 0) })
	}
	eachProtection(t, func(t *testing.T, n *node) {
		hardeningtest.VolumeDir(t, n.root, podUID, "vol")
		check(t, "write", os.WriteFile(n.root+"/secret", []byte("x"), 0o600))
		check(t, "chown", os.Chown(n.root+"/secret", 1000, 1000))
		out := confinedChild(t, "life "+string(n.sys.Protection())+" "+n.root)
		want := `confine: [<nil>]
protect: [<nil>]
target: [<nil>]
prepare: [<nil>]
volume: [<nil>]
fill: [<nil>]
attach: [<nil>]
replace with the same: [false <nil>]
close: [<nil> <nil>]
open again: [<nil>]
relock: [<nil>]
target again: [<nil>]
detach: [1 <nil>]
dumpable: [0 <nil>]
`
		if out != want {
			t.Errorf("the child says\n%swant\n%s", out, want)
		}
	})
}

// childOwners reads a file of another user in many threads at once, as a process
// that is confined and protected.
func childOwners(name string) int {
	return childConfined(func() {
		if _, err := hardening.ProtectProcess(); err != nil {
			fmt.Print(err)
			return
		}
		var readers sync.WaitGroup
		for range 8 {
			readers.Go(func() {
				runtime.LockOSThread()
				for range 300 {
					if err := hardening.Reopen(name); err != nil {
						fmt.Println("reopen:", err)
						return
					}
				}
			})
		}
		readers.Wait()
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		fmt.Println("dumpable:", dumpable, err)
	})
}

// TestP5OwnersAtTheSameTime: a thread that reads as an owner undoes neither what
// another has just restored, nor takes a moment of another for what was before.
func TestP5OwnersAtTheSameTime(t *testing.T) {
	hardeningtest.NeedRoot(t)
	const suidDumpable = "/proc/sys/fs/suid_dumpable"
	before, err := os.ReadFile(suidDumpable)
	if err != nil || os.WriteFile(suidDumpable, []byte("1"), 0) != nil {
		hardeningtest.Missing(t, suidDumpable+" cannot be changed: a change of user makes no process dump core here")
		return
	}
	t.Cleanup(func() { _ = os.WriteFile(suidDumpable, before, 0) })
	name := t.TempDir() + "/secret"
	check(t, "write", os.WriteFile(name, []byte("x"), 0o400))
	check(t, "chown", os.Chown(name, 1000, 1000))
	for dir := name; dir != "/"; dir = filepath.Dir(dir) {
		if dir != name && strings.Contains(dir, t.Name()) {
			check(t, "open the way to it", os.Chmod(dir, 0o755))
		}
	}
	if out := confinedChild(t, "owners "+name); out != "dumpable: 0 <nil>\n" {
		t.Errorf("the child says %q, want every file and dumpable 0", out)
	}
}
