package conformance_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	driverName = "secrets-store.csi.k8s.io"
	nodeName   = "node-1"
	namespace  = "payments"
	account    = "api"
	class      = "db"
	patience   = 60 * time.Second // for a process to start or to stop, on a busy machine
)

// world is the node plugin and a provider, running, with a directory for all
// they see of a node and a cluster.
type world struct {
	t    *testing.T
	dir  string
	conn *grpc.ClientConn
	node csi.NodeClient
	pods *int // made so far
}

// in returns the world for a subtest.
func (w *world) in(t *testing.T) *world {
	inner := *w
	inner.t = t
	return &inner
}

// newWorld starts both programs; flags are more of the plugin's.
func newWorld(t *testing.T, flags ...string) *world {
	t.Helper()
	needRoot(t)
	w := &world{t: t, dir: t.TempDir(), pods: new(int)}
	bin := w.build()
	w.furnish()
	provider := w.start(filepath.Join(bin, "portcullis-provider-local"), "--endpoint="+w.endpoint("providers/local.sock"),
		"--root="+w.path("secrets"), "--state-dir="+w.path("provider-state"))
	w.await(provider, "providers/local.sock")
	plugin := w.start(filepath.Join(bin, "portcullis-node"), append([]string{
		"--endpoint=" + w.endpoint("csi.sock"), "--drivername=" + driverName, "--nodeid=" + nodeName, "--cluster-name=conformance",
		"--kubelet-root=" + w.path("kubelet"), "--state-dir=" + w.path("state"), "--provider-volume=" + w.path("providers"),
		"--additional-provider-volume-paths=", "--policy=" + w.path("policy"), "--allow-unsigned-policy", "--manifests=" + w.path("manifests"),
		"--metrics-addr=", "--health-addr=",
	}, flags...)...)
	w.await(plugin, "csi.sock")
	conn, err := grpc.NewClient(w.endpoint("csi.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w.conn, w.node = conn, csi.NewNodeClient(conn)
	return w
}

func (w *world) path(rel string) string     { return filepath.Join(w.dir, rel) }
func (w *world) endpoint(rel string) string { return "unix://" + w.path(rel) }

// build makes the programs as make build does, in the same place: what is up
// to date there is not linked again.
func (w *world) build() (bin string) {
	w.t.Helper()
	const root = "../.."
	cmd := exec.CommandContext(w.t.Context(), "go", "build", "-trimpath", "-tags", "insecure", "-o", "bin/insecure/",
		"./cmd/portcullis-node", "./cmd/portcullis-provider-local")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("go build: %v\n%s", err, out)
	}
	return filepath.Join(root, "bin/insecure")
}

// secrets are what the provider serves, by file name in the volume.
func secrets() map[string]string {
	return map[string]string{"password": "swordfish-3c1f", "user": "app"}
}

func (w *world) furnish() {
	w.t.Helper()
	objects := fmt.Sprintf(`{apiVersion: v1, kind: Namespace, metadata: {name: %[1]s}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: %[2]s, namespace: %[1]s}}
---
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: %[3]s, namespace: %[1]s}
spec:
  provider: local
  parameters:
    objects: |
`, namespace, account, class)
	for name, value := range secrets() {
		objects += fmt.Sprintf("      - objectName: payments/%[1]s\n        objectAlias: %[1]s\n", name)
		w.write("secrets/payments/"+name, value)
	}
	w.write("manifests/objects.yaml", objects)
	w.write("policy/.manifest", `{"revision":"test","roots":["portcullis"],"rego_version":1,"metadata":{"contract":"portcullis/v1","serial":1}}`)
	w.write("policy/portcullis/grants/grants.yaml", fmt.Sprintf(`- id: G-1
  owner: team-payments
  expiry: 2126-12-31
  namespaces: [%s]
  serviceAccounts: [%s]
  provider: local
  secrets: ["local://node/payments/*"]
`, namespace, account))
	for _, dir := range []string{"providers", "provider-state", "state", "kubelet/pods"} {
		if err := os.MkdirAll(w.path(dir), 0o700); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) write(rel, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(rel)), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(rel), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// process is one of the programs, running.
type process struct {
	cmd   *exec.Cmd
	log   string        // its standard error
	ended chan struct{} // closed when it has ended
	err   error         // set before ended is closed
}

func (w *world) start(program string, args ...string) *process {
	w.t.Helper()
	p := &process{log: w.path(filepath.Base(program) + ".log"), ended: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(program, args...) // no context: it has to stop in its own way
	p.cmd.Stderr = log
	// It does not outlive a test that is killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	w.t.Cleanup(func() { w.stop(p) })
	return p
}

// stop ends a process as an orderly shutdown does: it must then report success.
func (w *world) stop(p *process) {
	select {
	case <-p.ended:
		w.t.Errorf("%s ended by itself: %v", p.cmd.Path, p.err)
	default:
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			w.t.Errorf("stop %s: %v", p.cmd.Path, err)
		}
		select {
		case <-p.ended:
			if p.err != nil {
				w.t.Errorf("%s stopped: %v, want no error", p.cmd.Path, p.err)
			}
		case <-time.After(patience):
			w.t.Errorf("%s did not stop within %v: %v", p.cmd.Path, patience, p.cmd.Process.Kill())
		}
	}
	if w.t.Failed() {
		text, err := os.ReadFile(p.log)
		w.t.Logf("log of %s (%v):\n%s", p.cmd.Path, err, text)
	}
}

// await waits until a process answers on its socket.
func (w *world) await(p *process, socket string) {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		conn, err := new(net.Dialer).DialContext(w.t.Context(), "unix", w.path(socket))
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-p.ended:
			w.t.Fatalf("%s ended before it listened on %s", p.cmd.Path, socket)
		case <-deadline:
			w.t.Fatalf("%s does not listen within %v: %v", p.cmd.Path, patience, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// mounts returns the lines of the mount table for exactly this target.
func mounts(t *testing.T, target string) (lines []string) {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		// mountinfo: id, parent, device, root, mount point (proc_pid_mountinfo(5)).
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == target {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
