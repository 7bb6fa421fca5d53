//go:build e2e

package lab_test

import (
	"cmp"
	"context"
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

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/test/cluster/lab"
)

// machine is what a lab could leave behind.
type machine map[string]bool

// look takes stock of mounts, cgroups, links, and of files and directories where
// daemons write.
func look(t *testing.T) machine {
	t.Helper()
	m := machine{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		m["mount "+strings.Fields(line)[4]] = true
	}
	links, err := filepath.Glob("/sys/class/net/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		m["link "+link] = true
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{"/etc", "/opt", "/run", "/usr", "/var", "/sys/fs/cgroup", home + "/.kube", home + "/.config", home + "/.local", home + "/.docker"} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			// In a cgroup the files are the kernel's.
			if err == nil && (e.IsDir() || !strings.HasPrefix(path, "/sys/")) {
				m["file "+path] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// namespaces are the numbers of a process's.
func namespaces(pid int) map[string]bool {
	found := map[string]bool{}
	for _, name := range []string{"pid", "net", "mnt"} {
		if number, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name)); err == nil {
			found[number] = true
		}
	}
	return found
}

// inside are the processes in any of these namespaces.
func inside(t *testing.T, spaces map[string]bool) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		for number := range namespaces(pid) {
			if spaces[number] {
				command, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
				found = append(found, e.Name()+" "+string(command))
				break
			}
		}
	}
	return found
}

func (m machine) checkNothingNew(t *testing.T) {
	t.Helper()
	for thing := range look(t) {
		// Labs of others, what other tests mount and the go command counts is no
		// business of this one.
		if !m[thing] && !strings.HasPrefix(thing, "mount /tmp/") && !strings.Contains(thing, "/.config/go/telemetry/") && (!strings.Contains(thing, "lab") || strings.Contains(thing, "test-left")) {
			t.Errorf("left behind: %s", thing)
		}
	}
}

// TestNothingIsLeft: of a lab in which pods ran, and of one that never came up.
func TestNothingIsLeft(t *testing.T) {
	hardeningtest.NeedRoot(t)
	if _, err := lab.Build(t.Context(), cmp.Or(version(), lab.V137), os.Stderr); err != nil { // what it builds, it keeps
		t.Fatal(err)
	}
	before := look(t)
	t.Run("of a lab with pods", func(t *testing.T) {
		l, err := lab.Up(t.Context(), lab.Config{Name: "test-left-1", Kubernetes: version(), Limit: 20 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		c := clientOf(t, l)
		c.run(t, pod("left", "sleep 1000"))
		c.kubectl(t, "get", "pods")
		pid, err := strconv.Atoi(strings.Split(l.Root(), "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		spaces := namespaces(pid)
		if n := len(inside(t, spaces)); n < 8 {
			t.Errorf("there are %d processes in the node, want the daemons and a pod", n)
		}
		for range 2 { // the second time there is nothing to do
			if err := l.Down(t.Context()); err != nil {
				t.Fatalf("Down() = %v, want nil", err)
			}
		}
		// Who entered the node from outside is killed with what it ran there, and
		// takes a moment to end.
		left := inside(t, spaces)
		for deadline := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(deadline); left = inside(t, spaces) {
			time.Sleep(50 * time.Millisecond)
		}
		if len(left) > 0 {
			t.Errorf("processes %q are left in the node's namespaces", left)
		}
		if _, err := lab.Open("test-left-1"); err == nil || !strings.Contains(err.Error(), "is not up; hint: ") {
			t.Errorf("Open(a lab that is down) = %v, want an error with the remedy", err)
		}
		before.checkNothingNew(t)
	})
	t.Run("of a lab that does not come up", func(t *testing.T) {
		_, err := lab.Up(t.Context(), lab.Config{Name: "test-left-2", Kubernetes: version(), APIServerArgs: []string{"--no-such-flag=1"}})
		if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
			t.Errorf("Up(with a wrong flag) = %v, want what the API server said", err)
		}
		before.checkNothingNew(t)
	})
}

const envChild = "PORTCULLIS_TEST_CHILD"

// TestALabEndsWithItsCaller: a test that is killed leaves no node, and the next
// one of the name starts.
func TestALabEndsWithItsCaller(t *testing.T) {
	const name = "test-caller"
	if os.Getenv(envChild) != "" {
		up(t, lab.Config{Name: name})
		fmt.Println("up")
		select {}
	}
	hardeningtest.NeedRoot(t)
	child := exec.Command(os.Args[0], "-test.run=^TestALabEndsWithItsCaller$")
	child.Env = append(os.Environ(), envChild+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Down(context.Background(), name); err != nil { //nolint:usetesting // the test's context has ended
			t.Error(err)
		}
	})
	var word string
	if _, err := fmt.Fscanln(out, &word); err != nil || word != "up" {
		t.Fatalf("the child said %q, %v, want that its lab is up", word, err)
	}
	if _, err := lab.Open(name); err != nil {
		t.Errorf("Open(the child's lab) = %v, want nil", err)
	}
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	await(t, "the lab has ended", func() error {
		if _, err := lab.Open(name); err == nil || !strings.Contains(err.Error(), "has ended; ") && !strings.Contains(err.Error(), "whoever started the node has ended") {
			return fmt.Errorf("open: %w", err)
		}
		return nil
	})
	up(t, lab.Config{Name: name})
}
