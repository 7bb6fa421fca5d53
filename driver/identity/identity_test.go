package identity_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

func TestVerifyConfirms(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"pending": nil,
		"running": func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning },
		"second volume": func(p *corev1.Pod) {
			p.Spec.Volumes = append([]corev1.Volume{{Name: "other"}}, p.Spec.Volumes...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verifier(t, clusterOf(pod(change)), nil).Verify(t.Context(), claim(nil))
			if err != nil {
				t.Fatalf("Verify() = %v, want nil", err)
			}
			if got.Pod.UID != podUID || got.Namespace.Name != "payments" || got.ServiceAccount.Name != "api" {
				t.Errorf("Verify() = %v, want the pod with its namespace and service account", got)
			}
		})
	}
}

func TestVerifyDefaultsTheServiceAccount(t *testing.T) {
	p := pod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "" })
	if _, err := verifier(t, clusterOf(p), nil).Verify(t.Context(), claim(func(c *identity.Claim) { c.ServiceAccount = "default" })); err != nil {
		t.Errorf("Verify(default service account) = %v, want nil", err)
	}
}

func deleted(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.Now()) }

// A pod may run for hours after its deletion: what is mounted is kept fresh.
func TestVerifyConfirmsAPodOnItsWayOut(t *testing.T) {
	c := claim(func(c *identity.Claim) { c.Mounted = true })
	if _, err := verifier(t, clusterOf(pod(deleted)), nil).Verify(t.Context(), c); err != nil {
		t.Errorf("Verify(mounted, being deleted) = %v, want nil", err)
	}
}

func TestVerifyRefusesStaticPods(t *testing.T) {
	for name, value := range map[string]string{"kubelet's": "264de746ed05c400fc34aa012602cab6", "an author's": "", "anything": "x"} {
		p := pod(func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: value} })
		_, err := verifier(t, clusterOf(p), nil).Verify(t.Context(), claim(nil))
		e, ok := errors.AsType[*kube.FieldError](err)
		if !ok || !strings.Contains(e.Field, "config.mirror") || !strings.Contains(e.Remedy, "DaemonSet") {
			t.Errorf("Verify(%s mirror) = %v, want *kube.FieldError that names the annotation and DaemonSet", name, err)
		}
	}
}

func TestVerifyAsksForTheClaimedUID(t *testing.T) {
	c := clusterOf(pod(nil))
	if _, err := verifier(t, c, nil).Verify(t.Context(), claim(nil)); err != nil || !slices.Equal(c.askedUIDs, []string{podUID}) {
		t.Errorf("Verify() = %v after asking for UIDs %v, want one call for the claimed one", err, c.askedUIDs)
	}
}

func TestVerifyRefusesWhatTheClusterContradicts(t *testing.T) {
	for name, c := range map[string]struct {
		pod   func(*corev1.Pod)
		claim func(*identity.Claim)
		field string
	}{
		"UID of the context differs from the path": {nil, func(c *identity.Claim) { c.ContextUID = "22222222-2222-4222-8222-222222222222" }, "pod UID"},
		"UID of a pod that was replaced":           {func(p *corev1.Pod) { p.UID = "33333333-3333-4333-8333-333333333333" }, nil, "pod UID"},
		"another pod":                              {func(p *corev1.Pod) { p.Name = "api-1" }, nil, "pod"},
		"another namespace":                        {func(p *corev1.Pod) { p.Namespace = "shop" }, nil, "pod"},
		"bound to another node":                    {func(p *corev1.Pod) { p.Spec.NodeName = "node-b" }, nil, "node"},
		"bound to no node":                         {func(p *corev1.Pod) { p.Spec.NodeName = "" }, nil, "node"},
		"succeeded":                                {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, nil, "pod"},
		"failed":                                   {func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, nil, "pod"},
		"being deleted before anything is mounted": {deleted, nil, "pod"},
		"no UID in the cluster nor in the claim":   {func(p *corev1.Pod) { p.UID = "" }, func(c *identity.Claim) { c.PodUID, c.ContextUID = "", "" }, "pod UID"},
		"ended while mounted":                      {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, func(c *identity.Claim) { c.Mounted = true }, "pod"},
		"another service account":                  {func(p *corev1.Pod) { p.Spec.ServiceAccountName = "web" }, nil, "service account"},
		"no such volume":                           {func(p *corev1.Pod) { p.Spec.Volumes[0].Name = "data" }, nil, "volume"},
		"a volume of another driver":               {func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.Driver = "other.csi" }, nil, "volume"},
		"a volume that is not CSI":                 {func(p *corev1.Pod) { p.Spec.Volumes[0].CSI = nil }, nil, "volume"},
		"an attribute more in the request":         {nil, func(c *identity.Claim) { c.Attributes["objects"] = "x" }, "volume attributes"},
		"an attribute more in the pod":             {func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.VolumeAttributes["objects"] = "x" }, nil, "volume attributes"},
		"another class in the request":             {nil, func(c *identity.Claim) { c.Attributes["secretProviderClass"] = "x" }, "volume attributes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verifier(t, clusterOf(pod(c.pod)), nil).Verify(t.Context(), claim(c.claim))
			got, ok := errors.AsType[*identity.UnconfirmedError](err)
			if !ok || got.Field != c.field {
				t.Fatalf("Verify() = %v, want *UnconfirmedError of field %q", err, c.field)
			}
			if !strings.Contains(err.Error(), c.field) {
				t.Errorf("Error() = %q, want it to name %q", err, c.field)
			}
		})
	}
}

func TestVerifyAsksNobodyAboutAForgedUID(t *testing.T) {
	c := clusterOf(pod(nil))
	_, err := verifier(t, c, nil).Verify(t.Context(), claim(func(c *identity.Claim) { c.ContextUID = "" }))
	if err == nil || c.calls != 0 {
		t.Errorf("Verify() = %v after %d calls, want an error after none", err, c.calls)
	}
}

func broken(object string) *cluster {
	c := clusterOf(pod(nil))
	c.broken = object
	return c
}

func TestVerifyTellsMissingFromUnavailable(t *testing.T) {
	for name, c := range map[string]struct {
		cluster *cluster
		missing bool
	}{
		"no pod":                      {clusterOf(nil), true},
		"no service account":          {broken("service account"), true},
		"pod unreadable":              {broken("pod"), false},
		"namespace unreadable":        {broken("namespace"), false},
		"CSIDriver object unreadable": {broken("CSIDriver object"), false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verifier(t, c.cluster, nil).Verify(t.Context(), claim(nil))
			_, unavailable := errors.AsType[*identity.UnavailableError](err)
			if errors.Is(err, kube.ErrNotFound) != c.missing || unavailable == c.missing {
				t.Errorf("Verify() = %v, want missing %t", err, c.missing)
			}
			if got.Pod != nil {
				t.Error("an error came with a confirmed pod")
			}
		})
	}
}

func TestNewNamesTheMissingField(t *testing.T) {
	full := identity.Config{Cluster: &cluster{}, Node: "n", DriverName: "d"}
	for field, change := range map[string]func(*identity.Config){
		"Cluster":    func(c *identity.Config) { c.Cluster = nil },
		"Node":       func(c *identity.Config) { c.Node = "" },
		"DriverName": func(c *identity.Config) { c.DriverName = "" },
	} {
		c := full
		change(&c)
		if _, err := identity.New(c); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("New(without %s) = %v, want an error that names it", field, err)
		}
	}
}
