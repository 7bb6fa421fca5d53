package admission_test

import (
	"errors"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// workloads are all kinds that make pods, each with the template of a pod.
func workloads(changes ...func(*corev1.Pod)) map[string]runtime.Object {
	p := pod(changes...)
	made := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: p.Labels}, Spec: p.Spec}
	meta := metav1.ObjectMeta{Name: "api", Namespace: "payments"}
	kind := func(version, kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: version, Kind: kind} }
	return map[string]runtime.Object{
		"Deployment":            &appsv1.Deployment{TypeMeta: kind("apps/v1", "Deployment"), ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Template: made}},
		"StatefulSet":           &appsv1.StatefulSet{TypeMeta: kind("apps/v1", "StatefulSet"), ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Template: made}},
		"DaemonSet":             &appsv1.DaemonSet{TypeMeta: kind("apps/v1", "DaemonSet"), ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Template: made}},
		"ReplicaSet":            &appsv1.ReplicaSet{TypeMeta: kind("apps/v1", "ReplicaSet"), ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Template: made}},
		"Job":                   &batchv1.Job{TypeMeta: kind("batch/v1", "Job"), ObjectMeta: meta, Spec: batchv1.JobSpec{Template: made}},
		"CronJob":               &batchv1.CronJob{TypeMeta: kind("batch/v1", "CronJob"), ObjectMeta: meta, Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: made}}}},
		"ReplicationController": &corev1.ReplicationController{TypeMeta: kind("v1", "ReplicationController"), ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{Template: &made}},
	}
}

// A template is never refused, whatever its pods would be, and leaves no event.
func TestTemplatesAreWarnedOf(t *testing.T) {
	for name, test := range map[string]struct {
		pod     func(*corev1.Pod)
		given   func(*fixture)
		verdict string
		warning string // in one of them; empty: there is none
	}{
		"allowed":     {verdict: "allow"},
		"denied":      {given: func(f *fixture) { f.policy.engine = policiestest.Engine(t, "") }, verdict: "deny", warning: "volume secrets: pods would be denied by PR-001: "},
		"writable":    {pod: func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.ReadOnly = nil }, verdict: "invalid", warning: "pods would be refused: "},
		"no class":    {given: func(f *fixture) { f.objects.class = nil }, verdict: "deferred", warning: "SecretProviderClass payments/db does not exist"},
		"no facts":    {given: func(f *fixture) { f.objects.err = errors.New(canary) }, verdict: "error", warning: "the facts cannot be read"},
		"no bundle":   {given: func(f *fixture) { f.policy.engine = nil }, verdict: "error", warning: "policy did not reach a decision"},
		"other pods":  {pod: func(p *corev1.Pod) { p.Spec.Volumes = nil }, verdict: "none"},
		"other class": {pod: func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.Driver = "other.example" }, verdict: "none"},
	} {
		if test.pod == nil {
			test.pod = func(*corev1.Pod) {}
		}
		for kind, o := range workloads(test.pod) {
			f := newFixture(t)
			if test.given != nil {
				test.given(f)
			}
			got := f.post(t, "/templates", request(t, o, nil))
			if !got.Allowed || got.AuditAnnotations["verdict"] != test.verdict || len(f.log.Leaves()) > 0 || len(f.decided) > 0 {
				t.Errorf("%s, %s: answer = %+v, %d events, want let through as %s without an event", name, kind, got, len(f.log.Leaves()), test.verdict)
			}
			all := strings.Join(got.Warnings, "\n")
			if (test.warning == "") != (all == "") || !strings.Contains(all, test.warning) || strings.Contains(all, canary) {
				t.Errorf("%s, %s: warnings = %q, want %q", name, kind, got.Warnings, test.warning)
			}
			for _, w := range got.Warnings {
				if len(w) > 120 {
					t.Errorf("%s, %s: warning has %d bytes, want at most 120", name, kind, len(w))
				}
			}
		}
	}
}

func TestTemplateThatCannotBeRead(t *testing.T) {
	f := newFixture(t)
	got := f.post(t, "/templates", request(t, workloads()["Job"], nil, func(r *admissionv1.AdmissionRequest) {
		r.Object.Raw = []byte(`{"kind":"Job","apiVersion":"batch/v1","spec":` + `"` + canary + `"}`)
	}))
	if !got.Allowed || len(got.Warnings) != 1 || strings.Contains(got.Warnings[0], canary) {
		t.Errorf("answer = %+v, want let through with a warning", got)
	}
}
