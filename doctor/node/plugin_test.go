//go:build integration

package node_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/doctor/node"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/test/plugintest"
)

func TestMain(m *testing.M) { os.Exit(plugintest.Main(m)) }

// running is a node with a plugin and a provider, on a mount of its own.
func running(t *testing.T) (node.Config, *plugintest.Plugin) {
	t.Helper()
	hardeningtest.NeedRoot(t)
	c := place(t)
	c.Probe = 10 * time.Second
	dir := filepath.Dir(c.CSISocket)
	shareable(t, c.KubeletRoot)
	if err := os.MkdirAll(filepath.Join(c.KubeletRoot, "pods"), 0o700); err != nil {
		t.Fatal(err)
	}
	never := func(context.Context, *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) { return nil, nil }
	providertest.Start(t, providertest.Config{Handler: never, Name: "vault", Dir: c.ProviderDirs[1]})
	c.HealthAddrs = []string{"127.0.0.1:1", plugintest.FreeAddress(t)}
	c.PolicyPath = "../../policies/rego/starter"
	manifests := filepath.Join(dir, "manifests")
	if err := os.Mkdir(manifests, 0o700); err != nil {
		t.Fatal(err)
	}
	p := plugintest.Start(t, plugintest.Config{
		Program: plugintest.Program(t, plugintest.Programs(), "portcullis-node", "insecure"), Socket: c.CSISocket,
		Args: []string{
			"--nodeid=node1", "--cluster-name=test", "--policy=" + c.PolicyPath, "--allow-unsigned-policy", "--manifests=" + manifests,
			"--state-dir=" + c.StateDir, "--kubelet-root=" + c.KubeletRoot, "--endpoint=unix://" + c.CSISocket, "--provider-volume=" + c.ProviderDirs[1],
			"--additional-provider-volume-paths=", "--metrics-addr=", "--health-addr=" + c.HealthAddrs[1],
			"--kubelet-registration-path=" + c.CSISocket, "--plugin-registration-dir=" + c.Registry,
		},
	})
	return c, p
}

// shareable has a directory on a shared mount. Tests have a mount namespace of
// their own.
func shareable(t *testing.T, dir string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	propagate(t, dir, syscall.MS_SHARED)
}

func propagate(t *testing.T, dir string, how uintptr) {
	t.Helper()
	if err := syscall.Mount("", dir, "", how, ""); err != nil {
		t.Fatal(err)
	}
}

// judged are the results of some checks, as text.
func judged(n *doctor.Node, checks ...string) []string {
	var list []string
	for _, r := range doctor.Run(&doctor.Facts{Now: time.Now(), Driver: driver, Version: n.Plugin.Version, Node: n}).Results {
		for _, c := range checks {
			if r.Check == c {
				list = append(list, c+" "+string(r.Status)+" "+r.Finding+" "+r.Hint)
			}
		}
	}
	return list
}

// A real plugin on a real kernel: everything that it has is found, and while it
// runs as told nothing of it fails.
func TestARealPlugin(t *testing.T) {
	c, p := running(t)
	var n *doctor.Node
	plugintest.Eventually(t, "registration socket", func() error {
		n = gather(t, c)
		return n.Registration.Err
	})
	if n.Registration.Name != driver || n.Registration.Endpoint != c.CSISocket || n.Plugin.Name != driver || n.Plugin.Version == "" {
		t.Errorf("Registration = %+v, Plugin = %+v", n.Registration, n.Plugin)
	}
	for _, line := range judged(n, "kernel.mount-api", "kernel.xattr", "kubelet.pods", "kubelet.shared", "kubelet.registry", "kubelet.registration", "providers.sockets", "policy.bundle", "log.state", "node.volumes") {
		if strings.Contains(line, "FAIL") || strings.Contains(line, "could not") {
			t.Errorf("of a plugin that runs: %s", line)
		}
	}
	if len(n.Ready.Value) < 10 || n.ReadyAddr != c.HealthAddrs[1] || len(n.Log.Value) != 1 || n.Log.Value[0].Events == 0 {
		t.Errorf("Ready = %+v at %s, Log = %+v, want all conditions and an epoch with events", n.Ready, n.ReadyAddr, n.Log)
	}
	if v := n.Providers.Value; len(v) != 1 || v[0].Err != nil || v[0].Name != "vault" {
		t.Errorf("Providers = %+v, want vault", v)
	}
	if n.Active.Err != nil || n.Bundle.Value == nil || n.Active.Value != n.Bundle.Value.Digest {
		t.Errorf("Active = %+v, want the digest of the bundle, %+v", n.Active, n.Bundle)
	}
	before := n.Log.Value[0].Events
	if again := gather(t, c); again.Log.Value[0].Events != before {
		t.Errorf("looking made %d events in the log", again.Log.Value[0].Events-before)
	}

	propagate(t, c.KubeletRoot, syscall.MS_PRIVATE)
	if err := os.Chmod(filepath.Join(c.ProviderDirs[1], "vault.sock"), 0o666); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	n = gather(t, c)
	lines := judged(n, "kubelet.shared", "kubelet.registration", "plugin.socket", "plugin.ready", "providers.sockets", "log.state")
	for _, line := range lines {
		if !strings.Contains(line, " FAIL ") {
			t.Errorf("of a plugin that was killed, with a private mount and a socket that is anybody's: %s", line)
		}
	}
	if len(lines) != 6 {
		t.Errorf("%d results, want 6: %q", len(lines), lines)
	}
}
