package template_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/policies/kube/template"
)

// podTemplate says more than a controller takes of it.
func podTemplate() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Name: "payroll-0", GenerateName: "payroll-", Namespace: "payroll", UID: "forged", Finalizers: []string{"x/y"},
			Labels: map[string]string{"app": "api"}, Annotations: map[string]string{"note": "kept"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Name: "payroll", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "i"}}},
	}
}

// makers are all kinds that make pods, of a name.
func makers(name string) map[string]metav1.Object {
	meta, made := metav1.ObjectMeta{Name: name, Namespace: "other", UID: "maker"}, podTemplate()
	return map[string]metav1.Object{
		"Deployment":            &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Template: made}},
		"ReplicaSet":            &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Template: made}},
		"ReplicationController": &corev1.ReplicationController{ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{Template: &made}},
		"DaemonSet":             &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Template: made}},
		"StatefulSet":           &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Template: made}},
		"Job":                   &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: made}},
		"CronJob":               &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: made}}}},
		"PodTemplate":           &corev1.PodTemplate{ObjectMeta: meta, Template: made},
	}
}

func TestNamesAndOwners(t *testing.T) {
	for kind, want := range map[string]string{
		"Deployment": "api-xxxxxxxxxx-xxxxx of apps/v1 ReplicaSet api-xxxxxxxxxx", "ReplicaSet": "api-xxxxx of apps/v1 ReplicaSet api",
		"ReplicationController": "api-xxxxx of v1 ReplicationController api", "DaemonSet": "api-xxxxx of apps/v1 DaemonSet api",
		"StatefulSet": "api-0 of apps/v1 StatefulSet api", "Job": "api-xxxxx of batch/v1 Job api",
		"CronJob": "api-00000000-xxxxx of batch/v1 Job api-00000000", "PodTemplate": "api-xxxxx of nobody",
	} {
		p := template.Pod(makers("api")[kind], "payments")
		got := p.Name + " of nobody"
		if o := metav1.GetControllerOf(p); o != nil {
			got = p.Name + " of " + o.APIVersion + " " + o.Kind + " " + o.Name
		}
		if got != want || len(p.OwnerReferences) > 1 {
			t.Errorf("%s: pod %s, %d owners, want %s", kind, got, len(p.OwnerReferences), want)
		}
	}
}

// The namespace is that of the request. What else a template forges is no fact.
func TestForgedMetadata(t *testing.T) {
	for kind, o := range makers("api") {
		p := template.Pod(o, "payments")
		if p.Namespace != "payments" || p.UID != "" || p.GenerateName != "" || len(p.Finalizers) > 0 || strings.HasPrefix(p.Name, "payroll") {
			t.Errorf("%s: metadata = %+v, want nothing of the template but labels and annotations", kind, p.ObjectMeta)
		}
		if p.Labels["app"] != "api" || p.Annotations["note"] != "kept" || p.Spec.ServiceAccountName != "default" {
			t.Errorf("%s: pod = %+v, want labels and annotations of the template, and the default account", kind, p)
		}
	}
}

// The pod is the caller's: what it does to it changes no object.
func TestThePodIsACopy(t *testing.T) {
	objects := makers("api")
	objects["Pod"] = &corev1.Pod{ObjectMeta: podTemplate().ObjectMeta, Spec: podTemplate().Spec}
	for kind, o := range objects {
		first, second := template.Pod(o, "payments"), template.Pod(o, "payments")
		first.Labels["app"], first.Annotations["note"], first.Spec.Containers[0].Image = "changed", "changed", "changed"
		if diff := cmp.Diff(second, template.Pod(o, "payments")); diff != "" {
			t.Errorf("%s: a change of one pod changes the next (-before +after):\n%s", kind, diff)
		}
	}
}

// A pod keeps what it says of itself, but where it is.
func TestPodIsItself(t *testing.T) {
	p := template.Pod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "api-0", Namespace: "shop", UID: "u"}, Spec: corev1.PodSpec{DeprecatedServiceAccount: "api"}}, "payments")
	if p.Name != "api-0" || p.Namespace != "payments" || p.UID != "u" || p.Spec.ServiceAccountName != "api" {
		t.Errorf("Pod() = %+v, want the pod in the namespace of the request, and the older name of its account", p)
	}
	for _, o := range []metav1.Object{&corev1.Secret{}, &corev1.ReplicationController{}, &corev1.Namespace{}} {
		if got := template.Pod(o, "payments"); got != nil {
			t.Errorf("Pod(%T) = %v, want none", o, got)
		}
	}
}

// Templates without labels or annotations, and the numbers that jobs and sets add.
func TestLabelsThatControllersAdd(t *testing.T) {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Spec: appsv1.StatefulSetSpec{Ordinals: &appsv1.StatefulSetOrdinals{Start: 7}}}
	if p := template.Pod(set, "payments"); p.Name != "db-7" || p.Labels["apps.kubernetes.io/pod-index"] != "7" || p.Labels["statefulset.kubernetes.io/pod-name"] != "db-7" {
		t.Errorf("pod of a StatefulSet = %+v, want db-7 with both labels", p.ObjectMeta)
	}
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "sum"}, Spec: batchv1.JobSpec{CompletionMode: new(batchv1.IndexedCompletion)}}
	const index = "batch.kubernetes.io/job-completion-index"
	p := template.Pod(job, "payments")
	want := map[string]string{"job-name": "sum", "batch.kubernetes.io/job-name": "sum", index: "0"}
	if diff := cmp.Diff(want, p.Labels); diff != "" || p.Name != "sum-0-xxxxx" || p.Annotations[index] != "0" {
		t.Errorf("pod %s of a Job, annotations %v, labels differ:\n%s", p.Name, p.Annotations, diff)
	}
}

// No name is longer than the API server makes one, whatever the maker is called.
func TestNamesAreBounded(t *testing.T) {
	long := strings.Repeat("a", 63)
	for kind, o := range makers(long) {
		p := template.Pod(o, "payments")
		if len(p.Name) > 65 || kind != "StatefulSet" && len(p.Name) != 63 {
			t.Errorf("%s: pod name %s has %d characters, want 63, or what a set's number adds", kind, p.Name, len(p.Name))
		}
	}
	if got := template.Generated(strings.Repeat("b", 58)); got != strings.Repeat("b", 58)+"xxxxx" {
		t.Errorf("Generated() of 58 characters = %s, want all of them kept", got)
	}
	if got := template.Generated(strings.Repeat("b", 59)); len(got) != 63 {
		t.Errorf("Generated() of 59 characters has %d, want 63", len(got))
	}
}
