//go:build integration

package clustertest_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
	"github.com/portcullis-csi/portcullis/test/cluster/controlplane"
)

// TestCluster: what the other tests build on.
func TestCluster(t *testing.T) {
	begin := time.Now()
	c := clustertest.Start(t, clustertest.Options{})
	t.Logf("ready after %v", time.Since(begin).Round(10*time.Millisecond))
	c.CreateNamespace(t, "payments", map[string]string{"tier": "prod"})
	c.CreateServiceAccount(t, "payments", "api")
	pod := c.CreatePod(t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "api-0"},
		Spec: corev1.PodSpec{
			ServiceAccountName: "api", NodeName: "node1",
			Containers: []corev1.Container{{Name: "main", Image: "registry.example/api:1"}},
		},
	})

	t.Run("RBAC is real", func(t *testing.T) {
		client, err := kubernetes.NewForConfig(c.As(t, "payments", "api"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.CoreV1().Pods("payments").Get(t.Context(), "api-0", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("Get(pod) as a service account without rights = %v, want forbidden", err)
		}
	})
	t.Run("tokens are bound", func(t *testing.T) {
		token := c.BoundToken(t, pod, "vault")
		if n := strings.Count(token, "."); n != 2 {
			t.Errorf("BoundToken() has %d dots, want 2", n)
		}
	})
	t.Run("the API server comes back with what it had", func(t *testing.T) {
		c.StopAPIServer()
		if _, err := c.Client.CoreV1().Pods("payments").Get(t.Context(), "api-0", metav1.GetOptions{}); err == nil {
			t.Error("Get(pod) while the API server is down = nil, want an error")
		}
		c.Restart(t)
		got, err := c.Client.CoreV1().Pods("payments").Get(t.Context(), "api-0", metav1.GetOptions{})
		if err != nil || got.UID != pod.UID {
			t.Errorf("Get(pod) after a restart = %s, %v, want UID %s", got.UID, err, pod.UID)
		}
	})
	c.DeletePod(t, pod)
	if _, err := c.Client.CoreV1().Pods("payments").Get(t.Context(), "api-0", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("Get(deleted pod) = %v, want not found", err)
	}
}

const envChild = "PORTCULLIS_TEST_CHILD"

// TestNothingOutlivesItsCaller: a test that is killed leaves no API server.
func TestNothingOutlivesItsCaller(t *testing.T) {
	if os.Getenv(envChild) != "" {
		c := clustertest.Start(t, clustertest.Options{})
		fmt.Println("host " + c.Admin().Host)
		select {}
	}
	child := exec.Command(os.Args[0], "-test.run=^TestNothingOutlivesItsCaller$")
	child.Env = append(os.Environ(), envChild+"=1", "TMPDIR="+t.TempDir())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var host string
	if _, err := fmt.Fscanf(out, "host https://%s\n", &host); err != nil {
		t.Fatalf("Fscanf(output of the child) = %v, want its host", err)
	}
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			return
		}
		_ = conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("the API server answers 10 s after its caller was killed")
		}
	}
}

// TestOneBuildServesAll: the second call finds what the first has made.
func TestOneBuildServesAll(t *testing.T) {
	var said strings.Builder
	first, err := controlplane.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	second, err := controlplane.Build(t.Context(), &said)
	if err != nil || second != first || said.Len() > 0 {
		t.Errorf("Build() again = %q, %v, said %q, want %q and nothing said", second, err, said.String(), first)
	}
}
