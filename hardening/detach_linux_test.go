package hardening_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// patience is how long a step on hostile content may take.
const patience = 4 * time.Second

// immutableFlag is FS_IMMUTABLE_FL of <linux/fs.h>.
const immutableFlag = 0x10

func joined(errs ...error) error { return errors.Join(errs...) }

// setImmutable is chattr +i, which tmpfs knows since Linux 6.0.
func setImmutable(t *testing.T, p string) error {
	t.Helper()
	fd, err := unix.Open(p, unix.O_RDONLY, 0)
	check(t, "open", err)
	defer func() { _ = unix.Close(fd) }()
	err = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, immutableFlag)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) {
		hardeningtest.Missing(t, fmt.Sprintf("files of tmpfs cannot be made immutable here: %v", err))
	}
	return err
}

func detach(t *testing.T, target *hardening.Target, want hardening.Detached) {
	t.Helper()
	within(t, patience, "Detach", func() {
		got, err := target.Detach()
		if err != nil {
			t.Errorf("Detach() = %v, want nil", err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Detach() differs (-want +got):\n%s", diff)
		}
	})
	assertState(t, target, hardening.StateAbsent)
}

func TestDetach(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		_, target, dir := n.publish(t, "vol", grouped, valued("a", "1"), valued("d/b", "1"), owned("own", 1000, 0o400))
		held, err := os.Open(dir + "/a")
		check(t, "open", err)
		defer func() { _ = held.Close() }()
		elsewhere := bindOf(t, dir)
		assertContent(t, elsewhere+"/a", "1")
		detach(t, target, hardening.Detached{Ours: 1})
		assertAbsent(t, dir)
		assertAbsent(t, elsewhere+"/a")
		if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) != 0 {
			t.Errorf("ReadDir(copy of the mount) = %v, %v, want nothing", entries, err)
		}
		if n, err := held.ReadAt(make([]byte, 8), 0); n != 0 {
			t.Errorf("open file reads %d bytes (%v), want none", n, err)
		}
		for range 2 {
			detach(t, target, hardening.Detached{})
		}
	})
}

func TestDetachWithoutScrubWouldLeak(t *testing.T) {
	// The control of TestDetach: an unmount alone leaves copies readable.
	n := newNode(t, hardening.SettingMlock)
	_, _, dir := n.publish(t, "vol", grouped, valued("a", "1"))
	elsewhere := bindOf(t, dir)
	check(t, "unmount", unix.Unmount(dir, unix.MNT_DETACH))
	assertContent(t, elsewhere+"/a", "1")
}

func TestDetachStacks(t *testing.T) {
	tests := []struct {
		name  string
		stack string // o: ours, f: foreign
		want  hardening.Detached
	}{
		{"nothing", "", hardening.Detached{}},
		{"ours", "o", hardening.Detached{Ours: 1}},
		{"foreign", "f", hardening.Detached{Foreign: 1}},
		{"covered", "of", hardening.Detached{Ours: 1, Foreign: 1}},
		{"covered many times", "o" + strings.Repeat("f", 20), hardening.Detached{Ours: 1, Foreign: 20}},
		{"ours on a foreign one", "fo", hardening.Detached{Ours: 1, Foreign: 1}},
		{"two of ours", "oo", hardening.Detached{Ours: 2}},
		{"mixed", "fofof", hardening.Detached{Ours: 2, Foreign: 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				target, dir := n.place(t, "vol")
				for _, kind := range tt.stack {
					n.stack(t, kind, dir)
				}
				detach(t, target, tt.want)
				assertAbsent(t, dir)
			})
		})
	}
}

// stack puts one more mount on dir. Two of ours come about when a start of the
// plugin meets a publish that another one still finishes.
func (n *node) stack(t *testing.T, kind rune, dir string) {
	t.Helper()
	if kind == 'f' {
		mountTmpfs(t, "foreign", dir)
		return
	}
	// Attached to the target of the same name on another node, as a target takes
	// no second one.
	spare := newNode(t, hardening.Setting(n.sys.Protection()))
	_, _, spareDir := spare.publish(t, filepath.Base(filepath.Dir(dir)), grouped, valued("a", "1"))
	check(t, "move", unix.Mount(spareDir, dir, "", unix.MS_MOVE, ""))
}

// TestP8DetachHostile detaches volumes that a privileged container prepared.
// Each of these has blocked or stopped some driver.
func TestP8DetachHostile(t *testing.T) {
	tests := []struct {
		name  string
		plant func(t *testing.T, evil string) error
		want  hardening.Detached
	}{
		{"FIFO", func(_ *testing.T, d string) error { return unix.Mkfifo(d+"/..data/fifo", 0o666) }, hardening.Detached{Ours: 1}},
		{"FIFO for a file", func(_ *testing.T, d string) error {
			return joined(os.Remove(d+"/..data/a"), unix.Mkfifo(d+"/..data/a", 0o440))
		}, hardening.Detached{Ours: 1}},
		{"directory in ..data", func(_ *testing.T, d string) error { return os.MkdirAll(d+"/..data/x/y/z", 0o000) }, hardening.Detached{Ours: 1}},
		{"socket", func(_ *testing.T, d string) error { return unix.Mknod(d+"/sock", unix.S_IFSOCK|0o666, 0) }, hardening.Detached{Ours: 1}},
		{"device", func(_ *testing.T, d string) error {
			return unix.Mknod(d+"/tty", unix.S_IFCHR|0o666, int(unix.Mkdev(5, 0)))
		}, hardening.Detached{Ours: 1}},
		{"link out of the volume", func(_ *testing.T, d string) error { return os.Symlink("/", d+"/out") }, hardening.Detached{Ours: 1}},
		{"..data out of the volume", func(_ *testing.T, d string) error {
			return joined(os.Remove(d+"/..data"), os.Symlink("/etc", d+"/..data"))
		}, hardening.Detached{Ours: 1}},
		{"hard link", func(_ *testing.T, d string) error { return os.Link(d+"/..data/a", d+"/again") }, hardening.Detached{Ours: 1}},
		{"file of nobody", func(_ *testing.T, d string) error {
			return joined(os.Chown(d+"/..data/a", 65534, 65534), os.Chmod(d+"/..data/a", 0))
		}, hardening.Detached{Ours: 1}},
		{"root of nobody", func(_ *testing.T, d string) error {
			return joined(os.Chmod(d, 0), os.Chown(d, 65534, 65534))
		}, hardening.Detached{Ours: 1}},
		{"immutable file", func(t *testing.T, d string) error { return setImmutable(t, d+"/..data/a") }, hardening.Detached{Ours: 1}},
		{"immutable directory", func(t *testing.T, d string) error { return setImmutable(t, d+"/..data/") }, hardening.Detached{Ours: 1}},
		{"remounted for writing", func(_ *testing.T, d string) error { return unix.Mount("", d, "", unix.MS_REMOUNT, "size=2m") }, hardening.Detached{Ours: 1}},
		{"superblock read-only", func(_ *testing.T, d string) error {
			return unix.Mount("", d, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}, hardening.Detached{Ours: 1}},
		{"file lease", func(t *testing.T, d string) error { return lease(t, d+"/..data/a") }, hardening.Detached{Ours: 1, ScrubErrors: 1}},
		{"deeper than any of ours", func(_ *testing.T, d string) error {
			return os.MkdirAll(d+"/..data/"+strings.Repeat("d/", 60), 0o700)
		}, hardening.Detached{Ours: 1}},
		// The directory at the bound and those above it cannot be removed.
		{"deeper than is followed", func(_ *testing.T, d string) error {
			return os.MkdirAll(d+"/..data/"+strings.Repeat("d/", 200), 0o700)
		}, hardening.Detached{Ours: 1, ScrubErrors: 66}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				_, target, dir := n.publish(t, "vol", grouped, valued("a", "1"), valued("b", "1"))
				elsewhere := bindOf(t, dir)
				check(t, "plant", tt.plant(t, privileged(t, dir)))
				detach(t, target, tt.want)
				if b, err := os.ReadFile(elsewhere + "/..data/b"); len(b) > 0 {
					t.Errorf("ReadFile(copy of the mount) = %q, %v, want nothing", b, err)
				}
				if b, err := os.ReadFile("/etc/passwd"); err != nil || len(b) == 0 {
					t.Fatalf("ReadFile(/etc/passwd) = %d bytes, %v: the scrub left the volume", len(b), err)
				}
			})
		})
	}
}

// lease takes a read lease, for which a process needs to own the file only:
// opening it for writing then waits for up to 45 seconds.
func lease(t *testing.T, p string) error {
	t.Helper()
	f, err := os.Open(p)
	check(t, "open", err)
	t.Cleanup(func() { _ = f.Close() })
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	return err
}

func TestP8DetachSubmounts(t *testing.T) {
	tests := []struct {
		name, point string
		foreign     int
	}{
		{"on ..data", "..data", 1},
		{"on a directory", "d", 1},
		{"one in another", "d", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				_, target, dir := n.publish(t, "vol", grouped, valued("a", "1"), valued("d/b", "1"))
				elsewhere := bindOf(t, dir)
				mountTmpfs(t, "evil", filepath.Join(dir, tt.point))
				if tt.name == "one in another" {
					inner := filepath.Join(dir, tt.point, "inner")
					check(t, "mkdir", os.Mkdir(inner, 0o700))
					mountTmpfs(t, "evil", inner)
				}
				assertState(t, target, hardening.StateCovered)
				detach(t, target, hardening.Detached{Ours: 1, Foreign: tt.foreign})
				assertAbsent(t, elsewhere+"/a")
				assertAbsent(t, elsewhere+"/..data")
			})
		})
	}
}

func TestP8DetachWithoutAnswerFromFanotify(t *testing.T) {
	// A privileged container can ask for every open to wait for its word. The
	// volume must come off all the same.
	n := newNode(t, hardening.SettingMlock)
	_, target, dir := n.publish(t, "vol", grouped, valued("a", "1"))
	letGo := holdOpens(t, dir, unix.FAN_MARK_FILESYSTEM, 0)
	within(t, 20*time.Second, "Detach", func() {
		d, err := target.Detach()
		if err != nil || d.Ours != 1 || d.ScrubErrors == 0 {
			t.Errorf("Detach() = %+v, %v, want our mount gone and the scrub counted as failed", d, err)
		}
	})
	assertAbsent(t, dir)
	letGo()
}

// TestOpensThatAreHeldUpEnd is the same where the plugin looks at the plain
// directory, and where the sweep removes a volume.
func TestOpensThatAreHeldUpEnd(t *testing.T) {
	t.Run("State", func(t *testing.T) {
		t.Parallel()
		n := newNode(t, hardening.SettingNoswap)
		target, dir := n.place(t, "vol")
		letGo := holdOpens(t, dir, 0, unix.FAN_ONDIR)
		within(t, 20*time.Second, "State", func() {
			if got, err := target.State(); got != hardening.StateUnknown || err == nil {
				t.Errorf("State() = %s, %v, want unknown and an error", got, err)
			}
		})
		letGo()
		assertState(t, target, hardening.StateEmpty)
	})
	t.Run("ScrubPlain", func(t *testing.T) {
		t.Parallel()
		n := newNode(t, hardening.SettingNoswap)
		target, dir := n.place(t, "vol")
		check(t, "write", os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600))
		letGo := holdOpens(t, dir, 0, unix.FAN_ONDIR|unix.FAN_EVENT_ON_CHILD)
		within(t, 20*time.Second, "Detach", func() {
			if d, err := target.Detach(); d.ScrubErrors == 0 || !errors.Is(err, hardening.ErrOccupied) {
				t.Errorf("Detach() = %+v, %v, want an incomplete scrub and ErrOccupied", d, err)
			}
		})
		letGo()
		if _, err := target.Detach(); err != nil {
			t.Errorf("Detach() once nobody holds it up = %v, want nil", err)
		}
		assertAbsent(t, dir)
	})
	t.Run("DetachIdle", func(t *testing.T) {
		t.Parallel()
		n := newNode(t, hardening.SettingMlock)
		v, target, dir := n.publish(t, "vol", grouped, valued("a", "1"))
		check(t, "close", v.Close())
		letGo := holdOpens(t, dir, unix.FAN_MARK_FILESYSTEM, 0)
		within(t, 20*time.Second, "DetachIdle", func() {
			if d, err := target.DetachIdle(); d.Ours != 0 || err == nil {
				t.Errorf("DetachIdle() = %+v, %v, want nothing touched and an error", d, err)
			}
		})
		letGo()
		if d, err := target.DetachIdle(); d.Ours != 1 || err != nil {
			t.Errorf("DetachIdle() once nobody holds it up = %+v, %v, want the volume gone", d, err)
		}
	})
}

// holdOpens keeps everybody from opening files until it is told to let go.
func holdOpens(t *testing.T, dir string, what uint, of uint64) (letGo func()) {
	t.Helper()
	group, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		hardeningtest.Missing(t, fmt.Sprintf("fanotify is not available: %v", err))
	}
	once := sync.OnceFunc(func() { _ = unix.Close(group) })
	t.Cleanup(once)
	if err := unix.FanotifyMark(group, unix.FAN_MARK_ADD|what, unix.FAN_OPEN_PERM|of, unix.AT_FDCWD, dir); err != nil {
		once()
		hardeningtest.Missing(t, fmt.Sprintf("fanotify has no permission events here: %v", err))
	}
	return once
}

// TestP8DetachBlindly is what happens where the mount table cannot be read.
func TestP8DetachBlindly(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	_, target, dir := n.publish(t, "vol", grouped, valued("a", "1"))
	for range 3 {
		mountTmpfs(t, "foreign", dir)
	}
	if d, err := hardening.DetachBlindly(target); err != nil || d.Foreign != 4 {
		t.Errorf("DetachBlindly() = %+v, %v, want 4 mounts gone", d, err)
	}
	assertState(t, target, hardening.StateEmpty)
	if d, err := hardening.DetachBlindly(target); err != nil || d.Foreign != 0 {
		t.Errorf("DetachBlindly() again = %+v, %v, want nothing to do", d, err)
	}
}

func TestDetachBlindlyFollowsNoLink(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	_, _, victim := n.publish(t, "victim", grouped, valued("a", "1"))
	dir := hardeningtest.VolumeDir(t, n.root, podUID, "vol")
	check(t, "plant", os.Symlink(victim, dir))
	if d, err := hardening.DetachBlindly(n.target(t, "vol")); err != nil || d.Foreign != 0 {
		t.Errorf("DetachBlindly() = %+v, %v, want nothing done", d, err)
	}
	assertContent(t, victim+"/a", "1")
}

func TestDetachLegacy(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	target, dir := n.place(t, "vol")
	writeLegacy(t, dir)
	assertState(t, target, hardening.StateLegacy)
	elsewhere := bindOf(t, dir)
	assertContent(t, elsewhere+"/secret", "legacy")
	detach(t, target, hardening.Detached{Legacy: 1})
	assertAbsent(t, elsewhere+"/secret")
}

// writeLegacy does what the upstream driver does.
func writeLegacy(t *testing.T, dir string) {
	t.Helper()
	mountTmpfs(t, "tmpfs", dir)
	generation := dir + "/..2025_01_02_03_04_05.123456789"
	check(t, "write legacy volume", joined(
		os.Mkdir(generation, 0o755),
		os.WriteFile(generation+"/secret", []byte("legacy"), 0o644),
		os.Symlink(filepath.Base(generation), dir+"/..data"),
		os.Symlink("..data/secret", dir+"/secret"),
	))
}

func TestDetachLeavesForeignContentAlone(t *testing.T) {
	// A bind of a directory of the node over the target is taken off, and what
	// is in it stays.
	n := newNode(t, hardening.SettingMlock)
	_, target, dir := n.publish(t, "vol", grouped, valued("a", "1"))
	precious := t.TempDir()
	check(t, "write", os.WriteFile(precious+"/data", []byte("keep"), 0o600))
	check(t, "bind", unix.Mount(precious, dir, "", unix.MS_BIND, ""))
	detach(t, target, hardening.Detached{Ours: 1, Foreign: 1})
	assertContent(t, precious+"/data", "keep")

	again, dir := n.place(t, "other")
	plainTmpfs := t.TempDir()
	mountTmpfs(t, "tmpfs", plainTmpfs)
	t.Cleanup(func() { _ = unix.Unmount(plainTmpfs, unix.MNT_DETACH) })
	check(t, "write", os.WriteFile(plainTmpfs+"/data", []byte("keep"), 0o600))
	check(t, "bind", unix.Mount(plainTmpfs, dir, "", unix.MS_BIND, ""))
	detach(t, again, hardening.Detached{Foreign: 1})
	assertContent(t, plainTmpfs+"/data", "keep")
}

func TestDetachPropagates(t *testing.T) {
	// The plugin's container and the host are peers: what it detaches goes there.
	n := newNode(t, hardening.SettingMlock)
	check(t, "bind", unix.Mount(n.root, n.root, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(n.root, unix.MNT_DETACH) })
	check(t, "make shared", unix.Mount("", n.root, "", unix.MS_SHARED, ""))
	host := t.TempDir()
	check(t, "peer", unix.Mount(n.root, host, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(host, unix.MNT_DETACH) })
	n.sys = n.open(t, hardening.SettingMlock)
	_, target, dir := n.publish(t, "vol", grouped, valued("a", "1"))
	there := filepath.Join(host, strings.TrimPrefix(dir, n.root))
	assertContent(t, there+"/a", "1")
	if lines := mountLines(t, there); len(lines) != 1 || !strings.Contains(lines[0], " ro,nosuid,nodev,noexec") {
		t.Errorf("mount table of the host has %q, want one sealed mount", lines)
	}
	detach(t, target, hardening.Detached{Ours: 1})
	assertAbsent(t, there)
}

// TestScrubWithFourCapabilities scrubs as the confined plugin will: without
// CAP_DAC_OVERRIDE and CAP_FOWNER root cannot open a pod's files.
func TestScrubWithFourCapabilities(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		_, target, dir := n.publish(t, "vol", grouped, owned("own", 1000, 0o400), valued("d/b", "1"))
		evil := privileged(t, dir)
		check(t, "plant", joined(os.Chmod(evil+"/..data/d", 0), os.Chown(evil+"/..data/d", 7, 7), os.Chown(evil, 7, 7), os.Chmod(evil, 0)))
		elsewhere := bindOf(t, dir)
		done := make(chan struct{})
		go func() {
			defer close(done)
			// The thread ends with the goroutine, capabilities and all.
			runtime.LockOSThread()
			if err := keepCapabilities(unix.CAP_SYS_ADMIN, unix.CAP_CHOWN, unix.CAP_SETUID, unix.CAP_SETGID); err != nil {
				t.Errorf("drop capabilities: %v", err)
			}
			if _, err := os.ReadFile(dir + "/..data/own"); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("ReadFile() without CAP_DAC_OVERRIDE = %v, want %v: the test proves nothing", err, fs.ErrPermission)
			}
			if failed := hardening.ScrubHere(target); failed != nil {
				t.Errorf("scrub = %v, want nil", failed)
			}
		}()
		<-done
		if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) != 0 {
			t.Errorf("ReadDir() = %v, %v, want nothing", entries, err)
		}
	})
}

func TestTakeBackBothWays(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	ways := map[string]func(string, fs.FileMode) error{"fchmodat2": hardening.ChmodDescriptor, "proc": hardening.ChmodProc}
	for name, chmod := range ways {
		t.Run(name, func(t *testing.T) {
			if name == "fchmodat2" {
				needFchmodat2(t)
			}
			p := filepath.Join(n.root, name)
			check(t, "write", os.WriteFile(p, []byte("x"), 0o400))
			for _, mode := range []fs.FileMode{0o600, 0o440} {
				check(t, "chmod", chmod(p, mode))
				if info, err := os.Stat(p); err != nil || info.Mode() != mode {
					t.Errorf("Stat() = %v, %v, want mode %v", info.Mode(), err, mode)
				}
			}
			// Neither follows a link to somebody else's file.
			link := p + "-link"
			check(t, "symlink", os.Symlink(p, link))
			if err := chmod(link, 0o777); err == nil {
				t.Errorf("chmod of a link = nil, want an error")
			}
			if info, err := os.Stat(p); err != nil || info.Mode() != 0o440 {
				t.Errorf("Stat() = %v, %v, want mode 0440 still", info.Mode(), err)
			}
		})
	}
}
