package workload

import (
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Placeholders for what is generated: as long as the real thing, and of letters
// that it could have.
const (
	suffix = "xxxxx"
	hash   = "xxxxxxxxxx"
	minute = "00000000" // a CronJob names its Jobs by the minutes since 1970

	// maxBase is how much of a generateName the API server keeps.
	maxBase = 63 - len(suffix)

	labelTemplateHash = "pod-template-hash"
	labelPodIndex     = "apps.kubernetes.io/pod-index"
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
	w := &Workload{Kind: k.kind, Namespace: k.namespace, Name: k.name, Source: file, Derived: true}
	switch v := o.(type) {
	case *corev1.Pod:
		w.Derived = false
		w.Pod = v.DeepCopy()
	case *appsv1.Deployment:
		w.Pod = made(&v.Spec.Template, owner{"apps/v1", "ReplicaSet", v.Name + "-" + hash}, map[string]string{labelTemplateHash: hash})
	case *appsv1.ReplicaSet:
		w.Pod = made(&v.Spec.Template, owner{"apps/v1", k.kind, v.Name}, nil)
	case *corev1.ReplicationController:
		if v.Spec.Template == nil {
			return nil
		}
		w.Pod = made(v.Spec.Template, owner{"v1", k.kind, v.Name}, nil)
	case *appsv1.DaemonSet:
		w.Pod = made(&v.Spec.Template, owner{"apps/v1", k.kind, v.Name}, nil)
	case *appsv1.StatefulSet:
		w.Pod = firstOf(v)
	case *batchv1.Job:
		w.Pod = ofJob(&v.Spec, v.Name)
	case *batchv1.CronJob:
		w.Pod = ofJob(&v.Spec.JobTemplate.Spec, v.Name+"-"+minute)
	case *corev1.PodTemplate:
		w.Pod = made(&v.Template, owner{}, nil)
		w.Pod.Name = generated(v.Name + "-")
	default:
		return nil
	}
	w.Pod.Namespace = k.namespace
	complete(&w.Pod.Spec)
	return w
}

type owner struct{ version, kind, name string }

// made is the pod that a controller makes of a template.
func made(t *corev1.PodTemplateSpec, by owner, labels map[string]string) *corev1.Pod {
	// Controllers take nothing else of a template's metadata, least of all a UID.
	pod := &corev1.Pod{Spec: *t.Spec.DeepCopy()}
	pod.Name, pod.Labels, pod.Annotations = generated(by.name+"-"), maps.Clone(t.Labels), maps.Clone(t.Annotations)
	if by.kind != "" {
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: by.version, Kind: by.kind, Name: by.name, Controller: new(true)}}
	}
	if len(labels) > 0 && pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	maps.Copy(pod.Labels, labels)
	return pod
}

// firstOf is the first pod of a StatefulSet, whose name is known.
func firstOf(set *appsv1.StatefulSet) *corev1.Pod {
	ordinal := "0"
	if o := set.Spec.Ordinals; o != nil {
		ordinal = strconv.Itoa(int(o.Start))
	}
	name := set.Name + "-" + ordinal
	pod := made(&set.Spec.Template, owner{"apps/v1", "StatefulSet", set.Name},
		map[string]string{appsv1.StatefulSetPodNameLabel: name, labelPodIndex: ordinal})
	pod.Name = name
	return pod
}

// ofJob is the pod of a Job, the first of one that numbers them. Its labels are
// under both names that Kubernetes has had for them.
func ofJob(spec *batchv1.JobSpec, name string) *corev1.Pod {
	pod := made(&spec.Template, owner{"batch/v1", "Job", name}, map[string]string{"job-name": name, batchv1.JobNameLabel: name})
	if m := spec.CompletionMode; m == nil || *m != batchv1.IndexedCompletion {
		return pod
	}
	const index = "0"
	base := name[:min(len(name), maxBase-len("-"+index+"-"))]
	pod.Name = generated(base + "-" + index + "-")
	pod.Labels[batchv1.JobCompletionIndexAnnotation] = index
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[batchv1.JobCompletionIndexAnnotation] = index
	return pod
}

// generated is a name as the API server makes of a generateName.
func generated(base string) string {
	if len(base) > maxBase {
		base = base[:maxBase]
	}
	return base + suffix
}

// complete fills in what the API server does before anybody decides: the older
// name of a field stands for the newer one.
func complete(spec *corev1.PodSpec) {
	if spec.ServiceAccountName == "" {
		spec.ServiceAccountName = spec.DeprecatedServiceAccount
	}
	if spec.ServiceAccountName == "" {
		spec.ServiceAccountName = "default"
	}
}
