//go:build integration

package admissionpolicy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/doctor/refusals"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: Metadata
  verbs: [create]
  resources: [{group: "", resources: [pods]}]
- level: None
`

// TestAuditLog: what is denied and what is warned of is in the API server's audit log.
func TestAuditLog(t *testing.T) {
	dir := t.TempDir()
	policy, log := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, clustertest.Options{Args: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + log, "--audit-log-mode=blocking-strict"}})
	p := pod("payments", hostPath("/proc"), writable)
	w.settles(t, outcome{denied: []string{refusals.VolumesReadOnly}, warned: []string{refusals.HostPaths}}, w.dry(t, p))
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	var event struct{ Annotations map[string]string }
	if err := json.Unmarshal(lines[len(lines)-1], &event); err != nil {
		t.Fatal(err)
	}
	failure := event.Annotations["validation.policy.admission.k8s.io/validation_failure"]
	for _, want := range []string{refusals.VolumesReadOnly, refusals.HostPaths, "lacks readOnly: true", "/proc"} {
		if !strings.Contains(failure, want) {
			t.Errorf("audit annotation = %q, want %q in it", failure, want)
		}
	}
}

// TestModesOfTheChart: off takes a policy away whole, and what is always demanded
// has no value.
func TestModesOfTheChart(t *testing.T) {
	always := []string{"portcullis-no-persistent-volumes", "portcullis-status-of-own-node", "portcullis-volumes-read-only", "portcullis-volumes-read-only-templates"}
	for _, tt := range []struct {
		off  string
		want []string
	}{
		{"privileged=off,admissionPolicies.ephemeralContainers=off,admissionPolicies.hostPaths=off", always},
		{"privileged=off", append([]string{"portcullis-ephemeral-containers", "portcullis-host-paths", "portcullis-host-paths-templates"}, always...)},
		{"ephemeralContainers=off", append([]string{"portcullis-host-paths", "portcullis-host-paths-templates", "portcullis-privileged", "portcullis-privileged-templates"}, always...)},
		{"hostPaths=off", append([]string{"portcullis-ephemeral-containers", "portcullis-privileged", "portcullis-privileged-templates"}, always...)},
	} {
		var bindings, bound, made []string
		for _, o := range policies(render(t, false, "admissionPolicies."+tt.off)) {
			if o.GetKind() == "ValidatingAdmissionPolicy" {
				made = append(made, o.GetName())
				continue
			}
			spec, _ := o.Object["spec"].(map[string]any)
			bindings, bound = append(bindings, o.GetName()), append(bound, fmt.Sprint(spec["policyName"]))
		}
		slices.Sort(bindings)
		slices.Sort(tt.want)
		if diff := cmp.Diff(tt.want, bindings); diff != "" {
			t.Errorf("%s: bindings (-want +got):\n%s", tt.off, diff)
		}
		slices.Sort(made)
		slices.Sort(bound)
		if diff := cmp.Diff(made, slices.Compact(bound)); diff != "" {
			t.Errorf("%s: policies and those that are bound (-policies +bound):\n%s", tt.off, diff)
		}
	}
}

// TestDirectoriesOfTheNode: paths follow the values.
func TestDirectoriesOfTheNode(t *testing.T) {
	w := newWorld(t, clustertest.Options{},
		"linux.kubeletRootDir=/data/kubelet,stateDir=/data/state,linux.providersDir=/run/providers,linux.additionalProvidersDirs={/data/more},localProvider.enabled=true,localProvider.dir=/data/local")
	s := refusals.Settings{
		Driver: driver, KubeletRoot: "/data/kubelet", StateDir: "/data/state",
		SocketDirs: []string{"/run/providers", "/data/more", "/data/local"},
	}
	w.settles(t, outcome{warned: []string{refusals.HostPaths}}, w.dry(t, pod("payments", hostPath("/data"))))
	for path, want := range map[string]bool{
		"/data/kubelet/pods": true, "/data/state/audit": true, "/run/providers": true, "/var/run/providers/x.sock": true, "/data/more": true, "/data/local/secrets": true, "/proc": true,
		"/data/kubelet/plugins/csi-secrets-store": true, "/var/lib/kubelet/pods": false, "/var/lib/portcullis": false,
		"/var/run/secrets-store-csi-providers": false, "/etc/kubernetes": false, "/data/else": false,
	} {
		p := pod("payments", noVolume, hostPath(path))
		if got := w.try(w.dry(t, p)); got.other != nil || (len(got.warned) == 1) != want {
			t.Errorf("%q: outcome = %v, want that it reaches: %t", path, got, want)
		}
		if got := len(refusals.Of(p, s)) > 0; got != want {
			t.Errorf("%q: refusals.Of() finds it to reach: %t, want %t", path, got, want)
		}
	}
}

// TestUninstallCheck runs what the chart's hook runs, with the hook's own account.
func TestUninstallCheck(t *testing.T) {
	w := newWorld(t, clustertest.Options{})
	hooks := render(t, true)
	var kinds []string
	for i, o := range hooks {
		if kinds = append(kinds, o.GetKind()); o.GetKind() != "Job" {
			w.Apply(t, manifest(t, hooks[i:i+1]))
		}
	}
	if diff := cmp.Diff([]string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job"}, kinds); diff != "" {
		t.Fatalf("hooks (-want +got):\n%s", diff)
	}
	binary := filepath.Join(t.TempDir(), "portcullis")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/portcullis").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	config := w.Kubeconfig(t, w.As(t, release, "portcullis-uninstall-check"))
	check := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), binary, "uninstall-check", "--kubeconfig", config).CombinedOutput()
		return string(out), err
	}
	// The role comes into force a moment after it was made.
	out, err := check()
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); out, err = check() {
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil || !strings.Contains(out, "no pod uses the driver "+driver) {
		t.Fatalf("uninstall-check = %v, %q, want that no pod is there", err, out)
	}
	for i := range 300 { // more than a page
		p := pod("agents", noVolume)
		p.Name = fmt.Sprintf("other-%d", i)
		w.CreatePod(t, p)
	}
	ours := w.CreatePod(t, pod("payments"))
	out, err = check()
	if err == nil || !strings.Contains(out, "1 pod has a volume of the driver "+driver+": payments/api-0") || !strings.Contains(out, "hint: ") {
		t.Errorf("uninstall-check = %v, %q, want that it names payments/api-0", err, out)
	}
	ours.Status.Phase = corev1.PodSucceeded
	if _, err := w.Client.CoreV1().Pods("payments").UpdateStatus(t.Context(), ours, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if out, err = check(); err != nil {
		t.Errorf("uninstall-check = %v, %q, want that a pod that has ended does not count", err, out)
	}
	nobody := w.Kubeconfig(t, w.As(t, release, "default"))
	text, err := exec.CommandContext(t.Context(), binary, "uninstall-check", "--kubeconfig", nobody).CombinedOutput()
	if err == nil || !strings.Contains(string(text), "403") {
		t.Errorf("uninstall-check without the right = %v, %q, want a refusal", err, text)
	}
	if forced := render(t, true, "uninstall.force=true"); len(forced) > 0 {
		t.Errorf("with uninstall.force there are %d hooks, want none", len(forced))
	}
}

// TestNamespaceCannotExemptItself: exemptions go by a label that the API server sets,
// whatever the owner of a namespace writes there.
func TestNamespaceCannotExemptItself(t *testing.T) {
	w := newWorld(t, clustertest.Options{}, modes("deny"))
	p := pod("payments", privileged)
	denied := outcome{denied: []string{refusals.Privileged}}
	w.settles(t, denied, w.dry(t, p))
	for _, label := range []string{`"agents"`, `null`, `""`} {
		patch := `{"metadata":{"labels":{"kubernetes.io/metadata.name":` + label + `}}}`
		_, err := w.as.CoreV1().Namespaces().Patch(t.Context(), "payments", "application/merge-patch+json", []byte(patch), metav1.PatchOptions{})
		t.Logf("label %s: %v", label, err)
		if got := w.try(w.dry(t, p)); !got.matches(denied) {
			t.Errorf("after the label %s: outcome = %v, want %v", label, got, denied)
		}
	}
}
