package workload

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/template"
)

// Objects are what manifests hold.
type Objects struct {
	// Ignored counts objects of kinds that have no secrets volumes, by kind.
	Ignored map[string]int

	namespace string // of objects that name none
	workloads []*Workload
	byKey     map[key]object
	in        map[key]string // name of the file
}

type key struct{ kind, namespace, name string }

// Parse reads manifests. Objects that name no namespace are in the given one, as
// kubectl has it. Objects that exist twice are refused: the answer would be about
// one of them only.
func Parse(files []File, namespace string) (*Objects, error) {
	if len(validation.IsDNS1123Label(namespace)) > 0 {
		return nil, fmt.Errorf("read manifests: namespace %q is not a name; hint: use lower case letters, digits and -", namespace)
	}
	o := &Objects{Ignored: map[string]int{}, namespace: namespace, byKey: map[key]object{}, in: map[key]string{}}
	d := newDecoder(o)
	for _, f := range files {
		if err := d.file(f); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// Workloads returns what has or makes pods, in the order of the manifests.
func (o *Objects) Workloads() []*Workload { return slices.Clone(o.workloads) }

func (o *Objects) add(found object, kind, file string) error {
	k := key{kind, found.GetNamespace(), found.GetName()}
	if kind == "Namespace" {
		if k.namespace != "" {
			return fmt.Errorf("metadata.namespace of a Namespace is set; hint: remove it")
		}
	} else if k.namespace == "" {
		k.namespace = o.namespace
		found.SetNamespace(o.namespace)
	}
	if kind == "Pod" && k.name == "" && found.GetGenerateName() != "" {
		k.name = template.Generated(found.GetGenerateName())
		found.SetName(k.name)
	}
	if len(validation.IsDNS1123Subdomain(k.name)) > 0 {
		return fmt.Errorf("metadata.name of a %s is missing or not a name; hint: use lower case letters, digits, dots and -", kind)
	}
	if k.namespace != "" && len(validation.IsDNS1123Label(k.namespace)) > 0 {
		return fmt.Errorf("metadata.namespace of %s %q is not a name; hint: use lower case letters, digits and -", kind, k.name)
	}
	if other, ok := o.in[k]; ok {
		return fmt.Errorf("%s %q is also in %q; hint: name the files of one deployment", kind, k.name, other)
	}
	o.byKey[k], o.in[k] = found, file
	if w := of(found, k, file); w != nil {
		o.workloads = append(o.workloads, w)
	}
	return nil
}

// Namespace returns a namespace, or an error that is kube.ErrNotFound. It has
// the label with its name, which the API server sets.
func (o *Objects) Namespace(_ context.Context, name string) (*corev1.Namespace, error) {
	found, err := lookUp[*corev1.Namespace](o, key{"Namespace", "", name})
	if err != nil {
		return nil, err
	}
	named := found.DeepCopy()
	if named.Labels == nil {
		named.Labels = map[string]string{}
	}
	named.Labels[corev1.LabelMetadataName] = name
	return named, nil
}

// ServiceAccount returns a service account, or an error that is kube.ErrNotFound.
func (o *Objects) ServiceAccount(_ context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return lookUp[*corev1.ServiceAccount](o, key{"ServiceAccount", namespace, name})
}

// Class returns a SecretProviderClass, or an error that is kube.ErrNotFound.
func (o *Objects) Class(_ context.Context, namespace, name string) (*spcv1.SecretProviderClass, error) {
	return lookUp[*spcv1.SecretProviderClass](o, key{"SecretProviderClass", namespace, name})
}

func lookUp[T object](o *Objects, k key) (T, error) {
	var none T
	found, ok := o.byKey[k].(T)
	if !ok {
		return none, fmt.Errorf("%s %q in namespace %q: %w", k.kind, k.name, k.namespace, kube.ErrNotFound)
	}
	return found, nil
}
