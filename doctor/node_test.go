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
		{"no move_mount", "kernel.mount-api", kernel(func(k *hardening.Kernel) { k.MountAPI, k.Missing = hardening.AnswerNo, "move_mount" }), doctor.Fail, "has no move_mount", "5.12"},
		{"unknown mount API", "kernel.mount-api", kernel(func(k *hardening.Kernel) { *k = hardening.Kernel{} }), doctor.Warn, "nobody knows", "on the node"},
		{"no volume", "kernel.mount-api", kernel(func(k *hardening.Kernel) { k.Refused = errBroken }), doctor.Fail, "it is broken", "mend it"},
		{"not root", "kernel.mount-api", kernel(func(k *hardening.Kernel) { k.Probed = false }), doctor.OK, "no volume was made on trial", ""},
		{"no noswap", "kernel.noswap", kernel(func(k *hardening.Kernel) { k.Noswap = hardening.AnswerNo }), doctor.Warn, "as tried", "6.4"},
		{"old, not tried", "kernel.noswap", kernel(func(k *hardening.Kernel) { k.Noswap, k.Release = hardening.AnswerUnknown, "6.3.0-1" }), doctor.Warn, "by its version", "6.4"},
		{"new, not tried", "kernel.noswap", kernel(func(k *hardening.Kernel) { k.Noswap, k.Release = hardening.AnswerUnknown, "6.4" }), doctor.OK, "by its version", ""},
		{"unreadable release", "kernel.noswap", kernel(func(k *hardening.Kernel) { k.Noswap, k.Release = hardening.AnswerUnknown, "six" }), doctor.Warn, "nobody knows", "root"},
		{"no noswap and swap", "kernel.noswap", onNode(func(n *doctor.Node) { swapOn(n); n.Kernel.Noswap = hardening.AnswerNo }), doctor.Fail, "swap is active", "turn swap off"},
		{"no xattr", "kernel.xattr", kernel(func(k *hardening.Kernel) { k.Xattr = hardening.AnswerNo }), doctor.Fail, "no extended attributes", "CONFIG_TMPFS_XATTR"},
		{"xattr not tried", "kernel.xattr", kernel(func(k *hardening.Kernel) { k.Xattr = hardening.AnswerUnknown }), doctor.Warn, "not tried", "root"},
		{"no openat2", "kernel.openat2", kernel(func(k *hardening.Kernel) { k.Openat2 = hardening.AnswerNo }), doctor.Fail, "missing", "5.12"},
		{"no fchmodat2", "kernel.fchmodat2", kernel(func(k *hardening.Kernel) { k.Fchmodat2 = hardening.AnswerNo }), doctor.NA, "older", ""},
		{"no Landlock", "kernel.landlock", kernel(func(k *hardening.Kernel) { k.Landlock = 0 }), doctor.Warn, "missing or switched off", "lsm="},
		{"no seccomp", "kernel.seccomp", kernel(func(k *hardening.Kernel) { k.Seccomp = hardening.AnswerNo }), doctor.Warn, "no seccomp filters", "CONFIG_SECCOMP_FILTER"},
		{"swap with noswap", "node.swap", onNode(swapOn), doctor.OK, "/dev/sda2", ""},
		{"swap without noswap", "node.swap", onNode(func(n *doctor.Node) { swapOn(n); n.Kernel.Noswap = hardening.AnswerNo }), doctor.Fail, "/dev/sda2", "turn swap off"},
		{"swap unreadable", "node.swap", onNode(func(n *doctor.Node) { n.Swaps.Err = errBroken }), doctor.Warn, "could not be looked at", "mend it"},
		{"no locking", "node.memory-lock", kernel(func(k *hardening.Kernel) { k.LockErr = errors.New("no CAP_IPC_LOCK") }), doctor.Warn, "no CAP_IPC_LOCK", "CAP_IPC_LOCK"},
		{"few files", "node.open-files", onNode(func(n *doctor.Node) { n.OpenFiles = 256 }), doctor.Warn, "256", "RLIMIT_NOFILE"},
		{"cgroup v1", "node.cgroup", onNode(func(n *doctor.Node) { n.Cgroup = 1 }), doctor.Warn, "version 1", "v2"},
		{"no cgroup", "node.cgroup", onNode(func(n *doctor.Node) { n.Cgroup = 0 }), doctor.Warn, "not known", ""},
		{"no pods directory", "kubelet.pods", onNode(func(n *doctor.Node) { n.Kubelet.Pods = errors.New("no such file") }), doctor.Fail, "no such file", "--root-dir"},
		{"private mount", "kubelet.shared", onNode(func(n *doctor.Node) { n.Kubelet.Shared.Value = false }), doctor.Fail, "not shared", "make-rshared"},
		{"unknown mount", "kubelet.shared", onNode(func(n *doctor.Node) { n.Kubelet.Shared.Err = errBroken }), doctor.Warn, "could not be looked at", "mend it"},
		{"no registry", "kubelet.registry", onNode(func(n *doctor.Node) { n.Kubelet.Registry = errors.New("no such file") }), doctor.Fail, "no such file", "--registration-dir"},
		{"registration hangs", "kubelet.registration", onNode(func(n *doctor.Node) { n.Registration.Err = errBroken }), doctor.Fail, "it is broken", "mend it"},
		{"another driver registers", "kubelet.registration", onNode(func(n *doctor.Node) { n.Registration.Name = "other\x1b" }), doctor.Fail, `other?`, "one driver"},
		{"another kind", "kubelet.registration", onNode(func(n *doctor.Node) { n.Registration.Type = "DevicePlugin" }), doctor.Fail, "DevicePlugin", "registration"},
		{"relative endpoint", "kubelet.registration", onNode(func(n *doctor.Node) { n.Registration.Endpoint = "csi.sock" }), doctor.Fail, "no absolute path", "as kubelet sees it"},
		{"other versions", "kubelet.registration", onNode(func(n *doctor.Node) { n.Registration.Versions = []string{"0.3.0"} }), doctor.Warn, "0.3.0", ""},
		{"dead plugin", "plugin.socket", onNode(func(n *doctor.Node) { n.Plugin.Err = errors.New("nobody serves it") }), doctor.Fail, "nobody serves it", "start the plugin"},
		{"another plugin", "plugin.socket", onNode(func(n *doctor.Node) { n.Plugin.Name = "other" }), doctor.Fail, "other", "--drivername"},
		{"plugin not ready", "plugin.socket", onNode(func(n *doctor.Node) { n.Plugin.Ready = false }), doctor.Fail, "not ready", "plugin.ready"},
		{"another version", "plugin.version", onNode(func(n *doctor.Node) { n.Plugin.Version = "v0.0.9" }), doctor.Warn, "v0.0.9", "kubectl exec"},
		{"insecure of the same version", "plugin.version", onNode(func(n *doctor.Node) { n.Plugin.Version = version + "+insecure" }), doctor.OK, version, ""},
		{"no version", "plugin.version", onNode(func(n *doctor.Node) { n.Plugin.Err = errBroken }), doctor.NA, "no plugin", ""},
		{"no readiness", "plugin.ready", onNode(func(n *doctor.Node) { n.Ready.Err = errors.New("nobody serves it") }), doctor.Fail, "nobody serves it", "--health-addr"},
		{"empty readiness", "plugin.ready", onNode(func(n *doctor.Node) { n.Ready.Value = nil }), doctor.Fail, "no conditions", "--health-addr"},
		{"condition fails", "plugin.ready", onNode(func(n *doctor.Node) {
			n.Ready.Value[0] = doctor.Condition{Name: "policy", Detail: "no active; hint: see it", Mark: '-'}
		}), doctor.Fail, "policy: no active", "see it"},
		{"condition warns", "plugin.ready", onNode(func(n *doctor.Node) { n.Ready.Value[0] = doctor.Condition{Name: "swap", Detail: "mlock", Mark: '!'} }), doctor.Warn, "swap: mlock", "plugin's log"},
		{"untrusted provider", "providers.sockets", onNode(func(n *doctor.Node) {
			n.Providers.Value[0].Err, n.Providers.Value[0].Hint = errors.New("writable by others"), "fix its mode"
		}), doctor.Fail, "writable by others", "fix its mode"},
		{"no provider", "providers.sockets", onNode(func(n *doctor.Node) { n.Providers.Value = nil }), doctor.Warn, "/p", "--provider-dirs"},
		{"providers unreadable", "providers.sockets", onNode(func(n *doctor.Node) { n.Providers.Err = errBroken }), doctor.Warn, "could not be looked at", "mend it"},
		{"aws", "providers.sockets", onNode(func(n *doctor.Node) { n.Providers.Value[0].Name = "aws" }), doctor.OK, "--driver-writes-secrets=true", ""},
		{"provider wanted", "providers.wanted", onNode(func(n *doctor.Node) { n.Providers.Value[0].Name = "aws" }), doctor.Warn, "payments/db", "install the provider"},
		{"classes unreadable", "providers.wanted", func(f *doctor.Facts) { f.Cluster.Classes.Err = errBroken }, doctor.Warn, "could not be looked at", "mend it"},
		{"no cluster", "providers.wanted", func(f *doctor.Facts) { f.Cluster = nil }, doctor.NA, "not looked at", ""},
		{"legacy volume", "node.volumes", onNode(func(n *doctor.Node) { n.Volumes.Value[0].Legacy = true }), doctor.Warn, "pod uid-api (payments/api)", "restart the pod"},
		{"mount table unreadable", "node.volumes", onNode(func(n *doctor.Node) { n.Volumes.Err = errBroken }), doctor.Warn, "could not be looked at", "mend it"},
		{"bundle broken", "policy.bundle", onNode(func(n *doctor.Node) { n.Bundle.Err = errors.New("does not parse") }), doctor.Fail, "does not parse", "policy check"},
		{"bundle warned about", "policy.bundle", onNode(func(n *doctor.Node) { n.Bundle.Value.Warnings = []string{"grant G-1: ends soon"} }), doctor.Warn, "G-1", "policy build"},
		{"no bundle", "policy.bundle", onNode(func(n *doctor.Node) { n.Bundle.Value = nil }), doctor.NA, "/policy", ""},
		{"bundle over", "policy.expiry", onNode(func(n *doctor.Node) { n.Bundle.Value.NotAfter = noon }), doctor.Fail, "ended 2026-11-26", "not_after"},
		{"bundle ends soon", "policy.expiry", onNode(func(n *doctor.Node) { n.Bundle.Value.NotAfter = noon.Add(time.Hour) }), doctor.Warn, "ends 2026-11-26", "not_after"},
		{"bundle without end", "policy.expiry", onNode(func(n *doctor.Node) { n.Bundle.Value.NotAfter = time.Time{} }), doctor.Warn, "no end", "not_after"},
		{"unsigned", "policy.signature", onNode(func(n *doctor.Node) { n.Bundle.Value.Signed = false }), doctor.Warn, "not signed", "whoever can write"},
		{"no log", "log.state", onNode(func(n *doctor.Node) { n.Log.Err = errors.New("no such file") }), doctor.Fail, "no such file", "--state-dir"},
		{"log not for this user", "log.state", onNode(func(n *doctor.Node) { n.Log.Err, n.Root = errors.New("permission denied"), false }), doctor.Warn, "permission denied", "as whom"},
		{"empty log", "log.state", onNode(func(n *doctor.Node) { n.Log.Value = nil }), doctor.Fail, "no epoch", "OPERATIONS.md"},
		{"disk full", "log.disk", onNode(func(n *doctor.Node) { n.FreeBytes.Value = 1000 }), doctor.Fail, "is full", "make room"},
		{"disk nearly full", "log.disk", onNode(func(n *doctor.Node) { n.FreeBytes.Value = 100 << 20 }), doctor.Warn, "100.0 MiB", "make room"},
		{"disk unknown", "log.disk", onNode(func(n *doctor.Node) { n.FreeBytes.Err = errBroken }), doctor.Warn, "could not be looked at", "mend it"},
	}
}

func TestWhatIsWrongWithANode(t *testing.T) {
	for _, b := range badNodes() {
		t.Run(b.check+" "+b.name, b.try)
	}
}
