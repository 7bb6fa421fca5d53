package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// own are the directories of the root that the node has for itself. Everything
// else that lies in the machine's root is seen in the node as it is.
func own() []string { return []string{"etc", "lost+found", "proc", "run", "var"} }

// enterRoot makes a root file system and puts this process, which must be in a
// mount namespace of its own, into it.
//
// Nothing is made in the machine's directories, mount points neither: removing
// one would unmount what another lab has mounted there.
func enterRoot(s Spec) error {
	// What is mounted here must not appear on the machine.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := filepath.Join(s.Dir, "root")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("portcullis-lab", root, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount the node's root: %w", err)
	}
	if err := errors.Join(share(root), private(root)); err != nil {
		return err
	}
	// A copy of this root inside itself, where its directory was shared with it.
	if err := unix.Unmount(filepath.Join(root, root), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount the copy of the root: %w", err)
	}
	for _, dir := range s.Binds {
		// Without what is mounted below it: this root is.
		if err := bind(dir, filepath.Join(root, dir), 0); err != nil {
			return err
		}
	}
	// The old root is stacked over the new one and then let go: pivot_root(2).
	if err := errors.Join(unix.Chdir(root), unix.PivotRoot(".", "."), unix.Unmount(".", unix.MNT_DETACH), unix.Chdir("/")); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	// What kubelet, CSI drivers and propagation to pods expect.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	for _, dir := range s.Dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// share makes what lies in the machine's root visible below root.
func share(root string) error {
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to := "/"+e.Name(), filepath.Join(root, e.Name())
		switch {
		case slices.Contains(own(), e.Name()):
		case e.Type() == os.ModeSymlink:
			target, err := os.Readlink(from)
			if err == nil {
				err = os.Symlink(target, to)
			}
			if err != nil {
				return err
			}
		case e.IsDir():
			if err := bind(from, to, unix.MS_REC); err != nil {
				return err
			}
		}
	}
	return nil
}

func bind(from, to string, flags uintptr) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|flags, ""); err != nil {
		return fmt.Errorf("show %s in the node: %w", from, err)
	}
	return nil
}

// private makes the directories that the node has for itself.
func private(root string) error {
	in := func(name string) string { return filepath.Join(root, name) }
	for _, dir := range []string{"etc", "proc", "run", "var/tmp", ".etc/upper", ".etc/work"} {
		if err := os.MkdirAll(in(dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"run", "var"} {
		// Of their own, so that a pod that gets one as a volume gets no more.
		if err := unix.Mount("portcullis-lab", in(dir), "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount the node's /%s: %w", dir, err)
		}
	}
	if err := errors.Join(os.MkdirAll(in("var/tmp"), 0o777), os.Chmod(in("var/tmp"), 0o777|os.ModeSticky), os.Symlink("/run", in("var/run"))); err != nil {
		return err
	}
	layers := "lowerdir=/etc,upperdir=" + in(".etc/upper") + ",workdir=" + in(".etc/work")
	if err := unix.Mount("portcullis-lab", in("etc"), "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount the node's /etc: %w", err)
	}
	if err := unix.Mount("proc", in("proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount the node's /proc: %w", err)
	}
	return nil
}
