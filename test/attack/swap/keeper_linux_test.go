//go:build attack

package swap_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// startKeeper starts the owner of what outlives processes: a swap area that is
// on, a file, a cgroup. It is a process, in a group of its own, because a swap
// area that a killed or timed-out test left on would go before every other one
// of the machine. It undoes all when its standard input ends, which the kernel
// sees to whatever becomes of the test.
func startKeeper(t *testing.T) *child {
	t.Helper()
	k := startChild(t, "keeper", born{attr: syscall.SysProcAttr{Setpgid: true}})
	t.Cleanup(func() { k.ask(t, "undo") }) // here an error is seen
	return k
}

// keeping is what a keeper has to undo.
type keeping struct {
	areas  []string // swap areas
	groups []string // cgroups
	files  []string
	writes [][2]string // files with the text to write into them
}

func newKeeperJob() (job, error) {
	k := &keeping{}
	return job{do: k.do, end: k.undo}, nil
}

func (k *keeping) do(words []string) (string, error) {
	switch verb, arg := words[0], words[1:]; verb {
	case "group":
		k.groups = append(k.groups, arg[0])
	case "file":
		k.files = append(k.files, arg[0])
	case "write":
		k.writes = append(k.writes, [2]string{arg[0], arg[1]})
	case "swapon":
		k.areas = append(k.areas, arg[0])
		// Of the highest priority, so that it is used before any other.
		return "", run("swapon", "--priority", "32767", arg[0])
	case "swapoff":
		return "", swapoff(arg[0])
	case "undo":
		return "", k.undo()
	}
	return "", nil
}

// undo may be repeated. Processes go first: what they have in swap need not be
// read back then.
func (k *keeping) undo() error {
	var errs []error
	for _, dir := range k.groups {
		errs = append(errs, removeGroup(dir))
	}
	for _, area := range k.areas {
		errs = append(errs, swapoff(area))
	}
	for _, name := range k.files {
		if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, w := range k.writes {
		errs = append(errs, os.WriteFile(w[0], []byte(w[1]), 0))
	}
	*k = keeping{}
	return errors.Join(errs...)
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func swapoff(area string) error {
	areas, err := swapAreas()
	if err != nil {
		return err
	}
	if _, on := areas[area]; !on {
		return nil
	}
	return run("swapoff", area)
}

// swapAreas returns what is used of each area that is on, and its size, in kB.
func swapAreas() (map[string][2]int, error) {
	text, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return nil, err
	}
	areas := map[string][2]int{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 5 && f[0] != "Filename" {
			size, _ := strconv.Atoi(f[2])
			used, _ := strconv.Atoi(f[3])
			areas[f[0]] = [2]int{used, size}
		}
	}
	return areas, nil
}

// removeGroup kills what is left in a cgroup that a test made, and removes it.
func removeGroup(dir string) error {
	var err error
	for end := time.Now().Add(stopTimeout); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = unix.Rmdir(dir); err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 1 {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
	return fmt.Errorf("remove cgroup %s: %w", dir, err)
}

// TestKeeperUndoes ends a keeper as the death of a test does, with swap on and
// a process that hangs in the cgroup.
func TestKeeperUndoes(t *testing.T) {
	hardeningtest.NeedRoot(t)
	keeper := startChild(t, "keeper", born{attr: syscall.SysProcAttr{Setpgid: true}})
	area, group := newSwapArea(t, keeper), newCgroup(t, keeper)
	startChild(t, "pager", born{group: group})
	area.on(t)
	if err := keeper.in.Close(); err != nil {
		t.Fatal(err)
	}
	keeper.await(t)
	if areas, err := swapAreas(); err != nil || areas[area.path] != [2]int{} {
		t.Errorf("swap areas after the end: %v, %v, want none of %q", areas, err, area.path)
	}
	for _, name := range []string{area.path, group.dir} {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Lstat(%q) = %v, want no such file", name, err)
		}
	}
	if code := keeper.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("keeper ended with %d: %s", code, keeper.log())
	}
}
