package hardening

import (
	"errors"
	"io/fs"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// Reopen opens path without looking into it, then for reading, as a rotation does.
func Reopen(path string) error {
	d, err := newDescriptor(unix.Open(path, openPath, 0))
	if err != nil {
		return err
	}
	opened, err := d.reopen(openRead)
	return errors.Join(err, opened.Close(), d.Close())
}

// ScrubHere scrubs the volume on top of a target in the calling thread, whose
// capabilities a test has dropped.
func ScrubHere(t *Target) error {
	stack, _, err := t.stack()
	if err != nil {
		return err
	}
	root, err := t.openMount(stack[len(stack)-1])
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	view, err := writableView(root)
	if err != nil {
		return err
	}
	defer func() { _ = view.Close() }()
	s := scrubber{truncate: true}
	s.empty(view)
	return s.err()
}

// ChmodDescriptor opens path as the scrubber does and calls chmodDescriptor.
func ChmodDescriptor(path string, mode fs.FileMode) error {
	return chmodWith(path, mode, chmodDescriptor)
}

// ChmodProc opens path as the scrubber does and calls chmodProc.
func ChmodProc(path string, mode fs.FileMode) error { return chmodWith(path, mode, chmodProc) }

func chmodWith(path string, mode fs.FileMode, chmod func(*descriptor, fs.FileMode) error) error {
	d, err := newDescriptor(unix.Open(path, openPath, 0))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return chmod(d, mode)
}

// DetachBlindly calls Target.detachBlindly.
func DetachBlindly(t *Target) (Detached, error) {
	var d Detached
	err := t.detachBlindly(&d)
	return d, err
}

// RelockVolume does the part of a start that can be held up until the target is
// detached.
func RelockVolume(t *Target, v *Volume) (int, error) { return t.sys.relockVolume(t.key(), v) }

// ScrubTop scrubs what was on top of the target before between was called.
func ScrubTop(t *Target, between func()) (d Detached, err error) {
	stack, _, err := t.stack()
	if err != nil || len(stack) == 0 {
		return d, err
	}
	between()
	t.scrubMount(stack[len(stack)-1], &d)
	return d, nil
}

// ViewOf returns a mount of an attached volume that is mounted nowhere, as a
// container has one of its own.
func ViewOf(v *Volume) (int, error) {
	return unix.OpenTree(v.root.fd(), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
}

// LockedTargets returns how many targets the system holds mappings for.
func LockedTargets(s *System) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.locks)
}

// AllowedCalls are the names of the system calls of the filter: always allowed,
// and allowed in some uses.
func AllowedCalls() (always, conditional []string) {
	for _, rule := range conditionalCalls(1) {
		conditional = append(conditional, rule.name)
	}
	return allowedCalls(), conditional
}

// FilterProgram is the filter for an architecture.
func FilterProgram(info *arch.Info) []unix.SockFilter { return filterProgram(info, 1) }

// ViolationsEnd says whether a call without a rule ends the process.
const ViolationsEnd = violationsEnd

// Served tells a system call that is missing from one that refused.
func Served(err error) Answer { return served(err) }
