package kube

import (
	"errors"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies"
)

// Facts are what one decision is about. Objects are as the API server has
// them; BuildInput only reads them.
type Facts struct {
	Phase      policies.Phase
	Now        time.Time
	Cluster    string
	Node       string // empty before the pod has one
	DriverName string // CSI driver name of our volumes; empty: not compared

	Pod            *corev1.Pod
	Namespace      *corev1.Namespace
	ServiceAccount *corev1.ServiceAccount
	Class          *spcv1.SecretProviderClass

	VolumeName string
	// VolumeMountGroup is the group in kubelet's request. Before there is a
	// request it is nil, and the pod's fsGroup counts: kubelet sends that.
	VolumeMountGroup *int64

	Tokens        []policies.Token
	TokenVerified *bool               // nil before mount
	Requester     *policies.Requester // admission only
}

// BuildInput returns the input of the decision, and the parameters that a grant
// of it permits. Errors are *FieldError, *SpoofError or *MissingFactError; the
// Effective returned with one is the zero value.
func BuildInput(f Facts) (policies.Input, Effective, error) {
	csi, err := f.check()
	if err != nil {
		return policies.Input{}, Effective{}, err
	}
	effective, changed, err := merge(f.Class, csi.VolumeAttributes, f.Pod.Annotations)
	if err != nil {
		return policies.Input{}, Effective{}, err
	}
	in := policies.Input{
		Contract:  policies.Contract,
		Phase:     f.Phase,
		NowNS:     f.Now.UnixNano(),
		Cluster:   f.Cluster,
		Subject:   f.subject(),
		Tokens:    f.Tokens,
		Requester: f.Requester,
		Pod:       podFacts(f.Pod, f.VolumeName),
		Volume: policies.Volume{
			Name:             f.VolumeName,
			ReadOnly:         true,
			Ephemeral:        true,
			VolumeMountGroup: f.group(),
			Overrides:        changed,
		},
	}
	if csi.NodePublishSecretRef != nil {
		in.Volume.NodePublishSecretRef = csi.NodePublishSecretRef.Name
	}
	if err := f.addSecrets(&in, effective); err != nil {
		return policies.Input{}, Effective{}, err
	}
	if err := in.Validate(); err != nil {
		return policies.Input{}, Effective{}, asFieldError(err)
	}
	return in, effective, nil
}

// asFieldError keeps what an input error says about the field and the remedy.
func asFieldError(err error) error {
	if e, ok := errors.AsType[*policies.InputError](err); ok {
		return &FieldError{Field: e.Field, Problem: e.Limit, Remedy: e.Remedy}
	}
	return err
}

func (f Facts) subject() policies.Subject {
	return policies.Subject{
		Namespace:                 f.Pod.Namespace,
		NamespaceLabels:           maps.Clone(f.Namespace.Labels),
		ServiceAccount:            serviceAccountOf(f.Pod),
		ServiceAccountAnnotations: annotations(f.ServiceAccount.Annotations),
		PodName:                   f.Pod.Name,
		PodUID:                    string(f.Pod.UID),
		Node:                      f.Node,
		TokenVerified:             f.TokenVerified,
	}
}

// serviceAccountOf applies the API server's default, for pods that were never
// admitted.
func serviceAccountOf(pod *corev1.Pod) string {
	if pod.Spec.ServiceAccountName == "" {
		return "default"
	}
	return pod.Spec.ServiceAccountName
}

// annotations leaves out kubectl's copy of the whole object: it says nothing
// that the object does not, and may alone exceed the bound.
func annotations(all map[string]string) map[string]string {
	kept := maps.Clone(all)
	delete(kept, corev1.LastAppliedConfigAnnotation)
	return kept
}

// addSecrets fills in what the class asks for.
func (f Facts) addSecrets(in *policies.Input, e Effective) error {
	reading := read(e.provider, e.merged(), f.Pod.Annotations, e.digest)
	if reading.TooMany {
		return &FieldError{fieldParameters, "lists more than 64 secrets", "split the SecretProviderClass"}
	}
	if err := addSync(reading.Requests, f.Class.Spec.SecretObjects); err != nil {
		return err
	}
	in.Requests = reading.Requests
	in.SPC = policies.SPC{
		Name:               f.Class.Name,
		UID:                string(f.Class.UID),
		Generation:         f.Class.Generation,
		Provider:           e.provider,
		ParametersSHA256:   e.digest,
		Parameters:         shown(e.merged(), reading.Safe),
		Scoping:            reading.Scoping,
		LiteralCredentials: reading.LiteralCredentials,
	}
	return nil
}

// shown returns the names of all parameters, and the values of safe ones.
func shown(parameters map[string]string, safe []string) map[string]string {
	m := make(map[string]string, len(parameters))
	for name, value := range parameters {
		switch {
		case name == attrClass:
		case slices.Contains(safe, name):
			m[name] = value
		default:
			m[name] = "(present)"
		}
	}
	return m
}
