package doctor

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/portcullis-csi/portcullis/hardening"
)

const minOpenFiles = 1024

func kernelChecks() []Check {
	return []Check{
		{"kernel.mount-api", OfNode, "fsopen, fsmount, move_mount, mount_setattr (Linux 5.12)", "volumes can be built detached", "FAIL: nothing can be mounted; use a newer kernel", judgeMountAPI},
		{"kernel.noswap", OfNode, "the tmpfs option noswap (Linux 6.4), by making a volume that is mounted nowhere", "volumes never reach swap", "WARN: only mlock or swap off protects; FAIL: a swap area is active as well", judgeNoswap},
		{"kernel.xattr", OfNode, "extended attributes on tmpfs", "a volume can say whose it is", "FAIL: nothing can be mounted; use a kernel with CONFIG_TMPFS_XATTR", judgeXattr},
		{"kernel.openat2", OfNode, "openat2 (Linux 5.6)", "paths are resolved without links", "FAIL: nothing can be mounted", judgeOpenat2},
		{"kernel.fchmodat2", OfNode, "fchmodat2 (Linux 6.6)", "it is there", "n/a: an older kernel, nothing needs it", judgeFchmodat2},
		{"kernel.landlock", OfNode, "the Landlock ABI", "it is there", "WARN: the plugin cannot confine its own file access", judgeLandlock},
		{"kernel.seccomp", OfNode, "seccomp filters", "the plugin can give up system calls", "WARN: it cannot", judgeSeccomp},
		{"node.swap", OfNode, "active swap areas in /proc/swaps, against noswap", "there is none, or volumes are kept out of it", "WARN: nobody knows, or only mlock protects; FAIL: secrets would reach swap", judgeSwap},
		{"node.memory-lock", OfNode, "whether this process may lock memory (CAP_IPC_LOCK)", "it may", "WARN: the process's own memory may reach swap. In a debug shell that says nothing about the plugin", judgeLock},
		{"node.open-files", OfNode, "the limit of open files", "it is 1024 or more", "WARN: many volumes at once may fail", judgeFiles},
		{"node.cgroup", OfNode, "the cgroup version", "version 2", "WARN: version 1 charges memory of volumes less exactly", judgeCgroup},
	}
}

func judgeMountAPI(f *Facts) []Result {
	k := f.Node.Kernel
	switch {
	case k.MountAPI == hardening.AnswerNo:
		return []Result{fail("use Linux 5.12 or later", "kernel %s has no %s", k.Release, k.Missing)}
	case k.MountAPI != hardening.AnswerYes:
		return []Result{warn("run doctor on the node", "nobody knows what the kernel offers")}
	case k.Refused != nil:
		return []Result{refused("run doctor as root outside user namespaces", "kernel "+k.Release+" makes no volume", k.Refused)}
	case !k.Probed:
		return []Result{ok("kernel %s has it; no volume was made on trial for want of CAP_SYS_ADMIN", k.Release)}
	}
	return []Result{ok("kernel %s makes a volume", k.Release)}
}

// noswap returns what the kernel can do: as tried, or as its number says.
func noswap(k hardening.Kernel) (answer hardening.Answer, tried bool) {
	if k.Noswap != hardening.AnswerUnknown {
		return k.Noswap, true
	}
	major, minor, found := release(k.Release)
	switch {
	case !found:
		return hardening.AnswerUnknown, false
	case major > 6 || major == 6 && minor >= 4:
		return hardening.AnswerYes, false
	}
	return hardening.AnswerNo, false
}

// release reads the first two numbers of a kernel or Kubernetes version.
func release(text string) (major, minor int, found bool) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(text, "v"), ".")
	second := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	major, err := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(second)
	return major, minor, err == nil && err2 == nil
}

func judgeNoswap(f *Facts) []Result {
	answer, tried := noswap(f.Node.Kernel)
	how := "by its version"
	if tried {
		how = "as tried"
	}
	swapOn := len(f.Node.Swaps.Value) > 0
	switch {
	case answer == hardening.AnswerYes:
		return []Result{ok("tmpfs takes noswap, %s", how)}
	case answer == hardening.AnswerUnknown:
		return []Result{warn("run doctor as root on the node", "nobody knows whether tmpfs takes noswap")}
	case swapOn:
		return []Result{fail("turn swap off, use Linux 6.4 or later, or accept --swap-protection=mlock, which protects only while the plugin runs", "tmpfs takes no noswap, %s, and swap is active", how)}
	}
	return []Result{warn("use Linux 6.4 or later, and keep swap off until then", "tmpfs takes no noswap, %s", how)}
}

func judgeXattr(f *Facts) []Result {
	switch f.Node.Kernel.Xattr {
	case hardening.AnswerYes:
		return []Result{ok("tmpfs takes them")}
	case hardening.AnswerNo:
		return []Result{fail("use a kernel with CONFIG_TMPFS_XATTR", "tmpfs takes no extended attributes")}
	default:
		return []Result{warn("run doctor as root on the node", "not tried: no volume could be made")}
	}
}

func judgeOpenat2(f *Facts) []Result {
	if f.Node.Kernel.Openat2 == hardening.AnswerYes {
		return []Result{ok("it is there")}
	}
	return []Result{fail("use Linux 5.12 or later; a seccomp profile of the container may hide it too", "openat2 is missing")}
}

func judgeFchmodat2(f *Facts) []Result {
	if f.Node.Kernel.Fchmodat2 == hardening.AnswerYes {
		return []Result{ok("it is there")}
	}
	return []Result{na("this kernel is older than fchmodat2, which nothing needs")}
}

func judgeLandlock(f *Facts) []Result {
	if n := f.Node.Kernel.Landlock; n > 0 {
		return []Result{ok("ABI %d", n)}
	}
	return []Result{warn("use a kernel with CONFIG_SECURITY_LANDLOCK and landlock in lsm=", "Landlock is missing or switched off")}
}

func judgeSeccomp(f *Facts) []Result {
	if f.Node.Kernel.Seccomp == hardening.AnswerYes {
		return []Result{ok("filters can be installed")}
	}
	return []Result{warn("use a kernel with CONFIG_SECCOMP_FILTER", "the kernel takes no seccomp filters")}
}

func judgeSwap(f *Facts) []Result {
	swaps := f.Node.Swaps
	answer, _ := noswap(f.Node.Kernel)
	switch {
	case swaps.Err != nil:
		return []Result{unknown("swap", swaps.Err)}
	case len(swaps.Value) == 0:
		return []Result{ok("no swap area is active")}
	case answer == hardening.AnswerYes:
		return []Result{ok("swap is active (%s) and volumes are kept out of it by noswap", some(swaps.Value))}
	}
	return []Result{fail("turn swap off, or use Linux 6.4 or later", "swap is active (%s) and this kernel cannot keep volumes out of it", some(swaps.Value))}
}

func judgeLock(f *Facts) []Result {
	if err := f.Node.Kernel.LockErr; err != nil {
		return []Result{warn("grant the plugin CAP_IPC_LOCK, or turn swap off", "memory cannot be locked by this process: %v", err)}
	}
	return []Result{ok("this process may lock memory")}
}

func judgeFiles(f *Facts) []Result {
	if n := f.Node.OpenFiles; n < minOpenFiles {
		return []Result{warn(fmt.Sprintf("raise RLIMIT_NOFILE to %d or more", minOpenFiles), "at most %d files may be open", n)}
	}
	return []Result{ok("up to %d", f.Node.OpenFiles)}
}

func judgeCgroup(f *Facts) []Result {
	switch f.Node.Cgroup {
	case 2:
		return []Result{ok("version 2")}
	case 1:
		return []Result{warn("boot the node with cgroup v2", "version 1")}
	}
	return []Result{warn("run doctor on the node", "the version is not known: /sys/fs/cgroup is not mounted here")}
}

// plural counts things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
