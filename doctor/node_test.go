package doctor_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/hardening"
)

// bad is one thing that is wrong, and what doctor has to say of it.
type bad struct {
	name, check string
	change      func(*doctor.Facts)
	status      doctor.Status
	finding     string // part of it
	hint        string // part of it
}

func (b bad) try(t *testing.T) {
	t.Helper()
	f := good()
	b.change(f)
	var said []string
	for _, r := range doctor.Run(f).Results {
		if r.Check != b.check {
			continue
		}
		said = append(said, string(r.Status)+" "+r.Finding+" | "+r.Hint)
		if r.Status == b.status && strings.Contains(r.Finding, b.finding) && strings.Contains(r.Hint, b.hint) {
			return
		}
	}
	t.Errorf("%s says\n%s\nwant %s with %q and the hint %q", b.check, strings.Join(said, "\n"), b.status, b.finding, b.hint)
}

var errBroken = errors.New("it is broken; hint: mend it")

func onNode(change func(*doctor.Node)) func(*doctor.Facts) {
	return func(f *doctor.Facts) { change(f.Node) }
}

func kernel(change func(*hardening.Kernel)) func(*doctor.Facts) {
	return func(f *doctor.Facts) { change(&f.Node.Kernel) }
}

func badNodes() []bad {
	swapOn := func(n *doctor.Node) { n.Swaps.Value = []string{"/dev/sda2"} }
	return []bad{
		{
			name: "no move_mount", check: "kernel.mount-api",
			change: kernel(func(k *hardening.Kernel) { k.MountAPI, k.Missing = hardening.AnswerNo, "move_mount" }),
			status: doctor.Fail, finding: "has no move_mount", hint: "5.12",
		},
		{
			name: "unknown mount API", check: "kernel.mount-api",
			change: kernel(func(k *hardening.Kernel) { *k = hardening.Kernel{} }),
			status: doctor.Warn, finding: "nobody knows", hint: "on the node",
		},
		{
			name: "no volume", check: "kernel.mount-api",
			change: kernel(func(k *hardening.Kernel) { k.Refused = errBroken }),
			status: doctor.Fail, finding: "it is broken", hint: "mend it",
		},
		{
			name: "not root", check: "kernel.mount-api",
			change: kernel(func(k *hardening.Kernel) { k.Probed = false }),
			status: doctor.OK, finding: "no volume was made on trial",
		},
		{
			name: "no noswap", check: "kernel.noswap",
			change: kernel(func(k *hardening.Kernel) { k.Noswap = hardening.AnswerNo }),
			status: doctor.Warn, finding: "as tried", hint: "6.4",
		},
		{
			name: "old, not tried", check: "kernel.noswap",
			change: kernel(func(k *hardening.Kernel) { k.Noswap, k.Release = hardening.AnswerUnknown, "6.3.0-1" }),
			status: doctor.Warn, finding: "by its version", hint: "6.4",
		},
		{
			name: "new, not tried", check: "kernel.noswap",
			change: kernel(func(k *hardening.Kernel) { k.Noswap, k.Release = hardening.AnswerUnknown, "6.4" }),
			status: doctor.OK, finding: "by its version",
		},
		{
			name: "unreadable release", check: "kernel.noswap",
			change: kernel(func(k *hardening.Kernel) { k.Noswap, k.Release = hardening.AnswerUnknown, "six" }),
			status: doctor.Warn, finding: "nobody knows", hint: "root",
		},
		{
			name: "no noswap and swap", check: "kernel.noswap",
			change: onNode(func(n *doctor.Node) { swapOn(n); n.Kernel.Noswap = hardening.AnswerNo }),
			status: doctor.Fail, finding: "swap is active", hint: "turn swap off",
		},
		{
			name: "no xattr", check: "kernel.xattr",
			change: kernel(func(k *hardening.Kernel) { k.Xattr = hardening.AnswerNo }),
			status: doctor.Fail, finding: "no extended attributes", hint: "CONFIG_TMPFS_XATTR",
		},
		{
			name: "xattr not tried", check: "kernel.xattr",
			change: kernel(func(k *hardening.Kernel) { k.Xattr = hardening.AnswerUnknown }),
			status: doctor.Warn, finding: "not tried", hint: "root",
		},
		{
			name: "no openat2", check: "kernel.openat2",
			change: kernel(func(k *hardening.Kernel) { k.Openat2 = hardening.AnswerNo }),
			status: doctor.Fail, finding: "missing", hint: "5.12",
		},
		{
			name: "no fchmodat2", check: "kernel.fchmodat2",
			change: kernel(func(k *hardening.Kernel) { k.Fchmodat2 = hardening.AnswerNo }),
			status: doctor.NA, finding: "older",
		},
		{
			name: "no Landlock", check: "kernel.landlock",
			change: kernel(func(k *hardening.Kernel) { k.Landlock = 0 }),
			status: doctor.Warn, finding: "missing or switched off", hint: "lsm=",
		},
		{
			name: "no seccomp", check: "kernel.seccomp",
			change: kernel(func(k *hardening.Kernel) { k.Seccomp = hardening.AnswerNo }),
			status: doctor.Warn, finding: "no seccomp filters", hint: "CONFIG_SECCOMP_FILTER",
		},
		{
			name: "swap with noswap", check: "node.swap",
			change: onNode(swapOn),
			status: doctor.OK, finding: "/dev/sda2",
		},
		{
			name: "swap without noswap", check: "node.swap",
			change: onNode(func(n *doctor.Node) { swapOn(n); n.Kernel.Noswap = hardening.AnswerNo }),
			status: doctor.Fail, finding: "/dev/sda2", hint: "turn swap off",
		},
		{
			name: "swap unreadable", check: "node.swap",
			change: onNode(func(n *doctor.Node) { n.Swaps.Err = errBroken }),
			status: doctor.Warn, finding: "could not be looked at", hint: "mend it",
		},
		{
			name: "no locking", check: "node.memory-lock",
			change: kernel(func(k *hardening.Kernel) { k.LockErr = errors.New("no CAP_IPC_LOCK") }),
			status: doctor.Warn, finding: "no CAP_IPC_LOCK", hint: "CAP_IPC_LOCK",
		},
		{
			name: "few files", check: "node.open-files",
			change: onNode(func(n *doctor.Node) { n.OpenFiles = 256 }),
			status: doctor.Warn, finding: "256", hint: "RLIMIT_NOFILE",
		},
		{
			name: "cgroup v1", check: "node.cgroup",
			change: onNode(func(n *doctor.Node) { n.Cgroup = 1 }),
			status: doctor.Warn, finding: "version 1", hint: "v2",
		},
		{
			name: "no cgroup", check: "node.cgroup",
			change: onNode(func(n *doctor.Node) { n.Cgroup = 0 }),
			status: doctor.Warn, finding: "not known",
		},
		{
			name: "no pods directory", check: "kubelet.pods",
			change: onNode(func(n *doctor.Node) { n.Kubelet.Pods = errors.New("no such file") }),
			status: doctor.Fail, finding: "no such file", hint: "--root-dir",
		},
		{
			name: "private mount", check: "kubelet.shared",
			change: onNode(func(n *doctor.Node) { n.Kubelet.Shared.Value = false }),
			status: doctor.Fail, finding: "not shared", hint: "make-rshared",
		},
		{
			name: "unknown mount", check: "kubelet.shared",
			change: onNode(func(n *doctor.Node) { n.Kubelet.Shared.Err = errBroken }),
			status: doctor.Warn, finding: "could not be looked at", hint: "mend it",
		},
		{
			name: "no registry", check: "kubelet.registry",
			change: onNode(func(n *doctor.Node) { n.Kubelet.Registry = errors.New("no such file") }),
			status: doctor.Fail, finding: "no such file", hint: "--registration-dir",
		},
		{
			name: "registration hangs", check: "kubelet.registration",
			change: onNode(func(n *doctor.Node) { n.Registration.Err = errBroken }),
			status: doctor.Fail, finding: "it is broken", hint: "mend it",
		},
		{
			name: "another driver registers", check: "kubelet.registration",
			change: onNode(func(n *doctor.Node) { n.Registration.Name = "other\x1b" }),
			status: doctor.Fail, finding: `other?`, hint: "one driver",
		},
		{
			name: "another kind", check: "kubelet.registration",
			change: onNode(func(n *doctor.Node) { n.Registration.Type = "DevicePlugin" }),
			status: doctor.Fail, finding: "DevicePlugin", hint: "registration",
		},
		{
			name: "relative endpoint", check: "kubelet.registration",
			change: onNode(func(n *doctor.Node) { n.Registration.Endpoint = "csi.sock" }),
			status: doctor.Fail, finding: "no absolute path", hint: "as kubelet sees it",
		},
		{
			name: "other versions", check: "kubelet.registration",
			change: onNode(func(n *doctor.Node) { n.Registration.Versions = []string{"0.3.0"} }),
			status: doctor.Warn, finding: "0.3.0",
		},
		{
			name: "dead plugin", check: "plugin.socket",
			change: onNode(func(n *doctor.Node) { n.Plugin.Err = errors.New("nobody serves it") }),
			status: doctor.Fail, finding: "nobody serves it", hint: "start the plugin",
		},
		{
			name: "another plugin", check: "plugin.socket",
			change: onNode(func(n *doctor.Node) { n.Plugin.Name = "other" }),
			status: doctor.Fail, finding: "other", hint: "--drivername",
		},
		{
			name: "plugin not ready", check: "plugin.socket",
			change: onNode(func(n *doctor.Node) { n.Plugin.Ready = false }),
			status: doctor.Fail, finding: "not ready", hint: "plugin.ready",
		},
		{
			name: "another version", check: "plugin.version",
			change: onNode(func(n *doctor.Node) { n.Plugin.Version = "v0.0.9" }),
			status: doctor.Warn, finding: "v0.0.9", hint: "kubectl exec",
		},
		{
			name: "insecure of the same version", check: "plugin.version",
			change: onNode(func(n *doctor.Node) { n.Plugin.Version = version + "+insecure" }),
			status: doctor.OK, finding: version,
		},
		{
			name: "insecure of another stamped version", check: "plugin.version",
			change: onNode(func(n *doctor.Node) { n.Plugin.Version = "v0.0.9+abc.insecure" }),
			status: doctor.Warn, finding: "v0.0.9+abc.insecure", hint: "kubectl exec",
		},
		{
			name: "a mark in the middle is none", check: "plugin.version",
			change: onNode(func(n *doctor.Node) { n.Plugin.Version = version + ".insecure.1" }),
			status: doctor.Warn, finding: ".insecure.1", hint: "kubectl exec",
		},
		{
			name: "insecure of the same stamped version", check: "plugin.version",
			change: onNode(func(n *doctor.Node) { n.Plugin.Version = version + ".insecure" }),
			status: doctor.OK, finding: version,
		},
		{
			name: "no version", check: "plugin.version",
			change: onNode(func(n *doctor.Node) { n.Plugin.Err = errBroken }),
			status: doctor.NA, finding: "no plugin",
		},
		{
			name: "no readiness", check: "plugin.ready",
			change: onNode(func(n *doctor.Node) { n.Ready.Err, n.Plugin.Err = doctor.ErrUnserved, doctor.ErrUnserved }),
			status: doctor.Fail, finding: "nobody serves it", hint: "--health-addr",
		},
		{
			name: "readiness in another network", check: "plugin.ready",
			change: onNode(func(n *doctor.Node) { n.Ready.Err = doctor.ErrUnserved }),
			status: doctor.Warn, finding: "the plugin answers at its socket", hint: "in the plugin's container",
		},
		{
			name: "readiness that answers nothing", check: "plugin.ready",
			change: onNode(func(n *doctor.Node) { n.Ready.Err = errors.New("it answers 404") }),
			status: doctor.Fail, finding: "404", hint: "--health-addr",
		},
		{
			name: "empty readiness", check: "plugin.ready",
			change: onNode(func(n *doctor.Node) { n.Ready.Value = nil }),
			status: doctor.Fail, finding: "no conditions", hint: "--health-addr",
		},
		{"condition fails", "plugin.ready", onNode(func(n *doctor.Node) {
			n.Ready.Value[0] = doctor.Condition{Name: "policy", Detail: "no active; hint: see it", Mark: '-'}
		}), doctor.Fail, "policy: no active", "see it"},
		{
			name: "condition warns", check: "plugin.ready",
			change: onNode(func(n *doctor.Node) { n.Ready.Value[0] = doctor.Condition{Name: "swap", Detail: "mlock", Mark: '!'} }),
			status: doctor.Warn, finding: "swap: mlock", hint: "plugin's log",
		},
		{"untrusted provider", "providers.sockets", onNode(func(n *doctor.Node) {
			n.Providers.Value[0].Err, n.Providers.Value[0].Hint = errors.New("writable by others"), "fix its mode"
		}), doctor.Fail, "writable by others", "fix its mode"},
		{
			name: "no provider", check: "providers.sockets",
			change: onNode(func(n *doctor.Node) { n.Providers.Value = nil }),
			status: doctor.Warn, finding: "/p", hint: "--provider-dirs",
		},
		{
			name: "providers unreadable", check: "providers.sockets",
			change: onNode(func(n *doctor.Node) { n.Providers.Err = errBroken }),
			status: doctor.Warn, finding: "could not be looked at", hint: "mend it",
		},
		{
			name: "aws", check: "providers.sockets",
			change: onNode(func(n *doctor.Node) { n.Providers.Value[0].Name = "aws" }),
			status: doctor.OK, finding: "--driver-writes-secrets=true",
		},
		{
			name: "provider wanted", check: "providers.wanted",
			change: onNode(func(n *doctor.Node) { n.Providers.Value[0].Name = "aws" }),
			status: doctor.Warn, finding: "payments/db", hint: "install the provider",
		},
		{
			name: "classes unreadable", check: "providers.wanted",
			change: func(f *doctor.Facts) { f.Cluster.Classes.Err = errBroken },
			status: doctor.Warn, finding: "could not be looked at", hint: "mend it",
		},
		{
			name: "no cluster", check: "providers.wanted",
			change: func(f *doctor.Facts) { f.Cluster = nil },
			status: doctor.NA, finding: "not looked at",
		},
		{
			name: "legacy volume", check: "node.volumes",
			change: onNode(func(n *doctor.Node) { n.Volumes.Value[0].Legacy = true }),
			status: doctor.Warn, finding: "pod uid-api (payments/api)", hint: "restart the pod",
		},
		{
			name: "mount table unreadable", check: "node.volumes",
			change: onNode(func(n *doctor.Node) { n.Volumes.Err = errBroken }),
			status: doctor.Warn, finding: "could not be looked at", hint: "mend it",
		},
		{
			name: "bundle broken", check: "policy.bundle",
			change: onNode(func(n *doctor.Node) { n.Bundle.Err = errors.New("does not parse") }),
			status: doctor.Fail, finding: "does not parse", hint: "policy check",
		},
		{
			name: "bundle warned about", check: "policy.bundle",
			change: onNode(func(n *doctor.Node) { n.Bundle.Value.Warnings = []string{"grant G-1: ends soon"} }),
			status: doctor.Warn, finding: "G-1", hint: "policy build",
		},
		{
			name: "no bundle", check: "policy.bundle",
			change: onNode(func(n *doctor.Node) { n.Bundle.Value = nil }),
			status: doctor.NA, finding: "/policy",
		},
		{
			name: "another bundle in force", check: "policy.active",
			change: onNode(func(n *doctor.Node) { n.Active.Value = "sha256:11" }),
			status: doctor.Warn, finding: "sha256:11 in force, and --policy is sha256:00", hint: "SIGHUP",
		},
		{
			name: "no bundle in force", check: "policy.active",
			change: onNode(func(n *doctor.Node) { n.Active.Value = "" }),
			status: doctor.Fail, finding: "no bundle", hint: "plugin.ready",
		},
		{
			name: "nobody knows the bundle in force", check: "policy.active",
			change: onNode(func(n *doctor.Node) { n.Active.Err = errBroken }),
			status: doctor.Warn, finding: "could not be looked at", hint: "mend it",
		},
		{
			name: "no log", check: "policy.active",
			change: onNode(func(n *doctor.Node) { n.Active.Err, n.Log.Err = errBroken, errBroken }),
			status: doctor.NA, finding: "see log.state",
		},
		{
			name: "bundle over", check: "policy.expiry",
			change: onNode(func(n *doctor.Node) { n.Bundle.Value.NotAfter = noon }),
			status: doctor.Fail, finding: "ended 2026-11-26", hint: "not_after",
		},
		{
			name: "bundle ends soon", check: "policy.expiry",
			change: onNode(func(n *doctor.Node) { n.Bundle.Value.NotAfter = noon.Add(time.Hour) }),
			status: doctor.Warn, finding: "ends 2026-11-26", hint: "not_after",
		},
		{
			name: "bundle without end", check: "policy.expiry",
			change: onNode(func(n *doctor.Node) { n.Bundle.Value.NotAfter = time.Time{} }),
			status: doctor.Warn, finding: "no end", hint: "not_after",
		},
		{
			name: "unsigned", check: "policy.signature",
			change: onNode(func(n *doctor.Node) { n.Signed = false }),
			status: doctor.Warn, finding: "not signed", hint: "whoever can write",
		},
		{
			name: "signed, and other than the file", check: "policy.signature",
			change: onNode(func(n *doctor.Node) { n.Bundle.Value = nil }),
			status: doctor.OK, finding: "has verified the bundle in force",
		},
		{
			name: "nothing in force that could be signed", check: "policy.signature",
			change: onNode(func(n *doctor.Node) { n.Active.Value = "" }),
			status: doctor.NA, finding: "no bundle that was put in force",
		},
		{
			name: "nobody knows who signed", check: "policy.signature",
			change: onNode(func(n *doctor.Node) { n.Active.Err = errBroken }),
			status: doctor.Warn, finding: "who signed",
		},
		{
			name: "no log that would tell who signed", check: "policy.signature",
			change: onNode(func(n *doctor.Node) { n.Active.Err, n.Log.Err = errBroken, errBroken }),
			status: doctor.NA, finding: "log.state",
		},
		{
			name: "no log", check: "log.state",
			change: onNode(func(n *doctor.Node) { n.Log.Err = errors.New("no such file") }),
			status: doctor.Fail, finding: "no such file", hint: "--state-dir",
		},
		{
			name: "log not for this user", check: "log.state",
			change: onNode(func(n *doctor.Node) { n.Log.Err, n.Root = errors.New("permission denied"), false }),
			status: doctor.Warn, finding: "permission denied", hint: "as whom",
		},
		{
			name: "empty log", check: "log.state",
			change: onNode(func(n *doctor.Node) { n.Log.Value = nil }),
			status: doctor.Fail, finding: "no epoch", hint: "OPERATIONS.md",
		},
		{
			name: "disk full", check: "log.disk",
			change: onNode(func(n *doctor.Node) { n.FreeBytes.Value = 1000 }),
			status: doctor.Fail, finding: "is full", hint: "make room",
		},
		{
			name: "disk nearly full", check: "log.disk",
			change: onNode(func(n *doctor.Node) { n.FreeBytes.Value = 100 << 20 }),
			status: doctor.Warn, finding: "100.0 MiB", hint: "make room",
		},
		{
			name: "disk unknown", check: "log.disk",
			change: onNode(func(n *doctor.Node) { n.FreeBytes.Err = errBroken }),
			status: doctor.Warn, finding: "could not be looked at", hint: "mend it",
		},
	}
}

func TestWhatIsWrongWithANode(t *testing.T) {
	for _, b := range badNodes() {
		t.Run(b.check+" "+b.name, b.try)
	}
}
