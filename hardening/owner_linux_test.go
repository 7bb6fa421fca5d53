package hardening_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// ownerName is the attribute that says for which target a volume was made.
const ownerName = "security.portcullis.target"

// publishOther attaches a volume for another pod.
func (n *node) publishOther(t *testing.T, files ...hardening.File) (*hardening.Target, string) {
	t.Helper()
	dir := hardeningtest.VolumeDir(t, n.root, otherUID, "vol")
	target, err := n.sys.Target(otherUID, "vol")
	check(t, "target", err)
	t.Cleanup(func() { check(t, "close target", target.Close()) })
	v := n.volume(t, anyone)
	check(t, "publish", joined(target.Prepare(), v.Fill(files), v.Attach(target)))
	return target, dir
}

func assertNotOurs(t *testing.T, target *hardening.Target) {
	t.Helper()
	if v, err := target.OpenVolume(); !errors.Is(err, hardening.ErrNotOurs) {
		t.Errorf("OpenVolume() = %v, %v, want %v", v, err, hardening.ErrNotOurs)
	}
}

// TestVolumeOfAnotherPodIsForeign: were it taken for this pod's, the next
// rotation would write this pod's secrets where the other pod reads.
func TestVolumeOfAnotherPodIsForeign(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		other, otherDir := n.publishOther(t, valued("a", "theirs"))
		target, dir := n.place(t, "vol")
		check(t, "bind", unix.Mount(otherDir, dir, "", unix.MS_BIND, ""))
		assertState(t, target, hardening.StateForeign)
		assertNotOurs(t, target)
		assertNoAttach(t, n, target)
		if mounts, err := n.sys.Mounts(); err != nil || len(mounts) != 1 || mounts[0].PodUID != otherUID {
			t.Errorf("Mounts() = %+v, %v, want that of the other pod alone", mounts, err)
		}
		detach(t, target, hardening.Detached{Foreign: 1})
		assertContent(t, otherDir+"/a", "theirs")
		assertState(t, other, hardening.StateOurs)
		detach(t, other, hardening.Detached{Ours: 1})
	})
}

func TestVolumeOfAnotherPodOverOursIsTakenOff(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		_, otherDir := n.publishOther(t, valued("a", "theirs"))
		_, target, dir := n.publish(t, "vol", anyone, valued("a", "ours"))
		check(t, "bind", unix.Mount(otherDir, dir, "", unix.MS_BIND, ""))
		assertState(t, target, hardening.StateCovered)
		assertNotOurs(t, target)
		check(t, "Uncover()", target.Uncover())
		assertState(t, target, hardening.StateOurs)
		assertContent(t, dir+"/a", "ours")
		assertContent(t, otherDir+"/a", "theirs")
	})
}

// TestExchangedPodsAreForeign exchanges the directories of two pods, volumes
// and all, as whoever has the kubelet's directory in a container can.
func TestExchangedPodsAreForeign(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		_, _, dir := n.publish(t, "vol", anyone, valued("a", "ours"))
		_, otherDir := n.publishOther(t, valued("a", "theirs"))
		pods := filepath.Join(n.root, "pods")
		swap := func() {
			check(t, "exchange", unix.Renameat2(unix.AT_FDCWD, filepath.Join(pods, podUID), unix.AT_FDCWD, filepath.Join(pods, otherUID), unix.RENAME_EXCHANGE))
		}
		swap()
		again, err := n.sys.Target(podUID, "vol")
		check(t, "target", err)
		defer func() { check(t, "close", again.Close()) }()
		assertState(t, again, hardening.StateForeign)
		assertNotOurs(t, again)
		swap()
		assertState(t, n.target(t, "vol"), hardening.StateOurs)
		// An unpublish while they are exchanged unmounts the other pod's volume, as
		// it is at this pod's target, and scrubs this pod's, wherever it is.
		view, otherView := bindOf(t, dir), bindOf(t, otherDir)
		swap()
		unpublished, err := n.sys.Target(podUID, "vol")
		check(t, "target", err)
		defer func() { check(t, "close", unpublished.Close()) }()
		detach(t, unpublished, hardening.Detached{Ours: 1, Foreign: 1})
		assertContent(t, otherView+"/a", "theirs")
		assertAbsent(t, view+"/a")
		if points := hardeningtest.MountsBelow(t, n.root); len(points) > 0 {
			t.Errorf("still mounted: %q, want nothing", points)
		}
	})
}

func TestMarkerAloneIsNotOurs(t *testing.T) {
	// The marker is no secret: anybody who may mount can write it.
	n := newNode(t, hardening.SettingMlock)
	target, dir := n.place(t, "vol")
	mountTmpfs(t, hardening.Marker, dir)
	assertState(t, target, hardening.StateForeign)
	assertNotOurs(t, target)
	for _, owner := range []string{"", podUID, podUID + "/vol2", podUID + "/vol/", otherUID + "/vol", strings.Repeat("x", 4000)} {
		check(t, "set owner", unix.Setxattr(dir, ownerName, []byte(owner), 0))
		assertState(t, target, hardening.StateForeign)
		assertNotOurs(t, target)
	}
	// The control: with its target in it, it would be.
	check(t, "set owner", unix.Setxattr(dir, ownerName, []byte(podUID+"/vol"), 0))
	assertState(t, target, hardening.StateOurs)
	detach(t, target, hardening.Detached{Ours: 1})
}

// TestOwnerTakenAway is what a privileged container can do to its own volume:
// it is not refreshed any more, and scrubbed at the end all the same.
func TestOwnerTakenAway(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		_, target, dir := n.publish(t, "vol", anyone, valued("a", "1"))
		elsewhere := bindOf(t, dir)
		if err := unix.Removexattr(elsewhere, ownerName); !errors.Is(err, unix.EROFS) {
			t.Errorf("Removexattr() through what a container has = %v, want %v", err, unix.EROFS)
		}
		check(t, "remove owner", unix.Removexattr(privileged(t, dir), ownerName))
		assertState(t, target, hardening.StateForeign)
		assertNotOurs(t, target)
		detach(t, target, hardening.Detached{Ours: 1})
		assertAbsent(t, elsewhere+"/a")
	})
}

// TestMovedVolumeIsFound renames what a volume hangs on, in a mount namespace
// where that is not busy, and puts another directory in its place.
func TestMovedVolumeIsFound(t *testing.T) {
	for i, level := range hardeningtest.Levels(podUID, "vol") {
		t.Run(level, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				_, target, dir := n.publish(t, "vol", anyone, valued("a", "1"))
				_, otherDir := n.publishOther(t, valued("a", "theirs"))
				elsewhere := bindOf(t, dir)
				place := hardeningtest.NewPath(t, dir, otherDir, i).Place
				moved := make(chan error, 1)
				attack := hardeningtest.StartAttack(t, hardeningtest.Container(n.root), func(i int) {
					if i == 0 {
						moved <- os.Rename(place, place+".away")
					}
				})
				check(t, "move", <-moved)
				attack.Stop()
				if points := hardeningtest.MountsBelow(t, n.root); len(points) != 2 || !strings.Contains(strings.Join(points, " "), ".away") {
					t.Fatalf("mounted: %q, want the volume moved and the other pod's", points)
				}
				if level == "mount" {
					detach(t, target, hardening.Detached{Ours: 1})
				} else if d, err := n.sys.DetachMoved(podUID, "vol"); err != nil || d.Ours != 1 {
					t.Errorf("DetachMoved() = %+v, %v, want one of ours", d, err)
				}
				assertAbsent(t, elsewhere+"/a")
				assertContent(t, otherDir+"/a", "theirs")
				if diff := cmp.Diff([]string{otherDir}, hardeningtest.MountsBelow(t, n.root)); diff != "" {
					t.Errorf("mounted afterwards (-want +got):\n%s", diff)
				}
				if d, err := n.sys.DetachMoved(podUID, "vol"); err != nil || d != (hardening.Detached{}) {
					t.Errorf("DetachMoved() again = %+v, %v, want nothing to do", d, err)
				}
			})
		})
	}
}

func TestDetachMovedRefusesNames(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	if d, err := n.sys.DetachMoved("..", "vol"); err == nil {
		t.Errorf("DetachMoved(..) = %+v, nil, want an error", d)
	}
}

// TestP8DetachMountsInsideThePlainDirectory: nothing is mounted on the target,
// but in it.
func TestP8DetachMountsInsideThePlainDirectory(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	target, dir := n.place(t, "vol")
	t.Cleanup(func() { hardeningtest.UnmountBelow(t, n.root) })
	precious := t.TempDir()
	check(t, "write", joined(
		os.WriteFile(precious+"/data", []byte("keep"), 0o600), os.MkdirAll(dir+"/a/b", 0o700), os.MkdirAll(dir+"/c", 0o700),
		os.WriteFile(dir+"/file", nil, 0o600),
	))
	mountTmpfs(t, "foreign", dir+"/a/b")
	mountTmpfs(t, "foreign", dir+"/a")
	check(t, "bind", joined(unix.Mount(precious, dir+"/c", "", unix.MS_BIND, ""), unix.Mount(precious+"/data", dir+"/file", "", unix.MS_BIND, "")))
	before := hardeningtest.Fingerprint(t, precious)
	assertState(t, target, hardening.StateOccupied)
	if _, err := target.ScrubPlain(); err == nil {
		t.Errorf("ScrubPlain() with mounts inside = nil, want an error")
	}
	assertContent(t, precious+"/data", "keep")
	detach(t, target, hardening.Detached{Foreign: 4, Plain: 1})
	if diff := cmp.Diff(before, hardeningtest.Fingerprint(t, precious)); diff != "" {
		t.Errorf("what was bound (-before +after):\n%s", diff)
	}
	if points := hardeningtest.MountsBelow(t, n.root); len(points) > 0 {
		t.Errorf("still mounted: %q", points)
	}
}

// TestLegacyIsExactlyUpstreamsLayout: whatever else a tmpfs holds, it is not
// given to a pod on the word of its source.
func TestLegacyIsExactlyUpstreamsLayout(t *testing.T) {
	const generation = "..2025_01_02_03_04_05.123456789"
	tests := []struct {
		name   string
		change func(dir string) error
		want   hardening.State
	}{
		{"as upstream leaves it", func(string) error { return nil }, hardening.StateLegacy},
		{"interrupted while writing", func(d string) error {
			return joined(os.Mkdir(d+"/..2025_01_02_03_04_06.1", 0o700), os.Symlink("..2025_01_02_03_04_06.1", d+"/..data_tmp"))
		}, hardening.StateLegacy},
		{"a file below a directory", func(d string) error {
			return joined(os.MkdirAll(d+"/"+generation+"/dir/sub", 0o755), os.Symlink("..data/dir", d+"/dir"))
		}, hardening.StateLegacy},
		{"odd modes and owners", func(d string) error {
			return joined(os.Chown(d, 0, 2000), os.Chmod(d, 0), os.Chown(d+"/"+generation, 1000, 2000), os.Chmod(d+"/"+generation, 0),
				os.Chmod(d+"/..data/secret", 0o440))
		}, hardening.StateLegacy},
		{"without ..data", func(d string) error { return os.Remove(d + "/..data") }, hardening.StateForeign},
		{"..data is a directory", func(d string) error {
			return joined(os.Remove(d+"/..data"), os.Rename(d+"/"+generation, d+"/..data"))
		}, hardening.StateForeign},
		{"..data leads out", func(d string) error { return relink("/etc", d+"/..data") }, hardening.StateForeign},
		{"..data leads to the directory above", func(d string) error { return relink("..", d+"/..data") }, hardening.StateForeign},
		{"..data leads out by a relative path", func(d string) error { return relink("../../..", d+"/..data") }, hardening.StateForeign},
		{"..data dangles", func(d string) error { return relink("..2026", d+"/..data") }, hardening.StateForeign},
		{"..data leads to itself", func(d string) error { return relink("..data", d+"/..data") }, hardening.StateForeign},
		{"a regular file more", func(d string) error { return os.WriteFile(d+"/extra", nil, 0o644) }, hardening.StateForeign},
		{"a directory more", func(d string) error { return os.Mkdir(d+"/extra", 0o755) }, hardening.StateForeign},
		{"a FIFO more", func(d string) error { return unix.Mkfifo(d+"/extra", 0o644) }, hardening.StateForeign},
		{"a link that leads out", func(d string) error { return os.Symlink("/etc/shadow", d+"/extra") }, hardening.StateForeign},
		{"a link to another name", func(d string) error { return os.Symlink("..data/secret", d+"/extra") }, hardening.StateForeign},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, hardening.SettingMlock)
			target, dir := n.place(t, "vol")
			writeLegacy(t, dir)
			check(t, "change", tt.change(dir))
			before := hardeningtest.Fingerprint(t, dir)
			assertState(t, target, tt.want)
			assertNotOurs(t, target)
			assertNoAttach(t, n, target)
			if diff := cmp.Diff(before, hardeningtest.Fingerprint(t, dir)); diff != "" {
				t.Errorf("State() changed the volume (-before +after):\n%s", diff)
			}
			want := hardening.Detached{Foreign: 1}
			if tt.want == hardening.StateLegacy {
				want = hardening.Detached{Legacy: 1}
			}
			detach(t, target, want)
		})
	}
}

func relink(to, name string) error {
	return joined(os.Remove(name), os.Symlink(to, name))
}
