package hardening_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// node is a kubelet root in a temporary directory and a System for it.
type node struct {
	root string
	sys  *hardening.System
}

func newNode(t testing.TB, s hardening.Setting) *node {
	t.Helper()
	hardeningtest.NeedRoot(t)
	hardeningtest.NeedKernel(t, 5, 12, "mount_setattr")
	if s == hardening.SettingNoswap {
		hardeningtest.NeedKernel(t, 6, 4, "tmpfs noswap")
	}
	n := &node{root: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(n.root, "pods"), 0o750); err != nil {
		t.Fatal(err)
	}
	n.sys = n.open(t, s)
	return n
}

// open is what a start of the plugin does.
func (n *node) open(t testing.TB, s hardening.Setting) *hardening.System {
	t.Helper()
	sys, err := hardening.Open(hardening.Config{KubeletRoot: n.root, Protection: s, Linger: time.Nanosecond})
	if err != nil {
		t.Fatalf("Open(%q) = %v, want nil", s, err)
	}
	t.Cleanup(func() { check(t, "close system", sys.Close()) })
	return sys
}

// place is a target with its directory made.
func (n *node) place(t testing.TB, volume string) (*hardening.Target, string) {
	t.Helper()
	dir := hardeningtest.VolumeDir(t, n.root, podUID, volume)
	target := n.target(t, volume)
	check(t, "prepare", target.Prepare())
	return target, dir
}

func (n *node) target(t testing.TB, volume string) *hardening.Target {
	t.Helper()
	target, err := n.sys.Target(podUID, volume)
	if err != nil {
		t.Fatalf("Target(%q, %q) = %v, want nil", podUID, volume, err)
	}
	t.Cleanup(func() { check(t, "close target", target.Close()) })
	return target
}

func (n *node) volume(t testing.TB, l hardening.Limits) *hardening.Volume {
	t.Helper()
	v, err := n.sys.NewVolume(l)
	if err != nil {
		t.Fatalf("NewVolume(%+v) = %v, want nil", l, err)
	}
	t.Cleanup(func() { check(t, "close volume", v.Close()) })
	return v
}

// publish attaches a volume with these files at a new target.
func (n *node) publish(t testing.TB, name string, l hardening.Limits, files ...hardening.File) (*hardening.Volume, *hardening.Target, string) {
	t.Helper()
	target, dir := n.place(t, name)
	v := n.volume(t, l)
	check(t, "fill", v.Fill(files))
	check(t, "attach", v.Attach(target))
	v.Allow(l.Bytes, hardening.UpTo(l.SizeBytes()))
	return v, target, dir
}

func check(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s = %v, want nil", what, err)
	}
}

// eachProtection runs a volume test under both swap protections.
func eachProtection(t *testing.T, f func(t *testing.T, n *node)) {
	t.Helper()
	for _, s := range []hardening.Setting{hardening.SettingNoswap, hardening.SettingMlock} {
		t.Run(string(s), func(t *testing.T) { f(t, newNode(t, s)) })
	}
}

func valued(p, value string) hardening.File {
	return hardening.File{Path: p, Mode: 0o440, Data: plain(value)}
}

func assertContent(t testing.TB, p, want string) {
	t.Helper()
	b, err := os.ReadFile(p)
	if err != nil || string(b) != want {
		t.Errorf("ReadFile(%q) = %q, %v, want %q", filepath.Base(p), b, err, want)
	}
}

func assertAbsent(t testing.TB, p string) {
	t.Helper()
	if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lstat(%q) = %v, want no such file", p, err)
	}
}

func assertState(t testing.TB, target *hardening.Target, want hardening.State) {
	t.Helper()
	if got, err := target.State(); err != nil || got != want {
		t.Errorf("State() = %v, %v, want %v, nil", got, err, want)
	}
}

// names lists a directory without the two kinds of names that change.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..") {
			list = append(list, e.Name())
		}
	}
	return list
}

// mountLines returns the lines of the mount table for a mount point, lowest first.
func mountLines(t testing.TB, point string) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[4] == point {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// sameMount returns those lines without size=, which follows the content.
func sameMount(t testing.TB, point string) []string {
	t.Helper()
	var lines []string
	for _, line := range mountLines(t, point) {
		before, after, _ := strings.Cut(line, "size=")
		_, after, _ = strings.Cut(after, ",")
		lines = append(lines, before+after)
	}
	return lines
}

func mountTmpfs(t testing.TB, source, point string) {
	t.Helper()
	if err := unix.Mount(source, point, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount tmpfs at %q: %v", point, err)
	}
}

// privileged gives a test what a container with CAP_SYS_ADMIN has: a bind of
// the volume that it remounted for writing.
func privileged(t testing.TB, target string) string {
	t.Helper()
	bind := bindOf(t, target)
	if err := unix.Mount("", bind, "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
		t.Fatalf("remount for writing: %v", err)
	}
	return bind
}

func bindOf(t testing.TB, target string) string {
	t.Helper()
	bind := filepath.Join(t.TempDir(), "bind")
	if err := os.Mkdir(bind, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(target, bind, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("bind volume: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(bind, unix.MNT_DETACH) })
	return bind
}

// within fails a test whose step does not end: an RPC that hangs holds the
// lock of its target for ever.
func within(t testing.TB, limit time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s still runs after %v", what, limit)
	}
}

func infoStrings(list []hardening.FileInfo) []string {
	var out []string
	for _, f := range list {
		out = append(out, fmt.Sprintf("%s %d %d:%d %04o", f.Path, f.Size, f.UID, f.GID, f.Mode))
	}
	slices.Sort(out)
	return out
}

type unixStat = syscall.Stat_t

func needFchmodat2(t testing.TB) {
	t.Helper()
	hardeningtest.NeedKernel(t, 6, 6, "fchmodat2")
}
