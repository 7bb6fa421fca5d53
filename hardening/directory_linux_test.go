package hardening_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// Only a directory that nobody can have used is closed; whatever else is open to
// others is refused as it is.
func TestPrivateDirectory(t *testing.T) {
	tests := map[string]struct {
		mode  os.FileMode // 0: not there
		entry string
		want  os.FileMode
		err   string
	}{
		"not there":             {0, "", 0o700, ""},
		"closed":                {0o700, "", 0o700, ""},
		"closed and used":       {0o700, "log", 0o700, ""},
		"as kubelet makes it":   {0o755, "", 0o700, ""},
		"open and used":         {0o755, "log", 0o755, "has mode 0755; hint: run chmod 0700"},
		"open, hidden entry":    {0o750, ".x", 0o750, "has mode 0750"},
		"writable by others":    {0o777, "", 0o777, "has mode 0777"},
		"writable by its group": {0o770, "", 0o770, "has mode 0770"},
		"sticky":                {os.ModeSticky | 0o777, "", os.ModeSticky | 0o777, "has mode 1777"},
		"readable by its group": {0o740, "", 0o700, ""},
		"that others can pass":  {0o711, "", 0o700, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "state")
			if tt.mode != 0 {
				check(t, "mkdir", os.MkdirAll(dir, 0o700))
				if tt.entry != "" {
					check(t, "write", os.WriteFile(filepath.Join(dir, tt.entry), nil, 0o600))
				}
				check(t, "chmod", os.Chmod(dir, tt.mode))
			}
			err := hardening.PrivateDirectory("--state-dir", dir)
			if e, ok := errors.AsType[*hardening.ConfigError](err); tt.err == "" && err != nil || tt.err != "" && (!ok || !strings.Contains(e.Error(), tt.err)) {
				t.Errorf("PrivateDirectory(%v, %q) = %v, want %q", tt.mode, tt.entry, err, tt.err)
			}
			info, err := os.Stat(dir)
			check(t, "stat", err)
			if got := info.Mode() &^ os.ModeDir; got != tt.want {
				t.Errorf("mode is %v, want %v", got, tt.want)
			}
		})
	}
}

func TestPrivateDirectoryOfOthers(t *testing.T) {
	hardeningtest.NeedRoot(t)
	dir := t.TempDir()
	check(t, "chmod", os.Chmod(dir, 0o700))
	check(t, "chown", os.Chown(dir, 1000, 0))
	if err := hardening.PrivateDirectory("--state-dir", dir); err == nil || !strings.Contains(err.Error(), "belongs to user 1000; hint: ") {
		t.Errorf("PrivateDirectory(of user 1000) = %v, want the user and a remedy", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	check(t, "write", os.WriteFile(file, nil, 0o600))
	if err := hardening.PrivateDirectory("--state-dir", file); err == nil {
		t.Error("PrivateDirectory(a file) = nil, want an error")
	}
}

func TestSocketRemovesItselfAlone(t *testing.T) {
	dir := t.TempDir()
	for name, between := range map[string]func(path string) error{
		"its own":   func(string) error { return nil },
		"removed":   os.Remove,
		"successor": func(path string) error { _, err := hardening.Listen(t.Context(), path); return err },
		"file": func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("x"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			s, err := hardening.Listen(t.Context(), path)
			check(t, "listen", err)
			check(t, "close", s.Close())
			check(t, "between", between(path))
			own := name == "its own"
			if got := s.InPlace(); got != own {
				t.Errorf("InPlace() = %v, want %v", got, own)
			}
			check(t, "Remove()", s.Remove())
			_, err = os.Lstat(path)
			if gone := errors.Is(err, os.ErrNotExist); gone != (own || name == "removed") {
				t.Errorf("Lstat() = %v after Remove() with %s in place", err, name)
			}
		})
	}
}

// TestInUse: whatever of ours is beneath the pods directory keeps the plugin's
// sockets, and nothing else does.
func TestInUse(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	assert := func(what string, want bool) {
		t.Helper()
		if got, err := n.sys.InUse(); got != want || err != nil {
			t.Errorf("InUse() with %s = %v, %v, want %v, nil", what, got, err, want)
		}
	}
	assert("nothing mounted", false)
	_, target, dir := n.publish(t, "vol", grouped, valued("a", "1"), valued("d/b", "1"))
	assert("a volume", true)
	sub := filepath.Join(n.root, "pods", podUID, "volume-subpaths", "vol")
	check(t, "mkdir", os.MkdirAll(sub, 0o750))
	check(t, "bind", unix.Mount(dir+"/..data/d", sub, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(sub, unix.MNT_DETACH) })
	detach(t, target, hardening.Detached{Ours: 1})
	assert("a subPath of a volume that is gone", true)
	check(t, "unmount", unix.Unmount(sub, 0))
	assert("nothing any more", false)

	legacy := hardeningtest.VolumeDir(t, n.root, podUID, "old")
	check(t, "mkdir", os.MkdirAll(legacy, 0o750))
	check(t, "mount", unix.Mount("tmpfs", legacy, "tmpfs", 0, "size=4k"))
	t.Cleanup(func() { _ = unix.Unmount(legacy, unix.MNT_DETACH) })
	assert("a volume of the upstream driver", true)
	check(t, "unmount", unix.Unmount(legacy, 0))

	elsewhere := t.TempDir()
	empty := filepath.Join(n.root, "pods", podUID, "volumes", "kubernetes.io~empty-dir", "cache")
	check(t, "mkdir", os.MkdirAll(empty, 0o750))
	for source, at := range map[string]string{hardening.Marker: elsewhere, "tmpfs": empty} {
		check(t, "mount", unix.Mount(source, at, "tmpfs", 0, "size=4k"))
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	}
	assert("a volume of another node, and an emptyDir", false)
}
