package admission_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// odd returns a check with these rules.
func odd(rules string) policiestest.Option {
	return policiestest.WithCheck("odd", "# METADATA\n# schemas:\n#   - input: schema.input\npackage portcullis.checks.odd\n\n"+rules)
}

// finding is a rule that always finds something, and says it in these words of Rego.
func finding(effect string, id int, message, remedy string) string {
	return fmt.Sprintf("%s contains finding if {\n\tinput.cluster\n\tfinding := {\"id\": \"PR-%d\", \"severity\": \"high\", \"message\": %s, \"remediation\": %s}\n}\n\n", effect, id, message, remedy)
}

// A rule that is only monitored says from when it would deny, in the review, in the
// API server's log and in ours, and lets the pod through.
func TestMonitoredRulesWarn(t *testing.T) {
	f := newFixture(t)
	f.policy.engine = policiestest.Engine(t, "", policiestest.WithConfig("monitor: {until: 2026-02-01, rules: [PR-001]}\n"))
	got := f.post(t, "/pods", request(t, pod(), nil))
	if !got.Allowed || got.AuditAnnotations["verdict"] != "allowed_monitored" || got.AuditAnnotations["rules"] != "PR-001" {
		t.Fatalf("answer = %v %v, want let through, and that a rule would have denied it", got.Allowed, got.AuditAnnotations)
	}
	const want = "volume secrets: PR-001 would be denied from 2026-02-02: "
	if len(got.Warnings) != 1 || !strings.HasPrefix(got.Warnings[0], want) {
		t.Errorf("warnings = %q, want one that begins with %q", got.Warnings, want)
	}
	if e := f.log.Events(t); len(e) != 1 || e[0].Policy.Effect != audit.EffectAllowedMonitored {
		t.Errorf("events = %+v, want one allow that says that it is monitored", e)
	}
	template := f.post(t, "/templates", request(t, workloads()["Deployment"], nil))
	if !template.Allowed || template.AuditAnnotations["verdict"] != "allowed_monitored" || len(template.Warnings) != 1 || template.Warnings[0] != got.Warnings[0] {
		t.Errorf("template = %v, %q, want the warning of the pod", template.AuditAnnotations, template.Warnings)
	}
	f.policy.engine = policiestest.Engine(t, "", policiestest.WithConfig("monitor: {until: 2026-01-01, rules: [PR-001]}\n"))
	if got := f.post(t, "/pods", request(t, pod(), nil)); got.Allowed || len(got.Warnings) > 0 {
		t.Errorf("answer after the last day = %v, %q, want denied", got.Allowed, got.Warnings)
	}
}

// A waiver lets a pod through, and is told each time.
func TestWaiversAreTold(t *testing.T) {
	f := newFixture(t)
	f.policy.engine = policiestest.Engine(t, policiestest.Grants, odd(strings.Replace(finding("deny", 301, `"no limits"`, `"set them"`), `"severity"`, `"waivable": true, "severity"`, 1)),
		policiestest.WithWaivers(`- {id: W-1, finding: PR-301, namespace: payments, serviceAccount: "*", reason: r, ticket: T-1, approvedBy: a, expiry: 2026-02-01}`))
	got := f.post(t, "/pods", request(t, pod(), nil))
	if !got.Allowed || len(got.Warnings) != 1 || got.Warnings[0] != "volume secrets: PR-301 is waived: no limits" {
		t.Errorf("answer = %v %+v, warnings %q, want let through with the waiver told", got.Allowed, got.Result, got.Warnings)
	}
	if got.AuditAnnotations["verdict"] != "allow" || got.AuditAnnotations["rules"] != "PR-301" {
		t.Errorf("annotations = %v, want an allow with the rule that was waived", got.AuditAnnotations)
	}
}

// What Kubernetes cuts or drops is cut here, where it can be counted. Each is said
// once, also where it is the same only after it was cut.
func TestWarningsAreBounded(t *testing.T) {
	var many strings.Builder
	for i := range 40 {
		many.WriteString(finding("warn", 300+i, fmt.Sprintf(`sprintf("%%0300d %d", [7])`, i), `"x"`))
	}
	f := newFixture(t)
	f.policy.engine = policiestest.Engine(t, policiestest.Grants, odd(many.String()))
	got := f.post(t, "/pods", request(t, pod(), nil))
	if !got.Allowed || len(got.Warnings) != 16 || got.Warnings[15] != "and 25 more warnings" {
		t.Fatalf("answer = %v %+v, %d warnings, last %q, want allowed with 16, the last of which counts the rest", got.Allowed, got.Result, len(got.Warnings), got.Warnings[max(0, len(got.Warnings)-1):])
	}
	sum := 0
	for _, w := range got.Warnings {
		sum += len(w)
		if len(w) > 120 {
			t.Errorf("warning has %d bytes, want at most 120: %q", len(w), w)
		}
	}
	if sum > 4096 {
		t.Errorf("warnings have %d bytes in all: Kubernetes drops what is beyond 4096", sum)
	}
	if rules := got.AuditAnnotations["rules"]; len(rules) > 512 || !strings.HasPrefix(rules, "PR-300,PR-301,") {
		t.Errorf("annotation = %q, want the rules, within 512 bytes", rules)
	}
	f.policy.engine = policiestest.Engine(t, policiestest.Grants, odd(finding("warn", 300, `sprintf("%0300d first", [7])`, `"x"`)+finding("warn", 300, `sprintf("%0300d second", [7])`, `"x"`)))
	if got := f.post(t, "/pods", request(t, pod(), nil)); len(got.Warnings) != 1 {
		t.Errorf("warnings = %q, want what cannot be told apart told once", got.Warnings)
	}
}

// A pod with many volumes that are denied by many rules still has a message with a
// remedy and the decision, and causes that the API server takes.
func TestCausesAndRulesAreBounded(t *testing.T) {
	var many strings.Builder
	for i := range 40 {
		many.WriteString(finding("deny", 300+i, `"bad"`, `"mend it"`))
	}
	f := newFixture(t)
	f.policy.engine = policiestest.Engine(t, policiestest.Grants, odd(many.String()))
	p := pod(func(p *corev1.Pod) {
		for i := range 30 {
			p.Spec.Volumes = append(p.Spec.Volumes, secretsVolume(fmt.Sprintf("v%d", i), "db"))
		}
	})
	got := f.post(t, "/pods", request(t, p, nil))
	if got.Allowed || got.Result.Details == nil || len(got.Result.Details.Causes) != 32 {
		t.Fatalf("answer = %v, %+v, want refused with 32 causes", got.Allowed, got.Result)
	}
	const want = "denied by policy: PR-300, PR-301, PR-302, PR-303, PR-304, PR-305, PR-306, PR-307, PR-308, PR-309, PR-310, PR-311 and 28 more; hint: mend it; decision "
	if !strings.HasPrefix(got.Result.Message, want) || !strings.HasSuffix(got.Result.Message, " and 23 more") {
		t.Errorf("message = %q, want %q and eight of 31 decisions", got.Result.Message, want)
	}
	checkText(t, got.Result.Message)
	for name, value := range got.AuditAnnotations {
		if len(value) > 512 {
			t.Errorf("annotation %s has %d bytes, want at most 512", name, len(value))
		}
	}
	if n := len(f.log.Events(t)); n != 31 {
		t.Errorf("%d events, want one for each volume", n)
	}
}

// The causes of what decides come first: those that are cut are of lighter ones.
func TestCausesOfTheVerdictAreKept(t *testing.T) {
	f := newFixture(t)
	f.objects.class["other"] = class("other", func(c *spcv1.SecretProviderClass) { c.Spec.Parameters["objects"] = "- objectName: shop/key\n" })
	p := pod(func(p *corev1.Pod) {
		for i := range 40 {
			v := secretsVolume(fmt.Sprintf("v%d", i), "db")
			v.CSI.ReadOnly = nil
			p.Spec.Volumes = append(p.Spec.Volumes, v)
		}
		p.Spec.Volumes = append(p.Spec.Volumes, secretsVolume("denied", "other"))
	})
	got := f.post(t, "/pods", request(t, p, nil))
	if got.Allowed || got.Result.Code != 403 || got.Result.Details.Causes[0].Type != "PR-001" || got.Result.Details.Causes[0].Field != "spec.volumes[41].csi.volumeAttributes[secretProviderClass]" {
		t.Errorf("answer = %+v, want a denial whose cause comes first", got.Result)
	}
}
