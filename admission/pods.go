package admission

import (
	"context"
	"net/http"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

// maxVolumes bounds the work of one review: each volume is a decision and an event.
const maxVolumes = 64

func podRequests() []expected {
	pods := expected{resource: "pods", version: "v1", kind: "Pod", operations: []admissionv1.Operation{admissionv1.Create, admissionv1.Update}}
	debug := pods
	// The object of this request is the whole pod. Without this rule kubectl debug
	// would add a container that mounts the volume, and nobody would be asked.
	debug.subresource, debug.operations = "ephemeralcontainers", []admissionv1.Operation{admissionv1.Update}
	return []expected{pods, debug}
}

// reviewPod decides on every volume of ours. The heaviest verdict is the pod's:
// a pod with one volume that is denied does not start at all.
func (g *gate) reviewPod(ctx context.Context, v review) answer {
	pod, err := g.decodePod(v, v.Object.Raw)
	if err != nil {
		return g.rejectPod(ctx, v, audit.Claim{Namespace: v.Namespace, Pod: v.Name}, refusedObject(err))
	}
	var was *corev1.Pod
	if v.Operation == admissionv1.Update {
		if was, err = g.decodePod(v, v.OldObject.Raw); err != nil {
			return g.rejectPod(ctx, v, claimOf(pod, ""), refusedObject(err))
		}
		if !changed(was, pod) {
			return answer{verdict: verdictNone}
		}
	}
	volumes := g.volumesOf(pod)
	if len(volumes) > maxVolumes {
		return g.rejectPod(ctx, v, claimOf(pod, ""), refused(verdictInvalid, refusal{
			text: "spec.volumes has more than 64 volumes of this driver", hint: "use one SecretProviderClass with several objects", code: http.StatusBadRequest,
		}))
	}
	all := answer{verdict: verdictNone}
	for _, i := range volumes {
		all = all.and(g.reviewVolume(ctx, v, volume{pod: pod, was: was, index: i}))
	}
	return all
}

// volumesOf returns the positions of the volumes that are ours.
func (g *gate) volumesOf(pod *corev1.Pod) []int {
	var found []int
	for i := range pod.Spec.Volumes {
		if csi := pod.Spec.Volumes[i].CSI; csi != nil && csi.Driver == g.c.DriverName {
			found = append(found, i)
		}
	}
	return found
}

// rejectPod notes a refusal that is about the whole pod.
func (g *gate) rejectPod(ctx context.Context, v review, c audit.Claim, a answer) answer {
	g.tell(ctx, v, audit.ReviewRejected(audit.Review{Claim: c, Requester: v.requester}, audit.ReasonInvalidRequest))
	return a
}

func claimOf(pod *corev1.Pod, volume string) audit.Claim {
	return audit.Claim{
		Namespace: pod.Namespace, Pod: pod.Name, PodUID: string(pod.UID), ServiceAccount: serviceAccountOf(pod), Volume: volume,
	}
}

// changed reports whether an update of a pod changes what is decided on. Whatever
// else changes (labels, owners, finalizers, a request for more memory) passes
// without a decision: a pod that policy would deny by now must still be possible
// to clean up, and the node decides on it again anyway.
func changed(was, is *corev1.Pod) bool {
	return imagesChanged(was, is) || annotationsChanged(was, is)
}

// imagesChanged reports whether other code would run, or run otherwise.
func imagesChanged(was, is *corev1.Pod) bool {
	return !slices.Equal(runs(was), runs(is))
}

type run struct{ list, name, image string }

func runs(pod *corev1.Pod) []run {
	var all []run
	for i := range pod.Spec.InitContainers {
		all = append(all, run{"init", pod.Spec.InitContainers[i].Name, pod.Spec.InitContainers[i].Image})
	}
	for i := range pod.Spec.Containers {
		all = append(all, run{"main", pod.Spec.Containers[i].Name, pod.Spec.Containers[i].Image})
	}
	for i := range pod.Spec.EphemeralContainers {
		all = append(all, run{"ephemeral", pod.Spec.EphemeralContainers[i].Name, pod.Spec.EphemeralContainers[i].Image})
	}
	return all
}

// annotationsChanged: some providers read their list of secrets there.
func annotationsChanged(was, is *corev1.Pod) bool {
	if len(was.Annotations) != len(is.Annotations) {
		return true
	}
	for name, value := range is.Annotations {
		if before, ok := was.Annotations[name]; !ok || before != value {
			return true
		}
	}
	return false
}

// asksTheSame reports whether the update of a pod leaves the input of the decision
// as it was, although annotations changed: mostly no provider reads them.
func asksTheSame(f kube.Facts, was *corev1.Pod) bool {
	if was == nil || imagesChanged(was, f.Pod) {
		return false
	}
	after, _, err := kube.BuildInput(f)
	if err != nil {
		return false
	}
	f.Pod = was
	before, _, err := kube.BuildInput(f)
	return err == nil && before.SPC.ParametersSHA256 == after.SPC.ParametersSHA256
}

// serviceAccountOf applies the API server's default.
func serviceAccountOf(pod *corev1.Pod) string {
	if pod.Spec.ServiceAccountName == "" {
		return "default"
	}
	return pod.Spec.ServiceAccountName
}
