package hardeningtest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Path is one directory on the way to the target of a volume, and what an
// attacker has to put in its place.
type Path struct {
	Place  string // the directory
	Other  string // the same one of another pod
	Victim string // a tree outside of the kubelet's, built like what is below Place
	Linked string // a file outside that Plant gives second names
	aside  string // a free name beside it
	below  string // the rest of the way
}

// Levels names the directories on the way to a target, below the pods directory.
func Levels(podUID, volume string) []string {
	return []string{podUID, "volumes", "kubernetes.io~csi", volume, "mount"}
}

// NewPath returns the directory at a level of Levels on the way to target, for
// attacks on it, with other being the target of another pod. Whatever is
// mounted below the kubelet's root when the test ends is unmounted.
func NewPath(t testing.TB, target, other string, level int) *Path {
	t.Helper()
	kubeletRoot := filepath.Join(target, "../../../../../..")
	rest := strings.Split(target, "/")
	rest = rest[len(rest)-4+level:]
	up := strings.Repeat("../", len(rest))
	p := &Path{Place: filepath.Join(target, up), Other: filepath.Join(other, up), Victim: t.TempDir(), below: filepath.Join(rest...)}
	p.Linked = filepath.Join(t.TempDir(), "linked")
	p.aside = p.Place + "-aside"
	t.Cleanup(func() { UnmountBelow(t, kubeletRoot) })
	tree := filepath.Join(p.Victim, p.below)
	for _, err := range []error{
		os.MkdirAll(tree+"/dir", 0o755),
		os.WriteFile(tree+"/precious", []byte("keep"), 0o644),
		os.WriteFile(tree+"/dir/precious", []byte("keep"), 0o600),
		os.Chown(tree+"/dir/precious", 1234, 1234),
		os.WriteFile(p.Linked, []byte("keep"), 0o644),
	} {
		if err != nil {
			t.Fatalf("make victim: %v", err)
		}
	}
	return p
}

// Trick changes for a moment what is at a place.
type Trick struct {
	Name string
	Step func(p *Path, i int)
}

// Tricks are the ways in which whoever may write to the kubelet's directory can
// have a path lead elsewhere. All put back what was there, as well as they can.
func Tricks() []Trick {
	return []Trick{
		{"link", func(p *Path, _ int) {
			_ = os.Rename(p.Place, p.aside)
			_ = os.Symlink(p.Victim, p.Place)
			pause()
			p.Restore()
		}},
		{"moved away", func(p *Path, _ int) {
			_ = os.Rename(p.Place, p.aside)
			pause()
			p.Restore()
		}},
		{"exchanged with a link", func(p *Path, i int) {
			p.clear(i, fs.ModeSymlink)
			_ = os.Symlink(p.Victim, p.aside)
			p.exchange(p.aside)
		}},
		{"exchanged with a directory", func(p *Path, i int) {
			p.clear(i, fs.ModeDir)
			_ = os.MkdirAll(filepath.Join(p.aside, p.below), 0o750)
			p.exchange(p.aside)
		}},
		{"exchanged with another pod's", func(p *Path, _ int) { p.exchange(p.Other) }},
	}
}

func (p *Path) exchange(with string) {
	_ = unix.Renameat2(unix.AT_FDCWD, with, unix.AT_FDCWD, p.Place, unix.RENAME_EXCHANGE)
	pause()
	_ = unix.Renameat2(unix.AT_FDCWD, with, unix.AT_FDCWD, p.Place, unix.RENAME_EXCHANGE)
}

// clear moves what is left aside out of the way, unless it is what the next
// step puts there.
func (p *Path) clear(i int, kind fs.FileMode) {
	if info, err := os.Lstat(p.aside); err == nil && info.Mode().Type() != kind {
		_ = os.Rename(p.aside, fmt.Sprintf("%s.%d", p.aside, i))
	}
}

// Restore puts the directory back, also over an empty one that was made in its
// place meanwhile. It is for the end of an attack.
func (p *Path) Restore() {
	if info, err := os.Lstat(p.Place); err == nil && info.Mode().Type() == fs.ModeSymlink {
		_ = os.Remove(p.Place)
	}
	_ = unix.Rename(p.aside, p.Place)
}

// MountsBelow returns the mount points at and below root, in the order in which
// they were mounted.
func MountsBelow(t testing.TB, root string) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	for line := range strings.Lines(string(text)) {
		if point := strings.Fields(line)[4]; point == root || strings.HasPrefix(point, root+"/") {
			points = append(points, point)
		}
	}
	return points
}

// UnmountBelow detaches everything that is mounted at and below root.
func UnmountBelow(t testing.TB, root string) {
	t.Helper()
	const most = 1000 // a test that mounts more has a bug of its own
	for range most {
		points := MountsBelow(t, root)
		if len(points) == 0 {
			return
		}
		for _, p := range slices.Backward(points) {
			_ = unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}
	t.Errorf("still mounted: %q", MountsBelow(t, root))
}

// Fingerprint is everything about a tree that somebody could have changed, by
// path: equal fingerprints mean that nobody did, not even and back.
func Fingerprint(t testing.TB, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		var content []byte
		if d.Type().IsRegular() {
			if content, err = os.ReadFile(p); err != nil {
				return err
			}
		}
		found[strings.TrimPrefix(p, root)] = fmt.Sprintf("mode %o, owner %d:%d, %d links, %d bytes, modified %v, changed %v, %q",
			st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Mtim, st.Ctim, content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
