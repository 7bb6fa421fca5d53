package hardening

import "strings"

// ProcessReport says how this process is protected, for the start-up log.
type ProcessReport struct {
	Dumpable   bool   // false: no core file, no ptrace by the same user
	CoreLimit  uint64 // RLIMIT_CORE
	Locked     bool   // mlockall holds
	LockReason string // why not, if not
}

// swapActive reads the text of /proc/swaps: a heading, then a line per area.
func swapActive(swaps string) bool {
	_, areas, _ := strings.Cut(swaps, "\n")
	return strings.TrimSpace(areas) != ""
}

// lockVerdict decides what it means that mlockall failed: a process that holds
// secrets may run unlocked only where there is no swap to write them to (P5).
func lockVerdict(lockErr error, swapOn bool) error {
	if lockErr == nil || !swapOn {
		return nil
	}
	return &ConfigError{
		Field:  "process memory",
		Reason: "swap is active and locking memory is not permitted (" + lockErr.Error() + ")",
		Remedy: "grant CAP_IPC_LOCK, or turn swap off on this node",
	}
}

// kernelOffers is what was found out about this node before choosing.
type kernelOffers struct {
	noswap  bool
	swapOn  bool
	lockErr error // why mappings cannot be locked, nil if they can
}

// chooseProtection applies the rule of --swap-protection. auto never falls
// back to mlock while swap is active: with the process down, mlock protects
// nothing, and that window is for the operator to accept by name.
func chooseProtection(s Setting, k kernelOffers) (SwapProtection, error) {
	if s == SettingAuto || s == SettingNoswap {
		if k.noswap {
			return ProtectionNoswap, nil
		}
		if s == SettingNoswap {
			return "", refuseProtection("this kernel has no tmpfs option noswap", "use Linux 6.4 or later outside user namespaces, or --swap-protection=mlock")
		}
		if k.swapOn {
			return "", refuseProtection("this kernel has no tmpfs option noswap and swap is active",
				"turn swap off, use Linux 6.4 or later, or accept with --swap-protection=mlock that volumes are unprotected while the plugin is down")
		}
	}
	if s != SettingAuto && s != SettingMlock {
		return "", refuseProtection("unknown value "+quote(string(s)), "use auto, noswap or mlock")
	}
	if k.lockErr != nil {
		return "", refuseProtection("memory cannot be locked ("+k.lockErr.Error()+")", "grant CAP_IPC_LOCK, or raise RLIMIT_MEMLOCK to 128 MiB")
	}
	return ProtectionMlock, nil
}

func refuseProtection(reason, remedy string) error {
	return &ConfigError{Field: "--swap-protection", Reason: reason, Remedy: remedy}
}
