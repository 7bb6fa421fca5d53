package apiserver

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

const (
	acceptJSON     = "application/json"
	acceptMetadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	acceptList     = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	acceptKeys     = "application/jwk-set+json, application/json"
)

// kind is one of the kinds that are read.
type kind string

const (
	podKind       kind = "pod"
	namespaceKind kind = "namespace"
	accountKind   kind = "service account"
	classKind     kind = "SecretProviderClass"
	driverKind    kind = "CSIDriver"
)

// served is where the API server has a kind.
type served struct{ root, group, resource string }

func (k kind) served() served {
	switch k {
	case podKind:
		return served{"/api/v1", "", "pods"}
	case namespaceKind:
		return served{"/api/v1", "", "namespaces"}
	case accountKind:
		return served{"/api/v1", "", "serviceaccounts"}
	case classKind:
		return served{"/apis/" + spcv1.SchemeGroupVersion.String(), spcv1.SchemeGroupVersion.Group, "secretproviderclasses"}
	case driverKind:
		return served{"/apis/" + storagev1.SchemeGroupVersion.String(), storagev1.GroupName, "csidrivers"}
	default:
		return served{}
	}
}

// accept is what is asked for: of a namespace only the metadata.
func (k kind) accept() string {
	if k == namespaceKind {
		return acceptMetadata
	}
	return acceptJSON
}

// named is one object of a kind; namespace is empty for what is in none.
type named struct {
	kind            kind
	namespace, name string
}

func (k kind) of(namespace, name string) named { return named{k, namespace, name} }

func (n named) path() string {
	s := n.kind.served()
	if n.namespace == "" {
		return s.root + "/" + s.resource + "/" + n.name
	}
	return s.root + "/namespaces/" + n.namespace + "/" + s.resource + "/" + n.name
}

// possible reports whether an object can have this name. Authors of pods choose
// the names of classes, and a name with slashes would be another path.
func (n named) possible() bool {
	switch n.kind {
	case namespaceKind:
		return len(validation.IsDNS1123Label(n.name)) == 0
	case driverKind:
		return len(validation.IsDNS1123Subdomain(n.name)) == 0
	default:
		return len(validation.IsDNS1123Label(n.namespace)) == 0 && len(validation.IsDNS1123Subdomain(n.name)) == 0
	}
}

// String names the object for errors.
func (n named) String() string {
	if n.namespace == "" {
		return fmt.Sprintf("%s %q", n.kind, n.name)
	}
	return fmt.Sprintf("%s %q in namespace %q", n.kind, n.name, n.namespace)
}

// newScheme knows what is read, and nothing else: another kind is not decoded.
func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Pod{}, &corev1.PodList{}, &corev1.ServiceAccount{})
	scheme.AddKnownTypes(storagev1.SchemeGroupVersion, &storagev1.CSIDriver{}, &storagev1.CSIDriverList{})
	scheme.AddKnownTypes(spcv1.SchemeGroupVersion, &spcv1.SecretProviderClass{}, &spcv1.SecretProviderClassList{})
	scheme.AddKnownTypes(metav1.SchemeGroupVersion, &metav1.PartialObjectMetadata{}, &metav1.PartialObjectMetadataList{})
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	return scheme
}

// newDecoder matches field names exactly, as the API server does. Fields it does
// not know are those of a newer API server.
func newDecoder() runtime.Decoder {
	scheme := newScheme()
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{})
}
