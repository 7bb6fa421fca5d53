package kube_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/manifests"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden.json")

// stories are directories of testdata, with the pod that each is about.
func stories() map[string]struct{ namespace, pod, account, class string } {
	return map[string]struct{ namespace, pod, account, class string }{
		"plain":    {"payments", "api-0", "api", "db"},
		"hostile":  {"shop", "web", "default", "acme"},
		"debugged": {"shop", "web", "web", "odd"},
	}
}

// factsOfStory reads a story as the node would.
func factsOfStory(t *testing.T, name string) kube.Facts {
	t.Helper()
	s := stories()[name]
	d, err := manifests.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f := facts()
	var errs [4]error
	f.Pod, errs[0] = d.Pod(t.Context(), s.namespace, s.pod, "")
	f.Namespace, errs[1] = d.Namespace(t.Context(), s.namespace)
	f.ServiceAccount, errs[2] = d.ServiceAccount(t.Context(), s.namespace, s.account)
	f.Class, errs[3] = d.Class(t.Context(), s.namespace, s.class)
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.VolumeMountGroup = groupOf(f.Pod)
	return f
}

func groupOf(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// The input is the wire format that policy authors write against.
func TestGoldenInputs(t *testing.T) {
	for name := range stories() {
		t.Run(name, func(t *testing.T) {
			in, _, err := kube.BuildInput(factsOfStory(t, name))
			if err != nil {
				t.Fatalf("BuildInput(%q) = %v, want no error", name, err)
			}
			got, err := json.MarshalIndent(in, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			golden := filepath.Join("testdata", name+".golden.json")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("BuildInput(%q) differs (-want +got):\n%s", name, diff)
			}
			if bytes.Contains(got, []byte("Xcanary7")) {
				t.Errorf("BuildInput(%q) = %s, want no credential", name, got)
			}
		})
	}
}

// One pod at every gate: what only one gate has is all that may differ.
func TestP2EveryStoryAtEveryGate(t *testing.T) {
	for name := range stories() {
		t.Run(name, func(t *testing.T) {
			mount := factsOfStory(t, name)
			admission := factsOfStory(t, name)
			admission.Phase, admission.Node, admission.TokenVerified, admission.Tokens = policies.PhaseAdmission, "", nil, nil
			admission.VolumeMountGroup = nil
			admission.Requester = &policies.Requester{Username: "alice", Groups: []string{"system:authenticated"}}
			// What the API server and kubelet add between the gates.
			mount.Pod.Status = corev1.PodStatus{Phase: corev1.PodPending, HostIP: "10.0.0.1", QOSClass: corev1.PodQOSBurstable}
			mount.Pod.ResourceVersion, mount.Pod.Spec.NodeName = "77", "node-1"
			mount.Class.ResourceVersion, mount.Namespace.ResourceVersion = "78", "79"
			a, ea, err := kube.BuildInput(mount)
			if err != nil {
				t.Fatalf("BuildInput(mount) = %v, want no error", err)
			}
			b, eb, err := kube.BuildInput(admission)
			if err != nil {
				t.Fatalf("BuildInput(admission) = %v, want no error", err)
			}
			for _, in := range []*policies.Input{&a, &b} {
				in.Phase, in.Requester, in.Tokens, in.Subject.Node, in.Subject.TokenVerified = "", nil, nil, "", nil
			}
			if diff := cmp.Diff(a, b); diff != "" {
				t.Errorf("the gates differ (-mount +admission):\n%s", diff)
			}
			if ea.Digest() != eb.Digest() {
				t.Errorf("Digest() = %q at mount, %q at admission, want the same", ea.Digest(), eb.Digest())
			}
		})
	}
}

// Maps have no order in Go, the input must have one.
func TestP2InputIsDeterministic(t *testing.T) {
	for name := range stories() {
		var first []byte
		for range 50 {
			in, _, err := kube.BuildInput(factsOfStory(t, name))
			if err != nil {
				t.Fatalf("BuildInput(%q) = %v, want no error", name, err)
			}
			text, err := json.Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = text
			}
			if !bytes.Equal(first, text) {
				t.Fatalf("BuildInput(%q) = %s, then %s", name, first, text)
			}
		}
	}
}
