package admission_test

import (
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-csi/portcullis/audit"
)

// Who posts to the port says of itself what it likes: a line of the log stays a line,
// and an event is written all the same.
func TestWhatARequestSaysOfItselfIsBounded(t *testing.T) {
	long := strings.Repeat("x", 1<<20) + "\n\x1b[31mlevel=INFO msg=forged"
	for name, change := range map[string]func(*admissionv1.AdmissionRequest){
		"name":      func(r *admissionv1.AdmissionRequest) { r.Name = long },
		"namespace": func(r *admissionv1.AdmissionRequest) { r.Namespace = long },
		"operation": func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Operation(long) },
		"user": func(r *admissionv1.AdmissionRequest) {
			r.UserInfo.Username, r.UserInfo.Groups = long, []string{long, long}
		},
		"kind": func(r *admissionv1.AdmissionRequest) { r.Kind.Kind = long },
		"uid":  func(r *admissionv1.AdmissionRequest) { r.UID = types.UID(long); r.Kind.Kind = "other" },
	} {
		f := newFixture(t)
		for _, path := range []string{"/pods", "/templates", "/classes"} {
			f.post(t, path, request(t, pod(), nil, change))
		}
		if err := f.recorder.Close(t.Context()); err != nil {
			t.Errorf("%s: Close() = %v", name, err)
		}
		for _, l := range strings.Split(f.output.String(), "\n") {
			if len(l) > 4<<10 || strings.Contains(l, "malformed") {
				t.Errorf("%s: the log has a line of %d bytes: %.200s", name, len(l), l)
			}
		}
		for _, e := range f.log.Events(t) {
			if e.Type != audit.TypeAdmission {
				t.Errorf("%s: event %+v, want reviews alone: nothing may count as lost", name, e)
			}
		}
	}
}

// People have names that are not ASCII, and services have any: their pods are decided
// on as those of others, and the event names them or a digest of it.
func TestUsersOfAnyName(t *testing.T) {
	for _, name := range []string{
		"m\u00fcller@example.com", "\u738b", "CN=a,O=b", "with space", "a\tb", "line\nend", "\x1b[31m", "\u202eright to left", "''\"\"\\", strings.Repeat("\u00fc", 126), "\ufffd",
	} {
		f := newFixture(t)
		got := f.post(t, "/pods", request(t, pod(), nil, func(r *admissionv1.AdmissionRequest) {
			r.UserInfo.Username, r.UserInfo.Groups = name, []string{name, "g"}
		}))
		if !got.Allowed {
			t.Errorf("%q: answer = %+v, want allowed", name, got.Result)
		}
		events := f.log.Events(t)
		if len(events) != 1 || events[0].Actor.Kind != audit.ActorUser || events[0].Actor.Name == "" {
			t.Errorf("%q: events = %+v, want one that names the user", name, events)
		}
	}
}

// An answer is about as large as its words, however long what it is about.
func TestAnswersAreBounded(t *testing.T) {
	f := newFixture(t)
	p := pod(func(p *corev1.Pod) {
		p.Spec.Volumes = nil
		for i := range 40 {
			v := secretsVolume(fmt.Sprint("v", i), "db")
			v.CSI.VolumeAttributes["csi.storage.k8s.io/"+strings.Repeat("x", 10_000)] = canary
			p.Spec.Volumes = append(p.Spec.Volumes, v)
		}
	})
	got := f.post(t, "/pods", request(t, p, nil))
	if got.Allowed {
		t.Fatalf("answer = %+v, want refused", got)
	}
	if n := len(encode(t, got)); n > 64<<10 {
		t.Errorf("the answer has %d bytes, want less than 64 KiB", n)
	}
	if strings.Contains(string(encode(t, got)), canary) {
		t.Error("the answer has the value of an attribute")
	}
}
