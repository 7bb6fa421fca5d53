package admission_test

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/admission"
	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func TestAllowedPod(t *testing.T) {
	f := newFixture(t)
	got := f.post(t, "/pods", request(t, pod(), nil))
	if !got.Allowed || len(got.Warnings) > 0 {
		t.Fatalf("answer = %+v, want allowed without warnings", got)
	}
	events := f.log.Events(t)
	if len(events) != 1 || len(f.decided) != 1 {
		t.Fatalf("%d events, %d decisions told, want one of each", len(events), len(f.decided))
	}
	d, e := f.decided[0], events[0]
	want := map[string]string{"verdict": "allow", "decision-id": d.ID, "bundle": f.policy.engine.Digest(), "serial": "1"}
	if diff := cmp.Diff(want, got.AuditAnnotations); diff != "" {
		t.Errorf("audit annotations differ (-want +got):\n%s", diff)
	}
	if e.Type != audit.TypeAdmission || e.Outcome != audit.OutcomeSuccess || e.Policy.DecisionID != d.ID || e.Workload.PodUID != podUID || e.Stage != "" {
		t.Errorf("event = %+v, want the allowed admission of the pod", e)
	}
	if e.Actor.Name != "system:serviceaccount:kube-system:replicaset-controller" || e.Seen == nil || e.Seen.Class != "13" {
		t.Errorf("event has actor %+v and saw %+v, want who sent the request, and version 13 of the class", e.Actor, e.Seen)
	}
	in := d.Input()
	if in.Phase != policies.PhaseAdmission || in.Subject.Node != "" || in.Tokens != nil || in.Subject.TokenVerified != nil || in.Requester == nil {
		t.Errorf("input = %+v, want that of admission", in)
	}
}

// The API server may review a pod more than once.
func TestReviewedTwiceIsOneEvent(t *testing.T) {
	f := newFixture(t)
	for range 2 {
		if got := f.post(t, "/pods", request(t, pod(), nil)); !got.Allowed {
			t.Fatalf("answer = %+v, want allowed", got)
		}
	}
	if events := f.log.Events(t); len(events) != 1 || f.decided[0].ID != f.decided[1].ID {
		t.Errorf("%d events, want one for two equal reviews", len(events))
	}
}

func TestPodWithoutNameAndUID(t *testing.T) {
	f := newFixture(t)
	p := pod(func(p *corev1.Pod) { p.Name, p.UID, p.GenerateName, p.Namespace = "", "", "api-", "" })
	got := f.post(t, "/pods", request(t, p, nil, func(r *admissionv1.AdmissionRequest) { r.Namespace = "payments" }))
	if !got.Allowed || len(f.log.Events(t)) != 1 {
		t.Errorf("answer = %+v, want allowed, with an event", got)
	}
}

func TestDryRunLeavesNoEvent(t *testing.T) {
	f := newFixture(t)
	f.log.Fail(errors.New("must not be asked"))
	got := f.post(t, "/pods", request(t, pod(), nil, dryRun))
	if !got.Allowed || got.AuditAnnotations["decision-id"] == "" || len(f.decided) > 0 {
		t.Errorf("answer = %+v, want allowed with its decision, and nobody told", got)
	}
	f.policy.engine = policiestest.Engine(t, "")
	if got := f.post(t, "/pods", request(t, pod(), nil, dryRun)); got.Allowed || got.Result.Code != http.StatusForbidden {
		t.Errorf("answer = %+v, want denied", got)
	}
	bad := pod(func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.ReadOnly = nil })
	if got := f.post(t, "/pods", request(t, bad, nil, dryRun)); got.Allowed {
		t.Error("a bad pod is allowed in a dry run")
	}
	if n := len(f.log.Leaves()); n > 0 {
		t.Errorf("%d events, want none", n)
	}
}

// No event, no allow; a denial stands without.
func TestP1NoEventNoAllow(t *testing.T) {
	f := newFixture(t)
	f.log.Fail(errors.New("disk full"))
	got := f.post(t, "/pods", request(t, pod(), nil))
	if got.Allowed || got.Result.Code != http.StatusServiceUnavailable || got.AuditAnnotations["verdict"] != "error" ||
		!strings.Contains(got.Result.Message, "the decision cannot be recorded in the audit log") {
		t.Errorf("answer = %+v (%v), want refused for want of a record", got, got.Result)
	}
	f.objects.class = nil
	if got := f.post(t, "/pods", request(t, pod(), nil)); got.Allowed {
		t.Error("a pod whose class is missing is let through without an event")
	}
	f.objects.class = newFixture(t).objects.class
	f.policy.engine = policiestest.Engine(t, "")
	if got := f.post(t, "/pods", request(t, pod(), nil)); got.Allowed || got.Result.Code != http.StatusForbidden {
		t.Errorf("answer = %+v, want the denial to stand", got)
	}
}

// TestNamesOfConfig: a name that --cluster-name or --drivername takes starts the
// webhook as it starts the plugin.
func TestNamesOfConfig(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct{ driver, cluster, want string }{
		{driverName, "Prod.EU_1", ""}, {"Secrets.example", "test", ""}, {driverName, strings.Repeat("x", 253), ""},
		{"", "test", "DriverName"}, {"a_b", "test", "DriverName"}, {strings.Repeat("a", 64), "test", "DriverName"},
		{driverName, "", "Cluster"}, {driverName, "a b", "Cluster"}, {driverName, "arn:aws:eks", "Cluster"},
	} {
		_, err := admission.New(admission.Config{
			DriverName: tt.driver, Cluster: tt.cluster, Policy: f.policy, Facts: f.objects, Recorder: f.recorder, Meter: noop.Meter{}, Logger: slog.New(slog.DiscardHandler),
		})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New() of driver %q, cluster %q = %v, want %q", tt.driver, tt.cluster, err, tt.want)
		}
	}
}
