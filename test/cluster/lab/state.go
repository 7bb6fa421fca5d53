package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// labs is where labs have their directories. It is on a tmpfs or as good as.
const labs = "/run/portcullis-lab"

// process is a process that is not mistaken for another of the same number.
type process struct {
	Pid   int
	Start string // in clock ticks after the machine's start
}

// identify names a process that runs.
func identify(pid int) (process, error) {
	state, start, err := stat(pid)
	if err != nil {
		return process{}, err
	}
	if state == "Z" || state == "X" {
		return process{}, fmt.Errorf("process %d has ended", pid)
	}
	return process{pid, start}, nil
}

// alive reports whether the process still runs. One that nobody has waited for
// does not.
func (p process) alive() bool {
	if p.Pid == 0 {
		return false
	}
	now, err := identify(p.Pid)
	return err == nil && now == p
}

// stat reads a process's state and start: proc_pid_stat(5).
func stat(pid int) (state, start string, err error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", "", err
	}
	// The name is in parentheses and may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 {
		return "", "", fmt.Errorf("read the state of process %d: %d fields", pid, len(fields))
	}
	return fields[0], fields[19], nil
}

// state is what is known of a lab by those who did not start it.
type state struct {
	Name       string
	Kubernetes Version
	Programs   Programs
	Starter    process // who called Up
	Node       process // the first process of the node; none yet while it is started
}

const stateFile = "lab.json"

// read returns the state of the lab in dir. An error of the kind
// fs.ErrNotExist says that there is none.
func read(dir string) (state, error) {
	var s state
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", filepath.Join(dir, stateFile), err)
	}
	return s, nil
}

func (s state) write(dir string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	next := filepath.Join(dir, stateFile+".next")
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, stateFile))
}

// dirOf is the directory of a lab. Its name is part of the names of cgroups and
// of a socket, whose path must be short.
func dirOf(name string) (string, error) {
	if !regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`).MatchString(name) {
		return "", fmt.Errorf("a lab cannot be named %q; hint: use up to 32 of a-z, 0-9 and -", name)
	}
	return filepath.Join(labs, name), nil
}

// lock holds off others who start or remove a lab.
func lock() (unlock func(), err error) {
	for {
		if err := os.MkdirAll(labs, 0o755); err != nil {
			return nil, err
		}
		f, err := os.Open(labs)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		// Whoever had the lock may have removed the directory with the last lab.
		held, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if now, err := os.Stat(labs); err == nil && os.SameFile(held, now) {
			return func() { _ = f.Close() }, nil
		}
		_ = f.Close()
	}
}

// claim makes the directory of a new lab, and removes what is left of one whose
// node has ended.
func claim(s state) (string, error) {
	dir, err := dirOf(s.Name)
	if err != nil {
		return "", err
	}
	unlock, err := lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	old, err := read(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", err
	case old.Node.alive():
		return "", fmt.Errorf("lab %q is up already; hint: go run ./test/cluster down --name %s, or take another name", s.Name, s.Name)
	case old.Starter.alive() && old.Node.Pid == 0:
		return "", fmt.Errorf("lab %q is being started by process %d; hint: wait for it, or take another name", s.Name, old.Starter.Pid)
	}
	if err := sweep(dir, s.Name); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		return "", err
	}
	return dir, s.write(dir)
}

// sweep removes what a lab leaves when its processes have ended.
func sweep(dir, name string) error {
	return errors.Join(removeCgroup(cgroups, cgroupName(name)), os.RemoveAll(dir))
}

func cgroupName(lab string) string { return "portcullis-lab-" + lab }
