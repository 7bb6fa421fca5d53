//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/doctor"
)

// findings is what doctor says.
type findings struct {
	doctor.Report
	text string // of those that are not OK, a line each
}

// of are the results of a check.
func (f findings) of(check string) []doctor.Result {
	var found []doctor.Result
	for _, r := range f.Results {
		if r.Check == check {
			found = append(found, r)
		}
	}
	return found
}

// doctor runs portcullis doctor on the node, as root and administrator of the
// cluster.
func (w *world) doctor(args ...string) findings {
	w.Helper()
	return w.report(made.portcullis, append([]string{"doctor", "--node-name=" + node}, args...)...)
}

// report runs a command that ends in a doctor's, and reads what it finds.
func (w *world) report(name string, args ...string) findings {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := w.lab.Command(ctx, name, append(args, "-o", "json")...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output() // 3 where something is FAIL
	var f findings
	if parsed := json.Unmarshal(out, &f.Report); parsed != nil {
		w.Fatalf("%s %s = %v, %v:\n%s%s", name, strings.Join(args, " "), err, parsed, out, stderr.String())
	}
	if healthy := f.Healthy(false); healthy != (err == nil) {
		w.Errorf("doctor ends with %v, and finds %d FAIL", err, f.Count(doctor.Fail))
	}
	for _, r := range f.Results {
		if r.Status == doctor.OK {
			continue
		}
		f.text += fmt.Sprintf("%s %s %s; hint: %s\n", r.Status, r.Check, r.Finding, r.Hint)
	}
	return f
}

// A healthy installation has no FAIL but that it is a development build, from
// wherever doctor looks, and each n/a says why.
func TestDoctorOfAHealthyInstallation(t *testing.T) {
	w := inTurn(t, rights)
	w.started(pod(w.namespace("healthy"), "app"))

	onHost := w.onNode()
	inPlugin := w.report("kubectl", "exec", "-n", system, "ds/"+daemonSet, "-c", "secrets-store", "--", "/portcullis", "doctor")
	restricted := w.report(made.portcullis, "doctor", "--only=cluster", "--kubeconfig="+w.viewer())

	for where, f := range map[string]findings{"on the node": onHost, "in the plugin's container": inPlugin, "with a viewer's kubeconfig": restricted} {
		t.Logf("doctor %s: %d OK, and %d WARN, %d FAIL, %d n/a:\n%s", where, f.Count(doctor.OK), f.Count(doctor.Warn), f.Count(doctor.Fail), f.Count(doctor.NA), f.text)
		for _, r := range f.Results {
			switch {
			case r.Status == doctor.Fail:
				t.Errorf("doctor %s: FAIL %s %s", where, r.Check, r.Finding)
			case r.Status == doctor.NA && len(r.Finding) < len("no bundle was read"):
				t.Errorf("doctor %s: n/a %s does not say why: %q", where, r.Check, r.Finding)
			case (r.Status == doctor.Fail || r.Status == doctor.Warn) && r.Hint == "":
				t.Errorf("doctor %s: %s %s has no remedy: %s", where, r.Status, r.Check, r.Finding)
			}
		}
	}
	for check, status := range map[string]doctor.Status{
		"daemonset.build": doctor.OK, "policy.signature": doctor.OK, "policy.bundle": doctor.OK, "policy.active": doctor.OK, "log.state": doctor.OK,
		"kubelet.registration": doctor.OK, "providers.sockets": doctor.OK, "providers.wanted": doctor.OK, "node.volumes": doctor.OK, "csidriver.fields": doctor.OK,
		"crds": doctor.OK, "rbac.needed": doctor.OK, "rbac.excess": doctor.OK, "daemonset.ready": doctor.OK, "daemonset.memory": doctor.OK, "daemonset.rival": doctor.OK,
		"csinode": doctor.OK, "pods.pending": doctor.OK, "admission.policies": doctor.OK, "admission.deny-preview": doctor.OK, "webhook.certificate": doctor.NA,
	} {
		w.finds(onHost, check, status, "")
	}
	for _, check := range []string{"plugin.socket", "plugin.version", "policy.active", "policy.bundle", "log.state", "kubelet.registry", "rbac.needed", "csidriver.fields"} {
		w.finds(inPlugin, check, doctor.OK, "")
	}
	w.finds(inPlugin, "pods.pending", doctor.NA, "the service account of this pod may not") // list events
	w.finds(w.doctor("--only=node"), "plugin.ready", doctor.Warn, "the plugin answers at its socket")
	w.finds(restricted, "rbac.needed", doctor.Warn, "")
	w.finds(restricted, "crds", doctor.Warn, "this account may not ask for it")
	w.finds(restricted, "daemonset.ready", doctor.OK, "")
}

// finds fails the test unless a result of a check has this status and text.
func (w *world) finds(f findings, check string, status doctor.Status, text string) doctor.Result {
	w.Helper()
	for _, r := range f.of(check) {
		if r.Status == status && strings.Contains(r.Finding, text) {
			return r
		}
	}
	w.Errorf("doctor has no %s %s with %q; it says of it %+v", status, check, text, f.of(check))
	return doctor.Result{}
}

// policyOnNode is the policy bundle as kubelet has put it onto the node, for the
// plugin's pod with this UID.
func policyOnNode(uid string) string {
	return fmt.Sprintf("/var/lib/kubelet/pods/%s/volumes/kubernetes.io~configmap/policy/bundle.tar.gz", uid)
}

// viewer is a kubeconfig, in the node, of an account that may view namespaces,
// but not what belongs to the cluster.
func (w *world) viewer() string {
	w.Helper()
	w.apply(`apiVersion: v1
kind: ServiceAccount
metadata: {name: e2e-viewer, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: e2e-viewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: e2e-viewer, namespace: default}]
`)
	w.Cleanup(func() {
		_, _ = w.run("", "kubectl", "delete", "clusterrolebinding/e2e-viewer", "serviceaccount/e2e-viewer", "-n", "default", "--ignore-not-found")
	})
	token := strings.TrimSpace(w.kubectl("create", "token", "-n", "default", "e2e-viewer"))
	const file = "/var/lib/kubelet/e2e-viewer.kubeconfig"
	w.writeFile(w.lab.Path(file), fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: it
contexts: [{name: it, context: {cluster: it, user: it}}]
users: [{name: it, user: {token: %q}}]
clusters: [{name: it, cluster: {server: "https://198.51.100.1:443", certificate-authority: %q}}]
`, token, w.authority()))
	return file
}
