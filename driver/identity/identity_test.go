package identity_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

const (
	driverName = "secrets-store.csi.k8s.io"
	podUID     = "11111111-1111-4111-8111-111111111111"
)

// cluster answers from fields; broken makes one kind of object unreadable.
type cluster struct {
	pod    *corev1.Pod
	broken string
	calls  int
}

var errTimeout = errors.New("context deadline exceeded while reading from 10.0.0.1")

func (c *cluster) Pod(_ context.Context, _, name, _ string) (*corev1.Pod, error) {
	c.calls++
	if c.broken == "pod" {
		return nil, errTimeout
	}
	if c.pod == nil {
		return nil, fmt.Errorf("pod %s: %w", name, kube.ErrNotFound)
	}
	return c.pod, nil
}

func (c *cluster) Namespace(_ context.Context, name string) (*corev1.Namespace, error) {
	if c.broken == "namespace" {
		return nil, errTimeout
	}
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, nil
}

func (c *cluster) ServiceAccount(_ context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	if c.broken == "service account" {
		return nil, kube.ErrNotFound
	}
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}, nil
}

func pod(change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "api-0", UID: podUID},
		Spec: corev1.PodSpec{
			NodeName: "node-a", ServiceAccountName: "api",
			Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
				Driver: driverName, VolumeAttributes: map[string]string{"secretProviderClass": "db"},
			}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	if change != nil {
		change(p)
	}
	return p
}

func claim(change func(*identity.Claim)) identity.Claim {
	c := identity.Claim{
		Namespace: "payments", Pod: "api-0", ServiceAccount: "api", PodUID: podUID, ContextUID: podUID, Volume: "secrets",
		Attributes: map[string]string{"secretProviderClass": "db", "csi.storage.k8s.io/pod.name": "api-0", "csi.storage.k8s.io/ephemeral": "true"},
	}
	if change != nil {
		change(&c)
	}
	return c
}

func verifier(t *testing.T, c *cluster) *identity.Verifier {
	t.Helper()
	v, err := identity.New(identity.Config{Cluster: c, Node: "node-a", DriverName: driverName})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerifyConfirms(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"pending": nil,
		"running": func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning },
		"being deleted": func(p *corev1.Pod) {
			now := metav1.Now()
			p.DeletionTimestamp = &now // its containers still need their secrets
		},
		"second volume": func(p *corev1.Pod) {
			p.Spec.Volumes = append([]corev1.Volume{{Name: "other"}}, p.Spec.Volumes...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verifier(t, &cluster{pod: pod(change)}).Verify(t.Context(), claim(nil))
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
	if _, err := verifier(t, &cluster{pod: p}).Verify(t.Context(), claim(func(c *identity.Claim) { c.ServiceAccount = "default" })); err != nil {
		t.Errorf("Verify(default service account) = %v, want nil", err)
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
		"another service account":                  {func(p *corev1.Pod) { p.Spec.ServiceAccountName = "web" }, nil, "service account"},
		"no such volume":                           {func(p *corev1.Pod) { p.Spec.Volumes[0].Name = "data" }, nil, "volume"},
		"a volume of another driver":               {func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.Driver = "other.csi" }, nil, "volume"},
		"a volume that is not CSI":                 {func(p *corev1.Pod) { p.Spec.Volumes[0].CSI = nil }, nil, "volume"},
		"an attribute more in the request":         {nil, func(c *identity.Claim) { c.Attributes["objects"] = "x" }, "volume attributes"},
		"an attribute more in the pod":             {func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.VolumeAttributes["objects"] = "x" }, nil, "volume attributes"},
		"another class in the request":             {nil, func(c *identity.Claim) { c.Attributes["secretProviderClass"] = "x" }, "volume attributes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verifier(t, &cluster{pod: pod(c.pod)}).Verify(t.Context(), claim(c.claim))
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
	c := &cluster{pod: pod(nil)}
	_, err := verifier(t, c).Verify(t.Context(), claim(func(c *identity.Claim) { c.ContextUID = "" }))
	if err == nil || c.calls != 0 {
		t.Errorf("Verify() = %v after %d calls, want an error after none", err, c.calls)
	}
}

func TestVerifyTellsMissingFromUnavailable(t *testing.T) {
	for name, c := range map[string]struct {
		cluster *cluster
		missing bool
	}{
		"no pod":               {&cluster{}, true},
		"no service account":   {&cluster{pod: pod(nil), broken: "service account"}, true},
		"pod unreadable":       {&cluster{pod: pod(nil), broken: "pod"}, false},
		"namespace unreadable": {&cluster{pod: pod(nil), broken: "namespace"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verifier(t, c.cluster).Verify(t.Context(), claim(nil))
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
