//go:build e2e

package e2e_test

import (
	"fmt"
	"strings"
	"testing"
)

// Metrics and readiness are read from the network of pods, as Prometheus and
// kubelet read them. The lab's network enforces no NetworkPolicy, so that of the
// chart is not tried here.
func TestMetricsAndReadinessInThePodNetwork(t *testing.T) {
	w := inTurn(t, rights)
	p := w.started(pod(w.namespace("scrapes"), "app"))
	plugin := w.plugin().Status.PodIP
	read := func(port int, path string) string {
		t.Helper()
		// The image's wget needs libraries that the image has not.
		out, err := w.sh(p, "", fmt.Sprintf(`printf 'GET %s HTTP/1.0\r\n\r\n' | nc -w 10 %s %d`, path, plugin, port))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	w.holds(read(9808, "/readyz"), "[+] policy", "[+] audit log", "[+] kubelet registration", "[+] release build")
	w.holds(read(9808, "/healthz"), "ok")
	metrics := read(8095, "/metrics")
	w.holds(metrics, "\nnode_publish_total{", "\nportcullis_")
	for _, private := range []string{"first", "scott", "app/password", `"app"`, "scrapes/"} {
		if strings.Contains(metrics, private) {
			t.Errorf("/metrics says %q, which is about a pod or its secrets", private)
		}
	}
	// The Service of the chart leads to it.
	slices := w.kubectl("get", "endpointslices", "-n", system, "-l", "kubernetes.io/service-name=csi-secrets-store-metrics", "-o", "jsonpath={.items[*].endpoints[*].addresses[*]} {.items[*].ports[*].port}")
	if slices != plugin+" 8095" {
		t.Errorf("the metrics' Service leads to %q, want %s 8095", slices, plugin)
	}
}
