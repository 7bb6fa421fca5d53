package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies/kube"
)

// kubeletPrefix begins the volume attributes that kubelet adds; an author's
// own keys of that form pass through beside them, so they are no evidence.
const kubeletPrefix = "csi.storage.k8s.io/"

// Claim is what kubelet says: unconfirmed.
type Claim struct {
	Namespace, Pod, ServiceAccount string            // from the volume context
	PodUID, Volume                 string            // from the target path
	ContextUID                     string            // pod UID in the volume context
	Attributes                     map[string]string // the whole volume context
}

// Confirmed holds the objects that the cluster confirms.
type Confirmed struct {
	Pod            *corev1.Pod
	Namespace      *corev1.Namespace
	ServiceAccount *corev1.ServiceAccount
}

// Cluster reads the objects that identify a pod. A missing object is an error
// that is kube.ErrNotFound. The UID is the claimed one: a cache that holds an
// earlier pod of the same name must not answer for it.
type Cluster interface {
	Pod(ctx context.Context, namespace, name, uid string) (*corev1.Pod, error)
	Namespace(ctx context.Context, name string) (*corev1.Namespace, error)
	ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
}

// UnconfirmedError says which part of a claim the cluster contradicts.
type UnconfirmedError struct {
	Field   string // what was compared
	Problem string // our words, without the value
}

// Error names the field.
func (e *UnconfirmedError) Error() string {
	return fmt.Sprintf("identity not confirmed: %s %s", e.Field, e.Problem)
}

// UnavailableError says that a fact could not be read. It is not evidence of
// anything.
type UnavailableError struct {
	Object string // pod, namespace or service account
	err    error
}

// Error names the object.
func (e *UnavailableError) Error() string { return fmt.Sprintf("read %s: %v", e.Object, e.err) }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.err }

// Config of a Verifier; every field is required.
type Config struct {
	Cluster    Cluster
	Node       string // name of this node
	DriverName string // CSI driver name of our volumes
}

// Verifier confirms claims.
type Verifier struct{ c Config }

// New returns a Verifier, or an error that names the missing field.
func New(c Config) (*Verifier, error) {
	switch {
	case c.Cluster == nil:
		return nil, errors.New("configure identity: Cluster is missing")
	case c.Node == "":
		return nil, errors.New("configure identity: Node is missing")
	case c.DriverName == "":
		return nil, errors.New("configure identity: DriverName is missing")
	}
	return &Verifier{c: c}, nil
}

// Verify confirms a claim. Errors are *UnconfirmedError, *UnavailableError, or
// wrap kube.ErrNotFound.
func (v *Verifier) Verify(ctx context.Context, c Claim) (Confirmed, error) {
	if c.ContextUID != c.PodUID {
		return Confirmed{}, &UnconfirmedError{"pod UID", "in the volume context is not the one in the target path"}
	}
	pod, err := v.c.Cluster.Pod(ctx, c.Namespace, c.Pod, c.PodUID)
	if err != nil {
		return Confirmed{}, unavailable("pod", err)
	}
	if err := v.checkPod(pod, c); err != nil {
		return Confirmed{}, err
	}
	ns, err := v.c.Cluster.Namespace(ctx, c.Namespace)
	if err != nil {
		return Confirmed{}, unavailable("namespace", err)
	}
	sa, err := v.c.Cluster.ServiceAccount(ctx, c.Namespace, c.ServiceAccount)
	if err != nil {
		return Confirmed{}, unavailable("service account", err)
	}
	return Confirmed{Pod: pod, Namespace: ns, ServiceAccount: sa}, nil
}

func (v *Verifier) checkPod(pod *corev1.Pod, c Claim) error {
	switch {
	case pod.Namespace != c.Namespace || pod.Name != c.Pod:
		return &UnconfirmedError{"pod", "has another name in the cluster"}
	case string(pod.UID) != c.PodUID:
		return &UnconfirmedError{"pod UID", "is not that of the pod of this name in the cluster"}
	case pod.Spec.NodeName != v.c.Node:
		return &UnconfirmedError{"node", "of the pod is not this node"}
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return &UnconfirmedError{"pod", "has already ended"}
	case serviceAccountOf(pod) != c.ServiceAccount:
		return &UnconfirmedError{"service account", "is not the pod's in the cluster"}
	}
	return v.checkVolume(pod, c)
}

func (v *Verifier) checkVolume(pod *corev1.Pod, c Claim) error {
	for _, vol := range pod.Spec.Volumes {
		if vol.Name != c.Volume {
			continue
		}
		if vol.CSI == nil || vol.CSI.Driver != v.c.DriverName {
			return &UnconfirmedError{"volume", "of this name in the pod does not belong to this driver"}
		}
		if !maps.Equal(authored(vol.CSI.VolumeAttributes), authored(c.Attributes)) {
			return &UnconfirmedError{"volume attributes", "differ from the pod's in the cluster"}
		}
		return nil
	}
	return &UnconfirmedError{"volume", "of this name is not in the pod"}
}

// authored returns the attributes that only the pod's author can have written.
func authored(attributes map[string]string) map[string]string {
	own := make(map[string]string, len(attributes))
	for k, v := range attributes {
		if !strings.HasPrefix(k, kubeletPrefix) {
			own[k] = v
		}
	}
	return own
}

// serviceAccountOf applies the API server's default, for manifests that were
// never admitted.
func serviceAccountOf(pod *corev1.Pod) string {
	if pod.Spec.ServiceAccountName == "" {
		return "default"
	}
	return pod.Spec.ServiceAccountName
}

func unavailable(object string, err error) error {
	if errors.Is(err, kube.ErrNotFound) {
		return fmt.Errorf("%s: %w", object, err)
	}
	return &UnavailableError{Object: object, err: err}
}
