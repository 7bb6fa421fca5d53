package main_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	portcullis "github.com/portcullis-csi/portcullis/cmd/portcullis"
)

const ourDriver = "secrets-store.csi.k8s.io"

// servePods is an API server that has these pods, two on a page, and returns a
// kubeconfig for it. A code other than 200 is all that it answers.
func servePods(t *testing.T, code int, pods ...corev1.Pod) string {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/pods" || r.Method != http.MethodGet {
			t.Errorf("asked for %s %s, want nothing but the list of pods", r.Method, r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
		first := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("continue"), &first)
		list.Items = pods[first:min(first+2, len(pods))]
		if first+2 < len(pods) {
			list.Continue = fmt.Sprint(first + 2)
		}
		if err := json.NewEncoder(w).Encode(list); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	file := clientcmdapi.NewConfig()
	file.Clusters["c"] = &clientcmdapi.Cluster{
		Server: server.URL, CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	file.AuthInfos["c"] = &clientcmdapi.AuthInfo{Token: "token"}
	file.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "c"}
	file.CurrentContext = "c"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func user(namespace, name string, changes ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:   corev1.PodSpec{Volumes: []corev1.Volume{{Name: "s", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: ourDriver}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, change := range changes {
		change(&p)
	}
	return p
}

func ownedBy(kind, name, hash string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: name, UID: "1", Controller: new(true)}}
		if hash != "" {
			p.Labels = map[string]string{"pod-template-hash": hash}
		}
	}
}

func phase(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}

func beingDeleted(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.Now()) }

func ofDriver(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.Driver = name }
}

// uninstallCheck runs the command and returns what it printed.
func uninstallCheck(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := portcullis.Command()
	cmd.SetOut(&out)
	cmd.SetArgs(append([]string{"uninstall-check"}, args...))
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestUninstallCheck(t *testing.T) {
	tests := map[string]struct {
		pods []corev1.Pod
		args []string
		want string // printed
		says string // of the error; "" for none
	}{
		"nobody": {want: "no pod uses the driver " + ourDriver + "\n"},
		"others": {
			pods: []corev1.Pod{
				user("a", "other", ofDriver("other.csi.example")), user("a", "done", phase(corev1.PodSucceeded)), user("a", "failed", phase(corev1.PodFailed)),
				user("a", "none", func(p *corev1.Pod) { p.Spec.Volumes = nil }),
			},
			want: "no pod uses the driver " + ourDriver + "\n",
		},
		"another driver by name": {
			pods: []corev1.Pod{user("a", "ours"), user("a", "other", ofDriver("other.csi.example"))}, args: []string{"--driver=other.csi.example"},
			want: "namespace a\n  no owner: 1 pod\n    other\n", says: "1 pod has a volume of the driver other.csi.example: a/other",
		},
		"one that ended and waits for the plugin": {
			pods: []corev1.Pod{user("a", "stuck", phase(corev1.PodFailed), beingDeleted)},
			want: "namespace a\n  no owner: 1 pod\n    stuck\n", says: "1 pod has a volume of the driver " + ourDriver + ": a/stuck",
		},
		"owners over pages": {
			pods: []corev1.Pod{
				user("payments", "api-7d9f-a", ownedBy("ReplicaSet", "api-7d9f", "7d9f")), user("payments", "api-7d9f-b", ownedBy("ReplicaSet", "api-7d9f", "7d9f")),
				user("payments", "db-0", ownedBy("StatefulSet", "db", "")), user("payments", "old-x", ownedBy("ReplicaSet", "old", "")), user("shop", "cart"),
			},
			want: "namespace payments\n  Deployment/api: 2 pods\n    api-7d9f-a\n    api-7d9f-b\n  StatefulSet/db: 1 pod\n    db-0\n  ReplicaSet/old: 1 pod\n    old-x\n" +
				"namespace shop\n  no owner: 1 pod\n    cart\n",
			says: "5 pods have volumes of the driver " + ourDriver + ": payments/api-7d9f-a, payments/api-7d9f-b, payments/db-0, payments/old-x, shop/cart",
		},
		"text that is no name": {
			pods: []corev1.Pod{user("a", "p", ownedBy("Set\x1b[2J", "x", ""))},
			want: "namespace a\n  Set\\x1b[2J/x: 1 pod\n    p\n", says: "1 pod has a volume",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := uninstallCheck(t, append([]string{"--kubeconfig", servePods(t, http.StatusOK, tt.pods...)}, tt.args...)...)
			if got != tt.want {
				t.Errorf("printed %q, want %q", got, tt.want)
			}
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("uninstall-check = %v, want %q", err, tt.says)
			}
		})
	}
}

func TestUninstallCheckNamesFiftyPods(t *testing.T) {
	var pods []corev1.Pod
	for i := range 120 {
		pods = append(pods, user(fmt.Sprintf("ns-%d", i/40), fmt.Sprintf("pod-%03d", i)))
	}
	got, err := uninstallCheck(t, "--kubeconfig", servePods(t, http.StatusOK, pods...))
	if n := strings.Count(got, "    pod-"); n != 50 || !strings.HasSuffix(got, "\nand 70 more pods\n") {
		t.Errorf("printed %d names, and at the end %q, want 50 and the number of the others", n, got[max(0, len(got)-40):])
	}
	if err == nil || !strings.HasPrefix(err.Error(), "120 pods have volumes") || !strings.HasSuffix(err.Error(), "ns-0/pod-009 and 110 more") {
		t.Errorf("uninstall-check = %v, want 120 pods, ten of them by name", err)
	}
}

// TestUninstallCheckInDoubt: who cannot look must not say that nobody is there.
func TestUninstallCheckInDoubt(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	for name, args := range map[string][]string{
		"forbidden":     {"--kubeconfig", servePods(t, http.StatusForbidden)},
		"server error":  {"--kubeconfig", servePods(t, http.StatusInternalServerError)},
		"no kubeconfig": nil,
		"no such file":  {"--kubeconfig", filepath.Join(t.TempDir(), "none")},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := uninstallCheck(t, args...); err == nil || got != "" {
				t.Errorf("uninstall-check = %q, %v, want an error and nothing printed", got, err)
			}
			if code := portcullis.Run(append([]string{"uninstall-check"}, args...)); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
		})
	}
	if code := portcullis.Run([]string{"uninstall-check", "now"}); code == 0 {
		t.Error("an argument that means nothing is accepted")
	}
}

func TestUninstallCheckTerminationLog(t *testing.T) {
	var pods []corev1.Pod
	for i := range 60 {
		pods = append(pods, user(strings.Repeat("n", 63), fmt.Sprintf("%s-%d", strings.Repeat("p", 240), i)))
	}
	config := servePods(t, http.StatusOK, pods...)
	file := filepath.Join(t.TempDir(), "termination-log")
	if _, err := uninstallCheck(t, "--kubeconfig", config, "--termination-log", file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("uninstall-check = %v, want that the file is not there: kubelet makes it", err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := uninstallCheck(t, "--kubeconfig", config, "--termination-log", file)
	text, readErr := os.ReadFile(file)
	if err == nil || readErr != nil || !strings.HasPrefix(string(text), "60 pods have volumes") || !strings.Contains(string(text), "\nhint: delete them") || len(text) > 4096 {
		t.Errorf("termination message of %d bytes %.80q, %v, want at most 4096 with the pods and the remedy", len(text), text, readErr)
	}
	quiet := filepath.Join(t.TempDir(), "quiet")
	if _, err := uninstallCheck(t, "--kubeconfig", servePods(t, http.StatusOK), "--termination-log", quiet); err != nil {
		t.Errorf("uninstall-check = %v, want success, which says nothing to kubelet", err)
	}
}
