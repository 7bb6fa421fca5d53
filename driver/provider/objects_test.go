package provider_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const conjurGrants = `
- id: G-1
  owner: payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: conjur
  secrets: ["conjur://conjur.example,acme/prod/*"]
  scoping: {account: acme, applianceUrl: "https://conjur.example"}
`

// conjurUnparsed grants the digest of parameters in full.
const conjurUnparsed = `
- id: G-2
  owner: payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: conjur
  secrets: ["%s"]
  scoping: {account: acme, applianceUrl: "https://conjur.example"}
`

// conjurCall is a decision about what the pod's annotation lists.
func conjurCall(t *testing.T, annotation string) provider.Call {
	t.Helper()
	meta := metav1.ObjectMeta{Name: "api", Namespace: "payments"}
	pod := &corev1.Pod{ObjectMeta: *meta.DeepCopy(), Spec: corev1.PodSpec{ServiceAccountName: "api"}}
	pod.UID, pod.Annotations = "11111111-1111-4111-8111-111111111111", map[string]string{"conjur.org/secrets": annotation}
	pod.Spec.Volumes = []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
		Driver: "secrets-store.csi.k8s.io", ReadOnly: new(true), VolumeAttributes: map[string]string{"secretProviderClass": "api"},
	}}}}
	in, e, err := kube.BuildInput(kube.Facts{
		Phase: policies.PhaseMount, Now: time.Unix(0, policiestest.Now), Cluster: "c", Node: "n", VolumeName: "secrets", TokenVerified: new(true), Pod: pod,
		Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}, ServiceAccount: &corev1.ServiceAccount{ObjectMeta: meta},
		Class: &spcv1.SecretProviderClass{ObjectMeta: meta, Spec: spcv1.SecretProviderClassSpec{
			Provider: "conjur", Parameters: map[string]string{"account": "acme", "applianceUrl": "https://conjur.example"},
		}},
	})
	if err != nil {
		t.Fatalf("BuildInput() = %v", err)
	}
	grants := conjurGrants
	if in.Requests[0].ParseError != "" {
		grants = fmt.Sprintf(conjurUnparsed, in.Requests[0].Secret)
	}
	g, err := policiestest.Engine(t, grants).Decide(t.Context(), in).Grant()
	if err != nil {
		t.Fatalf("Decide(%v).Grant() = %v", in.Requests, err)
	}
	return provider.Call{Grant: g, Effective: e, Volume: &providertest.Volume{}}
}

// The provider of Conjur reads the pod's annotation again, which may have come
// to name other variables for the same files.
func TestP3ObjectsAreThoseDecidedOn(t *testing.T) {
	for _, test := range []struct {
		name string
		ids  []string
		want provider.Reason
	}{
		{"those", []string{"prod/a", "prod/b"}, ""},
		{"in another order", []string{"prod/b", "prod/a"}, ""},
		{"another one", []string{"prod/a", "root/b"}, provider.BeyondGrant},
		{"one too many", []string{"prod/a", "prod/b", "prod/c"}, provider.BeyondGrant},
		{"one too few", []string{"prod/a"}, provider.BeyondGrant},
		{"the files", []string{"a", "b"}, provider.BeyondGrant},
	} {
		t.Run(test.name, func(t *testing.T) {
			content := map[string]string{"a": canary, "b": canary}
			r := providertest.Response(content)
			r.ObjectVersion = nil
			for _, id := range test.ids {
				r.ObjectVersion = append(r.ObjectVersion, &v1alpha1.ObjectVersion{Id: id, Version: "1"})
			}
			p := providertest.Start(t, providertest.Config{Name: "conjur", Handler: providertest.Reply(r)})
			call := conjurCall(t, "- a: prod/a\n- b: prod/b\n")
			_, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), call)
			if got := reasonOf(t, err); got != test.want {
				t.Errorf("Deliver(reported %q) = %v, want reason %q", test.ids, err, test.want)
			}
			var written []string
			if test.want == "" {
				written = slices.Sorted(maps.Keys(content))
			}
			if got := slices.Sorted(maps.Keys(volumeOf(t, call).Files())); !slices.Equal(got, written) {
				t.Errorf("volume has %q, want %q", got, written)
			}
		})
	}
}

// A grant of an annotation in full, which nobody could read, would be one of
// whatever the annotation says when the provider reads it.
func TestP3AnUnreadableAnnotationIsNotFetched(t *testing.T) {
	call := conjurCall(t, "- a: 0440\n")
	p := providertest.Start(t, providertest.Config{Name: "conjur", Handler: providertest.Files(map[string]string{"a": canary})})
	_, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), call)
	if got := reasonOf(t, err); got != provider.BeyondGrant || len(p.Calls()) != 0 {
		t.Errorf("Deliver(unreadable annotation) = %v after %d calls, want %s before any", err, len(p.Calls()), provider.BeyondGrant)
	}
}

const awsGrants = `
- id: G-3
  owner: payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: aws
  secrets: ["aws://eu-west-1/secretsmanager/db"]
  scoping: {region: eu-west-1}
`

// AWS's provider would look for a secret of a version that it is told in the
// directory of target_path, which does not exist.
func TestAWSIsNotToldVersions(t *testing.T) {
	e := effectiveOf(t, "aws", map[string]string{"region": "eu-west-1", "objects": "- objectName: db\n  objectType: secretsmanager\n"})
	in := policiestest.Input(func(in *policies.Input) {
		in.SPC.Provider, in.SPC.ParametersSHA256, in.SPC.Scoping = "aws", e.Digest(), map[string]string{"region": "eu-west-1"}
		in.Requests = []policies.Request{{Secret: "aws://eu-west-1/secretsmanager/db", File: "db"}}
	})
	g, err := policiestest.Engine(t, awsGrants).Decide(t.Context(), in).Grant()
	if err != nil {
		t.Fatalf("Decide(%v).Grant() = %v", in.Requests, err)
	}
	p := providertest.Start(t, providertest.Config{Name: "aws", Handler: providertest.Files(map[string]string{"db": canary})})
	call := provider.Call{Grant: g, Effective: e, Volume: &providertest.Volume{}, CurrentVersions: []provider.ObjectVersion{{ID: "db", Version: "v0"}}}
	if _, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), call); err != nil {
		t.Fatalf("Deliver() = %v", err)
	}
	if calls := p.Calls(); len(calls) != 1 || len(calls[0].GetCurrentObjectVersion()) != 0 {
		t.Errorf("the provider saw %v, want one call without versions", calls)
	}
}

// A decision about one annotation is none about another.
func TestP3AnAnnotationIsPartOfTheDigest(t *testing.T) {
	call := conjurCall(t, "- a: prod/a\n")
	call.Effective = conjurCall(t, "- a: prod/b\n").Effective
	p := providertest.Start(t, providertest.Config{Name: "conjur", Handler: providertest.Files(map[string]string{"a": canary})})
	_, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), call)
	if got := reasonOf(t, err); got != provider.ParametersChanged || len(p.Calls()) != 0 {
		t.Errorf("Deliver(another annotation) = %v after %d calls, want %s before any", err, len(p.Calls()), provider.ParametersChanged)
	}
}
