package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"
)

// spaces are the namespaces of a node and what they are called below /proc.
func spaces() map[string]int {
	return map[string]int{"uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "net": unix.CLONE_NEWNET, "pid": unix.CLONE_NEWPID, "mnt": unix.CLONE_NEWNS}
}

// Enter runs a command in the node whose first process this is, and returns the
// command's exit status. The command ends with this process, also if that is
// killed.
func Enter(pid string, command []string) (int, error) {
	if len(command) == 0 {
		return 0, errors.New("no command to run in the node")
	}
	// The child's program, named before /proc is the node's.
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	// The thread stays in the node; it must not serve other goroutines.
	runtime.LockOSThread()
	if err := join(pid); err != nil {
		return 0, err
	}
	// The directory may be one that the node does not have.
	if err := unix.Chdir(dir); err != nil {
		if err := unix.Chdir("/"); err != nil {
			return 0, err
		}
	}
	// Joining a PID namespace counts for children only. The child is this
	// program again, which asks to be killed with its parent and then becomes
	// the command: SysProcAttr.Pdeathsig compares parents by their number, and
	// the parent has none in the node.
	theirs, ours, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer ours.Close() // not before the command has ended
	child := exec.Command(self, append([]string{"become", "--"}, command...)...)
	child.Stdin, child.Stdout, child.Stderr, child.ExtraFiles = os.Stdin, os.Stdout, os.Stderr, []*os.File{theirs}
	// A terminal sends Ctrl-C to both; the command decides what it means.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP)
	err = child.Start()
	_ = theirs.Close()
	if err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			if s == unix.SIGTERM || s == unix.SIGHUP {
				_ = child.Process.Signal(s)
			}
		}
	}()
	err = child.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(interface{ Signaled() bool }); ok && status.Signaled() {
			return 137, nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// join moves the calling thread into the node.
func join(pid string) error {
	// A thread that shares its working directory with others cannot change its
	// mount namespace: setns(2).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	files := map[string]*os.File{}
	for name := range spaces() {
		f, err := os.Open("/proc/" + pid + "/ns/" + name)
		if err != nil {
			return fmt.Errorf("enter the node: %w; hint: is it up?", err)
		}
		defer f.Close()
		files[name] = f
	}
	for name, kind := range spaces() {
		if err := unix.Setns(int(files[name].Fd()), kind); err != nil {
			return fmt.Errorf("enter the node's %s namespace: %w", name, err)
		}
	}
	return nil
}

// Become makes this process the command, which ends with its parent.
func Become(command []string) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	// A parent that had ended before sends no signal. It is in another PID
	// namespace, and so is who takes its children over: both are 0 here. But the
	// other end of the pipe is closed then.
	line := []unix.PollFd{{Fd: Lifeline}}
	if _, err := unix.Poll(line, 0); err != nil {
		return err
	}
	if line[0].Revents != 0 {
		return errors.New("whoever entered the node has ended")
	}
	unix.CloseOnExec(Lifeline)
	path, err := exec.LookPath(command[0])
	if err != nil {
		return fmt.Errorf("run %s in the node: %w", command[0], err)
	}
	return unix.Exec(path, command, os.Environ())
}
