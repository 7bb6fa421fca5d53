//go:build e2e

package e2e_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// withWebhook are the settings of an installation with the admission webhook, its
// own certificates, no volumes for its log, and the floor of policy.
var withWebhook = []string{
	"--set", "webhook.enabled=true", "--set", "webhook.persistence.enabled=false", "--set", "policy.floor.enabled=true",
}

// Who applies a pod that policy denies is told at once, in the words of the rule;
// one that it allows runs; and the cluster remembers how far policy has come.
func TestWebhookByTheChart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "webhook")
	if err := w.lab.LoadImage(t.Context(), filepath.Join(made.repository, "bin/images/portcullis-webhook.tar")); err != nil {
		t.Fatal(err)
	}
	w.installAll(withWebhook...)
	w.ungranted("refused")
	w.namespace("granted")
	w.refuses(manifest(pod("refused", "app")),
		"pods.admission.portcullis.dev", "PR-001", "local://node/app/password", "service account app in namespace refused")
	if out := w.kubectl("get", "pods", "-n", "refused", "-o", "name"); out != "" {
		t.Errorf("the refused pod is there: %s", out)
	}
	p := w.started(pod("granted", "app"))
	w.reads(p, "/secrets/password", "first")

	// What is none of the driver's business is not asked about.
	other := pod("refused", "other")
	other.Spec.Volumes, other.Spec.Containers[0].VolumeMounts = nil, nil
	w.started(other)

	w.floorFollows()
	w.podsWithoutWebhook()
}

// floorFollows publishes another bundle, and waits until the cluster's floor is
// its serial.
func (w *world) floorFollows() {
	w.Helper()
	before := w.floor()
	if before == 0 {
		w.Error("the floor is not raised by the first bundle")
	}
	w.publishPolicy(w.policy(func(w *world, dir string) {
		w.writeFile(filepath.Join(dir, "portcullis/grants/late.yaml"), strings.ReplaceAll(grantOf, "NAMESPACE", "refused"))
	}))
	w.eventually(2*time.Minute, "the floor is raised", func() error {
		if now := w.floor(); now <= before {
			return fmt.Errorf("it is %d, and was %d", now, before)
		}
		return nil
	})
	// Under the new bundle the same pod is admitted, and mounts.
	w.eventually(2*time.Minute, "the granted pod is admitted", func() error {
		out, err := w.said(manifest(pod("refused", "app")), "apply", "-f", "-")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	w.kubectl("wait", "-n", "refused", "pod/app", "--for=condition=Ready", "--timeout=120s")
}

// floor is the serial of the cluster's floor, 0 if there is none yet.
func (w *world) floor() int64 {
	w.Helper()
	text := w.kubectl("get", "configmap", "-n", system, "portcullis-policy-floor", "-o", "jsonpath={.data.serial}")
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		w.Fatal(err)
	}
	return n
}

// podsWithoutWebhook: while nobody answers, pods with secrets are not made, others
// are, and those that run are left alone.
func (w *world) podsWithoutWebhook() {
	w.Helper()
	runs := w.started(pod("granted", "runs"))
	w.kubectl("scale", "-n", system, "statefulset/portcullis-webhook", "--replicas=0")
	w.kubectl("wait", "-n", system, "pod", "-l", "app=portcullis-webhook", "--for=delete", "--timeout=60s")
	w.eventually(time.Minute, "a pod with secrets is refused", func() error {
		out, err := w.said(manifest(pod("granted", "late")), "apply", "--dry-run=server", "-f", "-")
		if err == nil || !strings.Contains(out, "pods.admission.portcullis.dev") {
			return fmt.Errorf("kubectl apply = %w: %s", err, out)
		}
		return nil
	})
	other := pod("granted", "other")
	other.Spec.Volumes, other.Spec.Containers[0].VolumeMounts = nil, nil
	w.started(other)
	w.reads(runs, "/secrets/password", "first")
}
