package admission

import (
	"errors"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

// errUndecodable repeats nothing of the object: a decoder's error may quote it.
var errUndecodable = errors.New("the object cannot be read")

// newDecoder matches field names exactly, as the API server does. Fields it does
// not know are those of a newer API server, which has checked them.
func newDecoder() runtime.Decoder {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Pod{}, &corev1.ReplicationController{})
	scheme.AddKnownTypes(appsv1.SchemeGroupVersion, &appsv1.Deployment{}, &appsv1.ReplicaSet{}, &appsv1.StatefulSet{}, &appsv1.DaemonSet{})
	scheme.AddKnownTypes(batchv1.SchemeGroupVersion, &batchv1.Job{}, &batchv1.CronJob{})
	scheme.AddKnownTypes(spcv1.SchemeGroupVersion, &spcv1.SecretProviderClass{})
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{})
}

// decode reads an object of the kind that the request names.
func (g *gate) decode(v review, raw []byte) (runtime.Object, error) {
	want := schema.GroupVersionKind{Group: v.Kind.Group, Version: v.Kind.Version, Kind: v.Kind.Kind}
	o, have, err := g.decoder.Decode(raw, &want, nil)
	if err != nil || have == nil || *have != want {
		return nil, errUndecodable
	}
	return o, nil
}

// decodePod reads a pod and puts it where the request says that it is: the
// namespace of an object under review may be left to the path.
func (g *gate) decodePod(v review, raw []byte) (*corev1.Pod, error) {
	o, err := g.decode(v, raw)
	if err != nil {
		return nil, err
	}
	pod, ok := o.(*corev1.Pod)
	if !ok || v.Namespace == "" || pod.Namespace != "" && pod.Namespace != v.Namespace {
		return nil, errUndecodable
	}
	pod.Namespace = v.Namespace
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = pod.Spec.DeprecatedServiceAccount
	}
	return pod, nil
}
