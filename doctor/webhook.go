package doctor

import (
	"bytes"
	"crypto/x509"
	_ "embed" // the conditions of the chart
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
)

// WebhookService is the Service of the chart that API servers call.
const WebhookService = "portcullis-webhook"

// webhookSuffix is what the chart's webhooks have in their names.
const webhookSuffix = ".admission.portcullis.dev"

// lastDay is how long before its end a serving certificate is warned about: those
// that the webhook makes itself live for days.
const lastDay = 24 * time.Hour

//go:embed conditions.json
var conditionsOfChart []byte

// driverInConditions stands for the name of the driver there.
const driverInConditions = "DRIVER"

// shipped is what the chart says of a webhook.
type shipped struct {
	name       string
	conditions []admissionv1.MatchCondition
	rules      []string
	fail       bool
}

// shippedWebhooks are those of the chart. A test compares them with its templates.
func (f *Facts) shippedWebhooks() ([]shipped, error) {
	var conditions map[string][]admissionv1.MatchCondition
	if err := json.Unmarshal(bytes.ReplaceAll(conditionsOfChart, []byte(driverInConditions), []byte(f.Driver)), &conditions); err != nil {
		return nil, fmt.Errorf("read the conditions of the chart: %w", err)
	}
	return []shipped{
		{"classes", conditions["classes"], []string{"CREATE secretproviderclasses.secrets-store.csi.x-k8s.io", "UPDATE secretproviderclasses.secrets-store.csi.x-k8s.io"}, false},
		{"pods", conditions["pods"], []string{"CREATE pods", "UPDATE pods", "UPDATE pods/ephemeralcontainers"}, true},
		{"templates", conditions["templates"], []string{
			"CREATE cronjobs.batch", "CREATE daemonsets.apps", "CREATE deployments.apps", "CREATE jobs.batch", "CREATE replicasets.apps", "CREATE statefulsets.apps",
			"UPDATE cronjobs.batch", "UPDATE daemonsets.apps", "UPDATE deployments.apps", "UPDATE jobs.batch", "UPDATE replicasets.apps", "UPDATE statefulsets.apps",
		}, false},
	}, nil
}

func webhookChecks() []Check {
	return []Check{
		{"webhook.rules", OfCluster, "the webhooks of the ValidatingWebhookConfiguration portcullis: what they are asked about, and what becomes of a request that nobody answers", "as the chart of this version has them", "FAIL: pods with secrets go through unasked, and the mount alone decides; WARN: classes and templates do; n/a: no webhook is installed", judgeWebhookRules},
		{"webhook.endpoints", OfCluster, "the replicas behind the Service portcullis-webhook", "each is ready, and there are two or more", "WARN: one is not ready, or there is one alone; FAIL: none is, no pod with secrets is made", judgeEndpoints},
		{"webhook.served", OfCluster, "the certificate that each ready replica serves, against caBundle", "API servers believe it, for more than a day", "WARN: it ends within a day; FAIL: no API server believes it; n/a: the replica cannot be reached from where doctor runs", judgeServed},
		{"webhook.build", OfCluster, "the image of each replica that runs", "a release image by version or digest", "WARN: latest or no tag; FAIL: a development build, which takes unsigned policy; n/a: none runs", judgeWebhookBuild},
	}
}

func judgeWebhookBuild(f *Facts) []Result {
	if f.Cluster.Daemons.Err != nil {
		return []Result{f.unasked("pods of the webhook", f.Cluster.Daemons.Err)}
	}
	images := map[string]bool{}
	for i := range f.Cluster.Daemons.Value {
		if d := &f.Cluster.Daemons.Value[i]; d.Webhook {
			images[d.Image] = true
		}
	}
	var results []Result
	for _, image := range sortedKeys(images) {
		results = append(results, judgeBuild(image))
	}
	if results == nil {
		return []Result{na("no replica of the webhook runs")}
	}
	return results
}

// configuration returns the chart's webhooks, or a result where there are none.
func (f *Facts) configuration() ([]admissionv1.ValidatingWebhook, []Result) {
	asked := f.Cluster.Webhooks
	if asked.Err != nil {
		return nil, []Result{f.unasked("webhooks", asked.Err)}
	}
	i := slices.IndexFunc(asked.Value, func(w admissionv1.ValidatingWebhookConfiguration) bool { return w.Name == webhookName })
	if i < 0 {
		return nil, []Result{na("no ValidatingWebhookConfiguration %s is installed: only the mount decides", webhookName)}
	}
	return asked.Value[i].Webhooks, nil
}

func judgeWebhookRules(f *Facts) []Result {
	webhooks, none := f.configuration()
	if none != nil {
		return none
	}
	wanted, err := f.shippedWebhooks()
	if err != nil {
		return []Result{unknown("what the chart has", err)}
	}
	var results []Result
	for _, one := range wanted {
		name, wrong := one.name+webhookSuffix, warn
		if one.fail {
			wrong = fail
		}
		i := slices.IndexFunc(webhooks, func(w admissionv1.ValidatingWebhook) bool { return w.Name == name })
		if i < 0 {
			results = append(results, wrong("install the chart anew", "there is no webhook %s", name))
			continue
		}
		problem := one.differs(&webhooks[i])
		if problem == "" {
			problem = f.elsewhere(&webhooks[i], one.name)
		}
		if problem != "" {
			results = append(results, wrong("install the chart anew, and find out who changed it", "%s %s", name, problem))
			continue
		}
		results = append(results, ok("%s is as the chart has it", name))
	}
	return results
}

// differs says what of a webhook is not as the chart has it.
func (s shipped) differs(w *admissionv1.ValidatingWebhook) string {
	rules := rulesOf(w)
	switch {
	case s.fail && (w.FailurePolicy == nil || *w.FailurePolicy != admissionv1.Fail):
		return "has not failurePolicy Fail: while no webhook answers, pods go through"
	case w.NamespaceSelector != nil && len(w.NamespaceSelector.MatchLabels)+len(w.NamespaceSelector.MatchExpressions) > 0:
		return "leaves namespaces out by a selector"
	case w.ObjectSelector != nil && len(w.ObjectSelector.MatchLabels)+len(w.ObjectSelector.MatchExpressions) > 0:
		return "leaves objects out by a selector, whose labels their authors choose"
	case w.MatchPolicy == nil || *w.MatchPolicy != admissionv1.Equivalent:
		return "has not matchPolicy Equivalent: what is written in another version of the API goes through"
	case !slices.Equal(rules, s.rules):
		return "is asked about " + strings.Join(rules, ", ")
	case len(w.MatchConditions) != len(s.conditions):
		return "has other conditions than the chart's: " + strings.Join(namesOfConditions(w), ", ")
	}
	for i, c := range w.MatchConditions {
		if c != s.conditions[i] {
			return "has another condition " + c.Name + ", which may leave out what it should be asked about"
		}
	}
	return ""
}

func namesOfConditions(w *admissionv1.ValidatingWebhook) []string {
	var names []string
	for _, c := range w.MatchConditions {
		names = append(names, c.Name)
	}
	return names
}

// rulesOf are the operations and resources of v1 that a webhook is asked about.
func rulesOf(w *admissionv1.ValidatingWebhook) []string {
	var rules []string
	for _, r := range w.Rules {
		if !slices.Contains(r.APIVersions, "v1") || r.Scope != nil && *r.Scope == admissionv1.ClusterScope {
			continue
		}
		for _, group := range r.APIGroups {
			for _, operation := range r.Operations {
				for _, resource := range r.Resources {
					rules = append(rules, strings.TrimSuffix(string(operation)+" "+resource+"."+group, "."))
				}
			}
		}
	}
	slices.Sort(rules)
	return rules
}

// elsewhere says whom API servers ask, if that is not our Service.
func (f *Facts) elsewhere(w *admissionv1.ValidatingWebhook, name string) string {
	c := w.ClientConfig
	switch s := c.Service; {
	case c.URL != nil || s == nil:
		return "is asked at an address of somebody's own"
	case s.Name != WebhookService || s.Namespace != f.Cluster.Namespace || s.Path == nil || *s.Path != "/"+name:
		return "is asked at the Service " + s.Namespace + "/" + s.Name + ", and not at the path /" + name + " of " + f.Cluster.Namespace + "/" + WebhookService
	}
	return ""
}

func judgeEndpoints(f *Facts) []Result {
	if _, none := f.configuration(); none != nil {
		return none
	}
	asked := f.Cluster.Endpoints
	if asked.Err != nil {
		return []Result{f.unasked("EndpointSlices of the webhook", asked.Err)}
	}
	var away []string
	for _, e := range asked.Value {
		if !e.Ready {
			away = append(away, e.Name)
		}
	}
	const hint = "kubectl get pods -l app=portcullis-webhook -o wide, and the /readyz of one that is not ready, show why"
	switch ready := len(asked.Value) - len(away); {
	case ready == 0:
		return []Result{fail(hint, "no replica of the webhook is ready, and no pod with secrets is made")}
	case len(away) > 0:
		return []Result{warn(hint, "%d of %s ready, not %s", ready, plural(len(asked.Value), "replica"), some(away))}
	case ready == 1:
		return []Result{warn("set webhook.replicas of the chart to 2 or more", "one replica alone: while it is replaced, no pod with secrets is made")}
	default:
		return []Result{ok("%s ready", plural(ready, "replica"))}
	}
}

func judgeServed(f *Facts) []Result {
	webhooks, none := f.configuration()
	if none != nil {
		return none
	}
	if f.Cluster.Endpoints.Err != nil {
		return []Result{f.unasked("EndpointSlices of the webhook", f.Cluster.Endpoints.Err)}
	}
	var results []Result
	for _, e := range f.Cluster.Endpoints.Value {
		if !e.Ready {
			continue
		}
		if e.Err != nil {
			results = append(results, na("%s: %v; run doctor in the cluster's network to see what it serves", e.Name, e.Err))
			continue
		}
		results = append(results, f.judgeChain(e, webhooks))
	}
	if results == nil {
		return []Result{na("no replica of the webhook is ready, see webhook.endpoints")}
	}
	return results
}

// judgeChain judges what a replica serves as API servers do.
func (f *Facts) judgeChain(e Endpoint, webhooks []admissionv1.ValidatingWebhook) Result {
	const hint = "see webhook.certificate, and the lines of the replica's /readyz about its certificate"
	if len(e.Chain) == 0 {
		return fail(hint, "%s serves no certificate", e.Name)
	}
	between := x509.NewCertPool()
	for _, c := range e.Chain[1:] {
		between.AddCert(c)
	}
	for i := range webhooks {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(webhooks[i].ClientConfig.CABundle)
		_, err := e.Chain[0].Verify(x509.VerifyOptions{
			DNSName: WebhookService + "." + f.Cluster.Namespace + ".svc", Roots: roots, Intermediates: between, CurrentTime: f.Now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return fail(hint, "%s: caBundle of %s does not verify what it serves: %v", e.Name, webhooks[i].Name, err)
		}
	}
	until := e.Chain[0].NotAfter
	if until.Sub(f.Now) < lastDay {
		return warn("see the replica's log for why it makes no new one", "%s: its certificate ends %s", e.Name, until.UTC().Format(time.RFC3339))
	}
	return ok("%s: its certificate is believed, until %s", e.Name, until.UTC().Format(time.RFC3339))
}
