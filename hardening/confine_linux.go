package hardening

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Confine takes from this process what it has no use for: all capabilities but
// those of the profile, the way to new ones, and most system calls. It is called
// once, from main, before anything that needs a goroutine. Capabilities are of a
// thread, and threads of the Go runtime cannot be reached one by one; so it drops
// them from the calling one and executes this program again, with the same
// arguments, in which every thread begins without. There it is called again,
// reads from the kernel that all threads are as they should be, adds the filter,
// reads that back too, and returns.
//
// Where something needed is missing it is a *ConfigError that names it.
func Confine(p Profile) (Confinement, error) {
	// Not unlocked: if this fails, the thread is one that nobody may go on with.
	runtime.LockOSThread()
	threads, err := ownThreads()
	if err != nil {
		return Confinement{}, err
	}
	here, err := callingThread()
	if err != nil {
		return Confinement{}, err
	}
	keep, err := p.choose(here.permitted & here.bounding)
	if err != nil {
		return Confinement{}, err
	}
	if problem := firstBeyond(threads, keep); problem != "" {
		if p.anew() {
			return Confinement{}, &ConfigError{
				Field: "privileges", Reason: "not dropped: " + problem,
				Remedy: "take " + stageMarker + " out of the environment that the plugin is started with: only the plugin itself sets it",
			}
		}
		return Confinement{}, startAnew(p, keep)
	}
	unix.Umask(0o022) // whatever the process was started with: directories of volumes have modes of their own
	_ = os.Unsetenv(strings.TrimSuffix(stageMarker, "=1"))
	nameProcess(p.Args)
	unfiltered, err := installFilter()
	if err != nil {
		return Confinement{}, err
	}
	c, err := readBack(keep, here.filters, unfiltered)
	if err != nil {
		return Confinement{}, err
	}
	runtime.UnlockOSThread()
	return c, nil
}

// readBack tells what holds now, or why not all threads are held to it.
func readBack(keep capabilities, filters uint64, unfiltered string) (Confinement, error) {
	threads, err := ownThreads()
	if err != nil {
		return Confinement{}, err
	}
	problem := firstBeyond(threads, keep)
	if unfiltered == "" {
		for _, t := range threads {
			if t.mode != unix.SECCOMP_MODE_FILTER || t.filters != filters+1 {
				problem = "a thread has no filter of system calls"
			}
		}
	}
	if problem != "" {
		return Confinement{}, &ConfigError{Field: "privileges", Reason: "not dropped: " + problem, Remedy: "report this, with the version of the kernel"}
	}
	return Confinement{
		Capabilities: keep.names(), NoNewPrivs: true, Threads: len(threads),
		Filtered: unfiltered == "", Unfiltered: unfiltered,
	}, nil
}

func firstBeyond(threads []thread, keep capabilities) string {
	for _, t := range threads {
		if problem := t.beyond(keep); problem != "" {
			return problem
		}
	}
	return ""
}

// ownThreads reads the privileges of all threads of this process. One that
// begins meanwhile has those of the one that began it.
func ownThreads() ([]thread, error) {
	names, err := filepath.Glob("/proc/self/task/[0-9]*/status")
	if err != nil || len(names) == 0 {
		return nil, &ConfigError{Field: "privileges", Reason: "/proc does not show this process", Remedy: "mount a proc file system at /proc"}
	}
	var threads []thread
	for _, name := range names {
		text, err := os.ReadFile(name) //nolint:gosec // G304: of this process
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return nil, fmt.Errorf("read privileges of a thread: %w", err)
		}
		t, err := parseThread(string(text))
		if err != nil {
			return nil, err
		}
		threads = append(threads, t)
	}
	return threads, nil
}

func callingThread() (thread, error) {
	text, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return thread{}, fmt.Errorf("read privileges of this thread: %w", err)
	}
	return parseThread(string(text))
}

// startAnew drops everything but keep from the calling thread and executes this
// program again. It returns only if that fails.
func startAnew(p Profile, keep capabilities) error {
	if err := dropBounding(keep); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		half := uint32(keep >> (32 * i)) //nolint:gosec // G115: a half each
		data[i] = unix.CapUserData{Effective: half, Permitted: half}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	// By this name it is the program that runs, whatever is at its path by now.
	err := syscall.Exec("/proc/self/exe", p.Args, append(slices.Clone(p.Env), stageMarker)) //nolint:gosec // G204: this program
	return fmt.Errorf("start anew without privileges: %w", err)
}

// dropBounding leaves keep in the bounding set, from which root's capabilities
// come at execve(2).
func dropBounding(keep capabilities) error {
	for c := capability(0); c < 64; c++ {
		held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // the kernel has no capability of this number, nor of a higher one
		}
		if err != nil {
			return fmt.Errorf("read bounding set: %w", err)
		}
		if held == 0 || keep&setOf(c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return &ConfigError{
				Field: "privileges", Reason: fmt.Sprintf("%s cannot be dropped (%v)", c, err),
				Remedy: "start the plugin with CAP_SETPCAP as well, or with a bounding set of " + keep.String() + " alone",
			}
		}
	}
	return nil
}

// nameProcess gives the process the name that it was started by: after an
// execve(2) of /proc/self/exe, ps shows "exe". That is for people, so that a
// failure is none.
func nameProcess(args []string) {
	if len(args) > 0 {
		_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(args[0])), 0)
	}
}
