//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The capabilities that the plugin may have; another one fails the tests.
const (
	keptCapabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_SETUID | 1<<unix.CAP_IPC_LOCK | 1<<unix.CAP_SYS_ADMIN
	reachesProviders = 1 << unix.CAP_DAC_OVERRIDE // of providers that are not root's
)

// After its start the plugin has, in every thread, the rights that it needs and
// no others, whatever its privileged container would allow.
func TestP5PluginKeepsFewRights(t *testing.T) {
	w := inTurn(t, rights)
	p := w.started(pod(w.namespace("few-rights"), "app")) // it has worked as well
	w.reads(p, "/secrets/password", "first")
	w.confined(keptCapabilities)
	w.notDumpable()
}

// Providers that are not root's cost one capability, and only where the chart
// was told of them.
func TestP5ProviderUIDsCostOneCapability(t *testing.T) {
	w := inTurn(t, rights)
	w.upgraded("--set", "providerUIDs={4711}")
	w.confined(keptCapabilities | reachesProviders)
}

// confined fails the test unless every thread of the plugin has these
// capabilities, no way to others, and a filter of its system calls.
func (w *world) confined(capabilities uint64) {
	w.Helper()
	pid := w.processOf("/portcullis-node")
	threads, err := filepath.Glob(w.lab.Path(fmt.Sprintf("/proc/%d/task/*/status", pid)))
	if err != nil || len(threads) < 2 {
		w.Fatalf("the plugin has the threads %v, %v, want some", threads, err)
	}
	want := fmt.Sprintf("%016x", capabilities)
	for _, thread := range threads {
		status := w.status(thread)
		for field, value := range map[string]string{
			"CapPrm": want, "CapEff": want, "CapBnd": want, "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
		} {
			if status[field] != value {
				w.Errorf("%s: %s is %q, want %q", thread, field, status[field], value)
			}
		}
	}
	w.Logf("%d threads of the plugin have the capabilities %s, no_new_privs and a system call filter", len(threads), want)
}

// processOf is the process in the node that runs a program of this path.
func (w *world) processOf(program string) int {
	w.Helper()
	files, err := filepath.Glob(w.lab.Path("/proc/[0-9]*/cmdline"))
	if err != nil {
		w.Fatal(err)
	}
	var found []int
	for _, file := range files {
		line, err := os.ReadFile(file)
		if name, _, _ := strings.Cut(string(line), "\x00"); err != nil || filepath.Clean(name) != program {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			w.Fatal(err)
		}
		found = append(found, pid)
	}
	if len(found) != 1 {
		w.Fatalf("%s runs as the processes %v, want one", program, found)
	}
	return found[0]
}

// status are the fields of a status file below /proc.
func (w *world) status(file string) map[string]string {
	w.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		w.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}

// notDumpable fails the test unless a process of root with every capability but
// that of a debugger is kept from the plugin's memory.
func (w *world) notDumpable() {
	w.Helper()
	// Address 0 is mapped nowhere: reading it fails after the memory was opened.
	peek := func(script string) string {
		out, err := w.run("", "setpriv", "--bounding-set=-sys_ptrace", "--", "sh", "-c", script)
		return out + fmt.Sprint(err)
	}
	if got := peek("sleep 60 & cat /proc/$!/mem; r=$?; kill $!; exit $r"); !strings.Contains(got, "Input/output error") {
		w.Fatalf("the memory of a process that hides nothing cannot be opened: %s", got)
	}
	if got := peek(fmt.Sprintf("cat /proc/%d/mem", w.processOf("/portcullis-node"))); !strings.Contains(got, "Permission denied") {
		w.Errorf("opening the plugin's memory without CAP_SYS_PTRACE: %s, want it refused", got)
	}
}

// The plugin's container sees of the node what the chart's README lists, and
// writes nowhere else.
func TestPluginSeesLittleOfTheNode(t *testing.T) {
	w := inTurn(t, rights)
	const state, providers, kubelet = "/var/lib/portcullis", "/var/run/secrets-store-csi-providers", "/var/lib/kubelet"
	want := map[string]string{
		"/": "ro", "/csi": "rw", "/registration": "rw", kubelet + "/pods": "rw", state: "rw", "/host/proc": "ro", "/policy": "ro", "/policy-trust": "ro",
		"/etc/kubernetes/secrets-store-csi-providers": "ro", providers: "ro", "/var/run/secrets/kubernetes.io/serviceaccount": "ro",
		"/tmp": "rw", // of the pod's own: snapshots that audit verify makes
	}
	// What a container runtime mounts in any container, of which none is the
	// node's but the sockets' names.
	runtime := []string{"/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
	table, err := os.ReadFile(w.lab.Path(fmt.Sprintf("/proc/%d/mountinfo", w.processOf("/portcullis-node"))))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		at, options := fields[4], strings.Split(fields[5], ",")
		inside := func(dir string) bool { return at == dir || strings.HasPrefix(at, dir+"/") }
		switch {
		case slices.ContainsFunc(runtime, inside), strings.HasPrefix(at, kubelet+"/pods/"), strings.HasPrefix(at, "/host/proc/"):
			continue // volumes of pods, and what is mounted within the node's /proc
		case want[at] == "":
			t.Errorf("the plugin's container has a mount that nothing says it needs: %s", line)
		}
		seen[at] = options[0]
	}
	for at, mode := range want {
		if seen[at] != mode {
			t.Errorf("%s is mounted %q in the plugin's container, want %q", at, seen[at], mode)
		}
	}
}

// upgraded gives the release more values, and takes them back at the end of the
// test.
func (w *world) upgraded(values ...string) {
	w.Helper()
	w.upgradeWith(values...)
	w.Cleanup(func() { w.upgradeWith() })
}

// upgradeWith gives the release the values of the tests and these, and waits for the
// plugin.
func (w *world) upgradeWith(values ...string) {
	w.Helper()
	args := append([]string{"upgrade", release, made.chart(), "--namespace", system, "--wait", "--timeout", "60s"}, w.values()...)
	w.helm(append(args, values...)...)
	w.pluginRuns()
}

// pluginRuns waits until the plugin of the DaemonSet's last version is the one
// that kubelet knows.
func (w *world) pluginRuns() {
	w.Helper()
	w.kubectl("rollout", "status", "-n", system, "daemonset/"+daemonSet, "--timeout=90s")
	w.eventually(60*time.Second, "the driver is registered, and the earlier plugin gone", func() error {
		drivers := w.kubectl("get", "csinode", node, "-o", "jsonpath={.spec.drivers[*].name}")
		pods := w.kubectl("get", "pods", "-n", system, "-l", "app=secrets-store-csi-driver", "-o", "name")
		if !strings.Contains(drivers, driverName) || strings.Count(pods, "\n") != 1 {
			return fmt.Errorf("the node has the drivers %q, and the plugin the pods %q", drivers, pods)
		}
		return nil
	})
}
