package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lab is a node that runs.
type Lab struct {
	dir   string
	state state
	line  *os.File // the node lives as long as this is open; nil where it outlives us
}

// Open finds a lab that somebody has started.
func Open(name string) (*Lab, error) {
	dir, err := dirOf(name)
	if err != nil {
		return nil, err
	}
	s, err := read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab %q is not up; hint: go run ./test/cluster up --name %s", name, name)
	}
	if err != nil {
		return nil, err
	}
	l := &Lab{dir: dir, state: s}
	switch {
	case s.Node.alive():
		return l, nil
	case s.Node.Pid == 0 && s.Starter.alive():
		return nil, fmt.Errorf("lab %q is being started by process %d; hint: wait for it", name, s.Starter.Pid)
	}
	return nil, fmt.Errorf("lab %q has ended: %s; hint: go run ./test/cluster up --name %s", name, strings.TrimSpace(l.tail("init", 1)), name)
}

// Name is the lab's name, Version that of its Kubernetes.
func (l *Lab) Name() string { return l.state.Name }

// Version is the version of Kubernetes that runs.
func (l *Lab) Version() Version { return l.state.Kubernetes }

// NodeName is the name of the one node.
func (l *Lab) NodeName() string { return nodeName }

// NodeAddress is its IP address, in the node's network.
func (l *Lab) NodeAddress() string { return nodeAddress }

func (l *Lab) cgroup() string { return cgroupName(l.state.Name) }

func (l *Lab) pid() string { return strconv.Itoa(l.state.Node.Pid) }

// Root is the node's root file system, as this process sees it.
func (l *Lab) Root() string { return "/proc/" + l.pid() + "/root" }

// Path is a path of the node, as this process sees it. Symbolic links in it must
// be relative: an absolute one leads to this machine's files.
func (l *Lab) Path(path string) string { return l.Root() + "/" + strings.TrimPrefix(path, "/") }

// Log is the path of what a daemon says.
func (l *Lab) Log(name string) string { return l.file("log", name+".log") }

// AuditLog is the path of the API server's audit log: one event a line, written
// before the answer is.
func (l *Lab) AuditLog() string { return l.file("log", "audit.log") }

// Kubeconfig is the path of the administrator's, which is of use in the node
// only; Command sets it.
func (l *Lab) Kubeconfig() string { return l.key("admin.kubeconfig") }

// killTimeout bounds the wait for the end of all processes of a node.
const killTimeout = 20 * time.Second

// Down ends the lab and removes what is left of it. A lab that is down is no
// error.
func (l *Lab) Down(ctx context.Context) error {
	err := Down(ctx, l.state.Name)
	if l.line != nil {
		_ = l.line.Close()
	}
	return err
}

// Down ends the lab of this name, as Lab.Down does: also one that has ended by
// itself.
func Down(ctx context.Context, name string) error {
	dir, err := dirOf(name)
	if err != nil {
		return err
	}
	if err := needRoot(); err != nil {
		return err
	}
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	s, err := read(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.Node.alive() {
		// The kernel kills everything else in the node before its first process
		// has ended.
		if err := unix.Kill(s.Node.Pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end lab %q: %w", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	for s.Node.alive() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("end lab %q: process %d does not end: %w", name, s.Node.Pid, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := sweep(dir, name); err != nil {
		return err
	}
	_ = os.Remove(labs) // if this was the last lab
	return nil
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("a lab mounts, makes namespaces and runs containers: only root can; hint: sudo")
	}
	return nil
}

// tail is the end of a log: at most so many lines.
func (l *Lab) tail(name string, lines int) string {
	text, err := os.ReadFile(l.Log(name))
	if err != nil {
		return err.Error()
	}
	all := strings.SplitAfter(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}
