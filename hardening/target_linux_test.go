package hardening_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

func TestTargetNames(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	n.place(t, "vol")
	tests := []struct{ name, uid, volume, field string }{
		{"upper-case uid", strings.ToUpper(podUID), "vol", "pod uid"},
		{"no uid", "", "vol", "pod uid"},
		{"dots for a uid", "..", "vol", "pod uid"},
		{"path in the uid", "../" + podUID, "vol", "pod uid"},
		{"no volume", podUID, "", "volume name"},
		{"dots for a volume", podUID, "..", "volume name"},
		{"path in the volume", podUID, "vol/mount", "volume name"},
		{"upper-case volume", podUID, "VOL", "volume name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target, err := n.sys.Target(tt.uid, tt.volume)
			if e, ok := errors.AsType[*hardening.TargetError](err); !ok || e.Field != tt.field {
				t.Errorf("Target(%q, %q) = %v, %v, want a TargetError of %q", tt.uid, tt.volume, target, err, tt.field)
			}
		})
	}
	for _, uid := range []string{otherUID, podUID} {
		if target, err := n.sys.Target(uid, "absent"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Target(%q, absent) = %v, %v, want %v", uid, target, err, fs.ErrNotExist)
		}
	}
}

// TestTargetRefusesLinks plants a link at every component below the pods
// directory, to an equal tree elsewhere.
func TestTargetRefusesLinks(t *testing.T) {
	parts := []string{podUID, "volumes", "kubernetes.io~csi", "vol"}
	for i, part := range parts {
		t.Run(part, func(t *testing.T) {
			n := newNode(t, hardening.SettingMlock)
			n.place(t, "vol")
			victim := t.TempDir()
			check(t, "make victim", os.MkdirAll(filepath.Join(append([]string{victim}, parts[i+1:]...)...), 0o750))
			link := filepath.Join(append([]string{n.root, "pods"}, parts[:i+1]...)...)
			check(t, "plant", joined(os.RemoveAll(link), os.Symlink(victim, link)))
			if target, err := n.sys.Target(podUID, "vol"); err == nil {
				t.Errorf("Target() through a link at %q = %v, nil, want an error", part, target)
			}
		})
	}
}

func TestTargetRefusesWhatIsNoDirectory(t *testing.T) {
	tests := []struct {
		name  string
		plant func(dir, elsewhere string) error
	}{
		{"link", func(dir, elsewhere string) error { return os.Symlink(elsewhere, dir) }},
		{"dangling link", func(dir, _ string) error { return os.Symlink("/nonexistent/x", dir) }},
		{"file", func(dir, _ string) error { return os.WriteFile(dir, nil, 0o600) }},
		{"FIFO", func(dir, _ string) error { return unix.Mkfifo(dir, 0o600) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				dir := hardeningtest.VolumeDir(t, n.root, podUID, "vol")
				elsewhere := t.TempDir()
				check(t, "plant", tt.plant(dir, elsewhere))
				target := n.target(t, "vol")
				v := n.volume(t, anyone)
				check(t, "fill", v.Fill([]hardening.File{valued("a", "1")}))
				state, stateErr := target.State()
				for what, err := range map[string]error{
					"Prepare": target.Prepare(), "Attach": v.Attach(target), "State": stateErr, "Discard": target.Discard(),
				} {
					if !errors.Is(err, hardening.ErrNotDirectory) {
						t.Errorf("%s() = %v, want %v", what, err, hardening.ErrNotDirectory)
					}
				}
				if state != hardening.StateUnknown {
					t.Errorf("State() = %v, want unknown", state)
				}
				if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) != 0 {
					t.Errorf("ReadDir(where the link leads) = %v, %v, want nothing", entries, err)
				}
				// Unpublish removes the link itself, not what it leads to.
				detach(t, target, hardening.Detached{})
				if _, err := os.Stat(elsewhere); err != nil {
					t.Errorf("Stat(where the link leads) = %v, want nil", err)
				}
			})
		})
	}
}

// TestTargetIsNeverElsewhere is the attack on a path that is looked up twice:
// while volumes are published, somebody exchanges the volume's directory with
// a link to a victim's.
func TestTargetIsNeverElsewhere(t *testing.T) {
	const attempts, collisions = 200, 10
	n := newNode(t, hardening.SettingMlock)
	dir := hardeningtest.VolumeDir(t, n.root, podUID, "vol")
	victim := hardeningtest.VolumeDir(t, n.root, otherUID, "vol")
	link := filepath.Join(filepath.Dir(filepath.Dir(dir)), "link")
	check(t, "symlink", os.Symlink(filepath.Dir(victim), link))
	attack := hardeningtest.StartAttack(t, hardeningtest.Host, func(int) {
		_ = unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, filepath.Dir(dir), unix.RENAME_EXCHANGE)
	})
	refused, published := 0, 0
	for i := 0; i < attempts || min(refused, published) < collisions && i < 100*attempts; i++ {
		target, err := n.sys.Target(podUID, "vol")
		if err == nil && publishOnce(t, n, target) {
			published++
		} else {
			refused++
		}
	}
	attack.Stop()
	t.Logf("%d exchanges, %d refused, %d published", attack.Hits()/2, refused, published)
	if refused < collisions || published < collisions {
		t.Errorf("%d refused and %d published, want at least %d each: no race, no proof", refused, published, collisions)
	}
	assertAbsent(t, victim)
	if lines := mountLines(t, victim); len(lines) != 0 {
		t.Errorf("mount table has %q at the victim, want nothing", lines)
	}
}

// publishOnce reports whether the volume came to be where its path led.
func publishOnce(t *testing.T, n *node, target *hardening.Target) bool {
	t.Helper()
	defer func() { check(t, "close", target.Close()) }()
	v := n.volume(t, anyone)
	check(t, "prepare", target.Prepare())
	check(t, "fill", v.Fill([]hardening.File{valued("a", "1")}))
	attached := v.Attach(target)
	check(t, "close", v.Close())
	if attached != nil {
		if !errors.Is(attached, hardening.ErrChanging) {
			t.Errorf("Attach() = %v, want nil or %v", attached, hardening.ErrChanging)
		}
		return false
	}
	// While its directory is renamed a detach may give up, as kubelet's next call
	// would try again; it must come to an end, and be ours or counted as not.
	var d hardening.Detached
	var err error
	for range 100 {
		var found hardening.Detached
		found, err = target.Detach()
		d.Ours += found.Ours
		d.Foreign += found.Foreign
		if err == nil {
			break
		}
	}
	if err != nil || d.Ours+d.Foreign < 1 {
		t.Errorf("Detach() = %+v, %v, want our mount gone", d, err)
	}
	return true
}

// A volume whose directory was moved meanwhile is taken off, with its mappings.
func TestAttachToADirectoryThatWasMoved(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	target, dir := n.place(t, "vol")
	v := n.volume(t, anyone)
	check(t, "fill", v.Fill([]hardening.File{valued("a", "1")}))
	check(t, "move", os.Rename(filepath.Dir(dir), filepath.Dir(dir)+"-moved"))
	if err := v.Attach(target); !errors.Is(err, hardening.ErrChanging) {
		t.Errorf("Attach() = %v, want %v", err, hardening.ErrChanging)
	}
	if got := hardening.LockedTargets(n.sys); got != 0 {
		t.Errorf("targets with mappings = %d, want 0", got)
	}
	if lines := mountLines(t, filepath.Dir(dir)+"-moved"); len(lines) != 0 {
		t.Errorf("mount table has %q, want nothing", lines)
	}
}

func TestTargetStates(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, n *node, dir string)
		want hardening.State
	}{
		{"absent", func(*testing.T, *node, string) {}, hardening.StateAbsent},
		{"empty", func(t *testing.T, _ *node, dir string) { check(t, "mkdir", os.Mkdir(dir, 0o750)) }, hardening.StateEmpty},
		{"occupied", func(t *testing.T, _ *node, dir string) {
			check(t, "write", joined(os.Mkdir(dir, 0o750), os.WriteFile(dir+"/x", nil, 0o600)))
		}, hardening.StateOccupied},
		{"ours", func(t *testing.T, n *node, _ string) { n.publish(t, "vol", anyone, valued("a", "1")) }, hardening.StateOurs},
		{"ours after a restart", func(t *testing.T, n *node, _ string) {
			n.publish(t, "vol", anyone, valued("a", "1"))
			n.sys = n.open(t, hardening.SettingMlock)
		}, hardening.StateOurs},
		{"ours emptied", func(t *testing.T, n *node, _ string) {
			v, _, _ := n.publish(t, "vol", anyone, valued("a", "1"))
			check(t, "scrub", v.Scrub())
		}, hardening.StateOurs},
		{"covered by a tmpfs", func(t *testing.T, n *node, dir string) {
			n.publish(t, "vol", anyone, valued("a", "1"))
			mountTmpfs(t, "foreign", dir)
		}, hardening.StateCovered},
		{"covered by a part of itself", func(t *testing.T, n *node, dir string) {
			n.publish(t, "vol", anyone, valued("d/a", "1"))
			check(t, "bind", unix.Mount(dir+"/..data/d", dir, "", unix.MS_BIND, ""))
		}, hardening.StateCovered},
		{"something mounted inside", func(t *testing.T, n *node, dir string) {
			n.publish(t, "vol", anyone, valued("d/a", "1"))
			mountTmpfs(t, "foreign", dir+"/d")
		}, hardening.StateCovered},
		{"two of ours", func(t *testing.T, n *node, dir string) {
			n.publish(t, "vol", anyone, valued("a", "1"))
			n.stack(t, 'o', dir)
		}, hardening.StateOurs},
		{"legacy", func(t *testing.T, _ *node, dir string) {
			check(t, "mkdir", os.Mkdir(dir, 0o750))
			writeLegacy(t, dir)
		}, hardening.StateLegacy},
		{"legacy covered", func(t *testing.T, _ *node, dir string) {
			check(t, "mkdir", os.Mkdir(dir, 0o750))
			writeLegacy(t, dir)
			mountTmpfs(t, "tmpfs", dir)
		}, hardening.StateForeign},
		{"tmpfs with other content", func(t *testing.T, _ *node, dir string) {
			check(t, "mkdir", os.Mkdir(dir, 0o750))
			mountTmpfs(t, "tmpfs", dir)
			check(t, "write", joined(os.Symlink("x", dir+"/..data"), os.WriteFile(dir+"/x", nil, 0o600)))
		}, hardening.StateForeign},
		{"empty tmpfs", func(t *testing.T, _ *node, dir string) {
			check(t, "mkdir", os.Mkdir(dir, 0o750))
			mountTmpfs(t, "tmpfs", dir)
		}, hardening.StateForeign},
		{"tmpfs of another name", func(t *testing.T, _ *node, dir string) {
			check(t, "mkdir", os.Mkdir(dir, 0o750))
			mountTmpfs(t, hardening.Marker+".evil", dir)
		}, hardening.StateForeign},
		{"bind of a directory", func(t *testing.T, _ *node, dir string) {
			check(t, "mkdir", os.Mkdir(dir, 0o750))
			check(t, "bind", unix.Mount(t.TempDir(), dir, "", unix.MS_BIND, ""))
		}, hardening.StateForeign},
		{"bind of a part of one of ours", func(t *testing.T, n *node, dir string) {
			_, _, other := n.publish(t, "other", anyone, valued("d/a", "1"))
			check(t, "mkdir", os.Mkdir(dir, 0o750))
			check(t, "bind", unix.Mount(other+"/d", dir, "", unix.MS_BIND, ""))
		}, hardening.StateForeign},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				dir := hardeningtest.VolumeDir(t, n.root, podUID, "vol")
				tt.make(t, n, dir)
				target := n.target(t, "vol")
				before := mountLines(t, dir)
				assertState(t, target, tt.want)
				if diff := cmp.Diff(before, mountLines(t, dir)); diff != "" {
					t.Errorf("State() changed the mounts (-before +after):\n%s", diff)
				}
				v, err := target.OpenVolume()
				if tt.want == hardening.StateOurs {
					check(t, "OpenVolume()", err)
					check(t, "close", v.Close())
				} else if inside := tt.name == "something mounted inside"; err == nil && !inside {
					t.Errorf("OpenVolume() = nil at a target that is %v, want an error", tt.want)
				}
				if tt.want != hardening.StateEmpty {
					assertNoAttach(t, n, target)
				}
			})
		})
	}
}

// assertNoAttach makes sure that only an empty directory takes a volume.
func assertNoAttach(t *testing.T, n *node, target *hardening.Target) {
	t.Helper()
	v := n.volume(t, anyone)
	check(t, "fill", v.Fill([]hardening.File{valued("a", "1")}))
	err := v.Attach(target)
	if !errors.Is(err, hardening.ErrMounted) && !errors.Is(err, hardening.ErrOccupied) && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Attach() = %v, want a refusal", err)
	}
}

func TestUncover(t *testing.T) {
	tests := []struct {
		name  string
		cover func(t *testing.T, dir string)
	}{
		{"nothing", func(*testing.T, string) {}},
		{"one mount", func(t *testing.T, dir string) { mountTmpfs(t, "foreign", dir) }},
		{"many mounts", func(t *testing.T, dir string) {
			for range 30 {
				mountTmpfs(t, "foreign", dir)
			}
		}},
		{"a mount inside", func(t *testing.T, dir string) { mountTmpfs(t, "foreign", dir+"/d") }},
		{"mounts inside and above", func(t *testing.T, dir string) {
			mountTmpfs(t, "foreign", dir+"/d")
			mountTmpfs(t, "foreign", dir+"/d")
			mountTmpfs(t, "foreign", dir+"/..data")
			mountTmpfs(t, "foreign", dir)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				_, target, dir := n.publish(t, "vol", anyone, valued("a", "1"), valued("d/b", "1"))
				before := mountLines(t, dir)
				tt.cover(t, dir)
				check(t, "Uncover()", target.Uncover())
				assertState(t, target, hardening.StateOurs)
				if diff := cmp.Diff(before, mountLines(t, dir)); diff != "" {
					t.Errorf("mounts differ (-before +after):\n%s", diff)
				}
				assertContent(t, dir+"/d/b", "1")
			})
		})
	}
}

func TestUncoverLeavesOthersAlone(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	target, dir := n.place(t, "vol")
	if err := target.Uncover(); !errors.Is(err, hardening.ErrNotOurs) {
		t.Errorf("Uncover() of nothing = %v, want %v", err, hardening.ErrNotOurs)
	}
	mountTmpfs(t, "foreign", dir)
	if err := target.Uncover(); !errors.Is(err, hardening.ErrNotOurs) {
		t.Errorf("Uncover() of a foreign mount = %v, want %v", err, hardening.ErrNotOurs)
	}
	assertState(t, target, hardening.StateForeign)
}

func TestPrepareAndDiscard(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	dir := hardeningtest.VolumeDir(t, n.root, podUID, "vol")
	target := n.target(t, "vol")
	for range 2 {
		check(t, "Prepare()", target.Prepare())
	}
	if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o750 {
		t.Errorf("Stat() = %v, %v, want a directory with mode 0750", info, err)
	}
	for range 2 {
		check(t, "Discard()", target.Discard())
		assertAbsent(t, dir)
	}
	check(t, "Prepare()", target.Prepare())
	check(t, "write", os.WriteFile(dir+"/x", nil, 0o600))
	if err := target.Discard(); !errors.Is(err, hardening.ErrOccupied) {
		t.Errorf("Discard() of a full directory = %v, want %v", err, hardening.ErrOccupied)
	}
	mountTmpfs(t, "foreign", dir)
	if err := target.Discard(); !errors.Is(err, hardening.ErrMounted) {
		t.Errorf("Discard() of a mount = %v, want %v", err, hardening.ErrMounted)
	}
	assertState(t, target, hardening.StateForeign)
}

func TestScrubPlain(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	target, dir := n.place(t, "vol")
	neighbour := filepath.Join(n.root, "neighbour")
	check(t, "write", joined(
		os.WriteFile(neighbour, []byte("keep"), 0o644),
		os.MkdirAll(dir+"/a/b", 0o700),
		os.WriteFile(dir+"/a/b/secret", []byte("plain"), 0o000),
		os.WriteFile(dir+"/own", []byte("plain"), 0o400),
		os.Chown(dir+"/own", 1000, 1000),
		unix.Mkfifo(dir+"/fifo", 0o600),
		os.Symlink(neighbour, dir+"/link"),
		os.Link(neighbour, dir+"/hard"),
	))
	held, err := os.Open(dir + "/a/b/secret")
	check(t, "open", err)
	defer func() { _ = held.Close() }()
	within(t, patience, "ScrubPlain", func() {
		if found, err := target.ScrubPlain(); found != 5 || err != nil {
			t.Errorf("ScrubPlain() = %d, %v, want 5, nil", found, err)
		}
	})
	if n, err := held.ReadAt(make([]byte, 8), 0); n != 0 {
		t.Errorf("open file reads %d bytes (%v), want none", n, err)
	}
	assertState(t, target, hardening.StateEmpty)
	// A second name of a file elsewhere goes, the file stays as it was.
	assertContent(t, neighbour, "keep")
	if info, err := os.Stat(neighbour); err != nil || info.Mode() != 0o644 {
		t.Errorf("Stat(file with a second name) = %v, %v, want mode 0644 still", info.Mode(), err)
	}
	for range 2 {
		if found, err := target.ScrubPlain(); found != 0 || err != nil {
			t.Errorf("ScrubPlain() again = %d, %v, want 0, nil", found, err)
		}
		check(t, "Discard()", target.Discard())
	}
	check(t, "Prepare()", target.Prepare())
	mountTmpfs(t, "foreign", dir)
	check(t, "write", os.WriteFile(dir+"/data", []byte("keep"), 0o600))
	if found, err := target.ScrubPlain(); found != 0 || !errors.Is(err, hardening.ErrMounted) {
		t.Errorf("ScrubPlain() of a mount = %d, %v, want 0, %v", found, err, hardening.ErrMounted)
	}
	assertContent(t, dir+"/data", "keep")
}

func TestDetachPlainContent(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	target, dir := n.place(t, "vol")
	check(t, "write", os.WriteFile(dir+"/below", []byte("plain"), 0o600))
	mountTmpfs(t, "foreign", dir)
	detach(t, target, hardening.Detached{Foreign: 1, Plain: 1})
	assertAbsent(t, dir)
}
