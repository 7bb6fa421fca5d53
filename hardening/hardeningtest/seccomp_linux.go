package hardeningtest

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HideNoswap lets the calling thread, and whatever program it executes, meet a
// kernel without the tmpfs option noswap, as kernels before 6.4 are: setting a
// flag of a new file system is EINVAL. It cannot be undone, so it is for a
// locked thread that ends with its goroutine, or that calls execve(2).
func HideNoswap() error {
	const number, command = 0, 24 // offsets in struct seccomp_data of the call and of its second argument
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: unix.SYS_FSCONFIG},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: command},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.FSCONFIG_SET_FLAG},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return nil
}
