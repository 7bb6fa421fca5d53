package hardening

import "slices"

// allowedCalls are the system calls that the plugin makes, whatever their
// arguments; those with a condition are in conditionalCalls. Names of one
// architecture alone are fine here. What is not listed is refused: ptrace, bpf,
// keyctl, setns, chroot, mknod, io_uring, execve and all that has yet to be invented.
func allowedCalls() []string {
	return slices.Concat(runtimeCalls(), fileCalls(), networkCalls(), volumeCalls())
}

// runtimeCalls are those of the Go runtime, and of libc's threads below it
// where the race detector needs cgo.
func runtimeCalls() []string {
	return []string{
		"arch_prctl", "brk", "capget", "clock_getres", "clock_gettime", "clock_nanosleep", "epoll_create1", "epoll_ctl", "epoll_pwait",
		"epoll_pwait2", "epoll_wait", "eventfd2", "exit", "exit_group", "futex", "get_robust_list", "getegid", "geteuid", "getgid",
		"getpid", "getppid", "getrandom", "getrlimit", "getrusage", "gettid", "gettimeofday", "getuid", "madvise", "membarrier",
		"mincore", "mremap", "munmap", "nanosleep", "pipe2", "poll", "ppoll", "restart_syscall", "rseq", "rt_sigaction",
		"rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sched_getaffinity", "sched_yield", "set_robust_list", "setitimer",
		"sigaltstack", "sysinfo", "time", "timer_create", "timer_delete", "timer_settime", "uname",
	}
}

// fileCalls are those on files that a path or a descriptor names.
func fileCalls() []string {
	return []string{
		"close", "copy_file_range", "dup", "dup3", "faccessat", "faccessat2", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2",
		"fchown", "fchownat", "fdatasync", "fgetxattr", "flock", "fremovexattr", "fsetxattr", "fstat", "fstatat", "fstatfs",
		"fsync", "ftruncate", "getcwd", "getdents64", "getxattr", "lgetxattr", "linkat", "lremovexattr", "lseek", "lsetxattr",
		"mkdirat", "newfstatat", "openat", "openat2", "pread64", "preadv", "pwrite64", "pwritev", "read", "readlinkat", "readv",
		"removexattr", "renameat", "renameat2", "sendfile", "setfsuid", "setxattr", "splice", "statfs", "statx", "symlinkat", "unlinkat",
		"utimensat", "write", "writev",
	}
}

// networkCalls are those on sockets; socket(2) itself is in conditionalCalls.
func networkCalls() []string {
	return []string{
		"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom", "recvmmsg", "recvmsg",
		"sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
	}
}

// volumeCalls make, seal, attach, empty and remove volumes, and keep memory out
// of swap.
func volumeCalls() []string {
	return []string{
		"fsconfig", "fsmount", "fsopen", "fspick", "mlock", "mlock2", "mlockall", "mount", "mount_setattr", "move_mount", "munlock",
		"open_tree", "umount2",
	}
}
