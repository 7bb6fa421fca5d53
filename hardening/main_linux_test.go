package hardening_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const (
	isolatedEnv = "HARDENING_TEST_ISOLATED"
	childEnv    = "HARDENING_TEST_CHILD"
)

// TestMain runs the tests in a mount namespace of their own, so that a failed
// one leaves nothing on the machine, and serves as the processes that some
// tests start.
func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		os.Exit(runChild(job))
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
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), isolatedEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "no mount namespace: %v\n", err)
		return 0, false
	}
	err := cmd.Wait()
	if exit, isExit := errors.AsType[*exec.ExitError](err); isExit {
		return exit.ExitCode(), true
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}
