package admission_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-csi/portcullis/admission"
	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// What is answered while the log takes nothing is in the log once it does: the
// denial as a denial, the allow and the pod that waits for its class as refusals,
// since that is what came of them.
func TestP7WhatWasRefusedWithoutTheLogIsOwed(t *testing.T) {
	for name, test := range map[string]struct {
		given  func(*fixture)
		code   int32
		reason audit.Reason
		told   int // decisions that others hear of
	}{
		"allow":    {func(*fixture) {}, 503, audit.ReasonAuditUnavailable, 0},
		"deny":     {func(f *fixture) { f.policy.engine = policiestest.Engine(t, "") }, 403, audit.ReasonPolicyDenied, 1},
		"error":    {func(f *fixture) { f.policy.engine = nil }, 503, audit.ReasonNoBundle, 1},
		"deferred": {func(f *fixture) { f.objects.class = nil }, 503, audit.ReasonAuditUnavailable, 0},
		"no facts": {func(f *fixture) { f.objects.err = errors.New("no answer") }, 503, audit.ReasonFactsUnavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			test.given(f)
			f.log.Fail(errors.New("disk full"))
			got := f.post(t, "/pods", request(t, pod(), nil))
			if got.Allowed || got.Result.Code != test.code {
				t.Fatalf("answer = %v, %+v, want refused with %d", got.Allowed, got.Result, test.code)
			}
			if len(f.decided) != test.told {
				t.Errorf("%d decisions told, want %d: those that have or will have an event", len(f.decided), test.told)
			}
			f.log.Fail(nil)
			if err := f.recorder.Close(t.Context()); err != nil {
				t.Fatalf("Close() = %v, want what is owed written", err)
			}
			events := f.log.Events(t)
			if len(events) == 0 || events[0].Type != audit.TypeAdmission || events[0].Reason != test.reason || events[0].Outcome == audit.OutcomeSuccess {
				t.Errorf("events = %+v, want a refusal for %s", events, test.reason)
			}
			for _, e := range events {
				if e.Type == audit.TypeAdmission && e.Outcome == audit.OutcomeSuccess {
					t.Errorf("event = %+v: nothing was let through", e)
				}
			}
		})
	}
}

// A log that hangs refuses within the time of a review: the API server must hear
// it before it stops waiting.
func TestP1ALogThatHangsRefuses(t *testing.T) {
	f := newFixture(t, func(c *admission.Config) { c.Timeout = 200 * time.Millisecond })
	release := f.log.Hang()
	defer release()
	begin := time.Now()
	got := f.post(t, "/pods", request(t, pod(), nil))
	if took := time.Since(begin); got.Allowed || got.Result.Code != 503 || took > 5*time.Second {
		t.Errorf("answer after %v = %v, %+v, want refused in time", took, got.Allowed, got.Result)
	}
}

// API servers retry, and a second webhook that changes the object has it reviewed
// again: equal requests get equal answers, and once the event is in the log they are
// that one, also many at once.
func TestRetriesAreEqual(t *testing.T) {
	for name, grants := range map[string]string{"allow": policiestest.Grants, "deny": ""} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			told := map[string]int{}
			f := newFixture(t, func(c *admission.Config) {
				c.Decided = func(d policies.Decision) { mu.Lock(); defer mu.Unlock(); told[d.ID]++ }
			})
			f.policy.engine = policiestest.Engine(t, grants)
			const retries = 16
			answers := make([]*admissionv1.AdmissionResponse, retries)
			var group sync.WaitGroup
			r := request(t, pod(), nil)
			answers[0] = f.post(t, "/pods", r)
			for i := range answers[1:] {
				group.Go(func() {
					again := *r
					again.UID = types.UID(strings.Repeat("0", i+1) + "-of-its-own")
					answers[i+1] = f.post(t, "/pods", &again)
				})
			}
			group.Wait()
			for _, got := range answers[1:] {
				got.UID = answers[0].UID
				if diff := cmp.Diff(answers[0], got); diff != "" {
					t.Fatalf("answers differ:\n%s", diff)
				}
			}
			if len(told) != 1 || told[answers[0].AuditAnnotations["decision-id"]] != retries {
				t.Errorf("decisions = %v, want one, told each time", told)
			}
			if n := len(f.log.Events(t)); n != 1 {
				t.Errorf("%d events, want one", n)
			}
		})
	}
}

// What differs in what is decided on is another decision and another event.
func TestOtherPodsAreOtherDecisions(t *testing.T) {
	f := newFixture(t)
	ids := map[string]string{}
	for name, change := range map[string]func(*corev1.Pod){
		"as it is": func(*corev1.Pod) {}, "uid": func(p *corev1.Pod) { p.UID = "22222222-2222-4222-8222-222222222222" },
		"image": func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other" }, "label": func(p *corev1.Pod) { p.Labels["app"] = "other" },
		"debugged": addDebug, "host network": func(p *corev1.Pod) { p.Spec.HostNetwork = true },
	} {
		got := f.post(t, "/pods", request(t, pod(change), nil))
		id := got.AuditAnnotations["decision-id"]
		if !got.Allowed || ids[id] != "" {
			t.Errorf("%s: answer = %+v with the decision of %q, want one of its own", name, got.Result, ids[id])
		}
		ids[id] = name
	}
	if n := len(f.log.Events(t)); n != len(ids) {
		t.Errorf("%d events, want %d", n, len(ids))
	}
}

// Nobody waits for those who hear of decisions, and a dry run is none of theirs.
func TestWhoHearsOfDecisions(t *testing.T) {
	f := newFixture(t, func(c *admission.Config) { c.Decided = nil })
	if got := f.post(t, "/pods", request(t, pod(), nil)); !got.Allowed || len(f.log.Leaves()) != 1 {
		t.Errorf("answer where nobody hears = %+v, want allowed with its event", got.Result)
	}
	f = newFixture(t)
	f.post(t, "/templates", request(t, workloads()["Deployment"], nil))
	f.post(t, "/classes", request(t, class("db"), nil))
	f.post(t, "/pods", request(t, pod(), pod()))
	if len(f.decided) > 0 {
		t.Errorf("%d decisions told of templates, classes and updates that change nothing, want none", len(f.decided))
	}
}
