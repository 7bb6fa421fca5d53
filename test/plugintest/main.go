package plugintest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// programsEnv names the directory for built programs. Where it is set, the
// test binary runs in its own mount namespace.
const programsEnv = "PORTCULLIS_TEST_PROGRAMS"

// Programs is the directory for Program, in tests whose TestMain is Main.
func Programs() string { return os.Getenv(programsEnv) }

// Main runs the tests in a mount namespace of their own, so that a failed or killed
// one leaves nothing on the machine, and returns the exit code.
func Main(m *testing.M) int {
	if os.Geteuid() != 0 || Programs() != "" {
		return m.Run() // as another user the tests that mount say that they need root
	}
	code, err := isolated()
	if errors.Is(err, syscall.EPERM) {
		return m.Run() // as root of most containers they say what is missing
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

func isolated() (code int, err error) {
	dir, err := os.MkdirTemp("", "programs")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), programsEnv+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, fmt.Errorf("run in a mount namespace: %w", err)
	}
	return 0, nil
}
