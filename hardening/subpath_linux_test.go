package hardening_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

// subPath does what the kubelet does for a container with this subPath: it
// binds what the path leads to now to a place of its own.
func subPath(t *testing.T, dir, path string) string {
	t.Helper()
	source, err := filepath.EvalSymlinks(filepath.Join(dir, path))
	check(t, "resolve", err)
	info, err := os.Stat(source)
	check(t, "stat", err)
	if info.IsDir() {
		return bindOf(t, source)
	}
	file := filepath.Join(t.TempDir(), "file")
	check(t, "create", os.WriteFile(file, nil, 0o600))
	check(t, "bind", unix.Mount(source, file, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(file, unix.MNT_DETACH) })
	return file
}

// TestP9SubPathsKeepTheirFiles: a running container must not lose
// the files of a directory because their content has changed.
func TestP9SubPathsKeepTheirFiles(t *testing.T) {
	generation := func(i int) []hardening.File {
		value := fmt.Sprint("v", i)
		return []hardening.File{valued("a", value), valued("d/b", value), valued("d/e/c", value), valued("f/x", value), valued("f/y", value)}
	}
	eachProtection(t, func(t *testing.T, n *node) {
		v, target, dir := n.publish(t, "vol", grouped, generation(0)...)
		container := subPath(t, dir, "d")
		deep, single := subPath(t, dir, "d/e"), subPath(t, dir, "f/x")
		old, err := os.Readlink(dir + "/..data")
		check(t, "readlink", err)
		rotate := func(i int) {
			t.Helper()
			if changed, err := v.Replace(generation(i)); !changed || err != nil {
				t.Fatalf("Replace(%d) = %v, %v, want true, nil", i, changed, err)
			}
			if changed, err := v.Replace(generation(i)); changed || err != nil {
				t.Errorf("Replace(%d) again = %v, %v, want false, nil", i, changed, err)
			}
		}
		for i := 1; i <= 3; i++ {
			rotate(i)
			for p, want := range map[string]string{
				container + "/b": "v0", container + "/e/c": "v0", deep + "/c": "v0", single: "v0", dir + "/d/b": fmt.Sprint("v", i),
			} {
				assertContent(t, p, want)
			}
			// What no container has mounted goes at once.
			assertAbsent(t, filepath.Join(dir, old, "a"))
			assertAbsent(t, filepath.Join(dir, old, "f/y"))
			assertState(t, target, hardening.StateOurs)
		}
		for _, m := range []string{container, deep, single} {
			check(t, "unmount", unix.Unmount(m, unix.MNT_DETACH))
		}
		rotate(4)
		current, err := os.Readlink(dir + "/..data")
		check(t, "readlink", err)
		assertNoLeftovers(t, dir, current)
	})
}

// TestP5SubPathDirectoriesStayLocked: an old generation that a container can
// still read must not reach swap, nor after a restart.
func TestP5SubPathDirectoriesStayLocked(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	files := func(size int) []hardening.File {
		return []hardening.File{sizedFile("bound-a", size), sizedFile("d/bound-b", size)}
	}
	v, target, dir := n.publish(t, "vol", grouped, files(1)...)
	container := subPath(t, dir, "d")
	for i := 2; i <= 4; i++ {
		if changed, err := v.Replace(files(i)); !changed || err != nil {
			t.Fatalf("Replace(%d) = %v, %v, want true, nil", i, changed, err)
		}
		assertLocked(t, "bound-", 3, 12) // two that are new, and the old one in d
	}
	check(t, "close", n.sys.Close())
	assertLocked(t, "bound-", 0, 0)
	n.sys = n.open(t, hardening.SettingMlock)
	if got, err := n.sys.Relock(); got != 3 || err != nil {
		t.Errorf("Relock() = %d, %v, want 3, nil", got, err)
	}
	assertLocked(t, "bound-", 3, 12)
	check(t, "unmount", unix.Unmount(container, unix.MNT_DETACH))
	v, err := n.target(t, "vol").OpenVolume()
	check(t, "OpenVolume()", err)
	defer func() { check(t, "close", v.Close()) }()
	v.Allow(1<<20, hardening.UpTo(1<<21))
	if changed, err := v.Replace(files(9)); !changed || err != nil {
		t.Fatalf("Replace() = %v, %v, want true, nil", changed, err)
	}
	assertLocked(t, "bound-", 2, 8)
	detach(t, n.target(t, "vol"), hardening.Detached{Ours: 1})
	assertLocked(t, "bound-", 0, 0)
	assertState(t, target, hardening.StateAbsent)
}

// TestRevocationReachesSubPaths: what a container has mounted of an old
// generation goes with the current one.
func TestRevocationReachesSubPaths(t *testing.T) {
	for name, revoke := range map[string]func(t *testing.T, v *hardening.Volume, target *hardening.Target){
		"scrub": func(t *testing.T, v *hardening.Volume, _ *hardening.Target) { check(t, "Scrub()", v.Scrub()) },
		"detach": func(t *testing.T, _ *hardening.Volume, target *hardening.Target) {
			detach(t, target, hardening.Detached{Ours: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				v, target, dir := n.publish(t, "vol", grouped, valued("a", "v0"), valued("b", "v0"), valued("d/c", "v0"))
				// subPath: ..data is a path as any other.
				whole, file, inside := subPath(t, dir, "..data"), subPath(t, dir, "a"), subPath(t, dir, "d")
				if changed, err := v.Replace([]hardening.File{valued("a", "v1")}); !changed || err != nil {
					t.Fatalf("Replace() = %v, %v, want true, nil", changed, err)
				}
				if diff := cmp.Diff([]string{"a", "b", "d"}, names(t, whole)); diff != "" {
					t.Errorf("names in the subPath differ (-want +got):\n%s", diff)
				}
				assertContent(t, whole+"/b", "v0")
				revoke(t, v, target)
				assertContent(t, file, "")
				for _, p := range []string{whole + "/a", whole + "/b", inside + "/c"} {
					assertAbsent(t, p)
				}
			})
		})
	}
}

// TestBindingsOfOthersKeepNothing: only what is mounted of this very volume
// outlives a rotation.
func TestBindingsOfOthersKeepNothing(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, dir := n.publish(t, "vol", grouped, valued("a", "v0"), valued("d/b", "v0"))
		whole := bindOf(t, dir)
		_, _, other := n.publish(t, "other", grouped, valued("d/b", "other"))
		elsewhere := subPath(t, other, "d")
		if changed, err := v.Replace([]hardening.File{valued("a", "v1"), valued("d/b", "v1")}); !changed || err != nil {
			t.Fatalf("Replace() = %v, %v, want true, nil", changed, err)
		}
		current, err := os.Readlink(dir + "/..data")
		check(t, "readlink", err)
		assertNoLeftovers(t, dir, current)
		assertContent(t, whole+"/d/b", "v1")
		assertContent(t, elsewhere+"/b", "other")
	})
}

// TestP4ReadersOnTheirWayArrive: who has opened ..data before a rotation still
// finds every file below it for a while, and not for ever.
func TestP4ReadersOnTheirWayArrive(t *testing.T) {
	const linger, tries = 500 * time.Millisecond, 20
	eachProtection(t, func(t *testing.T, n *node) {
		sys, err := hardening.Open(hardening.Config{KubeletRoot: n.root, Protection: hardening.Setting(n.sys.Protection()), Linger: linger})
		check(t, "Open()", err)
		t.Cleanup(func() { check(t, "close system", sys.Close()) })
		n.sys = sys
		v, _, dir := n.publish(t, "vol", grouped, valued("a", "v0"), valued("d/b", "v0"))
		for i := 1; i <= tries; i++ {
			root, err := os.OpenRoot(dir + "/..data")
			check(t, "open ..data", err)
			begin, replaced := startReplacing(t, v, dir, fmt.Sprint("v", i))
			var old [2]string
			for i, name := range []string{"a", "d/b"} {
				text, err := root.ReadFile(name)
				old[i] = fmt.Sprintf("%s %v", text, err)
			}
			took := time.Since(begin)
			check(t, "Replace()", <-replaced)
			if _, err := root.ReadFile("a"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a below a handle of before, afterwards: %v, want no such file", err)
			}
			check(t, "close", root.Close())
			if took > linger {
				continue // this machine had no time for the reader
			}
			if want := fmt.Sprintf("v%d <nil>", i-1); old[0] != want || old[1] != want {
				t.Errorf("files below a handle of before = %q, want both %q", old, want)
			}
			return
		}
		t.Errorf("%d readers did not read two files within %v", tries, linger)
	})
}

// startReplacing returns once ..data leads to the new generation, while the
// call still runs.
func startReplacing(t *testing.T, v *hardening.Volume, dir, value string) (begin time.Time, replaced <-chan error) {
	t.Helper()
	old, err := os.Readlink(dir + "/..data")
	check(t, "readlink", err)
	done := make(chan error, 1)
	begin = time.Now()
	go func() {
		_, err := v.Replace([]hardening.File{valued("a", value), valued("d/b", value)})
		done <- err
	}()
	for now := old; now == old && len(done) == 0; {
		now, err = os.Readlink(dir + "/..data")
		check(t, "readlink", err)
	}
	return begin, done
}

func TestP8ReadersOnTheirWayHoldUpNoUnpublish(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	sys, err := hardening.Open(hardening.Config{KubeletRoot: n.root, Protection: hardening.SettingMlock, Linger: time.Hour})
	check(t, "Open()", err)
	t.Cleanup(func() { check(t, "close system", sys.Close()) })
	n.sys = sys
	v, _, dir := n.publish(t, "vol", grouped, valued("a", "v0"), valued("d/b", "v0"))
	old, err := os.Readlink(dir + "/..data")
	check(t, "readlink", err)
	hurry := make(chan struct{})
	v.Hurry(hurry)
	_, replaced := startReplacing(t, v, dir, "v1")
	close(hurry)
	within(t, patience, "Replace", func() { check(t, "Replace()", <-replaced) })
	assertAbsent(t, dir+"/"+old)
	assertContent(t, dir+"/a", "v1")
}
