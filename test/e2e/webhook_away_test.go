//go:build e2e

package e2e_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// goesAway: while nobody answers, pods with secrets are not made, others are, and
// those that run are left alone. Where the cluster cannot wait and takes the webhook
// out, the node decides: also about an image that nobody was asked about.
func (w *world) goesAway() {
	ns := w.namespace("away")
	runs := w.reader(ns, "runs", "first")
	patched := w.started(pod(ns, "patched"))
	w.kubectl("scale", "-n", system, "statefulset/"+webhookName, "--replicas=0")
	w.kubectl("wait", "-n", system, "pod", "-l", "app=portcullis-webhook", "--for=delete", "--timeout=90s")
	w.nobodyAnswers(ns, patched)
	// Those that run may be changed, and are not.
	w.kubectl("label", "pod", "-n", ns, runs.Name, "team=payments")
	w.readAllAlong(runs)

	// OPERATIONS.md: "the cluster cannot wait".
	w.kubectl("delete", "validatingwebhookconfiguration", configuration)
	w.eventually(10*time.Second, "the API server asks nobody any more", func() error {
		if out, err := w.said(manifest(pod(ns, "later")), "apply", "--dry-run=server", "-f", "-"); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	w.started(pod(ns, "later"))
	w.nodeDecides(patched)
	w.readAllAlong(runs)
	if n := w.restarts(runs, "main"); n != 0 {
		w.Errorf("the pod that runs was restarted %d times", n)
	}

	w.kubectl("scale", "-n", system, "statefulset/"+webhookName, "--replicas=2")
	w.helm(append(append([]string{"upgrade", release, made.chart(), "--namespace", system, "--wait", "--timeout", "120s"}, w.values()...), withWebhook()...)...)
	foreign := pod(ns, "foreign")
	foreign.Spec.Containers[0].Image = foreignImage
	w.eventually(time.Minute, "the webhook answers again", func() error {
		out, err := w.said(manifest(foreign), "apply", "--dry-run=server", "-f", "-")
		if err == nil || !strings.Contains(out, "denied by policy: PR-300") {
			return fmt.Errorf("kubectl apply = %w: %s", err, out)
		}
		return nil
	})
}

// nobodyAnswers: what the API server does while no replica is there.
func (w *world) nobodyAnswers(ns string, p *corev1.Pod) {
	w.Helper()
	const failed, none = `failed calling webhook "` + podsHook + `"`, `no endpoints available for service "` + webhookName + `"`
	w.eventually(30*time.Second, "a pod with secrets is refused for want of an answer", func() error {
		out, err := w.said(manifest(pod(ns, "late")), "apply", "-f", "-")
		if err == nil || !strings.Contains(out, failed) || !strings.Contains(out, none) {
			return fmt.Errorf("kubectl apply = %w: %s", err, out)
		}
		w.Logf("kubectl prints: %s", out)
		return nil
	})
	if out, err := w.said("", "set", "image", "-n", ns, "pod/"+p.Name, "main="+foreignImage); err == nil || !strings.Contains(out, failed) {
		w.Errorf("another image of a pod with secrets = %v: %s, want it refused", err, out)
	}
	w.started(withoutSecrets(ns, "other"))

	// A template goes through unseen, which the API server's audit log says.
	if out, err := w.said(workload("Deployment", ns, 1, ""), "apply", "-f", "-"); err != nil || out != "deployment.apps/db created\n" {
		w.Errorf("kubectl apply of a Deployment = %v: %s, want it created", err, out)
	}
	open := w.requestsThat(func(r request) bool {
		return r.Verb == "create" && r.ObjectRef != nil && r.ObjectRef.Resource == "deployments" && r.ObjectRef.Namespace == ns &&
			strings.Contains(fmt.Sprint(r.Annotations), "failed-open.validating.webhook.admission.k8s.io/") &&
			strings.Contains(fmt.Sprint(r.Annotations), "templates.admission.portcullis.dev")
	})
	if len(open) != 1 {
		w.Errorf("the API server's audit log has %d Deployments that went through unseen, want one", len(open))
	}
	w.eventually(30*time.Second, "the Deployment says why it has no pods", func() error {
		list, err := w.client.CoreV1().Events(ns).List(w.Context(), metav1.ListOptions{FieldSelector: "reason=FailedCreate"})
		if err != nil || len(list.Items) == 0 || !strings.Contains(list.Items[0].Message, failed) {
			return fmt.Errorf("the events are %+v, %w", list, err)
		}
		return nil
	})
	w.kubectl("delete", "deployment", "-n", ns, "db")
}

// nodeDecides patches the image of a pod that runs, with no webhook to ask: the node
// decides at once, and the second denial takes the secrets away.
func (w *world) nodeDecides(p *corev1.Pod) {
	w.Helper()
	const denied = `cause="pod",[^}]*outcome="deny"`
	before := w.reauthorised(denied)
	w.kubectl("set", "image", "-n", p.Namespace, "pod/"+p.Name, "main="+foreignImage)
	begin := time.Now()
	w.eventually(10*time.Second, "the node decides on the pod's volume, unasked by kubelet", func() error {
		return differs("denials since a pod has changed", before, w.reauthorised(denied))
	})
	decided := time.Since(begin)
	w.emptied(p, time.Minute)
	took := time.Since(begin)
	w.Logf("decided %v after the image changed, and empty after %v", decided.Round(100*time.Millisecond), took.Round(100*time.Millisecond))
	if took < 10*time.Second {
		w.Errorf("one denial alone emptied the volume: it took %v, and two are ten seconds apart", took)
	}
	w.event(p, "the mounted secrets were revoked: denied by policy: PR-300", 3*time.Minute)
	revoked := 0
	for _, e := range w.audited(p.Namespace) {
		if e.Type == "secret.revoke" && e.Workload.Pod == p.Name && e.Outcome == "success" && e.Reason == "PolicyDenied" {
			revoked++
		}
	}
	if revoked != 1 {
		w.Errorf("the node's log has %d revocations of pod %s, want one", revoked, p.Name)
	}
}

// reauthorised is how often the plugin has decided without kubelet, by labels.
func (w *world) reauthorised(labels string) int {
	w.Helper()
	text := w.kubectl("get", "--raw", "/api/v1/namespaces/"+system+"/pods/"+w.plugin().Name+":8095/proxy/metrics")
	found := regexp.MustCompile(`(?m)^portcullis_reauthorisations_total\{[^}]*` + labels + `[^}]*\} (\d+)$`).FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		w.Fatal(err)
	}
	return n
}
