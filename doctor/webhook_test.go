package doctor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/doctor"
)

// issue returns a certificate for a name that ends after a time, and the authority
// that signed it.
func issue(t *testing.T, name string, life time.Duration) (leaf *x509.Certificate, authority []byte) {
	t.Helper()
	sign := func(form, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, form, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(90 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root := sign(form, form, keys[0], keys[0])
	leaf = sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(life), DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root, keys[1], keys[0])
	return leaf, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})
}

const served = "portcullis-webhook.kube-system.svc"

// installed is a cluster with the chart's webhooks, as doctor believes them to be.
func installed(t *testing.T) *doctor.Facts {
	t.Helper()
	leaf, authority := issue(t, served, 7*24*time.Hour)
	f := good()
	rule := func(operations []admissionv1.OperationType, resources ...string) admissionv1.RuleWithOperations {
		return admissionv1.RuleWithOperations{Operations: operations, Rule: admissionv1.Rule{Resources: resources}}
	}
	both := []admissionv1.OperationType{admissionv1.Create, admissionv1.Update}
	conditions := func(names ...string) []admissionv1.MatchCondition {
		var list []admissionv1.MatchCondition
		for _, n := range names {
			list = append(list, admissionv1.MatchCondition{Name: n})
		}
		return list
	}
	config := admissionv1.WebhookClientConfig{CABundle: authority}
	f.Cluster.Webhooks.Value = []admissionv1.ValidatingWebhookConfiguration{{ObjectMeta: metav1.ObjectMeta{Name: "portcullis"}, Webhooks: []admissionv1.ValidatingWebhook{
		{
			Name: "pods.admission.portcullis.dev", ClientConfig: config, FailurePolicy: new(admissionv1.Fail),
			Rules:           []admissionv1.RuleWithOperations{rule(both, "pods"), rule(both[1:], "pods/ephemeralcontainers")},
			MatchConditions: conditions("has-a-volume-of-the-driver", "is-new-or-brings-something-in"),
		},
		{
			Name: "templates.admission.portcullis.dev", ClientConfig: config, FailurePolicy: new(admissionv1.Ignore),
			Rules:           []admissionv1.RuleWithOperations{rule(both, "deployments", "statefulsets", "daemonsets", "replicasets"), rule(both, "jobs", "cronjobs")},
			MatchConditions: conditions("has-a-volume-of-the-driver", "not-made-by-another-workload", "is-new-or-has-another-template"),
		},
		{
			Name: "classes.admission.portcullis.dev", ClientConfig: config, FailurePolicy: new(admissionv1.Ignore),
			Rules: []admissionv1.RuleWithOperations{rule(both, "secretproviderclasses")}, MatchConditions: conditions("is-new-or-has-another-spec"),
		},
	}}}
	f.Cluster.Endpoints.Value = []doctor.Endpoint{
		{Name: "portcullis-webhook-0", Ready: true, Chain: []*x509.Certificate{leaf}}, {Name: "portcullis-webhook-1", Ready: true, Chain: []*x509.Certificate{leaf}},
	}
	return f
}

// badWebhooks are situations of an installed webhook.
func badWebhooks(t *testing.T) []bad {
	change := func(do func(c *doctor.Cluster, pods *admissionv1.ValidatingWebhook)) func(*doctor.Facts) {
		return func(f *doctor.Facts) {
			*f = *installed(t)
			do(f.Cluster, &f.Cluster.Webhooks.Value[0].Webhooks[0])
		}
	}
	serves := func(name string, life time.Duration, believed bool) func(*doctor.Facts) {
		return change(func(c *doctor.Cluster, _ *admissionv1.ValidatingWebhook) {
			leaf, authority := issue(t, name, life)
			c.Endpoints.Value[1].Chain = []*x509.Certificate{leaf}
			if believed { // old and new, as while the authority is rotated
				for i := range c.Webhooks.Value[0].Webhooks {
					config := &c.Webhooks.Value[0].Webhooks[i].ClientConfig
					config.CABundle = append(authority[:len(authority):len(authority)], config.CABundle...)
				}
			}
		})
	}
	const rules, endpoints, certificate = "webhook.rules", "webhook.endpoints", "webhook.served"
	return []bad{
		{"as installed", rules, change(func(*doctor.Cluster, *admissionv1.ValidatingWebhook) {}), doctor.OK, "as the chart has it", ""},
		{"as installed", endpoints, change(func(*doctor.Cluster, *admissionv1.ValidatingWebhook) {}), doctor.OK, "2 replicas ready", ""},
		{"as installed", certificate, change(func(*doctor.Cluster, *admissionv1.ValidatingWebhook) {}), doctor.OK, "is believed", ""},
		{"fails open", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) { w.FailurePolicy = new(admissionv1.Ignore) }), doctor.Warn, "pods go through", "anew"},
		{"exempt namespace", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) {
			w.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
		}), doctor.Warn, "leaves namespaces out", "anew"},
		{"exempt object", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) {
			w.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpDoesNotExist}}}
		}), doctor.Warn, "leaves objects out", "anew"},
		{"no ephemeral containers", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) { w.Rules = w.Rules[:1] }), doctor.Warn, "is asked about CREATE pods, UPDATE pods", "anew"},
		{"one more condition", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) {
			w.MatchConditions = append(w.MatchConditions, admissionv1.MatchCondition{Name: "not-on-sundays"})
		}), doctor.Warn, "not-on-sundays", "anew"},
		{"webhook missing", rules, change(func(c *doctor.Cluster, _ *admissionv1.ValidatingWebhook) {
			c.Webhooks.Value[0].Webhooks = c.Webhooks.Value[0].Webhooks[1:]
		}), doctor.Warn, "no webhook pods", "anew"},
		{"nobody is ready", endpoints, change(func(c *doctor.Cluster, _ *admissionv1.ValidatingWebhook) { c.Endpoints.Value = nil }), doctor.Fail, "no pod with secrets is made", "readyz"},
		{"one is not ready", endpoints, change(func(c *doctor.Cluster, _ *admissionv1.ValidatingWebhook) { c.Endpoints.Value[1].Ready = false }), doctor.Warn, "1 of 2 replicas ready, not portcullis-webhook-1", "readyz"},
		{"one alone", endpoints, change(func(c *doctor.Cluster, _ *admissionv1.ValidatingWebhook) { c.Endpoints.Value = c.Endpoints.Value[:1] }), doctor.Warn, "one replica alone", "webhook.replicas"},
		{"endpoints unknown", endpoints, change(func(c *doctor.Cluster, _ *admissionv1.ValidatingWebhook) { c.Endpoints.Err = errBroken }), doctor.Warn, "could not be looked at", "mend it"},
		{"another authority", certificate, serves(served, 7*24*time.Hour, false), doctor.Fail, "portcullis-webhook-1: caBundle of pods.admission.portcullis.dev does not verify", "webhook.certificate"},
		{"both authorities", certificate, serves(served, 7*24*time.Hour, true), doctor.OK, "is believed", ""},
		{"another name", certificate, serves("other.kube-system.svc", 7*24*time.Hour, true), doctor.Fail, "does not verify", "webhook.certificate"},
		{"over", certificate, serves(served, -time.Minute, true), doctor.Fail, "does not verify", "webhook.certificate"},
		{"ends today", certificate, serves(served, time.Hour, true), doctor.Warn, "its certificate ends", "log"},
		{"nothing served", certificate, change(func(c *doctor.Cluster, _ *admissionv1.ValidatingWebhook) { c.Endpoints.Value[0].Chain = nil }), doctor.Fail, "serves no certificate", "readyz"},
		{"out of reach", certificate, change(func(c *doctor.Cluster, _ *admissionv1.ValidatingWebhook) { c.Endpoints.Value[0].Err = errBroken }), doctor.NA, "in the cluster's network", ""},
		{"endpoints unknown", certificate, change(func(c *doctor.Cluster, _ *admissionv1.ValidatingWebhook) { c.Endpoints.Err = errBroken }), doctor.Warn, "could not be looked at", "mend it"},
	}
}

func TestWebhooks(t *testing.T) {
	for _, b := range badWebhooks(t) {
		t.Run(b.check+" "+b.name, b.try)
	}
}

// What doctor takes for the chart's is in the chart.
func TestWebhooksAreThoseOfTheChart(t *testing.T) {
	var text strings.Builder
	for _, name := range []string{"_webhook.tpl", "webhook-configuration.yaml"} {
		part, err := os.ReadFile("../deploy/chart/templates/" + name)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(part)
	}
	chart := text.String()
	conditions := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^- name: ([a-z-]+)$`).FindAllStringSubmatch(chart, -1) {
		conditions[m[1]] = true
	}
	f := installed(t)
	seen := map[string]bool{}
	for _, w := range f.Cluster.Webhooks.Value[0].Webhooks {
		for _, c := range w.MatchConditions {
			seen[c.Name] = true
			if !conditions[c.Name] {
				t.Errorf("the chart has no condition %s", c.Name)
			}
		}
		for _, r := range w.Rules {
			if list := "resources: [" + strings.Join(r.Resources, ", ") + "]"; !strings.Contains(chart, list) {
				t.Errorf("the chart has no rule with %s", list)
			}
		}
		if name, _, _ := strings.Cut(w.Name, "."); !strings.Contains(chart, `"name" "`+name+`"`) {
			t.Errorf("the chart has no webhook %s", name)
		}
	}
	for name := range conditions {
		if !seen[name] {
			t.Errorf("doctor does not know the condition %s", name)
		}
	}
}
