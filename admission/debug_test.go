package admission_test

import (
	"errors"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// viaDebug is how kubectl debug sends it.
func viaDebug(r *admissionv1.AdmissionRequest) { r.SubResource = "ephemeralcontainers" }

// kubectl debug of a pod with secrets is refused by the library, names the
// container, and says why in the log; of a pod without our volumes it is nobody's
// business here.
func TestP2DebugContainersAreRefused(t *testing.T) {
	f := newFixture(t)
	f.policy.engine = policiestest.Engine(t, policiestest.Grants, append(starter(t), policiestest.WithConfig("checks: {provider: {allowed: [local]}}\n"))...)
	was := pod(func(p *corev1.Pod) {
		p.Spec.Containers[0].Image = "registry.example/api@sha256:" + policiestest.Digest
	})
	is := was.DeepCopy()
	addDebug(is)
	image := "busybox@sha256:" + policiestest.Digest
	is.Spec.EphemeralContainers[0].Image = image
	got := f.post(t, "/pods", request(t, is, was, viaDebug))
	if got.Allowed || got.Result.Code != 403 || !strings.HasPrefix(got.Result.Message, "denied by policy: PR-203; hint: debug a copy of the pod without its secrets") {
		t.Fatalf("answer = %v, %+v, want denied by PR-203", got.Allowed, got.Result)
	}
	if c := got.Result.Details.Causes; len(c) != 1 || c[0].Type != "PR-203" || c[0].Field != "spec.ephemeralContainers[0]" || !strings.Contains(c[0].Message, `"debugger"`) {
		t.Errorf("causes = %+v, want the container", got.Result.Details.Causes)
	}
	events := f.log.Events(t)
	if len(events) != 1 || events[0].Reason != audit.ReasonPolicyDenied || events[0].Policy.Rules[0].ID != "PR-203" || events[0].Workload.PodUID != podUID {
		t.Errorf("events = %+v, want the denial", events)
	}
	in := f.decided[0].Input()
	if last := in.Pod.Containers[len(in.Pod.Containers)-1]; last.Kind != policies.ContainerEphemeral || last.Image != image || last.MountsVolume {
		t.Errorf("input has %+v as its last container, want the one that was added", last)
	}
	for _, p := range []*corev1.Pod{was, is} {
		p.Spec.Volumes = nil
	}
	if got := f.post(t, "/pods", request(t, is, was, viaDebug)); !got.Allowed || got.AuditAnnotations["verdict"] != "none" {
		t.Errorf("answer about a pod without secrets = %+v, want allowed", got)
	}
}

// The pod that is debugged exists, so that whatever else is true of it is decided
// on too: its image tag is not what this request asks for, and is denied with it.
func TestUpdatesTellAllRules(t *testing.T) {
	f := newFixture(t)
	f.policy.engine = policiestest.Engine(t, "", starter(t)...)
	got := f.post(t, "/pods", request(t, pod(addDebug), pod(), viaDebug))
	if got.Allowed || !strings.Contains(got.Result.Message, "PR-001") || !strings.Contains(got.Result.Message, "PR-203") {
		t.Errorf("answer = %+v, want denied by both rules", got.Result)
	}
}

// On every operation that can bring in other code or another secret, nothing is let
// through while facts are missing; everything else is.
func TestFactsThatNobodyKnows(t *testing.T) {
	mounted := func(name string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.VolumeAttributes["secretProviderClass"] = name }
	}
	for name, test := range map[string]struct {
		request *admissionv1.AdmissionRequest
		passes  bool
	}{
		"create":            {request: request(t, pod(), nil)},
		"image":             {request: request(t, pod(func(p *corev1.Pod) { p.Spec.Containers[0].Image = "x" }), pod())},
		"init image":        {request: request(t, pod(func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "x"}} }), pod())},
		"debug":             {request: request(t, pod(addDebug), pod(), viaDebug)},
		"container is gone": {request: request(t, pod(), pod(addDebug))},
		"order":             {request: request(t, pod(containers("a", "b")), pod(containers("b", "a")))},
		"annotation":        {request: request(t, pod(func(p *corev1.Pod) { p.Annotations = map[string]string{"conjur.org/secrets": "x"} }), pod())},
		"annotation gone":   {request: request(t, pod(), pod(func(p *corev1.Pod) { p.Annotations = map[string]string{"conjur.org/secrets": "x"} }))},
		"label":             {request: request(t, pod(func(p *corev1.Pod) { p.Labels["app"] = "other" }), pod()), passes: true},
		"no labels":         {request: request(t, pod(func(p *corev1.Pod) { p.Labels = nil }), pod()), passes: true},
		"toleration":        {request: request(t, pod(func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "x"}} }), pod()), passes: true},
		"deletion":          {request: request(t, pod(func(p *corev1.Pod) { p.DeletionGracePeriodSeconds = new(int64(0)) }), pod()), passes: true},
		"status":            {request: request(t, pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), pod()), passes: true},
		"image of no class": {request: request(t, pod(mounted("gone"), func(p *corev1.Pod) { p.Spec.Containers[0].Image = "x" }), pod(mounted("gone")))},
	} {
		f := newFixture(t)
		f.objects.err = errors.New("no answer")
		got := f.post(t, "/pods", test.request)
		if got.Allowed != test.passes {
			t.Errorf("%s: answer = %v, %+v, want allowed: %t", name, got.Allowed, got.Result, test.passes)
		}
		if n := len(f.log.Events(t)); (n == 0) != test.passes {
			t.Errorf("%s: %d events, want one for each refusal and none for what passes", name, n)
		}
	}
}

func containers(names ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers = nil
		for _, n := range names {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: n, Image: n})
		}
	}
}

// What an update was before must be readable too, or a refusal could be turned
// into a change of nothing.
func TestOldObjectsAreRead(t *testing.T) {
	for name, raw := range map[string]string{
		"none": "", "no JSON": "{", "another kind": `{"apiVersion":"v1","kind":"Secret"}`, "a list": `[]`, "another group": `{"apiVersion":"v2","kind":"Pod"}`,
		"another namespace": `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"shop"}}`, "words": `"pod"`, "odd spec": `{"apiVersion":"v1","kind":"Pod","spec":7}`,
	} {
		f := newFixture(t)
		r := request(t, pod(), pod())
		r.OldObject.Raw = []byte(raw)
		got := f.handlers.Pods.Handle(t.Context(), webhook.Request{AdmissionRequest: *r})
		if got.Allowed || got.Result.Code != 400 {
			t.Errorf("%s: answer = %v, %+v, want refused", name, got.Allowed, got.Result)
		}
		if e := f.log.Events(t); len(e) != 1 || e[0].Reason != audit.ReasonInvalidRequest || e[0].Workload.PodUID != podUID {
			t.Errorf("%s: events = %+v, want one about the pod", name, e)
		}
	}
}

// An annotation moves a secret where the provider reads its list there: the same
// update is decided on in one namespace and passes in another.
func TestAnnotationsOfSeveralVolumes(t *testing.T) {
	f := newFixture(t)
	f.objects.class["conjur"] = class("conjur", func(c *spcv1.SecretProviderClass) {
		c.Spec.Provider = "conjur"
		c.Spec.Parameters = map[string]string{"applianceUrl": "https://conjur.example", "account": "a", "authnId": "jwt", "conjur.org/configurationVersion": "0.2.0"}
	})
	two := func(p *corev1.Pod) { p.Spec.Volumes = append(p.Spec.Volumes, secretsVolume("second", "conjur")) }
	annotated := func(p *corev1.Pod) { p.Annotations = map[string]string{"conjur.org/secrets": "- \"payments/x\"\n"} }
	got := f.post(t, "/pods", request(t, pod(two, annotated), pod(two)))
	if got.Allowed || len(f.decided) != 1 || f.decided[0].Input().Volume.Name != "second" {
		t.Errorf("answer = %v, %+v, %d decisions, want the second volume alone decided on, and denied", got.Allowed, got.Result, len(f.decided))
	}
}
