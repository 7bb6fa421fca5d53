//go:build e2e

package lab_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/test/cluster/lab"
)

// version is that of the labs in these tests: PORTCULLIS_E2E_KUBERNETES=1.35
// tests another.
func version() lab.Version { return lab.Version(os.Getenv("PORTCULLIS_E2E_KUBERNETES")) }

// up starts a lab of its own, which ends with the test.
func up(t *testing.T, c lab.Config) *lab.Lab {
	t.Helper()
	hardeningtest.NeedRoot(t)
	c.Kubernetes, c.EndWithCaller, c.Progress = version(), true, os.Stderr
	if c.Limit == 0 {
		c.Limit = 20 * time.Minute
	}
	begin := time.Now()
	l, err := lab.Up(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up after %v", time.Since(begin).Round(10*time.Millisecond))
	t.Cleanup(func() {
		begin := time.Now()
		if err := l.Down(context.Background()); err != nil { //nolint:usetesting // the test's context has ended
			t.Errorf("Down() = %v, want nil", err)
		}
		t.Logf("down after %v", time.Since(begin).Round(10*time.Millisecond))
	})
	return l
}

// cluster is a lab and a client of its API server.
type cluster struct {
	*lab.Lab
	client kubernetes.Interface
}

func clientOf(t *testing.T, l *lab.Lab) cluster {
	t.Helper()
	config, err := l.Admin()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return cluster{l, client}
}

// pod is one of busybox that runs a shell command.
func pod(name, script string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64),
			Containers:                    []corev1.Container{{Name: "main", Image: lab.BusyboxImage, Command: []string{"sh", "-c", script}}},
		},
	}
}

// run creates a pod and waits until it is Ready.
func (c cluster) run(t *testing.T, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	if _, err := c.client.CoreV1().Pods(p.Namespace).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var got *corev1.Pod
	await(t, "pod "+p.Name+" is Ready", func() (err error) {
		if got, err = c.client.CoreV1().Pods(p.Namespace).Get(t.Context(), p.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		for _, condition := range got.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return errors.New(got.Status.String())
	})
	return got
}

// await calls a function until it returns nil.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s: %v", what, err)
		}
	}
}

func (c cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := c.Command(t.Context(), "kubectl", args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %q = %v: %s", args, err, errs.String())
	}
	return string(out)
}

// TestLab: what other tests build on, in one lab.
func TestLab(t *testing.T) {
	c := clientOf(t, up(t, lab.Config{Name: "test-lab"}))

	t.Run("a second one of the name is refused", func(t *testing.T) {
		_, err := lab.Up(t.Context(), lab.Config{Name: "test-lab", Kubernetes: version()})
		if err == nil || !strings.Contains(err.Error(), "up already; hint: ") {
			t.Errorf("Up(a lab that is up) = %v, want an error with the remedy", err)
		}
		if again, err := lab.Open("test-lab"); err != nil || again.Root() != c.Root() {
			t.Errorf("Open() = %v, want the same lab", err)
		}
	})
	t.Run("pods run, and speak", func(t *testing.T) {
		c.run(t, pod("plain", "echo said; sleep 1000"))
		if got := c.kubectl(t, "logs", "plain"); got != "said\n" {
			t.Errorf("kubectl logs = %q, want what the pod said", got)
		}
		if got := c.kubectl(t, "exec", "plain", "--", "id", "-u"); got != "0\n" {
			t.Errorf("kubectl exec = %q, want 0", got)
		}
		alias := pod("alias", "sleep 1000")
		alias.Spec.Containers[0].Image = "busybox:1.37"
		c.run(t, alias)
	})
	t.Run("pods have user namespaces", func(t *testing.T) {
		p := pod("userns", "cat /proc/self/uid_map; sleep 1000")
		p.Spec.HostUsers = new(false)
		c.run(t, p)
		if got := strings.Fields(c.kubectl(t, "logs", "userns")); len(got) != 3 || got[0] != "0" || got[1] == "0" || got[2] != "65536" {
			t.Errorf("the pod's user namespace is %q, want 65536 IDs that are not the node's", got)
		}
	})
	t.Run("the node cannot reach the machine or beyond", func(t *testing.T) {
		out, err := c.Command(t.Context(), "ip", "-brief", "link").CombinedOutput()
		if links := regexp.MustCompile(`(?m)^(lo|node0|cni0|veth\w+@if2) .*\n`).ReplaceAllString(string(out), ""); err != nil || len(out) == 0 || links != "" {
			t.Errorf("the node has the links %q, %v, want its own and those of pods", links, err)
		}
		if _, err := c.Dial(t.Context(), "tcp", "kubernetes:443"); err == nil || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("Dial(a name) = %v, want an error with a hint", err)
		}
	})
	t.Run("pods reach what this process serves in the node's network", func(t *testing.T) { c.served(t) })
	t.Run("a static pod is taken from its directory", func(t *testing.T) { c.staticPod(t) })
	t.Run("the audit log says who called what", func(t *testing.T) {
		await(t, "the audit log has the pod's creation", func() error {
			text, err := os.ReadFile(c.AuditLog())
			if err == nil && !strings.Contains(string(text), `"verb":"create","user":{"username":"kubernetes-admin"`) {
				err = errors.New("no creation in it")
			}
			return err
		})
	})
	t.Run("daemons come back", func(t *testing.T) { c.restarts(t) })
}

func (c cluster) staticPod(t *testing.T) {
	const manifest = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "static"}, "spec": {"terminationGracePeriodSeconds": 0,
		"containers": [{"name": "main", "image": "` + lab.BusyboxImage + `", "command": ["sleep", "1000"]}]}}`
	path := c.Path(lab.StaticPods + "/static.json")
	if err := os.WriteFile(path, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "the mirror pod runs", func() error {
		p, err := c.client.CoreV1().Pods("default").Get(t.Context(), "static-"+c.NodeName(), metav1.GetOptions{})
		if err == nil && p.Status.Phase != corev1.PodRunning {
			err = errors.New(p.Status.String())
		}
		return err
	})
	if _, err := os.Stat(lab.StaticPods + "/static.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the manifest is on the machine: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// restarts kills each daemon under a pod that runs.
func (c cluster) restarts(t *testing.T) {
	before := c.run(t, pod("survivor", "sleep 1000"))
	for _, name := range []string{lab.Kubelet, lab.Containerd, lab.APIServer, lab.Etcd, lab.Scheduler, lab.ControllerManager} {
		pids, err := c.Pids(t.Context())
		if err != nil || pids[name] == 0 {
			t.Fatalf("Pids() = %v, %v, want %s among them", pids, err, name)
		}
		if err := c.Restart(t.Context(), name, 200*time.Millisecond, syscall.SIGKILL); err != nil {
			t.Fatalf("Restart(%s) = %v, want nil", name, err)
		}
		if after, err := c.Pids(t.Context()); err != nil || after[name] == 0 || after[name] == pids[name] {
			t.Errorf("after Restart(%s) it is process %d, %v, want another than %d", name, after[name], err, pids[name])
		}
		if err := c.WaitAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Stop(t.Context(), lab.APIServer); err != nil {
		t.Fatal(err)
	}
	if _, err := c.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("List(pods) without an API server = nil, want an error")
	}
	if err := c.Start(t.Context(), lab.APIServer); err != nil {
		t.Fatal(err)
	}
	for _, wait := range []func(context.Context) error{c.WaitAPIServer, c.WaitReady} {
		if err := wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.run(t, pod("newcomer", "sleep 1000"))
	after, err := c.client.CoreV1().Pods("default").Get(t.Context(), "survivor", metav1.GetOptions{})
	if err != nil || after.UID != before.UID || len(after.Status.ContainerStatuses) != 1 || after.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("the pod that ran is %v, %v, want it to run on", after.Status, err)
	}
	if text, err := os.ReadFile(c.Log(lab.Kubelet)); err != nil || strings.Count(string(text), "Started kubelet") < 2 {
		t.Errorf("kubelet's log does not tell of two starts (%v)", err)
	}
}

// served: a pod reads what is served from outside the node, at the node's address.
func (c cluster) served(t *testing.T) {
	if _, err := c.Listen(t.Context(), "tcp", "kubernetes:0"); err == nil || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("Listen(a name) = %v, want an error with a hint", err)
	}
	l, err := c.Listen(t.Context(), "tcp", net.JoinHostPort(c.NodeAddress(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "from outside\n") })}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	c.run(t, pod("reads", "wget -q -O - http://"+l.Addr().String()+"/; sleep 1000"))
	await(t, "the pod reads what is served", func() error {
		if got := c.kubectl(t, "logs", "reads"); strings.TrimSpace(got) != "from outside" {
			return fmt.Errorf("it reads %q", got)
		}
		return nil
	})
}
