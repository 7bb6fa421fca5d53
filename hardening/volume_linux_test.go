package hardening_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

func TestPublish(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, target, dir := n.publish(t, "vol", grouped,
			valued("user", "alice"), valued("db/password", "hunter2"), valued("empty", ""), owned("own", 1000, 0o400))
		assertState(t, target, hardening.StateOurs)
		assertContent(t, filepath.Join(dir, "user"), "alice")
		assertContent(t, filepath.Join(dir, "db/password"), "hunter2")
		assertContent(t, filepath.Join(dir, "..data/empty"), "")
		if diff := cmp.Diff([]string{"db", "empty", "own", "user"}, names(t, dir)); diff != "" {
			t.Errorf("names differ (-want +got):\n%s", diff)
		}
		files, err := v.Files()
		check(t, "Files()", err)
		want := []string{"db/password 7 0:2000 0440", "empty 0 0:2000 0440", "own 12 1000:2000 0400", "user 5 0:2000 0440"}
		if diff := cmp.Diff(want, infoStrings(files)); diff != "" {
			t.Errorf("Files() differs (-want +got):\n%s", diff)
		}
		for link, to := range map[string]string{"user": "..data/user", "db": "..data/db"} {
			if got, err := os.Readlink(filepath.Join(dir, link)); err != nil || got != to {
				t.Errorf("Readlink(%q) = %q, %v, want %q", link, got, err, to)
			}
		}
	})
}

func TestDirectoryModes(t *testing.T) {
	tests := []struct {
		name   string
		limits hardening.Limits
		mode   fs.FileMode
		gid    uint32
	}{{"group", grouped, 0o750, 2000}, {"all", anyone, 0o755, 0}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				_, _, dir := n.publish(t, "vol", tt.limits, valued("a/b/c", "x"))
				for _, d := range []string{".", "..data/", "a/", "a/b"} {
					info, err := os.Stat(dir + "/" + d)
					check(t, "stat "+d, err)
					st, ok := info.Sys().(*unixStat)
					if !ok || info.Mode() != fs.ModeDir|tt.mode || st.Uid != 0 || st.Gid != tt.gid {
						t.Errorf("Stat(%q) = %v %d:%d, want %v 0:%d", d, info.Mode(), st.Uid, st.Gid, tt.mode, tt.gid)
					}
				}
			})
		})
	}
}

func TestMountOptions(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		_, _, dir := n.publish(t, "vol", grouped, valued("a", "x"))
		lines := mountLines(t, dir)
		if len(lines) != 1 {
			t.Fatalf("mount table has %q, want one mount", lines)
		}
		fields := strings.Fields(lines[0])
		for _, o := range []string{"ro", "nosuid", "nodev", "noexec"} {
			if !slices.Contains(strings.Split(fields[5], ","), o) {
				t.Errorf("mount options are %q, want %q in them", fields[5], o)
			}
		}
		tail := lines[0][strings.Index(lines[0], " - "):]
		for _, o := range []string{" - tmpfs " + hardening.Marker + " ", "size=12k", "nr_inodes=518", "mode=750", "gid=2000"} {
			if !strings.Contains(tail, o) {
				t.Errorf("superblock is %q, want %q in it", tail, o)
			}
		}
		if want := n.sys.Protection() == hardening.ProtectionNoswap; strings.Contains(tail, "noswap") != want {
			t.Errorf("superblock is %q, want noswap %v", tail, want)
		}
	})
}

func TestSealedReadOnly(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		_, _, dir := n.publish(t, "vol", anyone, valued("a", "x"))
		// Also through what the container runtime makes of the mount.
		for _, d := range []string{dir, bindOf(t, dir)} {
			writes := map[string]error{
				"create": os.WriteFile(d+"/new", nil, 0o600),
				"write":  os.WriteFile(d+"/a", []byte("y"), 0o600),
				"remove": os.Remove(d + "/a"),
				"rename": os.Rename(d+"/a", d+"/b"),
				"chmod":  os.Chmod(d+"/a", 0o777),
				"mkdir":  os.Mkdir(d+"/d", 0o700),
				"mknod":  unix.Mknod(d+"/fifo", unix.S_IFIFO|0o600, 0),
			}
			for what, err := range writes {
				if !errors.Is(err, unix.EROFS) {
					t.Errorf("%s = %v, want %v", what, err, unix.EROFS)
				}
			}
		}
	})
}

func TestNobodySeesADetachedVolume(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		before := countOurs(t)
		v := n.volume(t, anyone)
		check(t, "fill", v.Fill([]hardening.File{valued("a", "x")}))
		if got := countOurs(t); got != before {
			t.Errorf("mount table has %d volumes, want %d", got, before)
		}
		check(t, "close", v.Close())
		check(t, "close again", v.Close())
		if _, err := v.Files(); err == nil {
			t.Error("Files() after Close = nil, want an error")
		}
	})
}

func countOurs(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), " "+hardening.Marker+" ")
}

func TestFillAllOrNone(t *testing.T) {
	wiped := valued("z", "x")
	wiped.Data.Wipe()
	big := hardening.File{Path: "z", Mode: 0o440, Data: hardening.NewPlaintext(make([]byte, 1<<20))}
	tests := []struct {
		name  string
		files []hardening.File
		want  error // if it has one
	}{
		{"nothing", nil, hardening.ErrNoFiles},
		{"bad path last", []hardening.File{valued("a", "x"), valued("../b", "x")}, nil},
		{"bad mode last", []hardening.File{valued("a", "x"), file("b", 0o777)}, nil},
		{"too big", []hardening.File{valued("a", "x"), big}, nil},
		{"wiped when it is its turn", []hardening.File{valued("a/b", "x"), wiped}, hardening.ErrWiped},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				v := n.volume(t, grouped)
				err := v.Fill(tt.files)
				if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
					t.Fatalf("Fill() = %v, want an error (%v)", err, tt.want)
				}
				if files, err := v.Files(); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Files() = %v, %v, want nothing", files, err)
				}
				if st, err := v.Stats(); err != nil || st.BytesUsed != 0 || st.InodesUsed != 1 {
					t.Errorf("Stats() = %+v, %v, want only the root", st, err)
				}
				target, _ := n.place(t, "vol")
				if err := v.Attach(target); !errors.Is(err, hardening.ErrNotFilled) {
					t.Errorf("Attach() = %v, want %v", err, hardening.ErrNotFilled)
				}
				check(t, "fill again", v.Fill([]hardening.File{valued("a", "x")}))
				check(t, "attach", v.Attach(target))
			})
		})
	}
}

func TestVolumePhases(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		files := []hardening.File{valued("a", "x")}
		v := n.volume(t, anyone)
		target, _ := n.place(t, "vol")
		if _, err := v.Replace(files); !errors.Is(err, hardening.ErrNotAttached) {
			t.Errorf("Replace() of a detached volume = %v, want %v", err, hardening.ErrNotAttached)
		}
		if err := v.Scrub(); !errors.Is(err, hardening.ErrNotAttached) {
			t.Errorf("Scrub() of a detached volume = %v, want %v", err, hardening.ErrNotAttached)
		}
		check(t, "fill", v.Fill(files))
		if err := v.Fill(files); !errors.Is(err, hardening.ErrFilled) {
			t.Errorf("Fill() again = %v, want %v", err, hardening.ErrFilled)
		}
		check(t, "attach", v.Attach(target))
		if err := v.Attach(target); !errors.Is(err, hardening.ErrFilled) {
			t.Errorf("Attach() again = %v, want %v", err, hardening.ErrFilled)
		}
		if err := v.Fill(files); !errors.Is(err, hardening.ErrFilled) {
			t.Errorf("Fill() of an attached volume = %v, want %v", err, hardening.ErrFilled)
		}
	})
}

func TestZeroValuesGrantNothing(t *testing.T) {
	var v hardening.Volume
	var s hardening.System
	var target hardening.Target
	failures := map[string]error{
		"Fill":      v.Fill([]hardening.File{valued("a", "x")}),
		"Attach":    v.Attach(&target),
		"Scrub":     v.Scrub(),
		"NewVolume": second(s.NewVolume(anyone)),
		"Target":    second(s.Target(podUID, "vol")),
		"Mounts":    second(s.Mounts()),
		"Replace":   second(v.Replace(nil)),
		"Stats":     second(v.Stats()),
		"Files":     second(v.Files()),
		"State":     second(target.State()),
		"Prepare":   target.Prepare(),
		"Open":      second(target.OpenVolume()),
		"Plain":     second(target.ScrubPlain()),
		"Discard":   target.Discard(),
		"Uncover":   target.Uncover(),
	}
	for name, err := range failures {
		if err == nil {
			t.Errorf("%s() of a zero value = nil, want an error", name)
		}
	}
	for name, err := range map[string]error{"System": s.Close(), "Volume": v.Close(), "Target": target.Close()} {
		if err != nil {
			t.Errorf("Close() of a zero %s = %v, want nil", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestNewVolumeLimits(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	for _, l := range []hardening.Limits{{}, {Bytes: -1}, {Bytes: 1 << 40}, {Bytes: 1, GID: -5}} {
		if v, err := n.sys.NewVolume(l); err == nil {
			t.Errorf("NewVolume(%+v) = %v, nil, want an error", l, v)
		}
	}
	check(t, "close", n.sys.Close())
	if _, err := n.sys.NewVolume(anyone); !errors.Is(err, hardening.ErrClosed) {
		t.Errorf("NewVolume() after Close = %v, want %v", err, hardening.ErrClosed)
	}
}

func TestVolumeTakesWhatItsLimitsSay(t *testing.T) {
	// The fullest volume there can be, twice: rotation needs both at once.
	l := hardening.Limits{Bytes: 64 * 4096, Inodes: 64 + 8, GID: 7}
	full := func(fill byte) []hardening.File {
		var files []hardening.File
		for i := range 64 {
			b := slices.Repeat([]byte{fill}, 4096)
			files = append(files, hardening.File{Path: fmt.Sprintf("d%d/f%d", i%8, i), Mode: 0o440, Data: hardening.NewPlaintext(b)})
		}
		return files
	}
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, dir := n.publish(t, "vol", l, full('a')...)
		for _, fill := range []byte("bcd") {
			if changed, err := v.Replace(full(fill)); err != nil || !changed {
				t.Fatalf("Replace() = %v, %v, want true, nil", changed, err)
			}
			assertContent(t, dir+"/d7/f63", strings.Repeat(string(fill), 4096))
		}
		st, err := v.Stats()
		if err != nil || st.BytesUsed != 64*4096 {
			t.Errorf("Stats() = %+v, %v, want one generation of 64 pages", st, err)
		}
	})
}

func TestStats(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, _ := n.publish(t, "vol", anyone, valued("a", "x"), valued("b/c", "y"))
		got, err := v.Stats()
		check(t, "Stats()", err)
		// Root, generation, ..data, two names, two files, one directory. There
		// is room for the same again, and a page.
		want := hardening.Stats{
			BytesTotal: 5 * 4096, BytesUsed: 2 * 4096, BytesAvailable: 3 * 4096,
			InodesTotal: 518, InodesUsed: 9, InodesAvailable: 509,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Stats() differs (-want +got):\n%s", diff)
		}
	})
}

func TestMounts(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		_, _, dir := n.publish(t, "one", anyone, valued("a", "x"))
		n.publish(t, "two", anyone, valued("a", "x"), valued("b", "x"))
		bindOf(t, dir) // elsewhere: not a volume of its own
		foreign, path := n.place(t, "three")
		mountTmpfs(t, "other", path)
		assertState(t, foreign, hardening.StateForeign)
		got, err := n.sys.Mounts()
		check(t, "Mounts()", err)
		want := []hardening.Mounted{
			{PodUID: podUID, Volume: "one", SizeBytes: 3 * 4096},
			{PodUID: podUID, Volume: "two", SizeBytes: 5 * 4096},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Mounts() differs (-want +got):\n%s", diff)
		}
	})
}

func TestOpen(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	if n.sys.Protection() != hardening.ProtectionMlock {
		t.Errorf("Protection() = %q, want %q", n.sys.Protection(), hardening.ProtectionMlock)
	}
	for _, c := range []hardening.Config{
		{},
		{KubeletRoot: "relative", Protection: hardening.SettingMlock},
		{KubeletRoot: n.root},
		{KubeletRoot: n.root, Protection: "none"},
		{KubeletRoot: filepath.Join(n.root, "absent"), Protection: hardening.SettingMlock},
	} {
		if sys, err := hardening.Open(c); err == nil {
			t.Errorf("Open(%+v) = %v, nil, want an error", c, sys)
		}
	}
}

func TestKubeletRootMayBeALink(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		link := filepath.Join(t.TempDir(), "kubelet")
		check(t, "symlink", os.Symlink(n.root, link))
		n.publish(t, "vol", anyone, valued("a", "x"))
		sys, err := hardening.Open(hardening.Config{KubeletRoot: link, Protection: hardening.SettingMlock})
		check(t, "Open", err)
		defer func() { check(t, "close", sys.Close()) }()
		if got, err := sys.Mounts(); err != nil || len(got) != 1 {
			t.Errorf("Mounts() = %v, %v, want the one volume", got, err)
		}
		target, err := sys.Target(podUID, "vol")
		check(t, "Target", err)
		assertState(t, target, hardening.StateOurs)
		check(t, "close", target.Close())
	})
}

func TestSELinuxContextIsRefusedWithoutSELinux(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		t.Skip("SELinux is active: the context would be accepted")
	}
	sys, err := hardening.Open(hardening.Config{KubeletRoot: n.root, Protection: hardening.SettingMlock, SELinuxContext: "system_u:object_r:container_file_t:s0"})
	if err == nil || !strings.Contains(err.Error(), "context") {
		t.Errorf("Open(SELinuxContext) = %v, %v, want an error that names the option", sys, err)
	}
}
