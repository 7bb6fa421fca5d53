package admission_test

import (
	"fmt"
	"strings"
	"testing"

	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func parameters(p map[string]string) func(*spcv1.SecretProviderClass) {
	return func(c *spcv1.SecretProviderClass) { c.Spec.Parameters = p }
}

// A class that no pod could ever mount is refused, with an event that holds nothing
// of its parameters.
func TestRefusedClasses(t *testing.T) {
	many := strings.Builder{}
	for i := range 65 {
		fmt.Fprintf(&many, "- objectName: payments/%d\n", i)
	}
	for name, test := range map[string]struct {
		change  func(*spcv1.SecretProviderClass)
		code    int32
		message string
		reason  audit.Reason
	}{
		"credential":     {parameters(map[string]string{"objects": "- objectName: a\n", "password": canary}), 403, "denied by policy: PR-120; hint: remove the parameter", audit.ReasonPolicyDenied},
		"no provider":    {func(c *spcv1.SecretProviderClass) { c.Spec.Provider = "" }, 400, "spec.provider of the SecretProviderClass is not a provider name", audit.ReasonInvalidClass},
		"empty":          {parameters(nil), 400, "spec.parameters of the SecretProviderClass is empty", audit.ReasonInvalidClass},
		"65 secrets":     {parameters(map[string]string{"objects": many.String()}), 400, "spec.parameters lists more than 64 secrets", audit.ReasonInvalidClass},
		"too large":      {parameters(map[string]string{"objects": strings.Repeat("x", 64<<10)}), 400, "spec.parameters is larger than 64 KiB", audit.ReasonInvalidClass},
		"kubelet's name": {parameters(map[string]string{"objects": "x", "csi.storage.k8s.io/pod.name": "x"}), 400, `spec.parameters["csi.storage.k8s.io/pod.name"] begins with`, audit.ReasonInvalidClass},
	} {
		f := newFixture(t)
		bad := class("db", test.change)
		got := f.post(t, "/classes", request(t, bad, nil))
		if got.Allowed || got.Result.Code != test.code || !strings.HasPrefix(got.Result.Message, test.message) {
			t.Errorf("%s: answer = %v %+v, want code %d: %s", name, got.Allowed, got.Result, test.code, test.message)
			continue
		}
		events := f.log.Events(t)
		if len(events) != 1 || events[0].Reason != test.reason || events[0].Class == nil || events[0].Class.Name != "db" || events[0].Class.ParametersSHA256 != "" {
			t.Errorf("%s: events = %+v, want one about the class without a digest", name, events)
		}
		if strings.Contains(string(encode(t, got))+string(encode(t, events)), canary) {
			t.Errorf("%s: the answer or the event holds the credential", name)
		}
		if got := f.post(t, "/classes", request(t, bad, nil, dryRun)); got.Allowed || len(f.log.Leaves()) != 1 {
			t.Errorf("%s: dry run = %+v, want refused without an event", name, got.Result)
		}
		was := bad.DeepCopy()
		bad.Finalizers = []string{"example/x"}
		if got := f.post(t, "/classes", request(t, bad, was)); !got.Allowed {
			t.Errorf("%s: answer = %+v, want an update that leaves the content alone to pass", name, got.Result)
		}
	}
}

func TestTwoRefusedClassesAreTwoEvents(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"one", "two", "one"} {
		f.post(t, "/classes", request(t, class(name, parameters(map[string]string{"password": canary})), nil))
	}
	if n := len(f.log.Leaves()); n != 2 {
		t.Errorf("%d events, want two: each class once", n)
	}
}

func TestWarningsOfClasses(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(*spcv1.SecretProviderClass)
		grants  string
		warning string
	}{
		"granted":          {func(*spcv1.SecretProviderClass) {}, policiestest.Grants, "granted in namespace payments by G-1 (service account api)"},
		"not granted":      {func(*spcv1.SecretProviderClass) {}, "", "PR-001: no grant in namespace payments names local://node/payments/db-password"},
		"other namespace":  {func(*spcv1.SecretProviderClass) {}, strings.Replace(policiestest.Grants, "[payments]", "[shop]", 1), "PR-001: no grant in namespace payments names"},
		"unknown provider": {func(c *spcv1.SecretProviderClass) { c.Spec.Provider = "acme" }, policiestest.Grants, "provider acme is none of those"},
		"unreadable":       {parameters(map[string]string{"objects": "{"}), policiestest.Grants, "PR-013: the parameters cannot be read for certain: "},
		"copies": {func(c *spcv1.SecretProviderClass) {
			c.Spec.SecretObjects = []*spcv1.SecretObject{{SecretName: "db", Type: "Opaque"}}
		}, policiestest.Grants, "secretObjects are not copied"},
	} {
		f := newFixture(t)
		f.policy.engine = policiestest.Engine(t, test.grants)
		got := f.post(t, "/classes", request(t, class("db", test.change), nil))
		if !got.Allowed || !strings.Contains(strings.Join(got.Warnings, "\n"), test.warning) {
			t.Errorf("%s: answer = %v, warnings %q, want %q", name, got.Allowed, got.Warnings, test.warning)
		}
		if n := len(f.log.Leaves()); n > 0 {
			t.Errorf("%s: %d events, want none for a class that passes", name, n)
		}
	}
}
