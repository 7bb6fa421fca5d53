//go:build attack

package swap_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// cgroup is a memory cgroup of the test's own, of the version that has the
// memory controller here. Both were run: version 1 on Linux 6.18, version 2 on
// 6.12 and on 6.1, which knows no swappiness in memory.reclaim.
type cgroup struct {
	dir     string
	unified bool // version 2
}

func newCgroup(t *testing.T, keeper *child) *cgroup {
	t.Helper()
	root, unified, err := memoryHierarchy()
	if err != nil {
		hardeningtest.Missing(t, "needs a memory cgroup: "+err.Error())
	}
	if unified {
		delegate(t, keeper, root)
	}
	g := &cgroup{dir: filepath.Join(root, fmt.Sprintf("portcullis-attack-%d", os.Getpid())), unified: unified}
	keeper.ask(t, "group", g.dir)
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		hardeningtest.Missing(t, "needs a memory cgroup: "+err.Error())
	}
	if !unified {
		// As willing to swap as can be, whatever the machine's setting.
		g.write(t, "memory.swappiness", "100")
	}
	return g
}

// memoryHierarchy finds where the memory controller is mounted.
func memoryHierarchy() (root string, unified bool, err error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", false, err
	}
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if len(mount) < 5 || len(kind) < 3 {
			continue
		}
		switch point := mount[4]; kind[0] {
		case "cgroup":
			if slices.Contains(strings.Split(kind[2], ","), "memory") {
				return point, false, nil
			}
		case "cgroup2":
			if has(filepath.Join(point, "cgroup.controllers"), "memory") {
				return point, true, nil
			}
		}
	}
	return "", false, errors.New("no hierarchy with the memory controller is mounted")
}

func has(file, word string) bool {
	text, err := os.ReadFile(file)
	return err == nil && slices.Contains(strings.Fields(string(text)), word)
}

// delegate lets children of the root of version 2 have the controller, as
// systemd does anyway, until the end of the test.
func delegate(t *testing.T, keeper *child, root string) {
	t.Helper()
	control := filepath.Join(root, "cgroup.subtree_control")
	if has(control, "memory") {
		return
	}
	keeper.ask(t, "write", control, "-memory")
	if err := os.WriteFile(control, []byte("+memory"), 0); err != nil {
		hardeningtest.Missing(t, "needs a memory cgroup: "+err.Error())
	}
}

func (g *cgroup) write(t *testing.T, name, text string) {
	t.Helper()
	if err := g.try(name, text); err != nil {
		t.Fatalf("write %q to %s: %v", text, name, err)
	}
}

// try writes without package os, which would take EAGAIN for a file that is
// not ready, and wait for ever. Here it means that less was reclaimed than was
// asked for.
func (g *cgroup) try(name, text string) error {
	fd, err := unix.Open(filepath.Join(g.dir, name), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for {
		if _, err = unix.Write(fd, []byte(text)); !errors.Is(err, unix.EINTR) {
			return errors.Join(err, unix.Close(fd))
		}
	}
}

// add moves a process in. What it has allocated before stays where it was.
func (g *cgroup) add(t *testing.T, pid int) {
	t.Helper()
	g.write(t, "cgroup.procs", strconv.Itoa(pid))
}

// number reads a key of memory.stat.
func (g *cgroup) number(t *testing.T, key string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == key {
			n, _ := strconv.Atoi(value)
			return n
		}
	}
	t.Fatalf("memory.stat of %s has no %s", g.dir, key)
	return 0
}

// swappable returns the bytes of anonymous and tmpfs memory that the kernel
// might write to swap: what is locked or noswap is unevictable and not in it.
func (g *cgroup) swappable(t *testing.T) int {
	t.Helper()
	return g.number(t, "active_anon") + g.number(t, "inactive_anon")
}

// squeeze makes the kernel reclaim until next to nothing swappable is left.
// The rest is what running processes keep touching.
func (g *cgroup) squeeze(t *testing.T) {
	t.Helper()
	// Counters of the kernel lag behind by some pages for each processor, so a
	// few passes are made in any case.
	const least, most, rest = 3, 30, 1 << 20
	for pass := range most {
		g.reclaim(t)
		if pass >= least && g.swappable(t) < rest {
			return
		}
	}
	t.Logf("%d bytes stay swappable after %d passes of reclaim", g.swappable(t), most)
}

func (g *cgroup) reclaim(t *testing.T) {
	t.Helper()
	if !g.unified {
		g.write(t, "memory.force_empty", "0")
		return
	}
	current, err := os.ReadFile(filepath.Join(g.dir, "memory.current"))
	if err != nil {
		t.Fatal(err)
	}
	bytes := strings.TrimSpace(string(current))
	// The key came with Linux 6.9, its value max later; without it the
	// machine's swappiness holds.
	for _, request := range []string{bytes + " swappiness=max", bytes + " swappiness=200", bytes} {
		if err = g.try("memory.reclaim", request); err == nil || errors.Is(err, unix.EAGAIN) {
			return
		}
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		hardeningtest.Missing(t, "needs memory.reclaim of Linux 5.19: "+err.Error())
	}
	t.Fatalf("reclaim: %v", err)
}
