package main_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/manifests"
)

// TestTheSampleIsAllowedByTheStarterPolicy: whoever follows the documents gets a
// pod that mounts, and not a lesson in refusals. The samples with grants of
// their own are decided in package deploy.
func TestTheSampleIsAllowedByTheStarterPolicy(t *testing.T) {
	sample, err := os.ReadFile(filepath.Join("..", "..", "deploy", "samples", "local.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "local.yaml"), sample, 0o600); err != nil {
		t.Fatal(err)
	}
	samples, err := manifests.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer samples.Close()
	starter, err := bundle.LoadDirectory(filepath.Join("..", "..", "policies", "rego", "starter"))
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policies.Compile(t.Context(), starter, policies.Options{Budget: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	facts := sampleFacts(t, samples)
	input, _, err := kube.BuildInput(facts)
	if err != nil {
		t.Fatal(err)
	}
	if d := engine.Decide(t.Context(), input); d.Verdict() != policies.VerdictAllow || len(d.Warn) > 0 {
		t.Errorf("Decide(the sample) = %v, denials %v, warnings %v, cause %v, want allow", d.Verdict(), d.Deny, d.Warn, d.Cause())
	}
	facts.Pod.Spec.ServiceAccountName, facts.ServiceAccount.Name = "other", "other"
	if input, _, err = kube.BuildInput(facts); err != nil {
		t.Fatal(err)
	}
	if d := engine.Decide(t.Context(), input); d.Verdict() != policies.VerdictDeny {
		t.Errorf("Decide(the sample as another account) = %v, want deny", d.Verdict())
	}
}

// sampleFacts are those of the sample's pod, once it runs on a node.
func sampleFacts(t *testing.T, samples *manifests.Directory) kube.Facts {
	t.Helper()
	const namespace, name, node, driver = "payments", "api", "node1", "secrets-store.csi.k8s.io"
	pod, err := samples.Pod(t.Context(), namespace, name, "")
	if err != nil {
		t.Fatal(err)
	}
	pod.UID, pod.Spec.NodeName = "11111111-1111-4111-8111-111111111111", node
	ns, err := samples.Namespace(t.Context(), namespace)
	if err != nil {
		t.Fatal(err)
	}
	account, err := samples.ServiceAccount(t.Context(), namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		t.Fatal(err)
	}
	volume := pod.Spec.Volumes[0]
	class, err := samples.Class(t.Context(), namespace, volume.CSI.VolumeAttributes["secretProviderClass"])
	if err != nil {
		t.Fatal(err)
	}
	class.UID, class.Generation = "22222222-2222-4222-8222-222222222222", 1
	return kube.Facts{
		Phase: policies.PhaseMount, Now: time.Now(), Cluster: "test", Node: node, DriverName: driver,
		Pod: pod, Namespace: ns, ServiceAccount: account, Class: class,
		VolumeName: volume.Name, VolumeMountGroup: pod.Spec.SecurityContext.FSGroup, TokenVerified: new(true),
	}
}
