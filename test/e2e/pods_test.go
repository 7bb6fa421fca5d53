//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// namespace makes a granted namespace with the service account app and the
// class "app" (files password and user), and removes it at the end of the test.
func (w *world) namespace(name string) string {
	w.Helper()
	// With the label from the first: whoever reads it later has seen it.
	w.makeNamespace(name, grantedLabel+`: "true"`)
	return name
}

// ungranted makes a namespace like that of namespace, to which nothing is
// granted.
func (w *world) ungranted(name string) { w.Helper(); w.makeNamespace(name, "") }

func (w *world) makeNamespace(name, labels string) {
	w.Helper()
	w.apply(fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata: {name: %[1]s, labels: {%[2]s}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: app, namespace: %[1]s}
---
%[3]s`, name, labels, class(name, "app", "password", "user")))
	w.Cleanup(func() { _, _ = w.run("", "kubectl", "delete", "namespace", name, "--wait=false", "--ignore-not-found") })
}

// class is a SecretProviderClass of the provider "local" with the secrets
// app/<file>.
func class(namespace, name string, files ...string) string {
	var objects strings.Builder
	for _, file := range files {
		fmt.Fprintf(&objects, "      - objectName: app/%[1]s\n        objectAlias: %[1]s\n", file)
	}
	return fmt.Sprintf(`apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: %s, namespace: %s}
spec:
  provider: local
  parameters:
    objects: |
%s`, name, namespace, objects.String())
}

// pod is a pod that sleeps, runs as the service account app without root, with
// fsGroup 2000, and has the class "app" at /secrets. The starter policy allows
// it.
func pod(namespace, name string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{
			ServiceAccountName: "app", TerminationGracePeriodSeconds: &grace,
			SecurityContext: &corev1.PodSecurityContext{RunAsUser: new(int64(1000)), RunAsGroup: new(int64(3000)), FSGroup: new(int64(2000))},
			Containers:      []corev1.Container{container("main")},
			Volumes:         []corev1.Volume{volume("secrets", "app")},
		},
	}
}

// container is one that sleeps, with the volume "secrets" at /secrets.
func container(name string) corev1.Container {
	return corev1.Container{
		Name: name, Image: "busybox:1.37", ImagePullPolicy: corev1.PullNever, Command: []string{"sleep", "100000"},
		VolumeMounts: []corev1.VolumeMount{{Name: "secrets", MountPath: "/secrets"}},
	}
}

// volume is one of our driver.
func volume(name, class string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
		Driver: driverName, ReadOnly: new(true), VolumeAttributes: map[string]string{"secretProviderClass": class},
	}}}
}

// create makes a pod, and removes it at the end of the test.
func (w *world) create(p *corev1.Pod) *corev1.Pod {
	w.Helper()
	made, err := w.client.CoreV1().Pods(p.Namespace).Create(w.Context(), p, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		_, _ = w.run("", "kubectl", "delete", "pod", "-n", p.Namespace, p.Name, "--ignore-not-found", "--wait=true", "--timeout=60s")
	})
	return made
}

// ready waits until a pod is ready.
func (w *world) ready(p *corev1.Pod, limit time.Duration) {
	w.Helper()
	w.eventually(limit, "pod "+p.Namespace+"/"+p.Name+" is ready", func() error {
		now, err := w.client.CoreV1().Pods(p.Namespace).Get(w.Context(), p.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range now.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("it is %s; its events: %s", now.Status.Phase, w.events(p))
	})
}

// started makes a pod and waits until it is ready.
func (w *world) started(p *corev1.Pod) *corev1.Pod {
	w.Helper()
	made := w.create(p)
	w.ready(made, 2*time.Minute)
	return made
}

// deleted deletes a pod and waits until it is gone.
func (w *world) deleted(p *corev1.Pod) {
	w.Helper()
	w.kubectl("delete", "pod", "-n", p.Namespace, p.Name, "--wait=true", "--timeout=60s")
}

// sh runs a shell command in a pod's container, the first one unless named.
func (w *world) sh(p *corev1.Pod, container, command string) (string, error) {
	args := []string{"exec", "-n", p.Namespace, p.Name}
	if container != "" {
		args = append(args, "-c", container)
	}
	out, err := w.run("", "kubectl", append(args, "--", "sh", "-c", command)...)
	return strings.TrimSpace(out), err
}

// reads fails the test unless a file of a pod has this content.
func (w *world) reads(p *corev1.Pod, path, want string) {
	w.Helper()
	if got, err := w.sh(p, "", "cat "+path); err != nil || got != want {
		w.Fatalf("%s of pod %s reads %q, %v, want %q", path, p.Name, got, err, want)
	}
}

// events are the messages of a pod's events, a line each.
func (w *world) events(p *corev1.Pod) string {
	list, err := w.client.CoreV1().Events(p.Namespace).List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(p.UID)})
	if err != nil {
		return err.Error()
	}
	var lines strings.Builder
	for _, e := range list.Items {
		fmt.Fprintf(&lines, "%s %s %s\n", e.Type, e.Reason, e.Message)
	}
	return lines.String()
}

// event waits for an event of a pod that holds a text, and returns all of them.
func (w *world) event(p *corev1.Pod, text string, limit time.Duration) string {
	w.Helper()
	var all string
	w.eventually(limit, "event with "+text, func() error {
		if all = w.events(p); !strings.Contains(all, text) {
			return fmt.Errorf("the events are:\n%s", all)
		}
		return nil
	})
	return all
}

// mounts are the lines of the node's mount table that hold a text. What is
// mounted below /tmp is the machine's, which shares that directory.
func (w *world) mounts(text string) []string {
	w.Helper()
	table, err := os.ReadFile(w.lab.Path("/proc/1/mountinfo"))
	if err != nil {
		w.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); strings.Contains(line, text) && !strings.HasPrefix(f[4], "/tmp/") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// plugin is the plugin's pod.
func (w *world) plugin() *corev1.Pod {
	w.Helper()
	list, err := w.client.CoreV1().Pods(system).List(w.Context(), metav1.ListOptions{LabelSelector: "app=secrets-store-csi-driver"})
	if err != nil {
		w.Fatal(err)
	}
	for i := range list.Items {
		if p := &list.Items[i]; p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
			return p
		}
	}
	w.Fatal("no pod of the plugin runs")
	return nil
}
