//go:build integration

package integration_test

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/test/plugintest"
)

// oneRegistry is a check that denies images of any other.
const oneRegistry = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.registry

deny contains finding if {
	some container in input.pod.containers
	not startswith(container.image, "registry.example/")
	finding := {"id": "PR-260", "severity": "high", "message": sprintf("image of container %s", [container.name]), "remediation": "use an image of the registry"}
}
`

// TestP9AnImageOfALivePodIsDecidedOn: by the plugin alone. Kubelet does not call,
// and nothing is fetched.
func TestP9AnImageOfALivePodIsDecidedOn(t *testing.T) {
	w := newWorld(t, "--policy-poll-interval=1s")
	patched, debugged, quiet := w.cluster.CreatePod(t, pod("patched")), w.cluster.CreatePod(t, pod("debugged")), w.cluster.CreatePod(t, pod("quiet"))
	first, second, third := w.withToken(w.request(patched, volume), patched), w.request(debugged, volume), w.request(quiet, volume)
	w.mounts(first, "db/password", "one")
	w.mounts(second, "db/password", "one")
	w.mounts(third, "db/password", "one")
	w.readies("[+] policy\n")
	w.readies("[+] API server caches\n")
	w.write("policy/portcullis/checks/registry/registry.rego", oneRegistry)
	plugintest.Eventually(t, "the bundle with the check decides", func() error {
		for _, e := range w.events(quiet) {
			if e.Policy != nil && e.Policy.Phase == "rotate" {
				return nil
			}
		}
		return errNotYet
	})
	calls := len(w.provider.Calls())

	pods := w.cluster.Client.CoreV1().Pods(namespace)
	patched, err := pods.Get(t.Context(), patched.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	patched.Spec.Containers[0].Image = "evil.example/main:1"
	debugged.Spec.EphemeralContainers = []corev1.EphemeralContainer{{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "evil.example/debug:1"},
	}}
	_, patchErr := pods.Update(t.Context(), patched, metav1.UpdateOptions{})
	_, debugErr := pods.UpdateEphemeralContainers(t.Context(), debugged.Name, debugged, metav1.UpdateOptions{})
	if err := errors.Join(patchErr, debugErr); err != nil {
		t.Fatal(err)
	}
	plugintest.Eventually(t, "both volumes are empty", func() error {
		if reads(first, "db/password")+reads(second, "db/password") != "" {
			return errNotYet
		}
		return nil
	})
	if got := reads(third, "db/password"); got != "one" {
		t.Errorf("the volume of a pod that did not change says %q, want its content", got)
	}
	if got := len(w.provider.Calls()); got != calls {
		t.Errorf("provider calls = %d, want %d as before", got, calls)
	}
	if err := w.plugin.Publish(first); status.Code(err) != codes.Unavailable {
		t.Errorf("the next republish = %v, want that kubelet is told once", err)
	}
	if err := w.plugin.Publish(first); err != nil {
		t.Errorf("the one after it = %v, want OK", err)
	}
}
