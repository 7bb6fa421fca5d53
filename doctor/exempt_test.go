package doctor_test

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/doctor"
)

// exempting has a binding leave namespaces out, as the chart's value exemptNamespaces does.
func exempting(binding, key string, operator metav1.LabelSelectorOperator, namespaces ...string) func(*doctor.Facts) {
	return func(f *doctor.Facts) {
		for i := range f.Cluster.Bindings.Value {
			if b := &f.Cluster.Bindings.Value[i]; b.Name == binding {
				b.Spec.MatchResources = &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
					{Key: key, Operator: operator, Values: namespaces},
				}}}
			}
		}
	}
}

// What deny would not refuse is no reason to change a pod.
func TestPreviewLeavesOutWhatIsExempt(t *testing.T) {
	const policy, other = "portcullis-privileged", "portcullis-host-paths"
	for name, tt := range map[string]struct {
		change func(*doctor.Facts)
		exempt bool
	}{
		"no namespace":           {func(*doctor.Facts) {}, false},
		"its namespace":          {exempting(policy, corev1.LabelMetadataName, metav1.LabelSelectorOpNotIn, "agents", "payments"), true},
		"another namespace":      {exempting(policy, corev1.LabelMetadataName, metav1.LabelSelectorOpNotIn, "agents"), false},
		"by another policy":      {exempting(other, corev1.LabelMetadataName, metav1.LabelSelectorOpNotIn, "payments"), false},
		"the namespace and only": {exempting(policy, corev1.LabelMetadataName, metav1.LabelSelectorOpIn, "payments"), false},
		"a label of its owner's": {exempting(policy, "team", metav1.LabelSelectorOpNotIn, "payments"), false},
	} {
		f := good()
		refusals(policy)(f)
		tt.change(f)
		found := false
		for _, r := range doctor.Run(f).Results {
			found = found || r.Check == "admission.deny-preview" && strings.Contains(r.Finding, "would refuse pod payments/api")
		}
		if found == tt.exempt {
			t.Errorf("%s: the pod is found: %v, want %v", name, found, !tt.exempt)
		}
	}
}
