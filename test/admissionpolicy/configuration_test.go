//go:build integration

package admissionpolicy_test

import (
	"context"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

const (
	guard  = "portcullis-webhook-configuration"
	bundle = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg=="
)

// TestTheWebhookWritesCABundleAlone: RBAC lets its account patch the configuration.
// Whoever has stolen it can neither be sent other objects, nor let pods by, nor refuse
// what is not the webhook's to refuse.
func TestTheWebhookWritesCABundleAlone(t *testing.T) {
	w := newWorld(t, clustertest.Options{}, "webhook.enabled=true")
	for _, o := range render(t, false, "webhook.enabled=true") {
		switch o.GetKind() {
		case "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ValidatingWebhookConfiguration":
			w.Apply(t, manifest(t, []*unstructured.Unstructured{o}))
		}
	}
	config := w.As(t, release, "portcullis-webhook")
	config.WarningHandler, config.QPS = w.seen, -1
	thief, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	patch := func(as *kubernetes.Clientset, kind types.PatchType, body string, dry ...string) func() error {
		return func() error {
			_, err := as.AdmissionregistrationV1().ValidatingWebhookConfigurations().Patch(context.WithoutCancel(t.Context()), "portcullis", kind, []byte(body), metav1.PatchOptions{DryRun: dry})
			return err
		}
	}
	const pods = `{"webhooks":[{"name":"pods.admission.portcullis.dev",`
	const merge, bare, list = types.StrategicMergePatchType, types.MergePatchType, types.JSONPatchType
	denied := outcome{denied: []string{guard}}
	// Dry: what got through before the policy is in use would be no change any more.
	w.settles(t, denied, patch(thief, merge, pods+`"timeoutSeconds":29}]}`, metav1.DryRunAll))
	for _, tt := range []struct {
		name string
		kind types.PatchType
		body string
	}{
		{"a webhook of its own", merge, `{"webhooks":[{"name":"spy.example.org","admissionReviewVersions":["v1"],"sideEffects":"None","failurePolicy":"Ignore","clientConfig":{"url":"https://192.0.2.1/"},
			"rules":[{"apiGroups":[""],"apiVersions":["*"],"operations":["CREATE"],"resources":["secrets"]}]}]}`},
		{"no webhooks", bare, `{"webhooks":[]}`}, {"no webhooks at all", bare, `{"webhooks":null}`},
		{"one less", merge, `{"webhooks":[{"$patch":"delete","name":"pods.admission.portcullis.dev"}]}`},
		{"another name", list, `[{"op":"replace","path":"/webhooks/0/name","value":"x.example.org"}]`},
		{"another order", list, `[{"op":"move","from":"/webhooks/0","path":"/webhooks/1"}]`},
		{"another server", merge, pods + `"clientConfig":{"url":"https://192.0.2.1/","service":null}}]}`},
		{"another Service", merge, pods + `"clientConfig":{"service":{"namespace":"payments"}}}]}`},
		{"another path", merge, pods + `"clientConfig":{"service":{"path":"/classes"}}}]}`},
		{"another port", merge, pods + `"clientConfig":{"service":{"port":444}}}]}`},
		{"a namespace is exempt", merge, pods + `"namespaceSelector":{"matchLabels":{"a":"b"}}}]}`},
		{"objects are exempt", merge, pods + `"objectSelector":{"matchLabels":{"a":"b"}}}]}`},
		{"failures pass", merge, pods + `"failurePolicy":"Ignore"}]}`},
		{"conditions", merge, pods + `"matchConditions":[{"name":"never","expression":"false"}]}]}`},
		{"no conditions", list, `[{"op":"remove","path":"/webhooks/0/matchConditions"}]`},
		{"equivalents", merge, pods + `"matchPolicy":"Exact"}]}`},
		{"rules", list, `[{"op":"add","path":"/webhooks/0/rules/-","value":{"apiGroups":[""],"apiVersions":["*"],"operations":["CREATE"],"resources":["secrets"]}}]`},
		{"dry runs", merge, pods + `"sideEffects":"None"}]}`},
		{"time", merge, pods + `"timeoutSeconds":1}]}`},
		{"versions", merge, pods + `"admissionReviewVersions":["v1","v1beta1"]}]}`},
		{"labels", bare, `{"metadata":{"labels":{"a":"b"}}}`}, {"annotations", bare, `{"metadata":{"annotations":{"cert-manager.io/inject-ca-from":"a/b"}}}`},
		{"finalizers", bare, `{"metadata":{"finalizers":["example.org/a"]}}`},
		{"owners", bare, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"a","uid":"b"}]}}`},
		{"with a caBundle", merge, pods + `"timeoutSeconds":1,"clientConfig":{"caBundle":"` + bundle + `"}}]}`},
	} {
		got := w.try(patch(thief, tt.kind, tt.body))
		if !got.matches(denied) {
			t.Errorf("%s: outcome = %v, want %v", tt.name, got, denied)
		}
		tells(t, got)
	}
	// What the policy compares by are names, of which the API server takes none twice.
	if got := w.try(patch(thief, list, `[{"op":"copy","from":"/webhooks/0","path":"/webhooks/1"}]`)); got.other == nil || !strings.Contains(got.other.Error(), "Duplicate value") {
		t.Errorf("one twice: outcome = %v, want it refused as no configuration", got)
	}
	w.caBundle(t, thief, patch(thief, merge, pods+`"clientConfig":{"caBundle":"`+bundle+`"}}]}`))
	// Administrators and Helm are not asked.
	if got := w.try(patch(w.as, merge, pods+`"timeoutSeconds":9}]}`)); !got.matches(outcome{}) {
		t.Errorf("by an administrator: outcome = %v, want none", got)
	}
}

// caBundle wants what the webhook has to write written, and nothing else changed.
func (w *world) caBundle(t *testing.T, as *kubernetes.Clientset, write func() error) {
	t.Helper()
	read := func() *admissionv1.ValidatingWebhookConfiguration {
		o, err := as.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "portcullis", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	before := read()
	if got := w.try(write); !got.matches(outcome{}) {
		t.Errorf("caBundle: outcome = %v, want none", got)
	}
	after := read()
	if !strings.HasPrefix(string(after.Webhooks[0].ClientConfig.CABundle), "-----BEGIN") || len(after.Webhooks) != len(before.Webhooks) || *after.Webhooks[0].TimeoutSeconds != *before.Webhooks[0].TimeoutSeconds {
		t.Errorf("webhooks = %+v, want a caBundle and nothing else", after.Webhooks)
	}
}
