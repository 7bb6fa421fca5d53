package admission_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/admission"
	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// Every way in which a pod is refused: code, verdict, words, field and event.
func TestRefusedPods(t *testing.T) {
	volume := func(change func(*corev1.CSIVolumeSource)) func(*corev1.Pod) {
		return func(p *corev1.Pod) { change(p.Spec.Volumes[0].CSI) }
	}
	for name, test := range map[string]struct {
		pod     func(*corev1.Pod)
		given   func(*fixture)
		request func(*admissionv1.AdmissionRequest)
		code    int32
		verdict string
		message string // begins with
		field   string
		reason  audit.Reason
	}{
		"no grant": {
			given: func(f *fixture) { f.policy.engine = policiestest.Engine(t, "") },
			code:  403, verdict: "deny", message: "denied by policy: PR-001; hint: ask the owner of local://node/payments/db-password", reason: audit.ReasonPolicyDenied,
			field: "spec.volumes[0].csi.volumeAttributes[secretProviderClass]",
		},
		"no bundle": {
			given: func(f *fixture) { f.policy.engine = nil },
			code:  503, verdict: "error", message: "policy did not reach a decision: NoBundle", reason: audit.ReasonNoBundle, field: "spec.volumes[0]",
		},
		"credential in the class": {
			given: func(f *fixture) {
				f.objects.class["db"] = class("db", func(c *spcv1.SecretProviderClass) { c.Spec.Parameters["password"] = canary })
			},
			code: 403, verdict: "deny", message: "denied by policy: PR-013, PR-120; hint: remove the parameter", reason: audit.ReasonPolicyDenied,
			field: "spec.volumes[0].csi.volumeAttributes[secretProviderClass]",
		},
		"silent API server": {
			given: func(f *fixture) { f.objects.err = errors.New(canary) },
			code:  503, verdict: "error", message: "facts about the pod cannot be read; hint: the platform team", reason: audit.ReasonFactsUnavailable, field: "spec.volumes[0]",
		},
		"slow API server": {
			given: func(f *fixture) { f.objects.hang = true },
			code:  503, verdict: "error", message: "facts about the pod cannot be read", reason: audit.ReasonFactsUnavailable, field: "spec.volumes[0]",
		},
		"writable": {
			pod:  volume(func(v *corev1.CSIVolumeSource) { v.ReadOnly = new(false) }),
			code: 400, verdict: "invalid", message: `spec.volumes["secrets"].csi.readOnly is not true; hint: set readOnly: true`, reason: audit.ReasonInvalidClass, field: "spec.volumes[0]",
		},
		"writable, without a class": {
			pod:   volume(func(v *corev1.CSIVolumeSource) { v.ReadOnly = nil }),
			given: func(f *fixture) { f.objects.class = nil },
			code:  400, verdict: "invalid", message: `spec.volumes["secrets"].csi.readOnly is not true`, reason: audit.ReasonInvalidClass, field: "spec.volumes[0]",
		},
		"kubelet's attribute": {
			pod:  volume(func(v *corev1.CSIVolumeSource) { v.VolumeAttributes["csi.storage.k8s.io/pod.name"] = canary }),
			code: 400, verdict: "invalid", message: `csi.volumeAttributes["csi.storage.k8s.io/pod.name"] begins with csi.storage.k8s.io/`, reason: audit.ReasonInvalidClass, field: "spec.volumes[0]",
		},
		"no class named": {
			pod:  volume(func(v *corev1.CSIVolumeSource) { v.VolumeAttributes = nil }),
			code: 400, verdict: "invalid", message: "volumeAttributes.secretProviderClass is missing; hint: name the SecretProviderClass", reason: audit.ReasonInvalidClass, field: "spec.volumes[0]",
		},
		"static pod": {
			pod:  func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} },
			code: 400, verdict: "invalid", message: `metadata.annotations["kubernetes.io/config.mirror"] marks a static pod`, reason: audit.ReasonInvalidClass, field: "spec.volumes[0]",
		},
		"too many volumes": {
			pod: func(p *corev1.Pod) {
				for range 64 {
					p.Spec.Volumes = append(p.Spec.Volumes, secretsVolume("more", "db"))
				}
			},
			code: 400, verdict: "invalid", message: "spec.volumes has more than 64 volumes of this driver", reason: audit.ReasonInvalidRequest,
		},
		"not a pod": {
			request: func(r *admissionv1.AdmissionRequest) {
				r.Object = runtime.RawExtension{Raw: []byte(`{"kind":"Secret","apiVersion":"v1","data":{"x":"` + canary + `"}}`)}
			},
			code: 400, verdict: "invalid", message: "the object cannot be read", reason: audit.ReasonInvalidRequest,
		},
		"another namespace": {
			request: func(r *admissionv1.AdmissionRequest) { r.Namespace = "shop" },
			code:    400, verdict: "invalid", message: "the object cannot be read", reason: audit.ReasonInvalidRequest,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *admission.Config) { c.Timeout = 100 * time.Millisecond })
			if test.given != nil {
				test.given(f)
			}
			if test.pod == nil {
				test.pod = func(*corev1.Pod) {}
			}
			if test.request == nil {
				test.request = func(*admissionv1.AdmissionRequest) {}
			}
			got := f.post(t, "/pods", request(t, pod(test.pod), nil, test.request))
			if got.Allowed || got.Result.Code != test.code || got.AuditAnnotations["verdict"] != test.verdict || !strings.HasPrefix(got.Result.Message, test.message) {
				t.Fatalf("answer = %v, %+v, %v, want %s, code %d: %s", got.Allowed, got.Result, got.AuditAnnotations, test.verdict, test.code, test.message)
			}
			if test.field != "" && (got.Result.Details == nil || got.Result.Details.Causes[0].Field != test.field) {
				t.Errorf("details = %+v, want a cause about %s", got.Result.Details, test.field)
			}
			checkText(t, got.Result.Message)
			if f.recorder.Close(t.Context()) != nil {
				t.Error("the recorder did not write what it owes")
			}
			events := f.log.Events(t)
			if len(events) != 1 || events[0].Reason != test.reason || events[0].Type != audit.TypeAdmission {
				t.Errorf("events = %+v, want one with reason %s", events, test.reason)
			}
			if strings.Contains(string(encode(t, got))+string(encode(t, events)), canary) {
				t.Error("the answer or the event holds what nobody may see")
			}
		})
	}
}

// checkText holds a message to what kubelet's are held to.
func checkText(t *testing.T, text string) {
	t.Helper()
	if len(text) > 700 {
		t.Errorf("message has %d bytes, want at most 700", len(text))
	}
	for _, r := range text {
		if r < ' ' || r > '~' {
			t.Errorf("message %q is not one line of printable ASCII", text)
			return
		}
	}
}

func TestRequestsThatNobodyRegistered(t *testing.T) {
	f := newFixture(t)
	for name, change := range map[string]func(*admissionv1.AdmissionRequest){
		"status":     func(r *admissionv1.AdmissionRequest) { r.SubResource = "status" },
		"delete":     func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Delete },
		"connect":    func(r *admissionv1.AdmissionRequest) { r.Operation, r.SubResource = admissionv1.Connect, "exec" },
		"kind":       func(r *admissionv1.AdmissionRequest) { r.Kind.Kind = "PodTemplate" },
		"group":      func(r *admissionv1.AdmissionRequest) { r.Resource.Group = "example\x1b[31m" },
		"version":    func(r *admissionv1.AdmissionRequest) { r.Kind.Version = "v2" },
		"debug, new": func(r *admissionv1.AdmissionRequest) { r.SubResource = "ephemeralcontainers" },
	} {
		got := f.post(t, "/pods", request(t, pod(), nil, change))
		if got.Allowed || got.Result.Code != http.StatusBadRequest || !strings.HasPrefix(got.Result.Message, "this webhook does not review ") {
			t.Errorf("%s: answer = %+v, want refused as not registered", name, got.Result)
		}
		checkText(t, got.Result.Message)
	}
}

// One denied volume keeps the pod from starting; every rule is told.
func TestTheHeaviestVolumeDecides(t *testing.T) {
	f := newFixture(t)
	f.objects.class["other"] = class("other", func(c *spcv1.SecretProviderClass) {
		c.Spec.Parameters["objects"] = "- objectName: shop/key\n"
	})
	f.objects.class["bad"] = class("bad", func(c *spcv1.SecretProviderClass) { c.Spec.Parameters["password"] = canary })
	p := pod(func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, secretsVolume("other", "other"), secretsVolume("bad", "bad"), secretsVolume("none", "missing"))
	})
	got := f.post(t, "/pods", request(t, p, nil))
	if got.Allowed || !strings.HasPrefix(got.Result.Message, "denied by policy: PR-001, PR-013, PR-120; hint: remove the parameter") {
		t.Fatalf("answer = %+v, want a denial by all rules, and the remedy of the gravest", got.Result)
	}
	if ids := strings.Split(got.AuditAnnotations["decision-id"], ","); len(ids) != 3 || len(f.log.Events(t)) != 4 {
		t.Errorf("%d decisions, %d events, want three and four: one volume waits for its class", len(ids), len(f.log.Events(t)))
	}
	fields := map[string]bool{}
	for _, c := range got.Result.Details.Causes {
		fields[string(c.Type)+" "+c.Field] = true
	}
	for _, want := range []string{"PR-001 spec.volumes[1].csi.volumeAttributes[secretProviderClass]", "PR-120 spec.volumes[2].csi.volumeAttributes[secretProviderClass]"} {
		if !fields[want] {
			t.Errorf("causes = %v, want %s", fields, want)
		}
	}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "payments/missing does not exist") {
		t.Errorf("warnings = %q, want the class that is missing", got.Warnings)
	}
}

func TestAClassThatDoesNotExistYet(t *testing.T) {
	f := newFixture(t)
	f.objects.class = nil
	got := f.post(t, "/pods", request(t, pod(), nil))
	if !got.Allowed || got.AuditAnnotations["verdict"] != "deferred" || len(got.Warnings) != 1 {
		t.Fatalf("answer = %+v, want let through with a warning", got)
	}
	if e := f.log.Events(t); len(e) != 1 || e[0].Outcome != audit.OutcomeUnknown || e[0].Reason != audit.ReasonClassNotFound {
		t.Errorf("events = %+v, want one that says that nothing was decided", e)
	}
}

// A panic refuses the request, and is no denial. Its text may quote the object: it
// is in no answer, event or log. The next review is as any other.
func TestPanicRefuses(t *testing.T) {
	f := newFixture(t)
	f.objects.panics = true
	for path, o := range map[string]runtime.Object{"/pods": pod(), "/templates": workloads()["Deployment"], "/classes": class("db")} {
		got := f.post(t, path, request(t, o, nil))
		if got.Allowed || got.Result.Code != 503 || got.AuditAnnotations["verdict"] != "error" || !strings.HasPrefix(got.Result.Message, "internal error; hint: ") {
			t.Errorf("%s: answer = %+v, want refused as an error", path, got)
		}
		if strings.Contains(string(encode(t, got))+f.output.String(), canary) {
			t.Errorf("%s: the answer or the log has the text of the panic", path)
		}
	}
	if n := strings.Count(f.output.String(), `"a review panicked, which is a bug; please report the stack"`); n != 3 || !strings.Contains(f.output.String(), "fixture_test.go") {
		t.Errorf("log has %d lines about panics, want three with their stacks:\n%s", n, f.output)
	}
	f.objects.panics = false
	if got := f.post(t, "/pods", request(t, pod(), nil)); !got.Allowed {
		t.Errorf("answer after a panic = %+v, want allowed", got.Result)
	}
}
