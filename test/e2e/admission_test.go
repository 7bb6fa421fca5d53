//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/doctor"
)

// said runs kubectl and returns both what it prints and what it warns of.
func (w *world) said(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := w.lab.Command(ctx, "kubectl", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// refuses fails the test unless the API server refuses what is applied, with
// each of the texts.
func (w *world) refuses(object string, texts ...string) {
	w.Helper()
	out, err := w.said(object, "apply", "-f", "-")
	if err == nil {
		w.Errorf("kubectl apply was not refused: %s", out)
	}
	w.holds(out, texts...)
}

// warns fails the test unless kubectl does this, with each of the texts as a
// warning.
func (w *world) warns(object string, args []string, texts ...string) {
	w.Helper()
	out, err := w.said(object, args...)
	if err != nil {
		w.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	w.holds(out, append(texts, "Warning: ", "; hint: ")...)
}

func (w *world) holds(out string, texts ...string) {
	w.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			w.Errorf("there is no %q in:\n%s", text, out)
		}
	}
}

// manifest is a pod as somebody would apply it.
func manifest(p *corev1.Pod) string {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // of a literal of the tests
	}
	return string(text)
}

// A volume that could be written is refused when it is applied, with what to do.
func TestVolumesThatCouldBeWrittenAreRefused(t *testing.T) {
	w := inTurn(t, rights)
	p := pod(w.namespace("written"), "writes")
	p.Spec.Volumes[0].CSI.ReadOnly = nil
	w.refuses(manifest(p), "portcullis-volumes-read-only", "volume secrets of the driver secrets-store.csi.k8s.io lacks readOnly: true", "hint: add readOnly: true below csi:")
	p.Spec.Volumes[0].CSI.ReadOnly = new(false)
	w.refuses(manifest(p), "portcullis-volumes-read-only")
	// Who applies a workload of such pods gets a warning at once.
	template, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{"app": "writes"}}, "spec": p.Spec})
	if err != nil {
		t.Fatal(err)
	}
	w.warns(fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"writes","namespace":"written"},`+
		`"spec":{"replicas":0,"selector":{"matchLabels":{"app":"writes"}},"template":%s}}`, template), []string{"apply", "-f", "-"}, "portcullis-volumes-read-only")
}

// A persistent volume of the driver has no pod to grant anything to.
func TestPersistentVolumesOfTheDriverAreRefused(t *testing.T) {
	w := inTurn(t, rights)
	w.refuses(`apiVersion: v1
kind: PersistentVolume
metadata: {name: ours}
spec:
  capacity: {storage: 1Mi}
  accessModes: [ReadOnlyMany]
  csi: {driver: secrets-store.csi.k8s.io, volumeHandle: ours, readOnly: true}
`, "portcullis-no-persistent-volumes", "has no persistent volumes", "hint: write the volume into the pod")
}

// The plugin writes the status of its own node, whatever its account may: tried
// with the token of the plugin that runs.
func TestPluginWritesTheStatusOfItsOwnNodeOnly(t *testing.T) {
	w := inTurn(t, rights)
	ns := w.namespace("own-node")
	status := func(name, node string) string {
		return fmt.Sprintf(`apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClassPodStatus
metadata: {name: %s, namespace: %s, labels: {internal.secrets-store.csi.k8s.io/node-name: %s}}
status: {podName: api}
`, name, ns, node)
	}
	w.apply(status("of-another", "node2"))
	asPlugin := []string{"--token", w.pluginToken(), "--kubeconfig=/dev/null", "--server=https://198.51.100.1:443", "--certificate-authority=" + w.authority()}
	const refused = "portcullis-status-of-own-node"

	if out, err := w.said(status("of-mine", node), append(asPlugin, "create", "-f", "-")...); err != nil {
		t.Fatalf("the plugin's token makes no status object of its own node: %v\n%s", err, out)
	}
	for what, try := range map[string]struct {
		object string
		args   []string
	}{
		"create one of another node":    {status("made", "node2"), []string{"create", "-f", "-"}},
		"create one without a node":     {status("made", `""`), []string{"create", "-f", "-"}},
		"take over one of another node": {status("of-another", node), []string{"replace", "--force=false", "-f", "-"}},
		"give away its own":             {status("of-mine", "node2"), []string{"replace", "--force=false", "-f", "-"}},
		"delete one of another node":    {"", []string{"delete", "secretproviderclasspodstatus", "-n", ns, "of-another", "--wait=false"}},
	} {
		out, err := w.said(try.object, append(asPlugin, try.args...)...)
		if err == nil || !strings.Contains(out, refused) || !strings.Contains(out, "hint: ") {
			t.Errorf("%s with the plugin's token = %v, want it refused by %s:\n%s", what, err, refused, out)
		}
	}
	if out, err := w.said("", append(asPlugin, "delete", "secretproviderclasspodstatus", "-n", ns, "of-mine", "--wait=false")...); err != nil {
		t.Errorf("the plugin's token does not delete a status object of its own node: %v\n%s", err, out)
	}
}

// pluginToken is what kubelet has given to the plugin that runs.
func (w *world) pluginToken() string {
	w.Helper()
	dir := fmt.Sprintf("/var/lib/kubelet/pods/%s/volumes/kubernetes.io~projected", w.plugin().UID)
	files, err := filepath.Glob(w.lab.Path(dir + "/*/token"))
	if err != nil || len(files) != 1 {
		w.Fatalf("the plugin has the tokens %v, %v, want one", files, err)
	}
	link, err := os.Readlink(filepath.Dir(files[0]) + "/..data") // a relative one
	if err != nil {
		w.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(filepath.Dir(files[0]), link, "token"))
	if err != nil {
		w.Fatal(err)
	}
	return string(token)
}

// authority is a file, in the node, with the certificate of the API server's
// authority.
func (w *world) authority() string {
	w.Helper()
	const file = "/var/lib/kubelet/e2e-ca.crt"
	w.writeFile(w.lab.Path(file), w.kubectl("get", "configmap", "-n", system, "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}"))
	return file
}

// Paths of the node that lead to secrets of others are warned of, and refused
// where the value says so; the chart's own pods are not in the way of either.
func TestHostPathsAreWarnedOfAndDenied(t *testing.T) {
	w := inTurn(t, rights)
	ns := w.namespace("paths")
	reaching := func(name, path string) string {
		return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: "busybox:1.37", imagePullPolicy: Never, command: [sleep, "1000"]}]
  volumes: [{name: node, hostPath: {path: %s}}]
`, name, ns, path)
	}
	for name, path := range map[string]string{"above": "/var/lib", "state": "/var/lib/portcullis/audit", "sockets": "/run/secrets-store-csi-providers", "processes": "/proc"} {
		w.warns(reaching(name, path), []string{"apply", "-f", "-"}, "portcullis-host-paths", "volume node is the path "+path)
	}
	if out, err := w.said(reaching("beside", "/var/log"), "apply", "-f", "-"); err != nil || strings.Contains(out, "Warning") {
		t.Errorf("a path that reaches nothing = %v, want neither an error nor a warning:\n%s", err, out)
	}

	w.upgraded("--set", "admissionPolicies.hostPaths=deny")
	w.eventually(30*time.Second, "hostPaths is denied", func() error {
		out, err := w.said(reaching("later", "/var/lib"), "apply", "--dry-run=server", "-f", "-")
		if err == nil || !strings.Contains(out, "portcullis-host-paths") || strings.Contains(out, "Warning") {
			return fmt.Errorf("it is not: %w %s", err, out)
		}
		return nil
	})
	w.kubectl("delete", "pod", "-n", system, "-l", "app in (secrets-store-csi-driver, portcullis-provider-local)", "--wait=true", "--timeout=60s")
	w.pluginRuns() // the API server let both be made again
	w.kubectl("rollout", "status", "-n", system, "daemonset/portcullis-provider-local", "--timeout=60s")
	w.started(pod(ns, "app"))
}

// A container that is added to a pod with secrets reads them: its author is
// warned, or refused where the value says so, and the upgrade that says so
// takes effect on pods that run.
func TestEphemeralContainersAreWarnedOfAndDenied(t *testing.T) {
	w := inTurn(t, rights)
	// The one that is let in is denied by policy, and its pod loses its secrets.
	warned := w.started(pod(w.namespace("debugged"), "app"))
	kept := w.started(pod(warned.Namespace, "kept"))
	debug := func(p *corev1.Pod, name string) (string, error) {
		return w.said("", "debug", "-n", p.Namespace, p.Name, "--image=busybox:1.37", "--image-pull-policy=Never", "--container="+name, "--profile=restricted", "--", "sleep", "1000")
	}
	out, err := debug(warned, "looks")
	if err != nil {
		t.Fatalf("kubectl debug = %v: %s", err, out)
	}
	w.holds(out, "Warning: ", "portcullis-ephemeral-containers", "ephemeral container looks in a pod with a volume of the driver", "hint: debug a copy of the pod")

	w.upgraded("--set", "admissionPolicies.ephemeralContainers=deny")
	n := 0
	w.eventually(30*time.Second, "kubectl debug is refused", func() error {
		n++
		out, err := debug(warned, fmt.Sprintf("denied-%d", n))
		if failed := (*exec.ExitError)(nil); !errors.As(err, &failed) || !strings.Contains(out, "portcullis-ephemeral-containers") {
			return fmt.Errorf("it is not: %w %s", err, out)
		}
		return nil
	})
	if out, err := debug(kept, "denied"); err == nil {
		t.Errorf("kubectl debug of the pod that keeps its secrets = %s, want a refusal", out)
	}
	w.reads(kept, "/secrets/password", "first") // the pod is none the worse for it
}

// Who applies a privileged pod with secrets is warned, and doctor lists the pod
// as what deny would refuse.
func TestPrivilegedPodsAreWarnedOfAndFoundByDoctor(t *testing.T) {
	w := inTurn(t, rights)
	p := pod(w.namespace("privileged"), "app")
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	w.Cleanup(func() {
		_, _ = w.run("", "kubectl", "delete", "pod", "-n", p.Namespace, p.Name, "--wait=true", "--timeout=60s")
	})
	w.warns(manifest(p), []string{"apply", "-f", "-"}, "portcullis-privileged", "privileged: true in container main")
	report := w.doctor("--only=cluster")
	preview := report.of("admission.deny-preview")
	// Pods of tests before this one may be on their way out.
	finds := func(text string) bool {
		return slices.ContainsFunc(preview, func(r doctor.Result) bool { return r.Status == "WARN" && strings.Contains(r.Finding, text) })
	}
	if !finds("portcullis-privileged would refuse pod privileged/app") || finds("pod "+system+"/") {
		t.Errorf("doctor says of what deny would refuse %+v, want the pod, and none of the chart's own", preview)
	}
}
