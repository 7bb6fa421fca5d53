package hardening

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// installFilter gives all threads of this process a filter of system calls: a
// container runtime gives none to a privileged container. It returns why there
// is none where the kernel, or the library for this architecture, has no
// filters; that is for people to know, and no reason to leave volumes mounted.
// Anything else that is in the way is an error.
func installFilter() (unavailable string, err error) {
	if err := filtersAvailable(); err != nil {
		return fmt.Sprintf("this kernel has no filters of system calls (%v)", err), nil
	}
	info, err := arch.GetInfo("")
	if err != nil {
		return fmt.Sprintf("no filter is known for this architecture (%v)", err), nil
	}
	filter := seccomp.Filter{
		NoNewPrivs: true, // it is set; once more does no harm
		Flag:       seccomp.FilterFlagTSync,
		Policy:     filterPolicy(info.SyscallNames, os.Getpid()),
	}
	if err := seccomp.LoadFilter(filter); err != nil {
		return "", fmt.Errorf("filter system calls: %w", err)
	}
	return "", nil
}

// filtersAvailable asks the kernel (Linux 4.14) for the action that is used.
func filtersAvailable() error {
	action := uint32(unix.SECCOMP_RET_ERRNO)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if errno == 0 {
		return nil
	}
	if errors.Is(errno, unix.ENOSYS) || errors.Is(errno, unix.EINVAL) || errors.Is(errno, unix.EOPNOTSUPP) {
		return errno
	}
	return nil // an older filter forbids to ask: then installing says why
}

// filterPolicy is the filter for a process of this id. known are the calls of
// the architecture; what it does not have needs no rule.
func filterPolicy(known map[string]int, pid int) seccomp.Policy {
	var allowed []string
	for _, name := range allowedCalls() {
		if _, ok := known[name]; ok {
			allowed = append(allowed, name)
		}
	}
	var quiet []seccomp.SyscallGroup
	for _, r := range refusedQuietly() {
		if _, ok := known[r.name]; ok {
			quiet = append(quiet, seccomp.SyscallGroup{Names: []string{r.name}, Action: errnoAction(r.errno)})
		}
	}
	groups := []seccomp.SyscallGroup{
		{Names: allowed, Action: seccomp.ActionAllow},
		{NamesWithCondtions: allowedWith(uint64(pid)), Action: seccomp.ActionAllow}, //nolint:gosec // G115: a pid is positive
	}
	return seccomp.Policy{DefaultAction: violation(), Syscalls: append(groups, quiet...)}
}

// violation is what a call meets that has no rule. Tests look for calls that
// are missing from the list by builds in which it ends the process (SIGSYS).
func violation() seccomp.Action {
	if violationsEnd {
		return seccomp.ActionTrap
	}
	return seccomp.ActionErrno // EPERM
}

func errnoAction(errno unix.Errno) seccomp.Action {
	return seccomp.Action(unix.SECCOMP_RET_ERRNO | uint32(errno)) //nolint:gosec // G115: errno is below 4096
}

// quiet is a call that is refused with an error of its own, in every build:
// because whoever makes it has another way, or because its rule above lets
// through one use of it.
type quiet struct {
	name  string
	errno unix.Errno
}

func refusedQuietly() []quiet {
	return []quiet{
		{"clone3", unix.ENOSYS}, // its flags are in memory, where no filter sees them; libc uses clone(2) then
		{"clone", unix.EPERM},
		{"ioctl", unix.ENOTTY},
		{"kill", unix.EPERM},
		{"mmap", unix.EPERM},
		{"mprotect", unix.EPERM},
		{"prctl", unix.EINVAL},
		{"prlimit64", unix.EPERM},
		{"socket", unix.EAFNOSUPPORT},
		{"tgkill", unix.EPERM},
	}
}

// allowedWith are the calls of which one use is allowed.
func allowedWith(pid uint64) []seccomp.NameWithConditions {
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_PTRACE
	when := func(name string, conditions ...seccomp.Condition) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name, Conditions: conditions}
	}
	is := func(argument uint32, op seccomp.Operation, value uint64) seccomp.Condition {
		return seccomp.Condition{Argument: argument, Operation: op, Value: value}
	}
	rules := []seccomp.NameWithConditions{
		// Threads, and no processes: this one starts no program.
		when("clone", is(0, seccomp.BitsSet, unix.CLONE_THREAD), is(0, seccomp.BitsNotSet, namespaces)),
		// No memory becomes code any more.
		when("mmap", is(2, seccomp.BitsNotSet, unix.PROT_EXEC)),
		when("mprotect", is(2, seccomp.BitsNotSet, unix.PROT_EXEC)),
		// Signals to itself only.
		when("kill", is(0, seccomp.Equal, pid)),
		when("tgkill", is(0, seccomp.Equal, pid)),
		// Limits of its own.
		when("prlimit64", is(0, seccomp.Equal, 0)),
		// Not dumpable is for good.
		when("prctl", is(0, seccomp.Equal, unix.PR_SET_DUMPABLE), is(1, seccomp.Equal, 0)),
		// Flags of hostile files, before they are emptied.
		when("ioctl", is(1, seccomp.Equal, unix.FS_IOC_GETFLAGS)),
		when("ioctl", is(1, seccomp.Equal, unix.FS_IOC_SETFLAGS)),
	}
	for _, option := range []uint64{
		unix.PR_GET_DUMPABLE, unix.PR_GET_NO_NEW_PRIVS, unix.PR_CAPBSET_READ, unix.PR_SET_NAME, unix.PR_GET_NAME,
		unix.PR_SET_VMA, // the runtime names its memory
	} {
		rules = append(rules, when("prctl", is(0, seccomp.Equal, option)))
	}
	for _, family := range []uint64{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6} {
		rules = append(rules, when("socket", is(0, seccomp.Equal, family)))
	}
	return rules
}
