package hardening_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

// nowhere is an argument that no call can use: a bad descriptor, a bad address
// and a bad set of flags.
const nowhere = ^uintptr(0)

// call is one that a filter decides on. Its arguments are such that a process
// with all privileges gets another answer than the filter's, and that nothing
// happens.
type call struct {
	name string
	args []uintptr
	want syscall.Errno // of the filter; 0: EPERM
}

// wanted are calls that whoever breaks into the plugin would want, by what for.
func wanted() map[string][]call {
	bad := []uintptr{nowhere, nowhere, nowhere, nowhere, nowhere, nowhere}
	list := func(names ...string) []call {
		var calls []call
		for _, n := range names {
			calls = append(calls, call{name: n, args: bad})
		}
		return calls
	}
	pid := uintptr(os.Getpid())
	return map[string][]call{
		"other processes": append(list("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "kcmp", "process_madvise", "move_pages"),
			call{name: "fcntl", args: []uintptr{nowhere, unix.F_SETOWN, pid}, want: unix.EINVAL}, call{name: "fcntl", args: []uintptr{nowhere, unix.F_SETOWN_EX, nowhere}, want: unix.EINVAL},
			call{name: "fcntl", args: []uintptr{nowhere, unix.F_SETSIG, 9}, want: unix.EINVAL}, call{name: "fcntl", args: []uintptr{nowhere, unix.F_NOTIFY, 1}, want: unix.EINVAL},
			call{name: "kill", args: []uintptr{pid + 1<<23, 0}}, call{name: "tgkill", args: []uintptr{pid + 1<<23, pid + 1<<23, 0}}),
		"the kernel": append(list("bpf", "perf_event_open", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "userfaultfd", "syslog", "reboot",
			"swapon", "swapoff", "acct", "quotactl", "clock_settime", "settimeofday", "io_uring_setup", "io_uring_enter", "io_uring_register", "fanotify_init", "memfd_create", "memfd_secret"),
			call{name: "ioctl", args: []uintptr{nowhere, unix.TIOCSTI, 0}, want: unix.ENOTTY}),
		"keys":                  list("keyctl", "add_key", "request_key"),
		"files past their path": list("open_by_handle_at", "name_to_handle_at"),
		"another view": append(list("setns", "chroot", "pivot_root", "mknodat", "mknod"),
			call{name: "unshare"}, call{name: "personality", args: []uintptr{0xffffffff}}),
		"other programs": append(list("execve", "execveat"),
			call{name: "clone", args: []uintptr{unix.CLONE_VM}},
			call{name: "clone3", args: bad, want: unix.ENOSYS}),
		"other users":     list("setuid", "setresuid", "setgroups", "capset"),
		"other filters":   list("seccomp"),
		"executable code": {{name: "mmap", args: []uintptr{0, 4096, unix.PROT_READ | unix.PROT_EXEC, unix.MAP_PRIVATE | unix.MAP_ANON, nowhere, 0}}, {name: "mprotect", args: []uintptr{0, 0, unix.PROT_EXEC}}},
		"other networks": {
			{name: "socket", args: []uintptr{unix.AF_NETLINK, unix.SOCK_RAW, 0}, want: unix.EAFNOSUPPORT},
			{name: "socket", args: []uintptr{unix.AF_PACKET, unix.SOCK_RAW, 0}, want: unix.EAFNOSUPPORT},
			{name: "socketpair", args: bad},
		},
		"core files": {
			{name: "prctl", args: []uintptr{unix.PR_SET_DUMPABLE, 1}, want: unix.EINVAL},
			{name: "prctl", args: []uintptr{unix.PR_SET_KEEPCAPS, 1}, want: unix.EINVAL},
			{name: "prlimit64", args: []uintptr{pid, unix.RLIMIT_CORE, 0, 0}},
		},
	}
}

// calls are those of wanted that this architecture has, in an order.
func calls() []call {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil
	}
	var all []call
	for _, group := range wanted() {
		for _, c := range group {
			if _, ok := info.SyscallNames[c.name]; ok {
				all = append(all, c)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b call) int {
		return strings.Compare(fmt.Sprint(a.name, a.args[:min(2, len(a.args))]), fmt.Sprint(b.name, b.args[:min(2, len(b.args))]))
	})
	return all
}

// tryCalls makes each and tells the answers. A call that would return twice, or
// end the process, is made with the filter only.
func tryCalls() int {
	info, err := arch.GetInfo("")
	if err != nil {
		fmt.Print(err)
		return 1
	}
	confined := seccompMode() == unix.SECCOMP_MODE_FILTER
	for _, c := range calls() {
		errno := unix.ENOSYS + 1000
		if confined || c.name != "clone" {
			errno = errnoOf(uintptr(info.SyscallNames[c.name]), c.args...)
		}
		fmt.Printf("%s %d\n", c.name, errno)
	}
	if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); err == nil {
		fmt.Println("unix socket", unix.Close(fd))
	}
	return 0
}

func seccompMode() int {
	mode, _ := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	if mode == 0 { // the filter does not let one ask
		status, _ := os.ReadFile("/proc/self/status")
		if strings.Contains(string(status), "\nSeccomp:\t2\n") {
			return unix.SECCOMP_MODE_FILTER
		}
	}
	return mode
}

// TestFilterNamesExist: a name that is misspelt would be a call that is refused.
func TestFilterNamesExist(t *testing.T) {
	always, conditional := hardening.AllowedCalls()
	for _, name := range slices.Concat(always, conditional) {
		_, amd64 := arch.X86_64.SyscallNames[name]
		_, arm64 := arch.AARCH64.SyscallNames[name]
		if !amd64 && !arm64 {
			t.Errorf("%s is a system call of neither architecture", name)
		}
	}
	seen := map[string]bool{}
	for _, name := range always {
		if seen[name] {
			t.Errorf("%s is listed twice", name)
		}
		seen[name] = true
	}
	for _, name := range conditional {
		if seen[name] {
			t.Errorf("%s is allowed in some uses and in every use", name)
		}
	}
	for _, group := range wanted() {
		for _, c := range group {
			if seen[c.name] {
				t.Errorf("%s is allowed, and is wanted by whoever breaks in", c.name)
			}
		}
	}
}

// TestFilterPrograms: the kernel takes no filter that is too long or that jumps
// out of itself, and a jump that is cut off would lead into another rule.
func TestFilterPrograms(t *testing.T) {
	for _, info := range []*arch.Info{arch.X86_64, arch.AARCH64} {
		filter := hardening.FilterProgram(info)
		if len(filter) < 300 || len(filter) > unix.BPF_MAXINSNS {
			t.Errorf("%s: the filter has %d instructions", info.Name, len(filter))
		}
		for i, in := range filter {
			if in.Code&7 != unix.BPF_JMP {
				continue
			}
			for _, skip := range []uint8{in.Jt, in.Jf} {
				to := i + 1 + int(skip)
				if to >= len(filter) {
					t.Fatalf("%s: instruction %d jumps to %d of %d", info.Name, i, to, len(filter))
				}
				// Past a rule that was not the call's, only another rule or the end may come.
				if before := filter[to-1]; skip > 0 && before.Code != unix.BPF_RET|unix.BPF_K {
					t.Errorf("%s: instruction %d jumps to %d, into the middle of a rule", info.Name, i, to)
				}
			}
		}
	}
}
