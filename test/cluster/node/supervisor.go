package node

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// supervisor starts daemons and reaps whatever ends in the node: shims of the
// container runtime have no other parent left.
type supervisor struct {
	spec Spec
	died chan error // one daemon ended unasked

	mu      sync.Mutex // held from fork to registration, so that no end is missed
	running map[int]*process
}

// process is one run of a daemon.
type process struct {
	daemon   Daemon
	pid      int
	stopping bool
	ended    chan struct{}
}

func newSupervisor(s Spec) *supervisor {
	return &supervisor{spec: s, died: make(chan error, len(s.Daemons)+1), running: map[int]*process{}}
}

// daemon finds a daemon by its name.
func (v *supervisor) daemon(name string) (Daemon, error) {
	var names []string
	for _, d := range v.spec.Daemons {
		if d.Name == name {
			return d, nil
		}
		names = append(names, d.Name)
	}
	return Daemon{}, fmt.Errorf("no daemon %q; hint: one of %q", name, names)
}

// find returns the process of a daemon, or nil. The caller holds the lock.
func (v *supervisor) find(name string) *process {
	for _, p := range v.running {
		if p.daemon.Name == name {
			return p
		}
	}
	return nil
}

func (v *supervisor) start(name string) error {
	d, err := v.daemon(name)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if p := v.find(name); p != nil {
		return fmt.Errorf("start %s: it runs as process %d; hint: stop it first", name, p.pid)
	}
	out, err := os.OpenFile(v.spec.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	// Not os/exec: its Wait and the reaper would take each other's children.
	pid, err := syscall.ForkExec(d.Args[0], d.Args, &syscall.ProcAttr{
		Env: append(os.Environ(), d.Env...), Files: []uintptr{null.Fd(), out.Fd(), out.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	v.running[pid] = &process{daemon: d, pid: pid, ended: make(chan struct{})}
	return nil
}

// stop sends a signal to a daemon and waits for its end.
func (v *supervisor) stop(name string, sig syscall.Signal) error {
	if _, err := v.daemon(name); err != nil {
		return err
	}
	v.mu.Lock()
	p := v.find(name)
	if p == nil {
		v.mu.Unlock()
		return fmt.Errorf("stop %s: it does not run; hint: start it", name)
	}
	p.stopping = true
	err := syscall.Kill(p.pid, sig)
	v.mu.Unlock()
	if err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	<-p.ended
	return nil
}

// pids are the processes of the daemons that run.
func (v *supervisor) pids() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	pids := map[string]int{}
	for pid, p := range v.running {
		pids[p.daemon.Name] = pid
	}
	return pids
}

// reap waits for children until there are no more signals of their ends.
func (v *supervisor) reap() {
	ended := make(chan os.Signal, 64)
	signal.Notify(ended, unix.SIGCHLD)
	for range ended {
		for v.reapOne() {
		}
	}
}

// reapOne reports whether there may be more. It holds the lock while it waits,
// which does not block: a daemon that ends at once is registered by then.
func (v *supervisor) reapOne() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if errors.Is(err, syscall.EINTR) {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	p := v.running[pid]
	if p == nil {
		return true
	}
	delete(v.running, pid)
	close(p.ended)
	if !p.stopping {
		v.died <- fmt.Errorf("%s ended unasked: %s", p.daemon.Name, describe(status))
	}
	return true
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
