package hardening_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

func TestReplace(t *testing.T) {
	before := []hardening.File{valued("a", "1"), valued("d/x", "1"), valued("gone", "1")}
	tests := []struct {
		name    string
		after   []hardening.File
		changed bool
		names   []string
	}{
		{"the same", before, false, []string{"a", "d", "gone"}},
		{"the same in another order", []hardening.File{before[2], before[0], before[1]}, false, []string{"a", "d", "gone"}},
		{"a value", []hardening.File{valued("a", "2"), before[1], before[2]}, true, []string{"a", "d", "gone"}},
		{"a shorter value", []hardening.File{valued("a", ""), before[1], before[2]}, true, []string{"a", "d", "gone"}},
		{"a longer value", []hardening.File{valued("a", "12"), before[1], before[2]}, true, []string{"a", "d", "gone"}},
		{"a mode", []hardening.File{file("a", 0o400), before[1], before[2]}, true, []string{"a", "d", "gone"}},
		{"an owner", []hardening.File{owned("a", 9, 0o400), before[1], before[2]}, true, []string{"a", "d", "gone"}},
		{"a file more", append(before[:3:3], valued("new", "1")), true, []string{"a", "d", "gone", "new"}},
		{"a file in a directory more", append(before[:3:3], valued("d/y", "1")), true, []string{"a", "d", "gone"}},
		{"a file less", before[:2], true, []string{"a", "d"}},
		{"a directory less", []hardening.File{before[0], before[2]}, true, []string{"a", "gone"}},
		{"a file becomes a directory", []hardening.File{valued("a/b", "1"), before[1], before[2]}, true, []string{"a", "d", "gone"}},
		{"all others", []hardening.File{valued("z", "1")}, true, []string{"z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				v, target, dir := n.publish(t, "vol", grouped, before...)
				was := sameMount(t, dir)
				generation, err := os.Readlink(dir + "/..data")
				check(t, "readlink", err)
				changed, err := v.Replace(tt.after)
				if err != nil || changed != tt.changed {
					t.Fatalf("Replace() = %v, %v, want %v, nil", changed, err, tt.changed)
				}
				if diff := cmp.Diff(was, sameMount(t, dir)); diff != "" {
					t.Errorf("mount changed (-before +after):\n%s", diff)
				}
				if diff := cmp.Diff(tt.names, names(t, dir)); diff != "" {
					t.Errorf("names differ (-want +got):\n%s", diff)
				}
				for _, f := range tt.after {
					check(t, "use", f.Data.Use(func(b []byte) error {
						assertContent(t, filepath.Join(dir, f.Path), string(b))
						return nil
					}))
				}
				now, err := os.Readlink(dir + "/..data")
				if err != nil || (now != generation) != tt.changed {
					t.Errorf("..data led to %q and leads to %q (%v), want changed %v", generation, now, err, tt.changed)
				}
				assertNoLeftovers(t, dir, now)
				assertState(t, target, hardening.StateOurs)
				if changed, err := v.Replace(tt.after); changed || err != nil {
					t.Errorf("Replace() again = %v, %v, want false, nil", changed, err)
				}
			})
		})
	}
}

// assertNoLeftovers looks for hidden entries beside ..data and its generation.
func assertNoLeftovers(t *testing.T, dir, generation string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, "read directory", err)
	for _, e := range entries {
		if n := e.Name(); strings.HasPrefix(n, "..") && n != "..data" && n != generation {
			t.Errorf("volume holds %q, want only ..data and %q", n, generation)
		}
	}
}

func TestReplaceWritesNothingWhenNothingChanged(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		files := []hardening.File{valued("a", "1"), valued("d/b", "2")}
		v, _, dir := n.publish(t, "vol", grouped, files...)
		before := snapshot(t, dir)
		for range 3 {
			if changed, err := v.Replace(files); changed || err != nil {
				t.Fatalf("Replace() = %v, %v, want false, nil", changed, err)
			}
		}
		if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
			t.Errorf("inodes or times changed (-before +after):\n%s", diff)
		}
	})
}

// snapshot describes every entry by inode, change time and size.
func snapshot(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	check(t, "walk", filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*unixStat)
		if !ok {
			return fmt.Errorf("stat of %q has another type", p)
		}
		list = append(list, fmt.Sprint(p, st.Ino, st.Ctim, st.Mtim, st.Size))
		return nil
	}))
	return list
}

func TestReplaceKeepsOpenFiles(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, dir := n.publish(t, "vol", grouped, valued("a", "old"))
		held, err := os.Open(dir + "/a")
		check(t, "open", err)
		defer func() { _ = held.Close() }()
		// What the kubelet does for a subPath.
		subPath := filepath.Join(t.TempDir(), "sub")
		check(t, "create", os.WriteFile(subPath, nil, 0o600))
		check(t, "bind", unix.Mount(dir+"/a", subPath, "", unix.MS_BIND, ""))
		t.Cleanup(func() { _ = unix.Unmount(subPath, unix.MNT_DETACH) })
		container := bindOf(t, dir)
		for i := range 3 {
			if changed, err := v.Replace([]hardening.File{valued("a", fmt.Sprint("new", i))}); !changed || err != nil {
				t.Fatalf("Replace() = %v, %v, want true, nil", changed, err)
			}
		}
		assertContent(t, dir+"/a", "new2")
		assertContent(t, container+"/a", "new2")
		assertContent(t, subPath, "old")
		buf := make([]byte, 16)
		if n, err := held.ReadAt(buf, 0); n != 3 || string(buf[:n]) != "old" {
			t.Errorf("open file reads %q, %v, want %q", buf[:n], err, "old")
		}
	})
}

func TestReplaceRefusesAndKeeps(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, dir := n.publish(t, "vol", grouped, valued("a", "old"), valued("b", "old"))
		generation, err := os.Readlink(dir + "/..data")
		check(t, "readlink", err)
		wiped := valued("z", "x")
		wiped.Data.Wipe()
		for name, files := range map[string][]hardening.File{
			"nothing":  nil,
			"bad path": {valued("a", "new"), valued("/b", "x")},
			"bad mode": {valued("a", "new"), file("b", 0o666)},
			"wiped":    {valued("a", "new"), valued("new", "x"), wiped},
		} {
			if changed, err := v.Replace(files); changed || err == nil {
				t.Errorf("Replace(%s) = %v, %v, want false and an error", name, changed, err)
			}
			assertContent(t, dir+"/a", "old")
			if diff := cmp.Diff([]string{"a", "b"}, names(t, dir)); diff != "" {
				t.Errorf("names after %s differ (-want +got):\n%s", name, diff)
			}
			assertNoLeftovers(t, dir, generation)
		}
	})
}

func TestReplaceAfterRestart(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		first, _, dir := n.publish(t, "vol", grouped, valued("a", "1"))
		check(t, "close volume", first.Close())
		n.sys = n.open(t, hardening.SettingMlock) // whatever the setting is now
		v, err := n.target(t, "vol").OpenVolume()
		check(t, "OpenVolume()", err)
		defer func() { check(t, "close", v.Close()) }()
		if changed, err := v.Replace([]hardening.File{valued("a", "1")}); changed || err != nil {
			t.Errorf("Replace() with the same = %v, %v, want false, nil", changed, err)
		}
		if changed, err := v.Replace([]hardening.File{valued("a", "2")}); !changed || err != nil {
			t.Errorf("Replace() = %v, %v, want true, nil", changed, err)
		}
		assertContent(t, dir+"/a", "2")
		files, err := v.Files()
		if err != nil || len(files) != 1 || files[0].GID != 2000 {
			t.Errorf("Files() = %v, %v, want one file of group 2000", files, err)
		}
		// Limits come back from the mount too.
		big := hardening.File{Path: "a", Mode: 0o440, Data: hardening.NewPlaintext(make([]byte, 1<<20+1))}
		if changed, err := v.Replace([]hardening.File{big}); changed || err == nil {
			t.Errorf("Replace() beyond the limit = %v, %v, want false and an error", changed, err)
		}
	})
}

func TestRevokeAndRestore(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		files := []hardening.File{valued("a", "1"), valued("d/b", "1")}
		v, target, dir := n.publish(t, "vol", grouped, files...)
		held, err := os.Open(dir + "/a")
		check(t, "open", err)
		defer func() { _ = held.Close() }()
		was := mountLines(t, dir)
		for range 2 { // a revocation may come twice
			check(t, "Scrub()", v.Scrub())
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != 0 {
				t.Errorf("ReadDir() = %v, %v, want nothing", entries, err)
			}
		}
		if n, err := held.ReadAt(make([]byte, 8), 0); n != 0 {
			t.Errorf("open file reads %d bytes (%v) after the revocation, want none", n, err)
		}
		if diff := cmp.Diff(was, mountLines(t, dir)); diff != "" {
			t.Errorf("mount changed (-before +after):\n%s", diff)
		}
		assertState(t, target, hardening.StateOurs)
		if st, err := v.Stats(); err != nil || st.BytesUsed != 0 {
			t.Errorf("Stats() = %+v, %v, want no bytes used", st, err)
		}
		if changed, err := v.Replace(files); !changed || err != nil {
			t.Errorf("Replace() after the revocation = %v, %v, want true, nil", changed, err)
		}
		assertContent(t, dir+"/d/b", "1")
	})
}

// TestReplaceOverPlantedState rotates a volume in which a privileged container
// has put things, which must neither stop it nor survive it.
func TestReplaceOverPlantedState(t *testing.T) {
	tests := []struct {
		name  string
		plant func(t *testing.T, evil string) error
	}{
		{"file", func(_ *testing.T, d string) error { return os.WriteFile(d+"/evil", []byte("x"), 0o666) }},
		{"hidden directory", func(_ *testing.T, d string) error { return os.MkdirAll(d+"/..evil/a/b", 0o000) }},
		{"FIFO for a name", func(_ *testing.T, d string) error { return unix.Mkfifo(d+"/new", 0o666) }},
		{"directory for a name", func(_ *testing.T, d string) error { return os.MkdirAll(d+"/new/x", 0o777) }},
		{"link to elsewhere for a name", func(_ *testing.T, d string) error { return os.Symlink("/etc/passwd", d+"/new") }},
		{"name removed", func(_ *testing.T, d string) error { return os.Remove(d + "/a") }},
		{"..data removed", func(_ *testing.T, d string) error { return os.Remove(d + "/..data") }},
		{"..data a directory", func(_ *testing.T, d string) error {
			return joined(os.Remove(d+"/..data"), os.MkdirAll(d+"/..data/a/b", 0o700))
		}},
		{"..data a file", func(_ *testing.T, d string) error {
			return joined(os.Remove(d+"/..data"), os.WriteFile(d+"/..data", nil, 0o600))
		}},
		{"..data to itself", func(_ *testing.T, d string) error {
			return joined(os.Remove(d+"/..data"), os.Symlink("..data", d+"/..data"))
		}},
		{"..data to elsewhere", func(_ *testing.T, d string) error {
			return joined(os.Remove(d+"/..data"), os.Symlink("/etc", d+"/..data"))
		}},
		{"FIFO in ..data", func(_ *testing.T, d string) error { return unix.Mkfifo(d+"/..data/fifo", 0o666) }},
		{"FIFO instead of a file", func(_ *testing.T, d string) error {
			return joined(os.Remove(d+"/..data/a"), unix.Mkfifo(d+"/..data/a", 0o440))
		}},
		{"file grown", func(_ *testing.T, d string) error { return os.Truncate(d+"/..data/a", 5000) }},
		{"file rewritten", func(_ *testing.T, d string) error { return os.WriteFile(d+"/..data/a", []byte("2"), 0o440) }},
		{"mode changed", func(_ *testing.T, d string) error { return os.Chmod(d+"/..data/a", 0o666) }},
		{"setuid set", func(_ *testing.T, d string) error { return os.Chmod(d+"/..data/a", 0o440|os.ModeSetuid) }},
		{"owner changed", func(_ *testing.T, d string) error { return os.Chown(d+"/..data/a", 1, 1) }},
		{"root opened", func(_ *testing.T, d string) error { return os.Chmod(d, 0o777) }},
		{"root given away", func(_ *testing.T, d string) error { return os.Chown(d, 1000, 1000) }},
		{"root closed", func(_ *testing.T, d string) error { return os.Chmod(d, 0) }},
		{"generation opened", func(_ *testing.T, d string) error { return os.Chmod(d+"/..data/", 0o777) }},
		{"superblock read-only", func(_ *testing.T, d string) error {
			return joined(os.Remove(d+"/a"), unix.Mount("", d, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		}},
		{"immutable file", func(t *testing.T, d string) error {
			return joined(setImmutable(t, d+"/..data/a"), os.Remove(d+"/a"))
		}},
		{"immutable generation", func(t *testing.T, d string) error {
			return joined(setImmutable(t, d+"/..data/"), os.Remove(d+"/a"))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				// Also if the provider's files did not change: what was planted has to go.
				for name, want := range map[string][]string{"same": {"a"}, "more": {"a", "new"}} {
					v, _, dir := n.publish(t, name, grouped, valued("a", "1"))
					check(t, "plant", tt.plant(t, privileged(t, dir)))
					assertRestored(t, v, dir, want)
				}
			})
		})
	}
}

// assertRestored replaces the content by files of these names and looks for
// anything else.
func assertRestored(t *testing.T, v *hardening.Volume, dir string, want []string) {
	t.Helper()
	var files []hardening.File
	for _, name := range want {
		files = append(files, valued(name, "1"))
	}
	within(t, patience, "Replace", func() {
		if changed, err := v.Replace(files); !changed || err != nil {
			t.Errorf("Replace(%q) = %v, %v, want true, nil", want, changed, err)
		}
	})
	for _, name := range want {
		assertContent(t, dir+"/"+name, "1")
	}
	generation, err := os.Readlink(dir + "/..data")
	check(t, "readlink", err)
	assertNoLeftovers(t, dir, generation)
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("names differ (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("Stat(root) = %v, %v, want mode 0750", info, err)
	}
	if changed, err := v.Replace(files); changed || err != nil {
		t.Errorf("Replace(%q) again = %v, %v, want false, nil", want, changed, err)
	}
}

// TestReplaceIsNotHeldUpByALease: a pod may lease its own file for writing,
// and every open of it then waits for up to 45 seconds.
func TestReplaceIsNotHeldUpByALease(t *testing.T) {
	n := newNode(t, hardening.SettingNoswap) // a locked mapping rules such a lease out
	files := []hardening.File{valued("a", "1")}
	v, _, dir := n.publish(t, "vol", grouped, files...)
	f, err := os.Open(dir + "/a")
	check(t, "open", err)
	defer func() { _ = f.Close() }()
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	check(t, "lease", err)
	within(t, patience, "Replace", func() {
		// What cannot be compared is written anew.
		if changed, err := v.Replace(files); !changed || err != nil {
			t.Errorf("Replace() = %v, %v, want true, nil", changed, err)
		}
	})
	assertContent(t, dir+"/a", "1")
}

// TestScrubBelowAForeignMount: what somebody mounted inside the volume hides
// files from every path, not from the revocation.
func TestScrubBelowAForeignMount(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, target, dir := n.publish(t, "vol", grouped, valued("a", "1"), valued("d/b", "1"))
		elsewhere := bindOf(t, dir)
		held, err := os.Open(elsewhere + "/d/b")
		check(t, "open", err)
		defer func() { _ = held.Close() }()
		mountTmpfs(t, "foreign", dir+"/d")
		e, ok := errors.AsType[*hardening.ScrubError](v.Scrub())
		if !ok || !errors.Is(e, unix.EBUSY) {
			t.Errorf("Scrub() = %v, want a ScrubError of the directory that is busy", e)
		}
		for _, p := range []string{"/a", "/d/b"} {
			assertAbsent(t, elsewhere+p)
		}
		if n, err := held.ReadAt(make([]byte, 8), 0); n != 0 {
			t.Errorf("open file below the mount reads %d bytes (%v), want none", n, err)
		}
		check(t, "Uncover()", target.Uncover())
		check(t, "Scrub() again", v.Scrub())
	})
}

// TestRotationIsNeverDenied: a reader that passes through the old generation
// while it goes away meets no such file, as in Kubernetes volumes, and never
// a permission that it lacks.
func TestRotationIsNeverDenied(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, dir := n.publish(t, "vol", grouped, valued("a", "0"), valued("d/b", "0"))
		answer := make(chan string, 1)
		go func() { answer <- as(t, member, dir, "loop a") }()
		rotations, got := 0, ""
		for got == "" {
			rotations++
			value := strconv.Itoa(rotations)
			if changed, err := v.Replace([]hardening.File{valued("a", value), valued("d/b", value)}); !changed || err != nil {
				t.Fatalf("Replace() = %v, %v, want true, nil", changed, err)
			}
			select {
			case got = <-answer:
			default:
			}
		}
		t.Logf("%d rotations: %s", rotations, got)
		if !strings.Contains(got, "denied 0 ") || strings.Contains(got, " read 0 ") {
			t.Errorf("reader says %q during %d rotations, want nothing denied", got, rotations)
		}
	})
}
