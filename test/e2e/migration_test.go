//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Whoever comes from the upstream driver as docs/MIGRATION.md says, word for
// word, loses no running pod, gets protection pod by pod, and can go back.
func TestUpgradeInPlaceFromTheUpstreamDriver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "migration")
	guide := w.follower("docs/MIGRATION.md", nil)
	chart := filepath.Join(guide.dir, "secrets-store-csi-driver")
	if err := os.CopyFS(chart, os.DirFS(filepath.Join(w.upstreamFiles(), "charts/secrets-store-csi-driver"))); err != nil {
		t.Fatal(err)
	}
	w.loadUpstream()
	w.runProvider()
	w.installUpstream(chart)
	w.writeSecret("payments/db-password", "correct horse")
	w.writeSecret("shop/session-key", "battery staple")
	w.workload("payments", "api", "payments/db-password", true)
	w.workload("shop", "web", "shop/session-key", false)
	old := pod("payments", "old")
	old.Spec.ServiceAccountName = "api"
	old = w.started(old)
	api, web := w.podOf("payments", "api"), w.podOf("shop", "web")

	guide.follow("1. See what is there")
	if !strings.Contains(guide.printed, "payments") || !strings.Contains(guide.printed, "shop") {
		t.Errorf("uninstall-check prints no namespace with pods: %s", guide.printed)
	}
	guide.follow("2. A policy that denies nothing")
	before := w.legacyVolumes(old, api, web)
	guide.follow("3. Replace the driver")
	w.registered()
	w.leftAlone(before, old, api, web)
	guide.follow("4. Look at what runs")
	w.endsCleanly(old)

	guide.follow("5. Restart the workloads, namespace by namespace")
	for _, line := range []string{"shop/web-", "payments/api-"} {
		if !strings.Contains(guide.printed, line) {
			t.Errorf("audit tail names no pod %s: %s", line, guide.printed)
		}
	}
	api, web = w.podOf("payments", "api"), w.podOf("shop", "web")
	w.protected(api, web)
	w.reads(api, secretFile, "correct horse")
	guide.follow("6. Learn the grants")
	guide.follow("7. Enforce")
	w.enforced()

	web = w.podOf("shop", "web")
	guide.follow("9. The way back")
	w.registered()
	w.reads(web, secretFile, "battery staple")
	w.endsCleanly(web) // upstream unmounts what we mounted
	web = w.podOf("shop", "web")
	w.reads(web, secretFile, "battery staple")
	w.legacyVolumes(web)

	w.fromManifests(guide)
}

// fromManifests is the same for those who installed upstream's manifests.
func (w *world) fromManifests(guide *reader) {
	w.Helper()
	w.helm("uninstall", upstreamRelease, "--namespace", system, "--wait")
	manifests := filepath.Join(guide.dir, "upstream/deploy")
	if err := os.CopyFS(manifests, os.DirFS(filepath.Join(w.upstreamFiles(), "deploy"))); err != nil {
		w.Fatal(err)
	}
	for _, file := range []string{"secrets-store-csi-driver", "csidriver", "rbac-secretproviderclass"} {
		w.kubectl("apply", "-f", filepath.Join(manifests, file+".yaml"))
	}
	w.kubectl("-n", system, "rollout", "status", "daemonset/csi-secrets-store", "--timeout=60s")
	w.registered()
	api := w.podOf("payments", "api")
	guide.follow("From manifests")
	w.registered()
	w.reads(api, secretFile, "correct horse")
	w.endsCleanly(api)
	w.protected(w.podOf("payments", "api"))
}

// workload makes a namespace with a Deployment that mounts one secret as
// /secrets/secret.
func (w *world) workload(namespace, name, secret string, group bool) {
	w.Helper()
	security := "{runAsUser: 1000, runAsGroup: 3000}"
	if group {
		security = "{runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000}"
	}
	w.apply(fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[2]s, namespace: %[1]s}
---
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: app, namespace: %[1]s}
spec:
  provider: local
  parameters:
    objects: |
      - objectName: %[3]s
        objectAlias: secret
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec:
      serviceAccountName: %[2]s
      terminationGracePeriodSeconds: 1
      securityContext: %[4]s
      containers:
      - name: main
        image: busybox:1.37
        command: [sleep, "100000"]
        volumeMounts: [{name: secrets, mountPath: /secrets}]
      volumes:
      - name: secrets
        csi: {driver: %[5]s, readOnly: true, volumeAttributes: {secretProviderClass: app}}
`, namespace, name, secret, security, driverName))
	w.kubectl("-n", namespace, "rollout", "status", "deployment/"+name, "--timeout=60s")
}

// podOf is the pod of a Deployment that is not being deleted, when it is ready.
func (w *world) podOf(namespace, deployment string) *corev1.Pod {
	w.Helper()
	w.kubectl("-n", namespace, "rollout", "status", "deployment/"+deployment, "--timeout=60s")
	list, err := w.client.CoreV1().Pods(namespace).List(w.Context(), metav1.ListOptions{LabelSelector: "app=" + deployment})
	if err != nil {
		w.Fatal(err)
	}
	list.Items = slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if len(list.Items) != 1 {
		w.Fatalf("deployment %s/%s has %d pods, want 1", namespace, deployment, len(list.Items))
	}
	w.ready(&list.Items[0], 60*time.Second)
	return &list.Items[0]
}
