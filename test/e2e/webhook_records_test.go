//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	replicas = [...]string{webhookName + "-0", webhookName + "-1"}
	digest   = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// reviewEvent is what these tests read of an event in a replica's log.
type reviewEvent struct {
	Type, Outcome string
	Actor         struct{ Name string }
	Workload      struct{ Namespace, Pod, Volume string }
	Policy        struct {
		DecisionID, Effect, Phase, BundleDigest string
		BundleSerial                            int64
		Unsigned                                bool
		Rules                                   []struct{ ID string }
	}
}

// refused returns what kubectl prints of a manifest that the API server refuses.
func (w *world) refused(object string, args ...string) string {
	w.Helper()
	out, err := w.said(object, append([]string{"apply", "-f", "-"}, args...)...)
	if err == nil {
		w.Fatalf("kubectl apply was not refused: %s", out)
	}
	w.Logf("kubectl prints: %s", out)
	return out
}

// told fails the test unless kubectl prints that a webhook denied something, with the
// rules, a remedy (a pattern), and a decision by which to find it, which it returns.
func (w *world) told(out, hook, rules, remedy string) (decision string) {
	w.Helper()
	pattern := fmt.Sprintf(`(?m)admission webhook "%s" denied the request: denied by policy: %s; hint: %s; decision ([A-Z2-7]{26})$`,
		regexp.QuoteMeta(hook), regexp.QuoteMeta(rules), remedy)
	found := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if found == nil {
		w.Fatalf("kubectl prints %q, want %s", out, pattern)
	}
	return found[1]
}

// inReplica runs the command line in a replica's container, about its log.
func (w *world) inReplica(name string, args ...string) string {
	w.Helper()
	return w.kubectl(append([]string{"exec", "-n", system, name, "--", "/portcullis", "audit", args[0], "--socket", stateDir + "/webhook/admin.sock"}, args[1:]...)...)
}

// reviewEvents are the events of a decision in the logs of both replicas: either
// may have been asked.
func (w *world) reviewEvents(decision string) []reviewEvent {
	w.Helper()
	var events []reviewEvent
	for _, name := range replicas {
		for line := range strings.Lines(w.inReplica(name, "tail", "-n", "0", "-o", "json", "--decision", decision)) {
			var e reviewEvent
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				w.Fatalf("an event of the log is %q: %v", line, err)
			}
			events = append(events, e)
		}
	}
	return events
}

// annotation is one of ours in an event of the API server's.
func (r request) annotation(name string) string { return r.Annotations[podsHook+"/"+name] }

// reviewOf is the last request about a pod of which the API server's audit log has
// what the webhook said.
func (w *world) reviewOf(verb, namespace, name string) request {
	w.Helper()
	found := w.requestsThat(func(r request) bool {
		o := r.ObjectRef
		return r.Verb == verb && r.annotation("verdict") != "" && o != nil && o.Resource == "pods" && o.Namespace == namespace && o.Name == name
	})
	if len(found) == 0 {
		w.Fatalf("the API server's audit log has no annotation of the webhook on %s of pod %s/%s", verb, namespace, name)
	}
	return found[len(found)-1]
}

// onRecord fails the test unless the API server's audit log and the webhook's say the
// same of a review: verdict, rules, and by which bundle. It returns the decision.
func (w *world) onRecord(r request, verdict string, rules ...string) (decision string) {
	w.Helper()
	decision = r.annotation("decision-id")
	if r.annotation("verdict") != verdict || r.annotation("rules") != strings.Join(rules, ",") {
		w.Errorf("the API server's audit log says %q, want the verdict %s by the rules %q", r.Annotations, verdict, rules)
	}
	events := w.reviewEvents(decision)
	if len(events) == 0 {
		w.Fatalf("no replica's log has the decision %q of %q", decision, r.Annotations)
	}
	e := events[len(events)-1]
	var fired []string
	for _, rule := range e.Policy.Rules {
		fired = append(fired, rule.ID)
	}
	slices.Sort(fired)
	fired = slices.Compact(fired)
	if e.Type != "admission.decision" || e.Policy.Phase != "admission" || e.Policy.Effect != verdict || e.Policy.Unsigned || !slices.Equal(fired, rules) {
		w.Errorf("the webhook's log has %+v, want the verdict %s by the rules %q, and a signed bundle", e, verdict, rules)
	}
	if o := r.ObjectRef; e.Workload.Namespace != o.Namespace || e.Workload.Pod != o.Name || e.Workload.Volume != "secrets" || e.Actor.Name != r.User.Username {
		w.Errorf("the webhook's log is about %+v by %s, want %s/%s by %s", e.Workload, e.Actor.Name, o.Namespace, o.Name, r.User.Username)
	}
	if !digest.MatchString(e.Policy.BundleDigest) || r.annotation("bundle") != e.Policy.BundleDigest || r.annotation("serial") != strconv.FormatInt(e.Policy.BundleSerial, 10) {
		w.Errorf("the API server's audit log says %q, the webhook's the bundle %s with the serial %d", r.Annotations, e.Policy.BundleDigest, e.Policy.BundleSerial)
	}
	return decision
}

// logsAreKept fails the test unless the logs of both replicas are whole and
// unaltered, and hold what was decided before the replicas were made anew.
func (w *world) logsAreKept(decision string) {
	w.Helper()
	for _, name := range replicas {
		out := w.inReplica(name, "verify")
		if !strings.HasPrefix(out, "OK: ") {
			w.Errorf("audit verify in %s says:\n%s", name, out)
		}
		w.Logf("audit verify in %s: %s", name, strings.SplitN(out, "\n", 2)[0])
	}
	if len(w.reviewEvents(decision)) == 0 {
		w.Errorf("the log of neither replica has the decision %s of before", decision)
	}
}
