//go:build attack

package swap_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// newProgramJob becomes another program: so that one of ours can be in a cgroup
// from its first page, or lack a capability from its first instruction.
func newProgramJob() (job, error) {
	// Limits and the bounding set are those of the thread that calls execve.
	runtime.LockOSThread()
	return job{do: programJob}, nil
}

func programJob(words []string) (string, error) {
	switch verb, arg := words[0], words[1:]; verb {
	case "unlockable": // as in a pod without CAP_IPC_LOCK, with the usual limit
		limit := unix.Rlimit{Cur: 8 << 20, Max: 8 << 20}
		return "", errors.Join(
			unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit),
			unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_IPC_LOCK, 0, 0, 0))
	case "old-kernel":
		return "", hardeningtest.HideNoswap()
	case "exec":
		return "", unix.Exec(arg[0], arg, []string{"PATH=" + os.Getenv("PATH")})
	}
	return "", errors.New("unknown verb")
}

// exec turns a program child into a program of ours.
func (c *child) exec(t *testing.T, words ...string) {
	t.Helper()
	c.name = filepath.Base(words[0])
	t.Cleanup(func() { c.kill(t) }) // unlike a job it does not read its standard input
	if _, err := fmt.Fprintln(c.in, "exec "+strings.Join(words, " ")); err != nil {
		t.Fatalf("start %s: %v", c.name, err)
	}
}

// build makes a program of ours, as a development build, and returns its path.
func build(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv(programsEnv)
	if dir == "" { // no mount namespace of our own
		dir = t.TempDir()
	}
	binary := filepath.Join(dir, name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "insecure", "-o", binary, "../../../cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}
