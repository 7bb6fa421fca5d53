//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-csi/portcullis/test/cluster/lab"
)

const (
	driverName = "secrets-store.csi.k8s.io"
	system     = "kube-system"
	daemonSet  = "csi-secrets-store"
	release    = "portcullis"
	node       = "node1"
	stateDir   = "/var/lib/portcullis"
)

// world is a cluster with the driver installed. Tests get a view of it that
// fails them.
type world struct {
	*testing.T // of the test that looks at it; nil between tests

	name   string // of the cluster
	lab    *lab.Lab
	client kubernetes.Interface
	dir    string // policy, values: private
	keys   keyPair
}

// newWorld is a cluster of the test's own, without the driver.
func newWorld(t *testing.T, name string) *world {
	t.Helper()
	w := begin(t, name)
	t.Cleanup(w.close)
	t.Cleanup(w.explain)
	return w
}

func begin(t *testing.T, name string) *world {
	t.Helper()
	shared.enter(name)          // until close
	ctx := context.Background() //nolint:usetesting // the shared cluster outlives the test that begins it
	version := os.Getenv("PORTCULLIS_E2E_KUBERNETES")
	l, err := lab.Up(ctx, lab.Config{Name: labName(name), Kubernetes: lab.Version(version), EndWithCaller: true, Progress: os.Stderr})
	if err != nil {
		shared.leave(name)
		t.Fatal(err)
	}
	w := &world{T: t, name: name, lab: l}
	if w.dir, err = os.MkdirTemp("", "portcullis-e2e"); err != nil { //nolint:usetesting // so does this
		w.close()
		t.Fatal(err)
	}
	if w.keys, err = newKeyPair(w.dir); err != nil {
		w.close()
		t.Fatal(err)
	}
	admin, err := l.Admin()
	if err == nil {
		w.client, err = kubernetes.NewForConfig(admin)
	}
	if err != nil {
		w.close()
		t.Fatal(err)
	}
	for _, image := range made.images() {
		if err := l.LoadImage(ctx, image); err != nil {
			w.close()
			t.Fatal(err)
		}
	}
	return w
}

// explain says after a failure what the system's pods look like and say.
func (w *world) explain() {
	if !w.Failed() {
		return
	}
	for _, args := range [][]string{
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "events", "-A", "--sort-by=.lastTimestamp"},
		{"describe", "pods", "-n", system},
		{"logs", "-n", system, "-l", "app=secrets-store-csi-driver", "--tail=60", "--prefix", "--all-containers"},
	} {
		out, err := w.run("", "kubectl", args...)
		w.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// labName keeps labs of two runs on one machine apart.
func labName(name string) string {
	if prefix := os.Getenv("PORTCULLIS_E2E_NAME"); prefix != "" {
		return prefix + "-" + name
	}
	return name
}

func (w *world) close() {
	defer shared.leave(w.name)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := errors.Join(w.lab.Down(ctx), os.RemoveAll(w.dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, "end of the cluster:", err)
	}
}

// installAll installs the driver as the documents say, with a policy that
// grants namespaces with the label of grantedLabel what is below app/, and
// waits until kubelet knows the driver. The flags of helm are added to those of
// every installation.
func (w *world) installAll(settings ...string) {
	w.Helper()
	w.publishPolicy(w.policy(nil))
	w.writeSecret("app/password", "first")
	w.writeSecret("app/user", "scott")
	w.helm(append([]string{"install", release, made.chart(), "--namespace", system, "--wait", "--timeout", "120s"}, append(w.values(), settings...)...)...)
	w.eventually(30*time.Second, "the driver is registered", w.registration)
}

// registration is nil if kubelet knows the driver.
func (w *world) registration() error {
	out, err := w.run("", "kubectl", "get", "csinode", node, "-o", "jsonpath={.spec.drivers[*].name}")
	if err != nil {
		return err
	}
	if !strings.Contains(out, driverName) {
		return fmt.Errorf("the node has the drivers %q", out)
	}
	return nil
}

// run runs a program inside the node, with the administrator's KUBECONFIG.
func (w *world) run(stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := w.lab.Command(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

func (w *world) must(stdin, name string, args ...string) string {
	w.Helper()
	out, err := w.run(stdin, name, args...)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// kubectl runs kubectl as the administrator and returns its output.
func (w *world) kubectl(args ...string) string { w.Helper(); return w.must("", "kubectl", args...) }

// apply applies manifests.
func (w *world) apply(manifests string) { w.Helper(); w.must(manifests, "kubectl", "apply", "-f", "-") }

// helm runs the helm command line.
func (w *world) helm(args ...string) string { w.Helper(); return w.must("", made.helm, args...) }

// cli runs the portcullis command line on the node.
func (w *world) cli(args ...string) (string, error) { return w.run("", made.portcullis, args...) }

// onHost runs a program outside of the node.
func (w *world) onHost(name string, args ...string) string {
	w.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(w.Context()), name, args...).CombinedOutput()
	if err != nil {
		w.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// eventually asks until the answer is nil, and fails the test with the last one. It
// waits for four times as long as an answer took, between a tenth of a second and a
// whole one: a kubectl that starts ten times a second takes a processor for itself.
func (w *world) eventually(limit time.Duration, what string, ask func() error) {
	w.Helper()
	deadline := time.Now().Add(limit)
	for {
		asked := time.Now()
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(min(max(4*time.Since(asked), 100*time.Millisecond), time.Second))
	}
}
