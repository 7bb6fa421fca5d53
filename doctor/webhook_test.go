package doctor_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
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

// conditions are those of the chart, which a test of the chart compares with it.
func conditions(t *testing.T) map[string][]admissionv1.MatchCondition {
	t.Helper()
	text, err := os.ReadFile("conditions.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string][]admissionv1.MatchCondition
	if err := json.Unmarshal(bytes.ReplaceAll(text, []byte("DRIVER"), []byte(driver)), &all); err != nil || len(all) != 3 {
		t.Fatalf("conditions.json has %d webhooks, %v, want three", len(all), err)
	}
	return all
}

// installed is a cluster with the chart's webhooks, as doctor believes them to be.
func installed(t *testing.T) *doctor.Facts {
	t.Helper()
	leaf, authority := issue(t, served, 7*24*time.Hour)
	f := good()
	rule := func(operations []admissionv1.OperationType, group string, resources ...string) admissionv1.RuleWithOperations {
		return admissionv1.RuleWithOperations{Operations: operations, Rule: admissionv1.Rule{
			APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: resources, Scope: new(admissionv1.NamespacedScope),
		}}
	}
	both := []admissionv1.OperationType{admissionv1.Create, admissionv1.Update}
	one := func(name string, policy admissionv1.FailurePolicyType, rules ...admissionv1.RuleWithOperations) admissionv1.ValidatingWebhook {
		return admissionv1.ValidatingWebhook{
			Name: name + ".admission.portcullis.dev", FailurePolicy: new(policy), MatchPolicy: new(admissionv1.Equivalent), Rules: rules, MatchConditions: conditions(t)[name],
			ClientConfig: admissionv1.WebhookClientConfig{CABundle: authority, Service: &admissionv1.ServiceReference{Namespace: "kube-system", Name: "portcullis-webhook", Path: new("/" + name)}},
		}
	}
	f.Cluster.Webhooks.Value = []admissionv1.ValidatingWebhookConfiguration{{ObjectMeta: metav1.ObjectMeta{Name: "portcullis"}, Webhooks: []admissionv1.ValidatingWebhook{
		one("pods", admissionv1.Fail, rule(both, "", "pods"), rule(both[1:], "", "pods/ephemeralcontainers")),
		one("templates", admissionv1.Ignore, rule(both, "apps", "deployments", "statefulsets", "daemonsets", "replicasets"), rule(both, "batch", "jobs", "cronjobs")),
		one("classes", admissionv1.Ignore, rule(both, "secrets-store.csi.x-k8s.io", "secretproviderclasses")),
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
	const rules, endpoints, certificate, build = "webhook.rules", "webhook.endpoints", "webhook.served", "webhook.build"
	runs := func(image string) func(*doctor.Facts) {
		return func(f *doctor.Facts) { f.Cluster.Daemons.Value[1].Image = image }
	}
	return []bad{
		{"as installed", rules, change(func(*doctor.Cluster, *admissionv1.ValidatingWebhook) {}), doctor.OK, "as the chart has it", ""},
		{"as installed", endpoints, change(func(*doctor.Cluster, *admissionv1.ValidatingWebhook) {}), doctor.OK, "2 replicas ready", ""},
		{"as installed", certificate, change(func(*doctor.Cluster, *admissionv1.ValidatingWebhook) {}), doctor.OK, "is believed", ""},
		{"fails open", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) { w.FailurePolicy = new(admissionv1.Ignore) }), doctor.Fail, "pods go through", "anew"},
		{"exempt namespace", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) {
			w.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
		}), doctor.Fail, "leaves namespaces out", "anew"},
		{"exempt object", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) {
			w.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpDoesNotExist}}}
		}), doctor.Fail, "leaves objects out", "anew"},
		{"no ephemeral containers", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) { w.Rules = w.Rules[:1] }), doctor.Fail, "is asked about CREATE pods, UPDATE pods", "anew"},
		{"one more condition", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) {
			w.MatchConditions = append(w.MatchConditions, admissionv1.MatchCondition{Name: "not-on-sundays"})
		}), doctor.Fail, "not-on-sundays", "anew"},
		{"webhook missing", rules, change(func(c *doctor.Cluster, _ *admissionv1.ValidatingWebhook) {
			c.Webhooks.Value[0].Webhooks = c.Webhooks.Value[0].Webhooks[1:]
		}), doctor.Fail, "no webhook pods", "anew"},
		{"condition that is never true", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) {
			w.MatchConditions[0].Expression = "false && " + w.MatchConditions[0].Expression
		}), doctor.Fail, "has another condition has-a-volume-of-the-driver", "who changed it"},
		{"another version goes through", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) { w.MatchPolicy = new(admissionv1.Exact) }), doctor.Fail, "matchPolicy", "who changed it"},
		{"another group", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) {
			w.Rules[0].APIGroups = []string{"example.org"}
		}), doctor.Fail, "CREATE pods.example.org", "who changed it"},
		{"another version", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) { w.Rules[0].APIVersions = []string{"v2"} }), doctor.Fail, "is asked about UPDATE pods/ephemeralcontainers", "who changed it"},
		{"of the cluster alone", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) {
			w.Rules[0].Scope = new(admissionv1.ClusterScope)
		}), doctor.Fail, "is asked about UPDATE pods/ephemeralcontainers", "who changed it"},
		{"somebody's own address", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) {
			w.ClientConfig.Service, w.ClientConfig.URL = nil, new("https://elsewhere.example/pods")
		}), doctor.Fail, "address of somebody's own", "who changed it"},
		{"somebody's own Service", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) {
			w.ClientConfig.Service.Namespace = "attacker"
		}), doctor.Fail, "the Service attacker/portcullis-webhook", "who changed it"},
		{"another path", rules, change(func(_ *doctor.Cluster, w *admissionv1.ValidatingWebhook) {
			w.ClientConfig.Service.Path = new("/templates")
		}), doctor.Fail, "not at the path /pods", "who changed it"},
		{"templates leave a namespace out", rules, change(func(c *doctor.Cluster, _ *admissionv1.ValidatingWebhook) {
			c.Webhooks.Value[0].Webhooks[1].NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
		}), doctor.Warn, "templates.admission.portcullis.dev leaves namespaces out", "who changed it"},
		{"a release", build, runs("registry.example:5000/portcullis-webhook:1.0"), doctor.OK, "portcullis-webhook:1.0", ""},
		{"a digest", build, runs("registry.example:5000/portcullis-webhook@sha256:00"), doctor.OK, "@sha256:00", ""},
		{"latest", build, runs("registry.example:5000/portcullis-webhook"), doctor.Warn, "another one tomorrow", "version or a digest"},
		{"a development build", build, runs("ghcr.io/portcullis-csi/portcullis-webhook-insecure:0.1.0"), doctor.Fail, "development build", "release image"},
		{"none runs", build, func(f *doctor.Facts) { f.Cluster.Daemons.Value = f.Cluster.Daemons.Value[:1] }, doctor.NA, "no replica of the webhook runs", ""},
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

// Resources that doctor expects to be asked about are in the chart; a test of the
// chart compares the conditions.
func TestRulesAreThoseOfTheChart(t *testing.T) {
	text, err := os.ReadFile("../deploy/chart/templates/webhook-configuration.yaml")
	if err != nil {
		t.Fatal(err)
	}
	chart := string(text)
	n := 0
	for _, w := range installed(t).Cluster.Webhooks.Value[0].Webhooks {
		for _, r := range w.Rules {
			n++
			if list := "resources: [" + strings.Join(r.Resources, ", ") + "], scope: Namespaced}"; !strings.Contains(chart, list) {
				t.Errorf("the chart has no rule with %s", list)
			}
		}
		if name, _, _ := strings.Cut(w.Name, "."); !strings.Contains(chart, `"name" "`+name+`"`) {
			t.Errorf("the chart has no webhook %s", name)
		}
	}
	if has := strings.Count(chart, "resources: ["); has != n {
		t.Errorf("the chart has %d rules, doctor knows %d", has, n)
	}
}
