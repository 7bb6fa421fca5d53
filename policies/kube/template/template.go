package template

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

// Pod returns the pod that an object is or that its controller would make, in this
// namespace; nil for an object that makes none.
func Pod(o metav1.Object, namespace string) *corev1.Pod {
	pod := podOf(o)
	if pod == nil {
		return nil
	}
	pod.Namespace = namespace
	complete(&pod.Spec)
	return pod
}

func podOf(o metav1.Object) *corev1.Pod {
	switch v := o.(type) {
	case *corev1.Pod:
		return v.DeepCopy()
	case *appsv1.Deployment:
		return made(&v.Spec.Template, owner{"apps/v1", "ReplicaSet", v.Name + "-" + hash}, map[string]string{labelTemplateHash: hash})
	case *appsv1.ReplicaSet:
		return made(&v.Spec.Template, owner{"apps/v1", "ReplicaSet", v.Name}, nil)
	case *corev1.ReplicationController:
		if v.Spec.Template == nil {
			return nil
		}
		return made(v.Spec.Template, owner{"v1", "ReplicationController", v.Name}, nil)
	case *appsv1.DaemonSet:
		return made(&v.Spec.Template, owner{"apps/v1", "DaemonSet", v.Name}, nil)
	case *appsv1.StatefulSet:
		return firstOf(v)
	case *batchv1.Job:
		return ofJob(&v.Spec, v.Name)
	case *batchv1.CronJob:
		return ofJob(&v.Spec.JobTemplate.Spec, v.Name+"-"+minute)
	case *corev1.PodTemplate:
		pod := made(&v.Template, owner{}, nil)
		pod.Name = Generated(v.Name + "-")
		return pod
	default:
		return nil
	}
}

type owner struct{ version, kind, name string }

// made is the pod that a controller makes of a template.
func made(t *corev1.PodTemplateSpec, by owner, labels map[string]string) *corev1.Pod {
	// Controllers take nothing else of a template's metadata, least of all a UID.
	pod := &corev1.Pod{Spec: *t.Spec.DeepCopy()}
	pod.Name, pod.Labels, pod.Annotations = Generated(by.name+"-"), maps.Clone(t.Labels), maps.Clone(t.Annotations)
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
	pod.Name = Generated(base + "-" + index + "-")
	pod.Labels[batchv1.JobCompletionIndexAnnotation] = index
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[batchv1.JobCompletionIndexAnnotation] = index
	return pod
}

// Generated is a name as the API server makes of a generateName.
func Generated(base string) string {
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
