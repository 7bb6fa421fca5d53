package admission_test

import (
	"errors"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// What an update changes decides whether it is decided on, also while policy denies
// everything or nobody can decide anything: a pod must still be possible to clean
// up, and a new image must not pass.
func TestUpdates(t *testing.T) {
	debug := func(r *admissionv1.AdmissionRequest) { r.SubResource = "ephemeralcontainers" }
	for name, test := range map[string]struct {
		change  func(*corev1.Pod)
		request func(*admissionv1.AdmissionRequest)
		decided bool
	}{
		"image":           {change: func(p *corev1.Pod) { p.Spec.Containers[0].Image = "evil.example/api:1" }, decided: true},
		"debug container": {change: addDebug, request: debug, decided: true},
		"no change":       {change: func(*corev1.Pod) {}, request: debug},
		"label":           {change: func(p *corev1.Pod) { p.Labels["app"] = "other" }},
		"finalizer":       {change: func(p *corev1.Pod) { p.Finalizers = []string{"example/x"} }},
		"owner":           {change: func(p *corev1.Pod) { p.OwnerReferences = nil }},
		"resources":       {change: func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(1)) }},
	} {
		t.Run(name, func(t *testing.T) {
			changes := []func(*admissionv1.AdmissionRequest){}
			if test.request != nil {
				changes = append(changes, test.request)
			}
			update := request(t, pod(test.change), pod(), changes...)
			f := newFixture(t)
			if got := f.post(t, "/pods", update); !got.Allowed || len(f.log.Leaves()) > 0 != test.decided {
				t.Errorf("answer = %+v, %d events, want allowed, with a decision: %t", got, len(f.log.Leaves()), test.decided)
			}
			f.policy.engine = policiestest.Engine(t, "")
			if got := f.post(t, "/pods", update); got.Allowed == test.decided {
				t.Errorf("answer where policy denies = %+v, want allowed: %t", got, !test.decided)
			}
			f.objects.err = errors.New("no answer")
			if got := f.post(t, "/pods", update); got.Allowed == test.decided {
				t.Errorf("answer without facts = %+v, want allowed: %t", got, !test.decided)
			}
		})
	}
}

func addDebug(p *corev1.Pod) {
	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debugger", Image: "busybox"}}}
}

// Annotations are decided on where the provider reads its list there.
func TestAnnotations(t *testing.T) {
	f := newFixture(t)
	f.policy.engine = policiestest.Engine(t, "")
	annotate := func(name, value string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{name: value} }
	}
	if got := f.post(t, "/pods", request(t, pod(annotate("cni.example/ip", "10.0.0.1")), pod())); !got.Allowed || len(f.log.Leaves()) > 0 {
		t.Errorf("answer = %+v, want an annotation that no provider reads to pass without a decision", got)
	}
	f.objects.class["db"] = class("db", func(c *spcv1.SecretProviderClass) {
		c.Spec.Provider = "conjur"
		c.Spec.Parameters = map[string]string{"applianceUrl": "https://conjur.example", "account": "a", "authnId": "jwt", "conjur.org/configurationVersion": "0.2.0"}
	})
	was, is := pod(annotate("conjur.org/secrets", "- \"a\": \"one\"\n")), pod(annotate("conjur.org/secrets", "- \"a\": \"two\"\n"))
	if got := f.post(t, "/pods", request(t, is, was)); got.Allowed {
		t.Errorf("answer = %+v, want another list of secrets decided on, and denied", got)
	}
}
