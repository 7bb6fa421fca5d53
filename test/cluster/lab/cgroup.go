package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroups is where hierarchies are mounted.
const cgroups = "/sys/fs/cgroup"

// hierarchies are the directories in which a lab has a cgroup. Kubelet and runc
// use all controllers of version 1, or the one tree of version 2.
func hierarchies(mount string) ([]string, error) {
	if unified(mount) {
		return []string{mount}, nil
	}
	entries, err := os.ReadDir(mount)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() { // links are second names: cpu,cpuacct
			dirs = append(dirs, filepath.Join(mount, e.Name()))
		}
	}
	return dirs, nil
}

// unified reports whether this is a host of cgroup version 2.
func unified(mount string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(mount, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

// makeCgroup makes the cgroup below which kubelet puts pods.
func makeCgroup(mount, name string) error {
	dirs, err := hierarchies(mount)
	if err != nil {
		return fmt.Errorf("find cgroups: %w; hint: mount them at %s", err, mount)
	}
	if unified(mount) {
		if err := delegate(mount); err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make a cgroup: %w", err)
		}
	}
	return inheritCPUs(mount, name)
}

// delegate lets children of the root have every controller. It is the branch for
// hosts of cgroup version 2; where this project is developed and tested there is
// version 1 only, and version 1 keeps the controllers.
func delegate(mount string) error {
	text, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for controller := range strings.FieldsSeq(string(text)) {
		if err := os.WriteFile(filepath.Join(mount, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
			return fmt.Errorf("delegate the %s controller: %w; hint: run this in the root cgroup, or in a container with a cgroup namespace of its own", controller, err)
		}
	}
	return nil
}

// inheritCPUs fills in what cpuset of version 1 wants before it takes a process.
func inheritCPUs(mount, name string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := os.ReadFile(filepath.Join(mount, "cpuset", file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(mount, "cpuset", name, file), text, 0o644)
		}
		if err != nil {
			return fmt.Errorf("fill in the cgroup: %w", err)
		}
	}
	return nil
}

// removeTimeout bounds the wait for the kernel to let go of a cgroup.
const removeTimeout = 10 * time.Second

// removeCgroup removes the lab's cgroup and those below it. Processes in them
// have been killed, and may not all have ended.
func removeCgroup(mount, name string) error {
	dirs, err := hierarchies(mount)
	if err != nil {
		return err
	}
	var errs []error
	deadline := time.Now().Add(removeTimeout)
	for _, dir := range dirs {
		dir = filepath.Join(dir, name)
		for {
			err := removeTree(dir)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				errs = append(errs, fmt.Errorf("remove a cgroup: %w; hint: a process in %s/cgroup.procs has not ended", err, dir))
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return errors.Join(errs...)
}

// removeTree removes directories from the leaves up: files of a cgroup cannot be
// removed, and go with it.
func removeTree(dir string) error {
	var found []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			found = append(found, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	for _, path := range slices.Backward(found) {
		if removed := os.Remove(path); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}
	return err
}
