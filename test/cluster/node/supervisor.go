package node

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// supervisor starts daemons and reaps whatever ends in the node: shims of the
// container runtime have no other parent left.
type supervisor struct {
	spec Spec
	died chan error // one daemon ended unasked

	mu      sync.Mutex // held from fork to registration, so that no end is missed
	running map[int]*process
	coming  map[string]*time.Timer // daemons that ended unasked and are about to be started again
	short   map[string]int         // how many short lives in a row a daemon has had
}

// A daemon that ends unasked is started again after a pause, as a production
// node does: an API server ends when it loses its etcd while it starts. One that
// has only short lives will not get better.
const (
	pause     = 500 * time.Millisecond
	shortLife = 10 * time.Second
	maxShort  = 5
)

// process is one run of a daemon.
type process struct {
	daemon   Daemon
	pid      int
	started  time.Time
	stopping bool
	ended    chan struct{}
}

func newSupervisor(s Spec) *supervisor {
	return &supervisor{
		spec: s, died: make(chan error, len(s.Daemons)+1),
		running: map[int]*process{}, coming: map[string]*time.Timer{}, short: map[string]int{},
	}
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
	v.expected(name)
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
	v.running[pid] = &process{daemon: d, pid: pid, started: time.Now(), ended: make(chan struct{})}
	return nil
}

// stop sends a signal to a daemon and waits for its end.
func (v *supervisor) stop(name string, sig syscall.Signal) error {
	if _, err := v.daemon(name); err != nil {
		return err
	}
	v.mu.Lock()
	if v.expected(name) {
		v.mu.Unlock()
		return nil
	}
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
		v.unasked(p, status)
	}
	return true
}

// unasked starts a daemon that has ended again, or ends the node. The caller
// holds the lock.
func (v *supervisor) unasked(p *process, status syscall.WaitStatus) {
	name := p.daemon.Name
	if time.Since(p.started) > shortLife {
		v.short[name] = 0
	}
	v.short[name]++
	err := fmt.Errorf("%s ended unasked: %s", name, describe(status))
	if v.short[name] >= maxShort {
		v.died <- fmt.Errorf("%w, %d times", err, maxShort)
		return
	}
	_, _ = fmt.Fprintln(os.Stderr, err)
	v.coming[name] = time.AfterFunc(pause, func() {
		v.mu.Lock()
		_, still := v.coming[name]
		v.mu.Unlock()
		if !still {
			return
		}
		if err := v.start(name); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
		}
	})
}

// expected reports whether the daemon was about to be started again, and
// prevents that. The caller holds the lock.
func (v *supervisor) expected(name string) bool {
	timer, ok := v.coming[name]
	if ok {
		timer.Stop()
		delete(v.coming, name)
	}
	return ok
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
