package node

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Start starts the first process of a node in namespaces of its own. What it
// says, such as why the node ended, goes to log. The node ends when the other
// end of line is closed, if line is a pipe; it is the caller who closes line, and
// who waits for the process.
func Start(program string, s Spec, log, line *os.File) (*exec.Cmd, error) {
	if err := s.write(); err != nil {
		return nil, err
	}
	first := exec.Command(program, "run", s.Dir)
	first.Dir, first.Stdout, first.Stderr, first.ExtraFiles = "/", log, log, []*os.File{line}
	first.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	// Nothing of the caller's environment decides what a daemon does.
	first.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	if err := first.Start(); err != nil {
		return nil, fmt.Errorf("start the node's first process: %w", err)
	}
	return first, nil
}
