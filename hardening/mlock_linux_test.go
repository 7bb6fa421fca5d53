package hardening_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// mapping is a mapping of a file of one of our volumes in this process.
type mapping struct {
	name          string
	lockedKB      int
	locked, write bool
}

// mappings reads /proc/self/smaps. The kernel's own word is the evidence:
// mincore(2) would say that pages are resident, not that they stay.
func mappings(t *testing.T, name string) []mapping {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	var list []mapping
	ours := false
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if !strings.HasSuffix(f[0], ":") {
			ours = len(f) > 5 && strings.Contains(f[5], name) && strings.Contains(f[5], "/..2")
			if ours {
				list = append(list, mapping{name: f[5], write: strings.Contains(f[1], "w")})
			}
			continue
		}
		if !ours {
			continue
		}
		last := &list[len(list)-1]
		switch f[0] {
		case "Locked:":
			last.lockedKB, _ = strconv.Atoi(f[1])
		case "VmFlags:":
			last.locked = strings.Contains(line, " lo")
		}
	}
	return list
}

func assertLocked(t *testing.T, name string, files, kb int) {
	t.Helper()
	list := mappings(t, name)
	total := 0
	for _, m := range list {
		total += m.lockedKB
		if !m.locked || m.write {
			t.Errorf("mapping %+v, want it locked and read-only", m)
		}
	}
	if len(list) != files || total != kb {
		t.Errorf("%d mappings with %d kB locked, want %d with %d kB: %+v", len(list), total, files, kb, list)
	}
}

func sizedFile(name string, n int) hardening.File {
	return hardening.File{Path: name, Mode: 0o440, Data: hardening.NewPlaintext(make([]byte, n))}
}

// TestP5MlockHoldsEveryPage follows the locked mappings through the life of a
// volume: made before the content is written, kept after the volume and all
// descriptors are closed, replaced by rotation, dropped by detach.
func TestP5MlockHoldsEveryPage(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	// File names are the test's own: other volumes may be locked meanwhile.
	v, target, _ := n.publish(t, "vol", grouped, sizedFile("lock-a", 10000), sizedFile("lock-b", 1), sizedFile("lock-empty", 0))
	assertLocked(t, "lock-", 2, 12+4)
	check(t, "close", v.Close())
	assertLocked(t, "lock-", 2, 12+4)

	again, err := target.OpenVolume()
	check(t, "OpenVolume()", err)
	if changed, err := again.Replace([]hardening.File{sizedFile("lock-c", 5000)}); !changed || err != nil {
		t.Fatalf("Replace() = %v, %v, want true, nil", changed, err)
	}
	assertLocked(t, "lock-", 1, 8)
	if changed, err := again.Replace([]hardening.File{sizedFile("lock-c", 5000)}); changed || err != nil {
		t.Fatalf("Replace() = %v, %v, want false, nil", changed, err)
	}
	assertLocked(t, "lock-", 1, 8)
	check(t, "close", again.Close())

	detach(t, target, hardening.Detached{Ours: 1})
	assertLocked(t, "lock-", 0, 0)
}

func TestP5MlockDropsWhatNeverCameToBe(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	v := n.volume(t, grouped)
	check(t, "fill", v.Fill([]hardening.File{sizedFile("drop-a", 1)}))
	assertLocked(t, "drop-", 1, 4)
	check(t, "close", v.Close())
	assertLocked(t, "drop-", 0, 0)

	wiped := valued("drop-z", "x")
	wiped.Data.Wipe()
	failed := n.volume(t, grouped)
	if err := failed.Fill([]hardening.File{sizedFile("drop-b", 1), wiped}); err == nil {
		t.Error("Fill() = nil, want an error")
	}
	assertLocked(t, "drop-", 0, 0)

	kept, _, _ := n.publish(t, "vol", grouped, sizedFile("drop-c", 1))
	if changed, err := kept.Replace([]hardening.File{sizedFile("drop-d", 9000), wiped}); changed || err == nil {
		t.Errorf("Replace() = %v, %v, want false and an error", changed, err)
	}
	assertLocked(t, "drop-", 1, 4)
	check(t, "scrub", kept.Scrub())
	assertLocked(t, "drop-", 0, 0)
}

func TestP5NoswapNeedsNoMapping(t *testing.T) {
	n := newNode(t, hardening.SettingNoswap)
	n.publish(t, "vol", grouped, sizedFile("noswap-a", 10000))
	assertLocked(t, "noswap-", 0, 0)
	if got, err := n.sys.Relock(); got != 0 || err != nil {
		t.Errorf("Relock() = %d, %v, want 0, nil", got, err)
	}
}

// TestP5RelockAfterRestart does what a start in mlock mode must do.
func TestP5RelockAfterRestart(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	n.publish(t, "one", grouped, sizedFile("relock-a", 10000), owned("relock-own", 1000, 0o400))
	_, _, dir := n.publish(t, "two", anyone, sizedFile("relock-b", 1))
	// A FIFO that a container planted must not stop the start.
	check(t, "plant", os.Symlink("x", privileged(t, dir)+"/..data/link"))
	check(t, "close", n.sys.Close())
	assertLocked(t, "relock-", 0, 0)

	n.sys = n.open(t, hardening.SettingMlock)
	for range 2 {
		if got, err := n.sys.Relock(); got != 3 || err != nil {
			t.Errorf("Relock() = %d, %v, want 3, nil", got, err)
		}
		assertLocked(t, "relock-", 3, 12+4+4)
	}
	detach(t, n.target(t, "one"), hardening.Detached{Ours: 1})
	assertLocked(t, "relock-", 1, 4)
}

// TestRelockIsBounded: what a privileged container has filled its volume with
// must not use up the memory and the mappings of the plugin.
func TestRelockIsBounded(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	_, _, dir := n.publish(t, "vol", grouped, sizedFile("much-a", 1))
	evil := privileged(t, dir)
	check(t, "raise", unix.Mount("", evil, "", unix.MS_REMOUNT, "size=8g,nr_inodes=0"))
	// So that none of it is a rotation's leftover, which would be removed.
	check(t, "remove", os.Remove(evil+"/..data"))
	// Not in one directory: a generation with that many is not listed at all.
	for i := range 3 {
		check(t, "plant", os.Mkdir(fmt.Sprintf("%s/..evil%d", evil, i), 0o700))
		for j := range 600 {
			check(t, "plant", os.WriteFile(fmt.Sprintf("%s/..evil%d/much-%d", evil, i, j), []byte("x"), 0o600))
		}
	}
	check(t, "plant", os.Mkdir(evil+"/..large", 0o700))
	for i := range 4 {
		check(t, "plant", joined(os.WriteFile(fmt.Sprintf("%s/..large/much-l%d", evil, i), nil, 0o600),
			os.Truncate(fmt.Sprintf("%s/..large/much-l%d", evil, i), 60<<20)))
	}
	if got, err := n.sys.Relock(); got > 1024 || got < 1 || err == nil {
		t.Errorf("Relock() = %d, %v, want at most 1024 and an error", got, err)
	}
	kb := 0
	for _, m := range mappings(t, "much-") {
		kb += m.lockedKB
	}
	if kb > 64<<10 {
		t.Errorf("%d kB locked, want at most one volume's", kb)
	}
}

func TestRelockGoesOnAfterAnError(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	_, _, dir := n.publish(t, "broken", grouped, sizedFile("onward-a", 1))
	evil := privileged(t, dir)
	check(t, "remove", os.Remove(evil+"/..data"))
	check(t, "plant", os.Symlink("../../etc", evil+"/..data"))
	n.publish(t, "whole", grouped, sizedFile("onward-b", 1))
	got, err := n.sys.Relock()
	if got != 2 || err == nil || !strings.Contains(err.Error(), "volume broken of pod "+podUID) {
		t.Errorf("Relock() = %d, %v, want the files of both and an error that names the volume", got, err)
	}
}

// TestRelockLeavesOutWhatHasNoContentToLock: a revoked volume and a covered one
// are no reason for a start to fail.
func TestRelockLeavesOutWhatHasNoContentToLock(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	revoked, _, _ := n.publish(t, "revoked", grouped, sizedFile("gone-a", 1))
	check(t, "scrub", revoked.Scrub())
	_, _, dir := n.publish(t, "covered", grouped, sizedFile("gone-b", 1))
	check(t, "cover", unix.Mount("x", dir, "tmpfs", 0, ""))
	n.publish(t, "whole", grouped, sizedFile("gone-c", 1))
	if got, err := n.sys.Relock(); got != 1 || err != nil {
		t.Errorf("Relock() = %d, %v, want 1, nil", got, err)
	}
}

// TestNoACLSurvivesARotation: a default access list, planted once by a
// privileged container, would give every later file readers beyond its mode.
func TestNoACLSurvivesARotation(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, dir := n.publish(t, "vol", grouped, valued("a", "v1"))
		// user::rwx user:1001:r-- group::r-x mask::r-x other::--- (acl(5), version 2)
		list := []byte{2, 0, 0, 0}
		for _, e := range []struct {
			tag, perm uint16
			id        uint32
		}{{1, 7, 0xffffffff}, {2, 4, 1001}, {4, 5, 0xffffffff}, {16, 5, 0xffffffff}, {32, 0, 0xffffffff}} {
			list = append(list, byte(e.tag), 0, byte(e.perm), 0, byte(e.id), byte(e.id>>8), byte(e.id>>16), byte(e.id>>24))
		}
		err := unix.Setxattr(privileged(t, dir), "system.posix_acl_default", list, 0)
		if errors.Is(err, unix.EOPNOTSUPP) {
			hardeningtest.Missing(t, "this kernel's tmpfs has no access lists, so there is nothing to survive")
		}
		check(t, "plant", err)
		if changed, err := v.Replace([]hardening.File{valued("a", "v2")}); !changed || err != nil {
			t.Fatalf("Replace() = %v, %v, want true, nil", changed, err)
		}
		if n, err := unix.Getxattr(dir+"/a", "system.posix_acl_access", make([]byte, 256)); !errors.Is(err, unix.ENODATA) {
			t.Errorf("access list of the new file: %d bytes, %v, want none", n, err)
		}
	})
}
