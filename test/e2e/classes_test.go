//go:build e2e

package e2e_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A class that comes later than its pod: the event has the words that the
// upstream driver has, and the pod comes up by itself.
func TestP11PodWaitsForItsClass(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	namespace := w.namespace("waits")
	p := pod(namespace, "app")
	p.Spec.Volumes = []corev1.Volume{volume("secrets", "later")}
	p = w.create(p)
	w.event(p, `rpc error: code = NotFound desc = failed to get secretproviderclass waits/later, error: secretproviderclass "later" not found`, time.Minute)
	w.apply(class(namespace, "later", "password"))
	w.ready(p, 2*time.Minute)
	w.reads(p, "/secrets/password", "first")
}

// A provider that nobody installed is named in the event.
func TestPodWithoutItsProvider(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	namespace := w.namespace("providerless")
	w.apply(`apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: elsewhere, namespace: providerless}
spec:
  provider: akeyless
  parameters:
    objects: |
      - secretPath: /app/password
        fileName: password
`)
	p := pod(namespace, "app")
	p.Spec.Volumes = []corev1.Volume{volume("secrets", "elsewhere")}
	p = w.create(p)
	all := w.event(p, refusedByDriver, time.Minute)
	t.Log(all)
	if !strings.Contains(all, "akeyless") || !strings.Contains(all, "hint: ") {
		t.Errorf("the event does not name the provider and the remedy:\n%s", all)
	}
	message := w.failures(p)[0].Message
	w.plain(message)
	if !strings.Contains(message, "code = Unavailable") {
		t.Errorf("the event is %q, want Unavailable: it is tried again", message)
	}
}

// Two classes in one pod, a class in two volumes, init containers, and files in
// directories of the volume.
func TestPodWithManyVolumes(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	namespace := w.namespace("volumes")
	w.apply(strings.ReplaceAll(class(namespace, "deep", "password"), "objectAlias: password", "objectAlias: db/creds/password"))
	p := pod(namespace, "app")
	p.Spec.Volumes = []corev1.Volume{volume("secrets", "app"), volume("again", "app"), volume("deep", "deep")}
	mounts := []corev1.VolumeMount{{Name: "secrets", MountPath: "/secrets"}, {Name: "again", MountPath: "/again"}, {Name: "deep", MountPath: "/deep"}}
	p.Spec.Containers[0].VolumeMounts = mounts
	first := container("first")
	first.VolumeMounts = mounts
	first.Command = []string{"sh", "-ec", `[ "$(cat /secrets/password)" = first ] && [ "$(cat /deep/db/creds/password)" = first ] && echo read`}
	p.Spec.InitContainers = []corev1.Container{first}
	p = w.started(p)
	for path, want := range map[string]string{"/secrets/password": "first", "/again/user": "scott", "/deep/db/creds/password": "first"} {
		w.reads(p, path, want)
	}
	if out := strings.TrimSpace(w.kubectl("logs", "-n", namespace, p.Name, "-c", "first")); out != "read" {
		t.Errorf("the init container prints %q, want read", out)
	}
	if found := w.volumes(p); len(found) != 3 {
		t.Errorf("the node has %d mounts for three volumes: %q", len(found), found)
	}
	var names string
	w.eventually(time.Minute, "a status object for each class", func() error {
		names = w.kubectl("get", "secretproviderclasspodstatuses", "-n", namespace, "-o", "jsonpath={.items[*].metadata.name}")
		if names != "app-volumes-app app-volumes-deep" {
			return errors.New("there are " + names)
		}
		return nil
	})
}

// The pod that a StatefulSet makes anew under the same name reads its secrets,
// and the status object is of the new pod.
func TestStatefulSetPodComesBackByTheSameName(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	namespace := w.namespace("stateful")
	w.apply(workload("StatefulSet", namespace, 1, "serviceName: db"))
	w.kubectl("rollout", "status", "statefulset/db", "-n", namespace, "--timeout=60s")
	before := w.now(pod(namespace, "db-0"))
	w.reads(before, "/secrets/password", "first")
	w.statusOf(namespace, "db-0-stateful-app", string(before.UID))

	w.deleted(before)
	var after *corev1.Pod
	w.eventually(time.Minute, "pod db-0 is there again", func() error {
		uid, err := w.run("", "kubectl", "get", "pod", "-n", namespace, "db-0", "-o", "jsonpath={.metadata.uid}")
		if err != nil || uid == string(before.UID) {
			return errors.New("it is " + uid)
		}
		return nil
	})
	after = w.now(before)
	w.ready(after, time.Minute)
	w.reads(after, "/secrets/password", "first")
	w.statusOf(namespace, "db-0-stateful-app", string(after.UID))
	if left := w.volumes(before); len(left) != 0 {
		t.Errorf("the earlier pod left %q", left)
	}
}

// A rollout replaces pods, and leaves nothing of the earlier ones.
func TestDeploymentRollsOut(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	namespace := w.namespace("rollout")
	w.apply(workload("Deployment", namespace, 2, ""))
	w.kubectl("rollout", "status", "deployment/db", "-n", namespace, "--timeout=60s")
	before := w.names(namespace)
	w.kubectl("set", "env", "deployment/db", "-n", namespace, "VERSION=2")
	w.kubectl("rollout", "status", "deployment/db", "-n", namespace, "--timeout=90s")
	w.eventually(time.Minute, "two pods, none of before", func() error {
		now := w.names(namespace)
		if len(now) != 2 {
			return errors.New("there are " + strings.Join(now, " "))
		}
		for _, name := range now {
			for _, old := range before {
				if name == old {
					return errors.New(old + " is still there")
				}
			}
		}
		return nil
	})
	for _, name := range w.names(namespace) {
		w.reads(w.now(pod(namespace, name)), "/secrets/password", "first")
	}
	w.eventually(time.Minute, "status objects of the new pods alone", func() error {
		out := w.kubectl("get", "secretproviderclasspodstatuses", "-n", namespace, "-o", "jsonpath={.items[*].status.podName}")
		if out != strings.Join(w.names(namespace), " ") {
			return errors.New("they are of " + out)
		}
		return nil
	})
}

// names are the names of a namespace's pods, sorted.
func (w *world) names(namespace string) []string {
	w.Helper()
	return strings.Fields(w.kubectl("get", "pods", "-n", namespace, "-o", "jsonpath={.items[*].metadata.name}"))
}

// statusOf waits until a status object belongs to a pod.
func (w *world) statusOf(namespace, name, uid string) {
	w.Helper()
	w.eventually(time.Minute, "status object "+name+" of pod "+uid, func() error {
		out, err := w.run("", "kubectl", "get", "secretproviderclasspodstatus", "-n", namespace, name, "-o", "jsonpath={.metadata.ownerReferences[*].uid} {.status.mounted}")
		if err != nil || out != uid+" true" {
			return errors.New("it is of " + out)
		}
		return nil
	})
}

// workload is a workload "db" of pods like that of pod.
func workload(kind, namespace string, replicas int, more string) string {
	return strings.NewReplacer("KIND", kind, "NAMESPACE", namespace, "REPLICAS", strconv.Itoa(replicas), "MORE", more).Replace(`apiVersion: apps/v1
kind: KIND
metadata: {name: db, namespace: NAMESPACE}
spec:
  replicas: REPLICAS
  MORE
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      serviceAccountName: app
      terminationGracePeriodSeconds: 1
      securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000}
      containers:
      - name: main
        image: busybox:1.37
        imagePullPolicy: Never
        command: [sleep, "100000"]
        volumeMounts: [{name: secrets, mountPath: /secrets}]
      volumes:
      - name: secrets
        csi:
          driver: secrets-store.csi.k8s.io
          readOnly: true
          volumeAttributes: {secretProviderClass: app}
`)
}
