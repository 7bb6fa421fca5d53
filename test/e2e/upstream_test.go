//go:build e2e

package e2e_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/test/cluster/image"
	"github.com/portcullis-csi/portcullis/test/cluster/programs"
)

// The upstream driver is the released one. Its two sidecars, which the module
// proxy does not serve, have a stand-in.
const (
	upstreamModule  = "sigs.k8s.io/secrets-store-csi-driver"
	upstreamRelease = "csi-secrets-store"
	upstreamProgram = "secrets-store-csi-driver"
)

// upstreamImages are what upstream's chart 1.6.0 names.
func upstreamImages() []string {
	return []string{
		"registry.k8s.io/csi-secrets-store/driver:v1.6.0",
		"registry.k8s.io/sig-storage/csi-node-driver-registrar:v2.16.0",
		"registry.k8s.io/sig-storage/livenessprobe:v2.18.0",
	}
}

// loadUpstream builds the upstream driver where that was never done, and gives
// the node its images.
func (w *world) loadUpstream() {
	w.Helper()
	build := func(m programs.Module) string {
		dir, err := m.Build(w.Context(), os.Stderr)
		if err != nil {
			w.Fatal(err)
		}
		return dir
	}
	const dir, registrar = "test/e2e/upstream", "test/e2e/registrar"
	driver := filepath.Join(build(programs.Module{
		Name: "upstream", Dir: dir, Packages: []string{"tool"}, Programs: []string{upstreamProgram},
		Sources: []string{dir + "/mlog"}, LDFlags: "-s -w", Duration: "2 minutes",
	}), upstreamProgram)
	sidecar := filepath.Join(build(programs.Module{
		Name: "registrar", Dir: ".", Packages: []string{"./" + registrar}, Programs: []string{"registrar"},
		Sources: []string{registrar}, LDFlags: "-s -w", Duration: "10 seconds",
	}), "registrar")
	for _, name := range upstreamImages() {
		i := image.Image{References: []string{name}, Architecture: runtime.GOARCH, Entrypoint: []string{"/program"}, Files: []image.File{{Path: "/program", From: sidecar}}}
		if strings.Contains(name, "/driver:") {
			// The driver mounts with mount(8).
			i.Files = []image.File{
				{Path: "/program", From: driver}, {Path: "/bin/busybox", From: busybox(w)},
				{Path: "/bin/mount", Link: "busybox"}, {Path: "/bin/umount", Link: "busybox"},
			}
		}
		w.loadImage(i)
	}
}

func busybox(w *world) string {
	path, err := filepath.EvalSymlinks(strings.TrimSpace(w.onHost("sh", "-c", "command -v busybox")))
	if err != nil {
		w.Fatal(err)
	}
	return path
}

func (w *world) loadImage(i image.Image) {
	w.Helper()
	var archive bytes.Buffer
	if err := i.Write(&archive); err != nil {
		w.Fatal(err)
	}
	path := filepath.Join(w.dir, "image.tar")
	if err := os.WriteFile(path, archive.Bytes(), 0o600); err != nil {
		w.Fatal(err)
	}
	if err := w.lab.LoadImage(w.Context(), path); err != nil {
		w.Fatal(err)
	}
}

// upstreamFiles is the root of upstream's source, as it was released: with its
// chart and manifests.
func (w *world) upstreamFiles() string {
	w.Helper()
	return strings.TrimSpace(w.onHost("go", "list", "-C", made.repository, "-m", "-f", "{{.Dir}}", upstreamModule))
}

// installUpstream installs the upstream driver by its own chart, as people do.
// The values are theirs; its CRDs come without a job, whose image nobody has. The
// last one means nothing to that chart: it saves the guide, which goes on with
// these values, half a minute.
func (w *world) installUpstream(chart string) {
	w.Helper()
	w.helm("install", upstreamRelease, chart, "--namespace", system, "--wait", "--timeout", "60s",
		"--set", "linux.crds.enabled=false", "--set", "enableSecretRotation=true", "--set", "rotationPollInterval=2s", "--set", "policy.pollInterval=1s")
	w.registered()
}

// registered waits until kubelet knows the driver.
func (w *world) registered() {
	w.Helper()
	w.eventually(30*time.Second, "the driver is registered", w.registration)
}

// runProvider runs the local provider apart from the driver, as providers are.
func (w *world) runProvider() {
	w.Helper()
	manifests := w.helm(append([]string{"template", "provider", made.chart(), "--namespace", system, "--show-only", "templates/provider-local.yaml"}, w.values()...)...)
	w.must(manifests, "kubectl", "apply", "-n", system, "-f", "-")
	w.kubectl("-n", system, "rollout", "status", "daemonset/portcullis-provider-local", "--timeout=60s")
}
