package workload

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies/kube/template"
)

// Workload is a Pod, or what makes pods.
type Workload struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Source    string `json:"source,omitempty"` // file, absent: the cluster

	// Pod is the pod, or the one that would be made.
	Pod *corev1.Pod `json:"-"`
	// Derived says that the pod comes from a template.
	Derived bool `json:"derived,omitempty"`
}

// FromPod returns the workload of a pod that runs: the pod itself.
func FromPod(pod *corev1.Pod) *Workload {
	return &Workload{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, Pod: pod}
}

// of returns the workload that an object is, nil if it is none.
func of(o object, k key, file string) *Workload {
	pod := template.Pod(o, k.namespace)
	if pod == nil {
		return nil
	}
	_, itself := o.(*corev1.Pod)
	return &Workload{Kind: k.kind, Namespace: k.namespace, Name: k.name, Source: file, Pod: pod, Derived: !itself}
}
