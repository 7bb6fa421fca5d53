package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long a process has after SIGTERM.
const stopTimeout = 15 * time.Second

// process is one of our programs, running.
type process struct {
	name    string
	args    []string
	logPath string
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the process has ended
	err     error         // set before ended is closed
}

func (p *process) start(ctx context.Context, bin string) error {
	path := filepath.Join(bin, p.name)
	if _, err := os.Stat(path); err != nil {
		return &hintedError{fmt.Errorf("find %s: %w", p.name, err), "make demo builds all programs into one directory"}
	}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// The context must not kill the child: it has to stop in its own way.
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), path, p.args...) //nolint:gosec // our own programs
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A process group of its own keeps Ctrl-C away from it until this program
	// has told it to stop; if this program dies, it dies.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.ended = make(chan struct{})
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return nil
}

// stop ends the process in order; one that has stopped is fine.
func (p *process) stop() error {
	select {
	case <-p.ended:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
		return p.err
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("%s did not stop within %v", p.name, stopTimeout), p.cmd.Process.Kill())
	}
}

// await waits until the process has made its socket.
func (p *process) await(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		if _, err := os.Lstat(socket); err == nil {
			return nil
		}
		if err := p.died(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", p.name, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// died reports how a process ended that should be running.
func (p *process) died() error {
	select {
	case <-p.ended:
	default:
		return nil
	}
	text, _ := os.ReadFile(p.logPath)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%s ended: %s", p.name, strings.Join(lines[max(0, len(lines)-3):], " | "))
}
