//go:build e2e

package e2e_test

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A file that is mounted by subPath keeps its value over rotations, as with
// volumes of Secrets; it is never empty. The next start of the container has the
// new one.
func TestP9SubPathKeepsItsValueUntilTheContainerRestarts(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	namespace := w.namespace("subpath")
	w.writeSecret("app/subpath", "one")
	w.apply(class(namespace, "subpath", "subpath"))
	p := pod(namespace, "app")
	p.Spec.Volumes = []corev1.Volume{volume("secrets", "subpath")}
	p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "secrets", MountPath: "/etc/app.conf", SubPath: "subpath", ReadOnly: true})
	p.Spec.Containers[0].Command = []string{"sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done"}
	p = w.started(p)
	w.reads(p, "/etc/app.conf", "one")

	for _, value := range []string{"two", "three", "four"} {
		w.writeSecret("app/subpath", value)
		w.becomes(p, "/secrets/subpath", value, time.Minute)
		w.reads(p, "/etc/app.conf", "one")
	}
	if _, err := w.sh(p, "", "kill -TERM 1"); err != nil {
		t.Fatal(err)
	}
	w.eventually(time.Minute, "the container is started again", func() error {
		if w.restarts(p, "main") == 0 {
			return errors.New("it was not restarted")
		}
		return nil
	})
	w.becomes(p, "/etc/app.conf", "four", time.Minute)
	w.reads(p, "/secrets/subpath", "four")
}
