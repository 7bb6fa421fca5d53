package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

// attrClass names the class in volumeAttributes.
const attrClass = "secretProviderClass"

// Source finds the objects that pods refer to. An error that is kube.ErrNotFound
// says that there is none; every other that nobody can say.
type Source interface {
	Namespace(ctx context.Context, name string) (*corev1.Namespace, error)
	ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
	Class(ctx context.Context, namespace, name string) (*spcv1.SecretProviderClass, error)
}

// Circumstances of inputs. Sources may be empty, every other field is required.
type Circumstances struct {
	Now        time.Time
	Cluster    string
	DriverName string
	Sources    []Source // the first that has an object wins
}

// Volume is one secrets volume of a workload, with the input of its decision.
type Volume struct {
	Workload *Workload
	Name     string
	Class    string // name of the SecretProviderClass, "" where the volume names none
	// Input is complete where Err is nil.
	Input policies.Input
	// Err says why there is nothing to decide: a *kube.FieldError, *kube.SpoofError,
	// *NoClassError, or what a source could not tell.
	Err error
	// Assumed says which facts no source has, and what was taken instead.
	Assumed []string
}

// NoClassError says that the class of a volume does not exist.
type NoClassError struct{ Namespace, Name string }

// Error is what kubelet reports at the mount.
func (e *NoClassError) Error() string {
	return fmt.Sprintf("SecretProviderClass %s/%s not found", e.Namespace, e.Name)
}

// Unwrap says that it is not found.
func (e *NoClassError) Unwrap() error { return kube.ErrNotFound }

// Volumes returns the volumes of this driver in a workload, in the pod's order.
func (c Circumstances) Volumes(ctx context.Context, w *Workload) []Volume {
	var all []Volume
	for i := range w.Pod.Spec.Volumes {
		if csi := w.Pod.Spec.Volumes[i].CSI; csi != nil && csi.Driver == c.DriverName {
			all = append(all, c.volume(ctx, w, &w.Pod.Spec.Volumes[i]))
		}
	}
	return all
}

func (c Circumstances) volume(ctx context.Context, w *Workload, v *corev1.Volume) Volume {
	found := Volume{Workload: w, Name: v.Name, Class: v.CSI.VolumeAttributes[attrClass]}
	if len(validation.IsDNS1123Subdomain(found.Class)) > 0 {
		found.Class = ""
		found.Err = &kube.FieldError{
			Field: "csi.volumeAttributes[" + attrClass + "]", Problem: "is missing or not a name", Remedy: "name the SecretProviderClass there",
		}
		return found
	}
	facts := kube.Facts{
		Phase: policies.PhaseCI, Now: c.Now, Cluster: c.Cluster, DriverName: c.DriverName, Pod: w.Pod, VolumeName: v.Name,
	}
	if found.Err = c.objects(ctx, &found, &facts); found.Err == nil {
		found.Input, _, found.Err = kube.BuildInput(facts)
	}
	return found
}

// objects finds what the pod refers to. A class has to exist; of a namespace or
// service account that is made later, nothing but the name is known.
func (c Circumstances) objects(ctx context.Context, v *Volume, f *kube.Facts) error {
	pod := f.Pod
	var err error
	f.Class, err = first(c.Sources, func(s Source) (*spcv1.SecretProviderClass, error) { return s.Class(ctx, pod.Namespace, v.Class) })
	if errors.Is(err, kube.ErrNotFound) {
		return &NoClassError{pod.Namespace, v.Class}
	}
	if err != nil {
		return err
	}
	f.Namespace, err = first(c.Sources, func(s Source) (*corev1.Namespace, error) { return s.Namespace(ctx, pod.Namespace) })
	if errors.Is(err, kube.ErrNotFound) {
		f.Namespace, err = plainNamespace(pod.Namespace), nil
		v.Assumed = append(v.Assumed, fmt.Sprintf("namespace %s has no labels but its name", pod.Namespace))
	}
	if err != nil {
		return err
	}
	name := pod.Spec.ServiceAccountName
	f.ServiceAccount, err = first(c.Sources, func(s Source) (*corev1.ServiceAccount, error) {
		return s.ServiceAccount(ctx, pod.Namespace, name)
	})
	if errors.Is(err, kube.ErrNotFound) {
		f.ServiceAccount, err = &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: pod.Namespace}}, nil
		v.Assumed = append(v.Assumed, fmt.Sprintf("service account %s/%s has no annotations", pod.Namespace, name))
	}
	return err
}

// plainNamespace has the one label that the API server sets.
func plainNamespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelMetadataName: name}}}
}

// first asks one source after the other, as long as they know of no such object.
func first[T any](sources []Source, ask func(Source) (T, error)) (found T, err error) {
	err = kube.ErrNotFound
	for _, s := range sources {
		if found, err = ask(s); !errors.Is(err, kube.ErrNotFound) {
			return found, err
		}
	}
	return found, err
}
