package lab_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/portcullis-csi/portcullis/test/cluster/lab"
)

func TestNamesOfLabs(t *testing.T) {
	for name, ok := range map[string]bool{
		"lab": true, "e2e-1": true, "a": true, strings.Repeat("a", 32): true,
		"": false, "-a": false, "a-": false, "../a": false, "A": false, "a b": false, strings.Repeat("a", 33): false,
	} {
		// Nothing of such a name is up, and only a name that is none is refused
		// as one.
		_, err := lab.Open(name)
		if err == nil || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("Open(%q) = %v, want an error with a hint", name, err)
			continue
		}
		if got := !strings.Contains(err.Error(), "cannot be named"); got != ok {
			t.Errorf("Open(%q) = %v, want it to be a name: %v", name, err, ok)
		}
	}
}

func TestAProcessIsNotMistakenForAnother(t *testing.T) {
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := lab.Identify(child.Process.Pid)
	if err != nil || !p.Alive() {
		t.Fatalf("Identify(a child) = %+v, %v, want a process that is alive", p, err)
	}
	other := p
	other.Start = "1"
	if other.Alive() {
		t.Error("Alive() = true for a process of another start, want false")
	}
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// A zombie has ended: nobody waits for it yet.
	for deadline := time.Now().Add(10 * time.Second); p.Alive(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("Alive() = true 10 s after a kill, want false")
		}
	}
	if _, err := lab.Identify(child.Process.Pid); err == nil {
		t.Error("Identify(a zombie) = nil, want an error")
	}
	_ = child.Wait()
	if p.Alive() || (lab.Process{}).Alive() {
		t.Error("Alive() = true for what is gone or never was, want false")
	}
}

func TestStateIsReadAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	self, err := lab.Identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	want := lab.State{Name: "a", Kubernetes: lab.V135, Programs: lab.Programs{Kubernetes: "/k"}, Starter: self}
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := lab.Read(dir); err != nil || got != want {
		t.Errorf("Read() = %+v, %v, want %+v", got, err, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "lab.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lab.Read(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("Read(half a file) = %v, want an error with its path", err)
	}
}

func TestFlagsTakeEachOthersPlace(t *testing.T) {
	got := lab.Overridden([]string{"--a=1", "--b=2", "--c"}, []string{"--b=3", "--d=4", "--c=false"})
	if want := []string{"--a=1", "--b=3", "--d=4", "--c=false"}; !slices.Equal(got, want) {
		t.Errorf("overridden() = %q, want %q", got, want)
	}
}

func TestConfigurations(t *testing.T) {
	files := lab.Files("a", 7*time.Second)
	var kubelet struct {
		CgroupRoot, SyncFrequency, StaticPodPath string
		Authentication                           struct{ Anonymous struct{ Enabled bool } }
		EvictionHard                             map[string]string
	}
	if err := yaml.Unmarshal([]byte(files["kubelet.yaml"]), &kubelet); err != nil {
		t.Fatal(err)
	}
	if kubelet.CgroupRoot != "/portcullis-lab-a" || kubelet.SyncFrequency != "7s" || kubelet.StaticPodPath != lab.StaticPods ||
		kubelet.Authentication.Anonymous.Enabled || kubelet.EvictionHard["nodefs.available"] != "0%" {
		t.Errorf("kubelet's configuration is %+v", kubelet)
	}
	var policy struct{ Rules []struct{ Level string } }
	if err := yaml.Unmarshal([]byte(files["audit-policy.yaml"]), &policy); err != nil {
		t.Fatal(err)
	}
	if n := len(policy.Rules); n < 2 || policy.Rules[n-1].Level != "Metadata" {
		t.Errorf("the audit policy has the rules %+v, want Metadata for what no other rule takes", policy.Rules)
	}
	var network struct{ Name, Bridge string }
	if err := yaml.UnmarshalStrict([]byte(files["cni/10-lab.conf"]), &network); err == nil || network.Bridge != "cni0" {
		t.Errorf("the network's configuration has the bridge %q, %v, want cni0 and more fields", network.Bridge, err)
	}
	if got := files["containerd.toml"]; !strings.Contains(got, `"/runc-dir/runc"`) || !strings.Contains(got, "restrict_oom_score_adj = true") {
		t.Errorf("containerd's configuration is\n%s", got)
	}
}

// TestCgroupsAreRemoved: as directories, whose files nobody can remove in a real
// one.
func TestCgroupsAreRemoved(t *testing.T) {
	mount := t.TempDir()
	for _, dir := range []string{"memory", "cpuset", "pids/other"} {
		if err := os.MkdirAll(filepath.Join(mount, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, text := range map[string]string{"cpuset/cpuset.cpus": "0-1\n", "cpuset/cpuset.mems": "0\n"} {
		if err := os.WriteFile(filepath.Join(mount, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := lab.MakeCgroup(mount, "x"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(mount, "cpuset/x/cpuset.cpus")); err != nil || string(text) != "0-1\n" {
		t.Errorf("the cgroup's CPUs are %q, %v, want its parent's", text, err)
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if err := os.Remove(filepath.Join(mount, "cpuset/x", file)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(mount, "memory/x/kubepods/pod1/container"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing
		if err := lab.RemoveCgroup(mount, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := filepath.Glob(filepath.Join(mount, "*/x")); err != nil || len(found) > 0 {
		t.Errorf("cgroups %q are left (%v)", found, err)
	}
	if _, err := os.Stat(filepath.Join(mount, "pids/other")); err != nil {
		t.Errorf("the cgroup of somebody else is gone: %v", err)
	}
}

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	if err := lab.WriteKeys(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.crt", "apiserver.crt", "sa.key", "sa.pub", "kubelet.kubeconfig", "admin.kubeconfig"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("Stat(%s) = %v, %v, want mode 0600", name, info, err)
		}
	}
}
