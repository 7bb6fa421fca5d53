package admission_test

import (
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// hostile are texts that somebody could put where a name stands: terminals, logs
// and dashboards would act on them.
func hostile() map[string]string {
	return map[string]string{
		"escape":     "a\x1b[2J\x1b]0;owned\a",
		"lines":      "a\nverdict=allow\r\n",
		"zero":       "a\x00b",
		"direction":  "a\u202egnp.exe",
		"wide":       strings.Repeat("\u6f22", 400),
		"long":       strings.Repeat("x", 5000),
		"not UTF-8":  "a\xff\xfe",
		"line ends":  "a\u2028b\u0085c",
		"format":     "%s%n%!d(MISSING)",
		"empty":      "",
		"quotes":     `"'` + "`" + `\`,
		"invisible":  "a\u200b\ufeffb",
		"c1 control": "a\u009b31mb",
	}
}

// Whatever a request holds: the answer is one line of printable ASCII of at most
// 700 bytes, so are its causes, its warnings and what the API server logs of it.
func TestHostileNames(t *testing.T) {
	places := map[string]func(p *corev1.Pod, text string){
		"pod":       func(p *corev1.Pod, text string) { p.Name = text },
		"label":     func(p *corev1.Pod, text string) { p.Labels["x"] = text },
		"volume":    func(p *corev1.Pod, text string) { p.Spec.Volumes[0].Name = text },
		"class":     func(p *corev1.Pod, text string) { p.Spec.Volumes[0].CSI.VolumeAttributes["secretProviderClass"] = text },
		"account":   func(p *corev1.Pod, text string) { p.Spec.ServiceAccountName = text },
		"container": func(p *corev1.Pod, text string) { p.Spec.Containers[0].Name = text },
		"image":     func(p *corev1.Pod, text string) { p.Spec.Containers[0].Image = text },
		"attribute": func(p *corev1.Pod, text string) { p.Spec.Volumes[0].CSI.VolumeAttributes[text] = text },
		"writable":  func(p *corev1.Pod, text string) { p.Spec.Volumes[0].Name, p.Spec.Volumes[0].CSI.ReadOnly = text, nil },
	}
	f := newFixture(t)
	f.policy.engine = policiestest.Engine(t, "", append(starter(t), odd(finding("deny", 399, `sprintf("%s in %s", [input.pod.containers[0].image, input.volume.name])`, `concat(" ", ["use", input.pod.containers[0].name])`)))...)
	refused := 0
	for place, put := range places {
		for name, text := range hostile() {
			p := pod(func(p *corev1.Pod) { put(p, text) })
			got := f.post(t, "/pods", request(t, p, nil))
			if !got.Allowed {
				refused++
			}
			checkAnswer(t, place+", "+name, got)
			if got.AuditAnnotations["verdict"] == "allow" {
				t.Errorf("%s, %s: allowed, and nothing is granted", place, name)
			}
		}
	}
	if refused < 60 {
		t.Errorf("%d reviews were refused, want at least 60, or this says little about refusals", refused)
	}
	if n := len(f.log.Events(t)); n < 20 {
		t.Errorf("%d events, want at least 20 that are valid", n)
	}
}

// The request around the object is as little to be believed.
func TestHostileRequests(t *testing.T) {
	f := newFixture(t)
	for name, text := range hostile() {
		for place, change := range map[string]func(*admissionv1.AdmissionRequest){
			"user":      func(r *admissionv1.AdmissionRequest) { r.UserInfo.Username = text },
			"groups":    func(r *admissionv1.AdmissionRequest) { r.UserInfo.Groups = []string{text, text} },
			"namespace": func(r *admissionv1.AdmissionRequest) { r.Namespace = text },
			"resource":  func(r *admissionv1.AdmissionRequest) { r.Resource.Resource = text },
			"kind":      func(r *admissionv1.AdmissionRequest) { r.Kind.Kind = text },
			"sub":       func(r *admissionv1.AdmissionRequest) { r.SubResource = "x" + text },
			"operation": func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Operation(text) },
		} {
			got := f.post(t, "/pods", request(t, pod(), nil, change))
			checkAnswer(t, place+", "+name, got)
			if want := place == "user" || place == "groups"; got.Allowed != want {
				t.Errorf("%s, %s: answer = %v, %+v, want allowed: %t", place, name, got.Allowed, got.Result, want)
			}
		}
	}
	f.log.Events(t) // each is valid
}

func TestHostileClasses(t *testing.T) {
	f := newFixture(t)
	for name, text := range hostile() {
		for place, change := range map[string]func(*spcv1.SecretProviderClass){
			"name":      func(c *spcv1.SecretProviderClass) { c.Name = text },
			"provider":  func(c *spcv1.SecretProviderClass) { c.Spec.Provider = spcv1.Provider(text) },
			"parameter": func(c *spcv1.SecretProviderClass) { c.Spec.Parameters[text] = text },
			"object":    func(c *spcv1.SecretProviderClass) { c.Spec.Parameters["objects"] = "- objectName: " + text },
			"password":  func(c *spcv1.SecretProviderClass) { c.Spec.Parameters["password"+text] = canary },
		} {
			got := f.post(t, "/classes", request(t, class("db", change), nil))
			checkAnswer(t, place+", "+name, got)
			if strings.Contains(string(encode(t, got)), canary) {
				t.Errorf("%s, %s: the answer holds the credential", place, name)
			}
		}
	}
	f.log.Events(t)
}

// checkAnswer holds an answer to what people and programs may be shown.
func checkAnswer(t *testing.T, what string, got *admissionv1.AdmissionResponse) {
	t.Helper()
	texts := got.Warnings
	if got.Result != nil {
		texts = append(texts, got.Result.Message, string(got.Result.Reason))
		if d := got.Result.Details; d != nil {
			for _, c := range d.Causes {
				texts = append(texts, string(c.Type), c.Field, c.Message)
			}
		}
	}
	for name, value := range got.AuditAnnotations {
		texts = append(texts, name, value)
	}
	for _, text := range texts {
		if len(text) > 700 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%s: %.200q has %d bytes, want at most 700 of printable ASCII", what, text, len(text))
		}
	}
	if !got.Allowed && (got.Result == nil || got.Result.Code < 400 || !strings.Contains(got.Result.Message, "; hint: ") || got.Result.Reason == "") {
		t.Errorf("%s: refused with %+v, want a code, a reason and a hint", what, got.Result)
	}
	if got.AuditAnnotations["verdict"] == "" {
		t.Errorf("%s: annotations = %v, want a verdict", what, got.AuditAnnotations)
	}
}

// Who sent a request is a fact for warnings. One that does not fit is left out: a
// pod must not be refused for the groups of its author, nor allowed for them.
func TestRequesterIsBounded(t *testing.T) {
	groups := func(n int, size int) func(*admissionv1.AdmissionRequest) {
		return func(r *admissionv1.AdmissionRequest) {
			r.UserInfo.Groups = nil
			for i := range n {
				r.UserInfo.Groups = append(r.UserInfo.Groups, fmt.Sprintf("%0*d", size, i))
			}
		}
	}
	for name, test := range map[string]struct {
		change func(*admissionv1.AdmissionRequest)
		named  bool
		groups int
	}{
		"few groups":      {groups(3, 20), true, 3},
		"thousands":       {groups(3000, 20), true, 32},
		"long group":      {groups(3, 254), true, 0},
		"long name":       {func(r *admissionv1.AdmissionRequest) { r.UserInfo.Username = strings.Repeat("u", 254) }, false, 0},
		"longest name":    {func(r *admissionv1.AdmissionRequest) { r.UserInfo.Username = strings.Repeat("u", 253) }, true, 1},
		"nobody is named": {func(r *admissionv1.AdmissionRequest) { r.UserInfo.Username = "" }, false, 0},
	} {
		f := newFixture(t)
		got := f.post(t, "/pods", request(t, pod(), nil, test.change))
		if !got.Allowed || len(f.decided) != 1 {
			t.Errorf("%s: answer = %v, %+v, want allowed", name, got.Allowed, got.Result)
			continue
		}
		who := f.decided[0].Input().Requester
		if (who != nil) != test.named || who != nil && len(who.Groups) != test.groups {
			t.Errorf("%s: requester = %+v, want named: %t, with %d groups", name, who, test.named, test.groups)
		}
		if e := f.log.Events(t); len(e) != 1 || (e[0].Actor.Kind == audit.ActorUser) != test.named {
			t.Errorf("%s: events = %+v, want the user as actor: %t", name, e, test.named)
		}
	}
}
