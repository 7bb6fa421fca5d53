package hardeningtest

import (
	"errors"
	"math/rand/v2"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// plants are what somebody can leave in the mount directory between two steps.
// dir is that directory itself, never what is mounted there: the attacker must
// not be the one who writes into the victim.
func plants() []func(p *Path, dir int, name string) error {
	return []func(p *Path, dir int, name string) error{
		func(_ *Path, dir int, name string) error {
			return closed(unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600))
		},
		func(_ *Path, dir int, name string) error { return unix.Mkfifoat(dir, name, 0o600) },
		func(_ *Path, dir int, name string) error {
			return unix.Mknodat(dir, name, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
		},
		func(p *Path, dir int, name string) error { return unix.Symlinkat(p.Victim+"/precious", dir, name) },
		func(p *Path, dir int, name string) error { return unix.Symlinkat(p.Victim, dir, name) },
		func(p *Path, dir int, name string) error { return unix.Linkat(unix.AT_FDCWD, p.Linked, dir, name, 0) },
		func(_ *Path, dir int, name string) error { return unix.Mkdirat(dir, name, 0) },
		func(_ *Path, dir int, name string) error {
			if err := unix.Mkdirat(dir, name, 0o700); err != nil {
				return err
			}
			return unix.Mkdirat(dir, name+"/a", 0o700)
		},
		func(_ *Path, dir int, _ string) error { return unix.Fchmod(dir, 0) },
		func(_ *Path, dir int, _ string) error { return unix.Fchown(dir, 7, 7) },
		func(_ *Path, dir int, name string) error { return mountOn(dir, name)(newTmpfs("foreign")) },
		func(p *Path, dir int, name string) error { return mountOn(dir, name)(copyOf(p.Victim)) },
		func(p *Path, dir int, name string) error {
			return mountOn(dir, name)(copyOf(p.Victim + "/precious"))
		},
	}
}

// covers are what somebody can do to the mount directory from outside.
func covers(marker string) []func(p *Path, parent int) error {
	return []func(p *Path, parent int) error{
		func(_ *Path, parent int) error { return mountOn(parent, "mount")(newTmpfs("foreign")) },
		func(_ *Path, parent int) error { return mountOn(parent, "mount")(newTmpfs(marker)) },
		func(p *Path, parent int) error { return mountOn(parent, "mount")(copyOf(p.Victim)) },
		func(p *Path, parent int) error { return mountOn(parent, "mount")(copyOf(p.Other)) },
		func(p *Path, _ int) error { return unix.Unmount(p.Place, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) },
	}
}

func closed(fd int, err error) error {
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// newTmpfs and copyOf return detached mounts.
func newTmpfs(source string) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(fs) }()
	if err := errors.Join(unix.FsconfigSetString(fs, "source", source), unix.FsconfigCreate(fs)); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
}

func copyOf(p string) (int, error) {
	return unix.OpenTree(unix.AT_FDCWD, p, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
}

// mountOn puts a detached mount on an entry, following no link.
func mountOn(dir int, name string) func(tree int, err error) error {
	return func(tree int, err error) error {
		if err != nil {
			return err
		}
		return errors.Join(unix.MoveMount(tree, "", dir, name, unix.MOVE_MOUNT_F_EMPTY_PATH), unix.Close(tree))
	}
}

// Plant leaves something in, on or under the mount directory that p is, at
// random; what, it may see from marker, which is the source of the driver's own
// volumes. The directory is made where there is none, since that is the
// commonest state.
func Plant(p *Path, marker string) {
	parent, err := unix.Open(filepath.Dir(p.Place), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(parent) }()
	_ = unix.Mkdirat(parent, "mount", 0o755)
	if all := covers(marker); rand.IntN(3) == 0 {
		_ = all[rand.IntN(len(all))](p, parent)
		return
	}
	dir, err := unix.Openat2(parent, "mount", &unix.OpenHow{
		Flags: unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(dir) }()
	all := plants()
	_ = all[rand.IntN(len(all))](p, dir, string('a'+rune(rand.IntN(3))))
}
