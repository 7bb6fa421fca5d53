package hardening

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Profile says what [Confine] leaves to the process.
type Profile struct {
	// OtherOwners keeps CAP_DAC_OVERRIDE: connecting to a socket takes write
	// permission for it (unix(7)), which root has for its own alone.
	OtherOwners bool
	Args        []string // os.Args
	Env         []string // os.Environ()
}

// Confinement is what the kernel holds this process to, as it was read back.
type Confinement struct {
	Capabilities []string // of every thread, permitted, effective and bounding alike
	NoNewPrivs   bool     // of every thread
	Threads      int      // that were looked at
	Filtered     bool     // every thread has the filter of system calls
	Unfiltered   string   // why not, if not
}

// stageMarker is in the environment of the process that [Confine] starts anew.
// It keeps the start from going round in circles, and makes nobody believe
// anything: what the kernel says decides, with it and without.
const stageMarker = "PORTCULLIS_CONFINED=1"

// capability is a number of linux/capability.h.
type capability int

// Those that the plugin has a use for, or tells of.
const (
	capChown       capability = 0
	capDACOverride capability = 1
	capSetUID      capability = 7
	capSetPCap     capability = 8
	capIPCLock     capability = 14
	capSysAdmin    capability = 21
)

// String returns the name as people write it, the number where nobody here has
// a use for it.
func (c capability) String() string {
	switch c {
	case capChown:
		return "CAP_CHOWN"
	case capDACOverride:
		return "CAP_DAC_OVERRIDE"
	case capSetUID:
		return "CAP_SETUID"
	case capSetPCap:
		return "CAP_SETPCAP"
	case capIPCLock:
		return "CAP_IPC_LOCK"
	case capSysAdmin:
		return "CAP_SYS_ADMIN"
	}
	return "capability " + strconv.Itoa(int(c))
}

// capabilities is a set, a bit each.
type capabilities uint64

func setOf(list ...capability) capabilities {
	var s capabilities
	for _, c := range list {
		s |= 1 << c
	}
	return s
}

func (s capabilities) names() []string {
	var names []string
	for c := capability(0); c < 64; c++ {
		if s&setOf(c) != 0 {
			names = append(names, c.String())
		}
	}
	return names
}

// String lists the names.
func (s capabilities) String() string {
	if s == 0 {
		return "none"
	}
	return strings.Join(s.names(), ", ")
}

// choose returns what the process keeps of what it has, or a *ConfigError that
// names what it lacks. Mounting takes CAP_SYS_ADMIN, files get their owner and
// group by CAP_CHOWN, and those that only their owner may read are read as the
// owner by CAP_SETUID. CAP_IPC_LOCK is kept where it is: without it ProtectProcess
// decides, which knows whether there is swap.
func (p Profile) choose(have capabilities) (capabilities, error) {
	need := setOf(capSysAdmin, capChown, capSetUID)
	if p.OtherOwners {
		need |= setOf(capDACOverride)
	}
	if missing := need &^ have; missing != 0 {
		remedy := "run as root; the DaemonSet needs privileged: true"
		if missing == setOf(capDACOverride) {
			remedy = "grant it, or leave --provider-uid out and run the providers as root"
		}
		return 0, &ConfigError{Field: "privileges", Reason: "missing: " + missing.String(), Remedy: remedy}
	}
	return need | have&setOf(capIPCLock), nil
}

// anew reports whether this process is one that Confine started.
func (p Profile) anew() bool { return slices.Contains(p.Env, stageMarker) }

// thread is what /proc/PID/task/TID/status says of privileges.
type thread struct {
	inheritable, permitted, effective, bounding, ambient capabilities
	noNewPrivs                                           bool
	mode, filters                                        uint64 // of seccomp
}

// parseThread reads the text of a status file. A field that is not there is an
// error: nothing may count as dropped for want of a line.
func parseThread(status string) (thread, error) {
	var t thread
	var noNewPrivs uint64
	fields := []struct {
		name string
		base int
		to   *uint64
	}{
		{"CapInh", 16, (*uint64)(&t.inheritable)},
		{"CapPrm", 16, (*uint64)(&t.permitted)},
		{"CapEff", 16, (*uint64)(&t.effective)},
		{"CapBnd", 16, (*uint64)(&t.bounding)},
		{"CapAmb", 16, (*uint64)(&t.ambient)},
		{"NoNewPrivs", 10, &noNewPrivs},
	}
	for _, f := range fields {
		n, err := strconv.ParseUint(field(status, f.name), f.base, 64)
		if err != nil {
			return thread{}, fmt.Errorf("read privileges of a thread: %s: %w", f.name, err)
		}
		*f.to = n
	}
	t.noNewPrivs = noNewPrivs == 1
	// A kernel without seccomp has neither line: no filter is what 0 says too.
	t.mode, _ = strconv.ParseUint(field(status, "Seccomp"), 10, 64)
	t.filters, _ = strconv.ParseUint(field(status, "Seccomp_filters"), 10, 64)
	return t, nil
}

// field returns the value of a line "Name:\tvalue".
func field(status, name string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// beyond returns how the thread differs from one that is confined to keep;
// nothing, if it does not.
func (t thread) beyond(keep capabilities) string {
	for _, set := range []struct {
		name      string
		got, want capabilities
	}{
		{"permitted", t.permitted, keep},
		{"effective", t.effective, keep},
		{"bounding", t.bounding, keep},
		{"inheritable", t.inheritable, 0},
		{"ambient", t.ambient, 0},
	} {
		if set.got != set.want {
			return fmt.Sprintf("the %s set is %016x, not %016x", set.name, uint64(set.got), uint64(set.want))
		}
	}
	if !t.noNewPrivs {
		return "no_new_privs is not set"
	}
	return ""
}
