package hardening

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// installFilter gives all threads of this process a filter of system calls: a
// container runtime gives none to a privileged container. It returns why there
// is none where the kernel has no filters, or none is known for the architecture;
// that is for people to know, and no reason to leave volumes mounted. Anything
// else that is in the way is an error.
func installFilter() (unavailable string, err error) {
	if err := filtersAvailable(); err != nil {
		return fmt.Sprintf("this kernel has no filters of system calls (%v)", err), nil
	}
	info, err := arch.GetInfo("")
	if err != nil || info.ID != arch.X86_64.ID && info.ID != arch.AARCH64.ID {
		return "no filter is known for this architecture", nil //nolint:nilerr // the error says the same
	}
	filter := filterProgram(info, os.Getpid())
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]} //nolint:gosec // G115: some hundred, a test counts them
	failed, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	switch {
	case errno != 0:
		return "", fmt.Errorf("filter system calls: %w", errno)
	case failed != 0:
		return "", fmt.Errorf("filter system calls: thread %d has a filter of its own", failed)
	}
	return "", nil
}

// filtersAvailable asks the kernel (Linux 4.14) for the action that is used.
func filtersAvailable() error {
	action := uint32(unix.SECCOMP_RET_ERRNO)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if errors.Is(errno, unix.ENOSYS) || errors.Is(errno, unix.EINVAL) || errors.Is(errno, unix.EOPNOTSUPP) {
		return errno
	}
	return nil // where an older filter forbids to ask, installing says so
}

// violation is what a call meets that has no rule. Tests look for calls that are
// missing by builds in which it ends the process (SIGSYS).
func violation() uint32 {
	if violationsEnd {
		return unix.SECCOMP_RET_TRAP
	}
	return refusal(unix.EPERM)
}

func refusal(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) } //nolint:gosec // G115: below 4096

// filterProgram is the filter for a process of this id.
func filterProgram(info *arch.Info, pid int) []unix.SockFilter {
	p := program{}
	p.load(offsetArch)
	p.unless(uint32(info.ID), unix.SECCOMP_RET_KILL_PROCESS) // the same numbers are other calls there
	p.load(offsetNumber)
	if info.ID == arch.X86_64.ID {
		p.from(x32Bit, refusal(unix.ENOSYS)) // the numbers of the x32 ABI name the same calls
	}
	for _, name := range allowedCalls() {
		if number, ok := info.SyscallNames[name]; ok { // what an architecture does not have needs no rule
			p.when(uint32(number), unix.SECCOMP_RET_ALLOW) //nolint:gosec // G115: below 1000
		}
	}
	for _, r := range conditionalCalls(uint64(pid)) { //nolint:gosec // G115: a pid is positive
		if number, ok := info.SyscallNames[r.name]; ok {
			p.rule(uint32(number), r) //nolint:gosec // G115: below 1000
		}
	}
	p.answer(violation())
	return p
}

// conditional is a call that is allowed if one of its uses is, and otherwise
// refused with an error, in every build: whoever makes it may have another way.
type conditional struct {
	name  string
	errno unix.Errno
	uses  [][]condition
}

// condition holds if an argument has these bits of the mask, and no others.
type condition struct {
	argument   uint32
	mask, bits uint64
}

func is(argument uint32, value uint64) condition { return condition{argument, ^uint64(0), value} }

// one is a use for each value of the first argument.
func one(values ...uint64) [][]condition { return each(0, values) }

// second is a use for each value of the second.
func second(values ...uint64) [][]condition { return each(1, values) }

func each(argument uint32, values []uint64) (uses [][]condition) {
	for _, v := range values {
		uses = append(uses, []condition{is(argument, v)})
	}
	return uses
}

func conditionalCalls(pid uint64) []conditional {
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_PTRACE
	notExecutable := [][]condition{{{2, unix.PROT_EXEC, 0}}}
	return []conditional{
		// Threads, and no processes: this one starts no program.
		{"clone", unix.EPERM, [][]condition{{{0, unix.CLONE_THREAD | namespaces, unix.CLONE_THREAD}}}},
		// Its flags are in memory, where no filter sees them; libc uses clone(2) then.
		{"clone3", unix.ENOSYS, nil},
		// No memory becomes code any more.
		{"mmap", unix.EPERM, notExecutable},
		{"mprotect", unix.EPERM, notExecutable},
		// Signals to itself only, and limits of its own.
		{"kill", unix.EPERM, one(pid)},
		{"tgkill", unix.EPERM, one(pid)},
		{"prlimit64", unix.EPERM, one(0)},
		// Not dumpable is for good. The runtime names its memory.
		{"prctl", unix.EINVAL, append(
			one(unix.PR_GET_DUMPABLE, unix.PR_GET_NO_NEW_PRIVS, unix.PR_CAPBSET_READ, unix.PR_GET_SECCOMP, unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_SET_VMA),
			[]condition{is(0, unix.PR_SET_DUMPABLE), is(1, 0)},
		)},
		// Not whom a descriptor signals, nor by what: as root, anybody, by SIGKILL.
		{"fcntl", unix.EINVAL, second(unix.F_DUPFD, unix.F_DUPFD_CLOEXEC, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_GETPIPE_SZ, unix.F_SETPIPE_SZ)},
		// Flags of hostile files, which are cleared before they are emptied.
		{"ioctl", unix.ENOTTY, second(unix.FS_IOC_GETFLAGS, unix.FS_IOC_SETFLAGS)},
		{"socket", unix.EAFNOSUPPORT, one(unix.AF_UNIX, unix.AF_INET, unix.AF_INET6)},
	}
}
