package diff

import (
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

// Case is one input that both bundles decide on.
type Case struct {
	Input policies.Input
	// Workload that has the volume. Empty: it is read from the input.
	Workload Workload
	// Weight is how many decisions the case stands for; 0 counts as 1.
	Weight int64
	// Example names the case: an event of the log, or a file.
	Example string
}

// Workload is what people know a pod by.
type Workload struct {
	Namespace string `json:"namespace"`
	Kind      string `json:"kind"`
	Name      string `json:"name"`
}

// minuteDigits are at least those of a CronJob's minutes since 1970.
const minuteDigits = 8

// WorkloadOf returns the workload that an input tells of: the owner of the pod,
// and of a ReplicaSet or Job that a Deployment or CronJob made, that one, so that
// all rollouts of one are one. What is read off names is for lists only: whoever
// writes pods chooses them.
func WorkloadOf(in policies.Input) Workload {
	w := Workload{in.Subject.Namespace, "Pod", in.Subject.PodName}
	o := in.Pod.Owner
	if o == nil {
		return w
	}
	w.Kind, w.Name = o.Kind, o.Name
	switch base, last, _ := cutLast(o.Name); {
	case o.Kind == "ReplicaSet" && last != "" && in.Pod.Labels["pod-template-hash"] == last:
		w.Kind, w.Name = "Deployment", base
	case o.Kind == "Job" && len(last) >= minuteDigits && strings.Trim(last, "0123456789") == "":
		w.Kind, w.Name = "CronJob", base
	}
	return w
}

// cutLast cuts at the last dash.
func cutLast(name string) (base, last string, found bool) {
	at := strings.LastIndex(name, "-")
	if at <= 0 {
		return name, "", false
	}
	return name[:at], name[at+1:], true
}
