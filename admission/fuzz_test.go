package admission_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/admission"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// FuzzReview gives every handler whatever bytes stand for an object, and for the
// one before. None makes it panic, none is let through without its event where it
// has a volume of ours, and no text of an answer is more than a line.
func FuzzReview(f *testing.F) {
	seeds := []runtime.Object{pod(), pod(addDebug), class("db"), workloads()["Deployment"], workloads()["CronJob"], workloads()["StatefulSet"]}
	for _, o := range seeds {
		raw := encode(f, o)
		f.Add(raw, []byte{}, uint8(0))
		f.Add(raw, encode(f, pod()), uint8(1))
		f.Add(bytes.Replace(raw, []byte(`"spec"`), []byte(`"Spec"`), 1), raw, uint8(2))
	}
	for _, text := range []string{
		"", "null", "{}", "[]", `{"kind":"Pod","apiVersion":"v1"}`, `{"kind":"Pod","apiVersion":"v1","spec":{"volumes":[{}]}}`,
		`{"kind":"Pod","apiVersion":"v1","spec":{"volumes":[{"name":"v","csi":{"driver":"secrets-store.csi.k8s.io"}}],"containers":null}}`,
		`{"kind":"SecretProviderClass","apiVersion":"secrets-store.csi.x-k8s.io/v1","spec":{"parameters":{"objects":"*a"}}}`,
	} {
		f.Add([]byte(text), []byte(text), uint8(3))
	}
	engine := policiestest.Engine(f, policiestest.Grants)
	f.Fuzz(func(t *testing.T, raw, old []byte, how uint8) {
		output := &bytes.Buffer{}
		recorder, log := audittest.New(t)
		handlers, err := admission.New(admission.Config{
			DriverName: driverName, Cluster: "test", Policy: &active{engine}, Recorder: recorder, Meter: noop.Meter{}, Timeout: 20 * time.Second,
			Facts:  &objects{namespace: namespace(), account: account(), class: map[string]*spcv1.SecretProviderClass{"db": class("db")}},
			Logger: slog.New(slog.NewTextHandler(output, nil)), Clock: func() time.Time { return time.Unix(0, policiestest.Now) },
		})
		if err != nil {
			t.Fatal(err)
		}
		for kind, of := range resources() {
			r := admissionv1.AdmissionRequest{UID: "u-1", Operation: admissionv1.Create, Namespace: "payments", Name: "x", Resource: of}
			r.Kind.Group, r.Kind.Version, r.Kind.Kind = of.Group, of.Version, kind
			r.Object.Raw = raw
			if how%2 == 1 {
				r.Operation, r.OldObject.Raw = admissionv1.Update, old
			}
			if how%4 == 3 && kind == "Pod" {
				r.SubResource = "ephemeralcontainers"
			}
			handler, advice := handlers.Templates, true
			switch kind {
			case "Pod":
				handler, advice = handlers.Pods, false
			case "SecretProviderClass":
				handler, advice = handlers.Classes, false
			}
			before := len(log.Leaves())
			got := handler.Handle(t.Context(), webhook.Request{AdmissionRequest: r}).AdmissionResponse
			checkAnswer(t, kind, &got)
			if verdict := got.AuditAnnotations["verdict"]; kind == "Pod" && verdict != "none" && len(log.Leaves()) == before {
				t.Errorf("a pod is reviewed as %s without an event", verdict)
			}
			if advice && (!got.Allowed || len(log.Leaves()) != before) {
				t.Errorf("%s: answer = %+v, want a template let through without an event", kind, got.Result)
			}
		}
		log.Events(t) // each is valid
		if strings.Contains(output.String(), "panicked") {
			t.Errorf("a review panicked:\n%s", output)
		}
	})
}
