package bench_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

const pods = 64

// world is a plugin and a provider, running, and pods that want five secrets
// of 3 kB each.
type world struct {
	dir    string
	node   csi.NodeClient
	plugin int // process id
}

func newWorld(b *testing.B) *world {
	b.Helper()
	hardeningtest.NeedRoot(b)
	w := &world{dir: b.TempDir()}
	w.build(b)
	w.furnish(b)
	w.run(b, "portcullis-provider-local", "--endpoint=unix://"+w.path("providers/local.sock"), "--root="+w.path("secrets"), "--state-dir="+w.path("provider-state"))
	w.await(b, "providers/local.sock")
	w.plugin = w.run(b, "portcullis-node", "--endpoint=unix://"+w.path("csi.sock"), "--nodeid=bench", "--cluster-name=bench",
		"--kubelet-root="+w.path("kubelet"), "--state-dir="+w.path("state"), "--provider-volume="+w.path("providers"), "--additional-provider-volume-paths=",
		"--policy="+w.path("policy"), "--allow-unsigned-policy", "--manifests="+w.path("manifests"), "--metrics-addr=", "--health-addr=",
		"--max-node-bytes="+strconv.Itoa(1<<30))
	w.await(b, "csi.sock")
	conn, err := grpc.NewClient("unix://"+w.path("csi.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	w.node = csi.NewNodeClient(conn)
	return w
}

func (w *world) path(rel string) string { return filepath.Join(w.dir, rel) }

func (w *world) build(b *testing.B) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "go", "build", "-tags", "insecure", "-o", w.path("bin")+"/", "../../cmd/portcullis-node", "../../cmd/portcullis-provider-local")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
}

const (
	manifestHead = `{apiVersion: v1, kind: Namespace, metadata: {name: bench}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: api, namespace: bench}}
---
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: five, namespace: bench}
spec:
  provider: local
  parameters:
    objects: |
`
	podManifest = `---
apiVersion: v1
kind: Pod
metadata: {name: pod-%[1]d, namespace: bench, uid: %[2]s}
spec:
  nodeName: bench
  serviceAccountName: api
  securityContext: {fsGroup: 2000}
  containers: [{name: main, image: registry.example/main:1}]
  volumes: [{name: secrets, csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: five}}}]
`
	bundleManifest = `{"revision":"bench","roots":["portcullis"],"rego_version":1,"metadata":{"contract":"portcullis/v1","serial":1}}`
	bundleGrants   = "- id: G-1\n  owner: bench\n  expiry: 2099-12-31\n  namespaces: [bench]\n  serviceAccounts: [api]\n  provider: local\n  secrets: [\"local://node/*\"]\n"
)

func uid(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }

func (w *world) furnish(b *testing.B) {
	b.Helper()
	manifests := manifestHead
	for i := range 5 {
		manifests += fmt.Sprintf("      - objectName: s%d\n", i)
		w.write(b, fmt.Sprintf("secrets/s%d", i), strings.Repeat(string(rune('a'+i)), 3000))
	}
	for i := range pods {
		manifests += fmt.Sprintf(podManifest, i, uid(i))
		hardeningtest.VolumeDir(b, w.path("kubelet"), uid(i), "secrets")
	}
	w.write(b, "manifests/all.yaml", manifests)
	w.write(b, "policy/.manifest", bundleManifest)
	w.write(b, "policy/portcullis/grants/bench.yaml", bundleGrants)
	for _, dir := range []string{"providers", "provider-state", "state"} {
		if err := os.Mkdir(w.path(dir), 0o700); err != nil {
			b.Fatal(err)
		}
	}
}

func (w *world) write(b *testing.B, rel, text string) {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(rel)), 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(w.path(rel), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

func (w *world) run(b *testing.B, name string, args ...string) int {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), w.path("bin/"+name), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	log := &strings.Builder{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			b.Errorf("%s: %v\n%s", name, err, log)
		}
	})
	return cmd.Process.Pid
}

func (w *world) await(b *testing.B, socket string) {
	b.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, err := os.Lstat(w.path(socket)); err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("no socket %s", socket)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *world) target(i int) string {
	return filepath.Join(w.path("kubelet/pods"), uid(i), "volumes/kubernetes.io~csi/secrets/mount")
}

func (w *world) publish(b *testing.B, i int) {
	_, err := w.node.NodePublishVolume(b.Context(), &csi.NodePublishVolumeRequest{
		VolumeId: uid(i), TargetPath: w.target(i), Readonly: true,
		VolumeContext: map[string]string{
			"secretProviderClass": "five", "csi.storage.k8s.io/pod.name": fmt.Sprintf("pod-%d", i), "csi.storage.k8s.io/pod.namespace": "bench",
			"csi.storage.k8s.io/pod.uid": uid(i), "csi.storage.k8s.io/serviceAccount.name": "api", "csi.storage.k8s.io/ephemeral": "true",
		},
		VolumeCapability: &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{VolumeMountGroup: "2000"}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		},
	})
	if err != nil {
		b.Error(err)
	}
}

func (w *world) unpublish(b *testing.B, i int) {
	if _, err := w.node.NodeUnpublishVolume(b.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: uid(i), TargetPath: w.target(i)}); err != nil {
		b.Error(err)
	}
}

// cpu returns the processor time that the plugin has used (proc(5), stat).
func (w *world) cpu(b *testing.B) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.plugin))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	const ticks = 100 // USER_HZ
	return time.Duration(user+system) * time.Second / ticks
}

// BenchmarkPublish is one publish and one unpublish of five files of 3 kB with
// the local provider, so many pods at once: decided, recorded with fsync,
// fetched, delivered. cpu-ms/op is the plugin's processor time.
func BenchmarkPublish(b *testing.B) {
	for _, atOnce := range []int{1, 16, pods} {
		b.Run(strconv.Itoa(atOnce), func(b *testing.B) {
			w := newWorld(b)
			w.publish(b, 0) // connects to the provider
			w.unpublish(b, 0)
			before := w.cpu(b)
			next := make(chan int)
			var workers sync.WaitGroup
			b.ResetTimer()
			for i := range atOnce {
				workers.Go(func() {
					for range next {
						w.publish(b, i)
						w.unpublish(b, i)
					}
				})
			}
			for range b.N {
				next <- 0
			}
			close(next)
			workers.Wait()
			b.StopTimer()
			b.ReportMetric(float64((w.cpu(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}
