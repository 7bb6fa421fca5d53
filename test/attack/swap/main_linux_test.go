//go:build attack

package swap_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const (
	isolatedEnv = "ATTACK_TEST_ISOLATED"
	childEnv    = "ATTACK_TEST_CHILD"
	programsEnv = "ATTACK_TEST_PROGRAMS"
)

// TestMain runs the tests in a mount namespace of their own, so that a failed
// one leaves no mount on the machine, and serves as the processes that tests
// start.
func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		os.Exit(runChild(name))
	}
	if os.Geteuid() == 0 && os.Getenv(isolatedEnv) == "" {
		if code, ok := runIsolated(); ok {
			os.Exit(code)
		}
	}
	os.Exit(m.Run())
}

// runIsolated reports false where unsharing is not permitted: the tests that
// mount will then say so.
func runIsolated() (code int, ok bool) {
	// All tests share what they build: linking is what takes time.
	programs, err := os.MkdirTemp("", "programs")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	defer func() { _ = os.RemoveAll(programs) }()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), isolatedEnv+"=1", programsEnv+"="+programs)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "no mount namespace: %v\n", err)
		return 0, false
	}
	err = cmd.Wait()
	if exit, isExit := errors.AsType[*exec.ExitError](err); isExit {
		return exit.ExitCode(), true
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}
