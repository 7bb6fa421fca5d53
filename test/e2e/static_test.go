//go:build e2e

package e2e_test

import (
	"bytes"
	"errors"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/test/cluster/lab"
)

// A static pod has no identity that the API server vouches for. kubelet itself
// refuses one with our volume, and the plugin is never asked.
func TestP1StaticPodNeverGetsAVolume(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	manifest := w.lab.Path(path.Join(lab.StaticPods, "static.yaml"))
	w.Cleanup(func() {
		if err := os.Remove(manifest); err != nil {
			t.Error(err)
		}
	})
	w.writeFile(manifest, `apiVersion: v1
kind: Pod
metadata: {name: static-secrets, namespace: default}
spec:
  containers:
  - name: main
    image: busybox:1.37
    command: [sleep, "100000"]
    volumeMounts: [{name: secrets, mountPath: /secrets}]
  volumes:
  - name: secrets
    csi:
      driver: secrets-store.csi.k8s.io
      readOnly: true
      volumeAttributes: {secretProviderClass: app}
`)
	var refusal string
	w.eventually(time.Minute, "kubelet refuses the static pod", func() error {
		log, err := os.ReadFile(w.lab.Log(lab.Kubelet))
		if err != nil {
			return err
		}
		for line := range bytes.Lines(log) {
			if strings.Contains(string(line), "static.yaml") && strings.Contains(string(line), "static pods may not reference csidrivers (via CSI volumes)") {
				refusal = strings.TrimSpace(string(line))
				return nil
			}
		}
		return errors.New("its log does not say so")
	})
	t.Log(refusal)
	if out, err := w.run("", "kubectl", "get", "pod", "-n", "default", "static-secrets-"+node); err == nil {
		t.Errorf("the pod is there: %s", out)
	}
	if out := w.kubectl("logs", "-n", system, w.plugin().Name, "--tail=-1"); strings.Contains(out, "static-secrets") {
		t.Errorf("the plugin was asked:\n%s", out)
	}
	events, err := w.cli("audit", "tail", "--lines=0", "--output=json")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(events, `"type"`) || strings.Contains(events, "static-secrets") {
		t.Errorf("the plugin decided on it:\n%s", events)
	}
}
