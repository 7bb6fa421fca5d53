package hardening

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ProtectProcess keeps what this process holds out of core files, away from
// debuggers of the same user, and out of swap. It is called once, first thing
// in main: execve(2) resets the dumpable flag, so no parent can do it. Where
// swap is active and locking is not permitted it is a *ConfigError.
func ProtectProcess() (ProcessReport, error) {
	// RLIMIT_CORE does not hold where core_pattern is a pipe (core(5)), and
	// dumpable does not hold for a debugger with CAP_SYS_PTRACE: both.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return ProcessReport{}, fmt.Errorf("clear dumpable flag: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return ProcessReport{}, fmt.Errorf("set core limit: %w", err)
	}
	// Without MCL_ONFAULT the runtime's reservations would be populated, and
	// memory given back would stay (40 MB more at start, measured).
	lockErr := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return ProcessReport{}, fmt.Errorf("read swap areas: %w", err)
	}
	report, err := currentProcess()
	if err != nil {
		return ProcessReport{}, err
	}
	report.Locked = lockErr == nil
	if lockErr != nil {
		report.LockReason = lockErr.Error()
	}
	return report, lockVerdict(lockErr, swapActive(string(swaps)))
}

// currentProcess reads back what was set, so that the report is evidence.
func currentProcess() (ProcessReport, error) {
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return ProcessReport{}, fmt.Errorf("read dumpable flag: %w", err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return ProcessReport{}, fmt.Errorf("read core limit: %w", err)
	}
	return ProcessReport{Dumpable: dumpable != 0, CoreLimit: limit.Cur}, nil
}
