//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/audit"
)

// Whoever writes, tests, signs and publishes policy, puts it in force, takes it back
// and breaks the glass as docs/POLICIES.md says, word for word, sees what it shows:
// on the node, at the webhook and in a registry with accounts.
func TestPolicyWalkWordForWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "walk")
	if err := w.lab.LoadImage(t.Context(), filepath.Join(made.repository, "bin/images/portcullis-webhook.tar")); err != nil {
		t.Fatal(err)
	}
	r := w.registry()
	const section = "Rollout and rollback"
	guide := w.follower("docs/POLICIES.md", []string{section})
	w.writeFile(filepath.Join(guide.dir, "registry-ca.crt"), string(r.ca))
	if err := os.Rename(filepath.Join(w.login(r, reads), "config.json"), filepath.Join(guide.dir, "nodes.json")); err != nil {
		t.Fatal(err)
	}
	guide.types.Env = []string{
		"REGISTRY=" + r.host, "DOCKER_CONFIG=" + w.login(r, pipeline),
		"SSL_CERT_FILE=" + filepath.Join(guide.dir, "registry-ca.crt"), "NO_PROXY=*", // of whoever pushes
	}
	guide.follow(section)

	// Nobody but the reader has seen to it that the pod runs on.
	api, err := w.client.CoreV1().Pods("payments").Get(t.Context(), "api", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := w.restarts(api, "api"); n != 0 {
		t.Errorf("the pod whose secrets went and came back was restarted %d times", n)
	}
	w.reads(api, "/secrets/user", "scott")

	want := []string{
		"policy.change 1", "policy.change 2", "policy.load_failed 1 BundleRollback critical", "policy.change 3",
		"policy.change 1 BreakGlass critical", "policy.change 3 BreakGlassEnded critical",
	}
	if got := w.policyEvents("ds/csi-secrets-store"); !slices.Equal(got, want) {
		t.Errorf("the node's log has of policy %q, want %q", got, want)
	}
	// A webhook may not have looked while the tag was on the old bundle.
	changes := func(events []string) []string {
		return slices.DeleteFunc(slices.Clone(events), func(e string) bool { return strings.HasPrefix(e, "policy.load_failed") })
	}
	for _, pod := range []string{"portcullis-webhook-0", "portcullis-webhook-1"} {
		if got := changes(w.policyEvents("pod/"+pod, "--socket=/var/lib/portcullis/webhook/admin.sock")); !slices.Equal(got, changes(want)) {
			t.Errorf("the log of %s has of policy %q, want %q", pod, got, changes(want))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.requests[reads+" HEAD"] == 0 || r.requests[pipeline+" PUT"] == 0 || len(r.refused) > 0 {
		t.Errorf("the registry was asked %v and refused %v, want nodes to read with their own account and nothing else", r.requests, r.refused)
	}
}

// policyEvents are a daemon's events of policy: type, serial, reason, and whether
// they are critical. Those of a node that waits for the first floor are left out.
func (w *world) policyEvents(daemon string, flags ...string) []string {
	w.Helper()
	var found []string
	text := w.kubectl(append([]string{"exec", "-n", system, daemon, "--", "/portcullis", "audit", "tail", "--type=policy.change,policy.load_failed", "-n=0", "--output=json"}, flags...)...)
	for line := range strings.Lines(text) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.Fatalf("%v: %s", err, line)
		}
		if e.Reason == audit.ReasonFloorUnreadable {
			continue
		}
		words := []string{string(e.Type), fmt.Sprint(e.Change.To)}
		if e.Reason != "" {
			words = append(words, string(e.Reason))
		}
		if e.Severity == audit.SeverityCritical {
			words = append(words, string(e.Severity))
		}
		found = append(found, strings.Join(words, " "))
	}
	return found
}
