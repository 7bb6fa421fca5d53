//go:build e2e

package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// nodeRole is the role of the plugin's account.
const nodeRole = "secretproviderclasses-role"

// request is an event of the API server's audit log, as far as it matters here.
type request struct {
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef *struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		APIGroup    string `json:"apiGroup"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	Annotations map[string]string `json:"annotations"`
}

// forbidden reports whether no role allowed it. What an admission policy refuses
// is allowed by a role.
func (r request) forbidden() bool {
	return r.Annotations["authorization.k8s.io/decision"] == "forbid"
}

// requests are those of a service account, since the cluster is there.
func (w *world) requests(account string) []request {
	w.Helper()
	return w.requestsThat(func(r request) bool { return r.User.Username == "system:serviceaccount:"+account })
}

// requestsThat are those that somebody looks for, since the cluster is there.
func (w *world) requestsThat(are func(request) bool) []request {
	w.Helper()
	file, err := os.Open(w.lab.AuditLog())
	if err != nil {
		w.Fatal(err)
	}
	defer file.Close()
	var found []request
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return found // without the line that is being written
		}
		if err != nil {
			w.Fatal(err)
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			w.Fatal(err)
		}
		if are(r) {
			found = append(found, r)
		}
	}
}

// uses reports whether a request needs this one right.
func (r request) uses(right rbacv1.PolicyRule) bool {
	if r.Verb != right.Verbs[0] {
		return false
	}
	if right.NonResourceURLs != nil {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		return r.ObjectRef == nil && path == right.NonResourceURLs[0]
	}
	o := r.ObjectRef
	if o == nil || o.APIGroup != right.APIGroups[0] {
		return false
	}
	resource := o.Resource
	if o.Subresource != "" {
		resource += "/" + o.Subresource
	}
	return resource == right.Resources[0] && (right.ResourceNames == nil || slices.Contains(right.ResourceNames, o.Name))
}

// single are the rights of rules, one verb on one thing each.
func single(rules []rbacv1.PolicyRule) map[string]rbacv1.PolicyRule {
	rights := map[string]rbacv1.PolicyRule{}
	for _, rule := range rules {
		for _, verb := range rule.Verbs {
			for _, url := range rule.NonResourceURLs {
				rights[verb+url] = rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: []string{url}}
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					name := strings.TrimSuffix(verb+" "+resource+"."+group, ".")
					rights[name] = rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: rule.ResourceNames}
				}
			}
		}
	}
	return rights
}

// rightsAreUsed has a test for each right of the rules, which fails unless the
// account has used it, and one that fails for each request beyond them, but for
// those whose right the test had taken away.
func (w *world) rightsAreUsed(account string, rules []rbacv1.PolicyRule, taken func(request) bool) {
	w.Helper()
	made := w.requests(account)
	rights := single(rules)
	for name, right := range rights {
		w.Run(name, func(t *testing.T) {
			n := 0
			for _, r := range made {
				if r.uses(right) && r.ResponseStatus.Code < 300 {
					n++
				}
			}
			if n == 0 {
				t.Errorf("%s may %s, and has not done it in %d requests", account, name, len(made))
			}
			t.Logf("%d requests", n)
		})
	}
	w.Run("nothing was forbidden", func(t *testing.T) {
		if len(made) == 0 {
			t.Errorf("%s has asked nothing", account)
		}
		for _, r := range made {
			if r.forbidden() && !taken(r) {
				t.Errorf("%s was not allowed: %s %s", account, r.Verb, r.RequestURI)
			}
		}
	})
}

// Every right of the plugin's role is used by a plugin that does its work, and no
// other is missed: by the audit log of an API server that nobody else asks in
// the plugin's name.
func TestEveryRightOfThePluginIsUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "account")
	w.installAll()
	ns := w.namespace("every-right")

	// A status object that an earlier pod of the name left, as in a StatefulSet:
	// found at create, read, and deleted after a look at which pod has the name.
	w.apply(`apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClassPodStatus
metadata: {name: app-every-right-app, namespace: every-right, labels: {internal.secrets-store.csi.k8s.io/node-name: node1}}
status: {podName: earlier}
`)
	p := w.started(pod(ns, "app"))
	w.writtenStatus(ns, "app-every-right-app", func(s string) bool { return strings.Contains(s, string(p.UID)) })

	// Two rotations: the status changes, an event is made, and counted up.
	for _, value := range []string{"second", "third"} {
		before := w.writtenStatus(ns, "app-every-right-app", func(s string) bool { return strings.Contains(s, "app/password") })
		w.writeSecret("app/password", value)
		w.Cleanup(func() { w.writeSecret("app/password", "first") })
		w.eventually(30*time.Second, "the pod reads "+value, func() error {
			if got, err := w.sh(p, "", "cat /secrets/password"); err != nil || got != value {
				return fmt.Errorf("it reads %q, %w", got, err)
			}
			return nil
		})
		w.writtenStatus(ns, "app-every-right-app", func(s string) bool { return s != before })
	}
	w.eventually(30*time.Second, "the event of the rotation is counted up", func() error {
		if counts := w.kubectl("get", "events", "-n", ns, "--field-selector=reason=MountRotationComplete", "-o", "jsonpath={.items[*].count}"); counts != "2" {
			return fmt.Errorf("the counts are %q", counts)
		}
		return nil
	})

	w.leastOf(ns)

	role, err := w.client.RbacV1().ClusterRoles().Get(w.Context(), nodeRole, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.rightsAreUsed(system+":secrets-store-csi-driver", role.Rules, func(r request) bool {
		return r.ObjectRef != nil && r.ObjectRef.Resource == "namespaces" && (r.Verb == "list" || r.Verb == "watch")
	})
	w.onlyTheseAccounts()
}

// leastOf has the plugin make the requests of which it makes few: a new one reads
// the status of what is mounted; lists, as with an API server that has no watches
// that begin with one; and reads a namespace by itself while it cannot watch them.
func (w *world) leastOf(namespace string) {
	w.Helper()
	w.upgraded("--set", "linux.env[0].name=KUBE_FEATURE_WatchListClient", "--set-string", "linux.env[0].value=false")
	mend := w.withoutRights(func(r *rbacv1.PolicyRule) {
		if slices.Contains(r.Resources, "namespaces") {
			r.Verbs = []string{"get"}
		}
	})
	w.kubectl("delete", "pod", "-n", system, "-l", "app=secrets-store-csi-driver", "--wait=true", "--timeout=60s")
	w.pluginRuns()
	w.eventually(30*time.Second, "the new plugin has read the status objects", func() error {
		if log := w.kubectl("logs", "-n", system, w.plugin().Name); !strings.Contains(log, `"status objects of mounted volumes read" count=1`) {
			return fmt.Errorf("it says:\n%s", log)
		}
		return nil
	})
	w.started(pod(namespace, "unwatched"))
	mend()
	w.eventually(90*time.Second, "the plugin lists namespaces again", func() error {
		for _, r := range slices.Backward(w.requests(system + ":secrets-store-csi-driver")) {
			if o := r.ObjectRef; o != nil && o.Resource == "namespaces" && r.Verb == "list" {
				return map[bool]error{true: errors.New("it was not allowed")}[r.forbidden()]
			}
		}
		return errors.New("it has not tried")
	})
}

// withoutRights changes the rules of the plugin's role, and returns what changes
// them back, which is done at the end of the test at the latest.
func (w *world) withoutRights(change func(*rbacv1.PolicyRule)) (mend func()) {
	w.Helper()
	set := func(ctx context.Context, rules []rbacv1.PolicyRule) (before []rbacv1.PolicyRule, err error) {
		roles := w.client.RbacV1().ClusterRoles()
		live, err := roles.Get(ctx, nodeRole, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		before = live.DeepCopy().Rules
		if live.Rules = rules; rules == nil {
			live.Rules = slices.Clone(before)
			for i := range live.Rules {
				change(&live.Rules[i])
			}
		}
		_, err = roles.Update(ctx, live, metav1.UpdateOptions{})
		return before, err
	}
	whole, err := set(w.Context(), nil)
	if err != nil {
		w.Fatal(err)
	}
	mend = func() {
		if _, err := set(context.Background(), whole); err != nil {
			w.Error(err)
		}
	}
	w.Cleanup(mend)
	return mend
}

// writtenStatus waits until a status object is as the test says, and returns it.
func (w *world) writtenStatus(namespace, name string, is func(string) bool) string {
	w.Helper()
	var now string
	w.eventually(30*time.Second, "the status object "+name+" is written", func() error {
		out, err := w.run("", "kubectl", "get", "secretproviderclasspodstatus", "-n", namespace, name, "-o", "jsonpath={.metadata.ownerReferences} {.status}")
		if now = out; err != nil || !is(out) {
			return fmt.Errorf("it is %s, %w", out, err)
		}
		return nil
	})
	return now
}

// onlyTheseAccounts fails the test where the chart has an account with rights
// that no test compares with what is used.
func (w *world) onlyTheseAccounts() {
	w.Helper()
	known := []string{"secretproviderclasses-rolebinding secrets-store-csi-driver", "portcullis-uninstall-check portcullis-uninstall-check"}
	text := w.helm("get", "manifest", release, "--namespace", system) + "\n---\n" + w.helm("get", "hooks", release, "--namespace", system)
	var found []string
	for document := range strings.SplitSeq(text, "\n---") {
		var b rbacv1.ClusterRoleBinding
		if err := yaml.Unmarshal([]byte(document), &b); err != nil {
			w.Fatal(err)
		}
		if !strings.HasSuffix(b.Kind, "RoleBinding") {
			continue
		}
		for _, s := range b.Subjects {
			found = append(found, b.Name+" "+s.Name)
		}
	}
	slices.Sort(found)
	slices.Sort(known)
	if !slices.Equal(found, known) {
		w.Errorf("the chart binds %q, and the tests know %q", found, known)
	}
}
